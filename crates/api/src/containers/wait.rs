//! `POST /containers/{id}/wait`: the head of the answer says that the wait has begun, its body comes with the end.

use std::sync::Arc;

use engine::{WaitCondition, Waiter};
use hyper::StatusCode;
use serde_json::json;

use crate::Served;
use crate::descriptor::Watched;
use crate::failure::{Failure, Result};
use crate::reply::{self, Body, Reply};
use crate::request::Request;

/// Waits for a container.
pub(super) async fn wait(name: &str, request: &Request, served: &Arc<Served>) -> Result<Reply> {
    let condition = match request.text("condition").unwrap_or_default() {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(Failure::bad_request(format!("invalid condition: \"{other}\""))),
    };
    let name = name.to_owned();
    let looked = served.engines.run(move |engine| {
        let mut waiter = engine.waiter(&name, condition)?;
        let code = waiter.check(engine)?;
        Ok((waiter, code))
    });
    let (waiter, code) = looked.await?;
    let (writer, body) = Body::parts();
    let served = served.clone();
    tokio::spawn(async move {
        let end = async {
            match code {
                Some(code) => Ok(code),
                None => end(waiter, &served).await,
            }
        };
        tokio::select! {
            () = writer.closed() => {}
            code = end => {
                let document = match code {
                    Ok(code) => json!({ "StatusCode": code }),
                    Err(failure) => json!({ "StatusCode": -1, "Error": { "Message": failure.message } }),
                };
                drop(writer.line(&document).await);
            }
        }
    });
    Ok(reply::with_type(StatusCode::OK, "application/json", body))
}

async fn end(mut waiter: Waiter, served: &Served) -> Result<i32> {
    let watched = Watched::new(&waiter)?;
    loop {
        watched.readable().await?;
        let (back, code) = served
            .engines
            .run(move |engine| {
                let code = waiter.check(engine)?;
                Ok((waiter, code))
            })
            .await?;
        waiter = back;
        if let Some(code) = code {
            return Ok(code);
        }
    }
}
