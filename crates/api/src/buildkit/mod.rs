//! BuildKit's protocol, so that the stock `docker build`, buildx, bake and compose work: gRPC over HTTP/2, on connections
//! taken over from `POST /grpc`, and sessions on which the client answers us (`POST /session`).

mod agent;
mod attributes;
mod bridge;
mod client;
mod control;
mod faults;
mod jobs;
mod link;
mod options;
mod outputs;
mod progress;
mod proto;
mod receive;
mod session;
mod slots;
mod subrequests;
mod tunnel;
mod wire;

use std::convert::Infallible;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;

use crate::Served;
use crate::failure::{Failure, Result};
use crate::reply::{Reply, status};
use crate::request::Request;

pub(crate) use jobs::Jobs;
pub(crate) use session::Sessions;

/// `POST /grpc`: the client calls us.
pub(crate) fn calls(mut request: Request, served: &Arc<Served>) -> Result<Reply> {
    check(&request)?;
    let (upgrade, served) = (request.upgrade(), served.clone());
    tokio::spawn(async move {
        // A client that goes in the middle of something is nobody's fault.
        if let Ok(connection) = upgrade.await {
            serve(connection, served).await;
        }
    });
    Ok(switched())
}

/// `POST /session`: we call the client.
pub(crate) fn session(mut request: Request, served: &Arc<Served>) -> Result<Reply> {
    check(&request)?;
    let missing = || Failure::bad_request("the session has no X-Docker-Expose-Session-Uuid");
    let introduction = session::Introduction::read(&request.headers).ok_or_else(missing)?;
    let (upgrade, served) = (request.upgrade(), served.clone());
    tokio::spawn(async move {
        if let Ok(connection) = upgrade.await {
            served.sessions.serve(connection, introduction).await;
        }
    });
    Ok(switched())
}

/// Answers calls on a connection that speaks HTTP/2.
pub(crate) async fn serve<T>(connection: T, served: Arc<Served>)
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let served = served.clone();
        async move { Ok::<_, Infallible>(control::handle(request, served).await) }
    });
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(connection, service);
    drop(serving.await);
}

fn check(request: &Request) -> Result<()> {
    let wanted = request.headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if wanted.eq_ignore_ascii_case("h2c") {
        return Ok(());
    }
    Err(Failure::bad_request("no upgrade to h2c is asked for"))
}

fn switched() -> Reply {
    let mut reply = status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("h2c"));
    reply
}
