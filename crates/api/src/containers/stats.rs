//! `GET /containers/{id}/stats`: one sample a second, each with the processor times of the one before it.

use std::sync::Arc;
use std::time::Duration;

use engine::Engine;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::Served;
use crate::failure::Result;
use crate::reply::{self, Body, Reply};
use crate::request::Request;

/// Between two samples.
const PACE: Duration = Duration::from_secs(1);

/// Streams samples, or gives one.
pub(super) async fn stats(name: &str, request: &Request, served: &Arc<Served>) -> Result<Reply> {
    let stream = request.given("stream").is_none() || request.boolean("stream");
    let once = request.boolean("one-shot");
    let id = name.to_owned();
    let id = served.engines.run(move |engine| Ok(engine.brief(&id)?.id)).await?;
    let first = sample(&id, served).await?;
    if stream {
        return Ok(follow(id, first, served));
    }
    if once || first.get("read").is_none() {
        return reply::ok(&with_previous(first, &Value::Null));
    }
    tokio::time::sleep(PACE).await;
    let second = sample(&id, served).await?;
    reply::ok(&with_previous(second, &first))
}

async fn sample(id: &str, served: &Served) -> Result<Value> {
    let id = id.to_owned();
    served.engines.run(move |engine: &Engine| engine.sample(&id)).await
}

fn follow(id: String, first: Value, served: &Arc<Served>) -> Reply {
    let (writer, body) = Body::parts();
    let served = served.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(PACE);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        let (mut previous, mut now) = (Value::Null, first);
        loop {
            let document = with_previous(now.clone(), &previous);
            if writer.line(&document).await.is_err() {
                return;
            }
            tokio::select! {
                () = writer.closed() => return,
                _ = ticks.tick() => {}
            }
            previous = now;
            // The container is gone, and with it the stream.
            let Ok(next) = sample(&id, &served).await else { return };
            now = next;
        }
    });
    reply::with_type(StatusCode::OK, "application/json", body)
}

/// Adds what Docker repeats from the sample before, and what a container that does not run has not.
fn with_previous(mut sample: Value, previous: &Value) -> Value {
    const NEVER: &str = "0001-01-01T00:00:00Z";
    let cpu = json!({
        "cpu_usage": { "total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0 },
        "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
    });
    sample["preread"] = previous.get("read").cloned().unwrap_or_else(|| json!(NEVER));
    sample["precpu_stats"] = previous.get("cpu_stats").cloned().unwrap_or_else(|| cpu.clone());
    for (member, empty) in [
        ("read", json!(NEVER)),
        ("pids_stats", json!({})),
        ("num_procs", json!(0)),
        ("storage_stats", json!({})),
        ("cpu_stats", cpu),
        ("memory_stats", json!({})),
    ] {
        if sample.get(member).is_none() {
            sample[member] = empty;
        }
    }
    if sample.get("blkio_stats").is_none() {
        let names =
            ["io_service_bytes", "io_serviced", "io_queue", "io_service_time", "io_wait_time", "io_merged", "io_time"];
        names.iter().for_each(|name| sample["blkio_stats"][format!("{name}_recursive")] = Value::Null);
        sample["blkio_stats"]["sectors_recursive"] = Value::Null;
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_repeats_the_one_before() {
        let first = json!({ "id": "a", "read": "t1", "cpu_stats": { "online_cpus": 2 } });
        let second = with_previous(json!({ "id": "a", "read": "t2", "cpu_stats": {} }), &first);
        assert_eq!((&second["preread"], &second["precpu_stats"]["online_cpus"]), (&json!("t1"), &json!(2)));
        let stopped = with_previous(json!({ "id": "a" }), &Value::Null);
        assert_eq!(stopped["memory_stats"], json!({}));
        assert_eq!(stopped["preread"], "0001-01-01T00:00:00Z");
    }
}
