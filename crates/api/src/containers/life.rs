//! The endpoints that change a container's life: start, stop, restart, kill, pause, rename, resize, update, remove, prune.

use std::sync::Arc;

use engine::model::RestartPolicy;
use engine::{RemoveOptions, UpdateRequest};
use hyper::header::CONTENT_LENGTH;
use serde::Deserialize;
use serde_json::json;

use crate::Served;
use crate::failure::{Failure, Result};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::version::Version;

/// Longest body of `start`: Docker's clients of old send `{}` or `null`.
const LONGEST_BODY: u64 = 7;

/// Starts it, and connects those who have attached already.
pub(super) async fn start(name: &str, request: &Request, served: &Arc<Served>) -> Result<Reply> {
    let length = request.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.map_or(!request.is_empty(), |length| length > LONGEST_BODY) {
        return Err(Failure::bad_request(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    let (name, all) = (name.to_owned(), served.clone());
    served.engines.run(move |engine| all.pending.start(engine, &name)).await?;
    reply::no_content()
}

/// How an end is asked for: the signal (from version 1.42 on) and the seconds until it is forced.
fn ending(request: &Request) -> Result<(Option<String>, Option<i64>)> {
    let signal = request.text("signal").filter(|_| request.version >= Version(1, 42));
    Ok((signal.map(str::to_owned), request.number("t")?))
}

/// Stops it.
pub(super) async fn stop(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    let (name, (signal, timeout)) = (name.to_owned(), ending(request)?);
    served.engines.run_long(move |engine| engine.stop(&name, signal.as_deref(), timeout)).await?;
    reply::no_content()
}

/// Stops and starts it.
pub(super) async fn restart(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    let (name, (signal, timeout)) = (name.to_owned(), ending(request)?);
    served.engines.run_long(move |engine| engine.restart(&name, signal.as_deref(), timeout)).await?;
    reply::no_content()
}

/// Sends it a signal.
pub(super) async fn kill(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    let (name, signal) = (name.to_owned(), request.text("signal").map(str::to_owned));
    served.engines.run(move |engine| engine.kill(&name, signal.as_deref())).await?;
    reply::no_content()
}

/// Freezes it.
pub(super) async fn pause(name: &str, served: &Served) -> Result<Reply> {
    let name = name.to_owned();
    served.engines.run(move |engine| engine.pause(&name)).await?;
    reply::no_content()
}

/// Thaws it.
pub(super) async fn unpause(name: &str, served: &Served) -> Result<Reply> {
    let name = name.to_owned();
    served.engines.run(move |engine| engine.unpause(&name)).await?;
    reply::no_content()
}

/// Gives it another name.
pub(super) async fn rename(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    let new = request.text("name").unwrap_or_default().trim_start_matches('/').to_owned();
    if new.is_empty() {
        return Err(Failure::bad_request("Neither old nor new names may be empty"));
    }
    let name = name.to_owned();
    let renamed = served.engines.run(move |engine| {
        // Whether there is such a container comes before what is wrong with its new name.
        let id = engine.brief(&name)?.id;
        engine.rename(&id, &new)
    });
    renamed.await.map_err(|failure| match failure.message.starts_with("Conflict. ") {
        true => Failure { message: format!("Error when allocating new name: {}", failure.message), ..failure },
        false => failure,
    })?;
    reply::no_content()
}

/// Rows and columns of a `resize`.
pub(crate) fn size(request: &Request) -> Result<(u16, u16)> {
    let side = |parameter: &str, name: &str| -> Result<u16> {
        let text = request.given(parameter).unwrap_or_default();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let why = if digits { "value out of range" } else { "invalid syntax" };
        let value = text.parse::<u32>();
        let value = value.map_err(|_| Failure::bad_request(format!("invalid resize {name} \"{text}\": {why}")))?;
        Ok(u16::try_from(value).unwrap_or(u16::MAX))
    };
    let rows = side("h", "height")?;
    Ok((rows, side("w", "width")?))
}

/// Sets the size of its terminal.
pub(super) async fn resize(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    let (name, (rows, columns)) = (name.to_owned(), size(request)?);
    served.engines.run(move |engine| engine.resize(&name, rows, columns)).await?;
    Ok(reply::status(hyper::StatusCode::OK))
}

/// What `update` is told; zero and empty mean: leave as it is.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Update {
    blkio_weight: u16,
    cpu_period: i64,
    cpu_quota: i64,
    cpu_realtime_period: i64,
    cpu_realtime_runtime: i64,
    cpu_shares: i64,
    #[serde(alias = "NanoCPUs")]
    nano_cpus: i64,
    cpuset_cpus: String,
    cpuset_mems: String,
    memory: i64,
    memory_reservation: i64,
    memory_swap: i64,
    pids_limit: Option<i64>,
    restart_policy: RestartPolicy,
}

/// Changes its limits.
pub(super) async fn update(name: &str, request: &mut Request, served: &Served) -> Result<Reply> {
    let update: Update = request.json().await?;
    let number = |value: i64| Some(value).filter(|value| *value != 0);
    let text = |value: String| Some(value).filter(|value| !value.is_empty());
    let wanted = UpdateRequest {
        blkio_weight: Some(update.blkio_weight).filter(|weight| *weight != 0),
        cpu_period: number(update.cpu_period),
        cpu_quota: number(update.cpu_quota),
        cpu_realtime_period: number(update.cpu_realtime_period),
        cpu_realtime_runtime: number(update.cpu_realtime_runtime),
        cpu_shares: number(update.cpu_shares),
        nano_cpus: number(update.nano_cpus),
        cpuset_cpus: text(update.cpuset_cpus),
        cpuset_mems: text(update.cpuset_mems),
        memory: number(update.memory),
        memory_reservation: number(update.memory_reservation),
        memory_swap: number(update.memory_swap),
        pids_limit: update.pids_limit.filter(|limit| *limit != 0),
        restart_policy: Some(update.restart_policy).filter(|policy| !policy.name.is_empty()),
    };
    let name = name.to_owned();
    let warnings = served.engines.run(move |engine| engine.update(&name, &wanted)).await?;
    // Docker shows none as null.
    reply::ok(&json!({ "Warnings": Some(warnings).filter(|warnings| !warnings.is_empty()) }))
}

/// Removes it.
pub(super) async fn remove(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    let link = request.boolean("link");
    let options = RemoveOptions { force: request.boolean("force"), volumes: request.boolean("v") };
    let name = name.to_owned();
    let verb = move |engine: &engine::Engine| match link {
        true => engine.remove_link(&name),
        false => engine.remove(&name, options),
    };
    served.engines.run(verb).await?;
    reply::no_content()
}

/// Removes those that do not run.
pub(super) async fn prune(request: &Request, served: &Served) -> Result<Reply> {
    let filters = request.filters()?;
    let report = served.engines.run(move |engine| engine.prune_containers(&filters)).await?;
    reply::ok(&json!({ "ContainersDeleted": report.removed, "SpaceReclaimed": report.reclaimed }))
}
