//! Connections: accepting them, speaking HTTP on them, and what every answer carries. Which handler answers is `router`'s
//! business.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue, SERVER};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::failure::Failure;
use crate::lenient::Begun;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::transport::Connection;
use crate::{Served, buildkit, router, version};

/// Longest head of a request.
const LARGEST_HEAD: usize = 64 << 10;
/// How long a client may take to send the head of a request, once it has begun.
const HEAD_WITHIN: Duration = Duration::from_secs(300);

/// Serves one connection until it ends. `peer` says who the client is.
pub(crate) async fn connection(stream: Connection, peer: String, served: Arc<Served>) {
    let peer: Arc<str> = peer.into();
    let Ok(Ok(begun)) = tokio::time::timeout(HEAD_WITHIN, Begun::read(stream)).await else { return };
    if begun.speaks_http2() {
        // As if the client had asked for `/grpc`.
        if served.policy.check(&Method::POST, &["grpc"]).is_ok() {
            buildkit::serve(TokioIo::new(begun), served).await;
        }
        return;
    }
    let service = service_fn(move |request| {
        let (served, peer) = (served.clone(), peer.clone());
        async move { Ok::<Reply, Infallible>(noted(request, served, &peer).await) }
    });
    let serving = http().serve_connection(TokioIo::new(begun), service).with_upgrades();
    // A client that goes in the middle of something is nobody's fault.
    drop(serving.await);
}

/// Answers one request; what may change something is noted with who asked for it.
async fn noted(raw: hyper::Request<Incoming>, served: Arc<Served>, peer: &str) -> Reply {
    if matches!(*raw.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return answer(raw, served).await;
    }
    let what = format!("{} {}", raw.method(), raw.uri().path());
    let reply = answer(raw, served.clone()).await;
    served.engines.log(&format!("{what} by {peer}: {}", reply.status().as_u16()));
    reply
}

/// How HTTP is spoken.
pub(crate) fn http() -> Builder {
    let mut http = Builder::new();
    http.timer(TokioTimer::new()).title_case_headers(true);
    http.header_read_timeout(HEAD_WITHIN).max_buf_size(LARGEST_HEAD);
    http
}

/// The decoded path of a request, with the version.
pub(crate) fn path(raw: &hyper::Request<Incoming>) -> String {
    percent_encoding::percent_decode_str(raw.uri().path()).decode_utf8_lossy().into_owned()
}

/// Answers one request.
async fn answer(raw: hyper::Request<Incoming>, served: Arc<Served>) -> Reply {
    let path = path(&raw);
    let outcome = match version::split(&path) {
        Ok((version, rest)) => {
            let rest = rest.to_owned();
            router::route(Request::new(raw, version, rest), &served).await
        }
        Err(failure) => Err(failure),
    };
    let mut reply = outcome.unwrap_or_else(|failure: Failure| reply::failure(&failure));
    let headers = reply.headers_mut();
    headers.insert(SERVER, served.server.clone());
    headers.insert(HeaderName::from_static("api-version"), HeaderValue::from_static("1.51"));
    headers.insert(HeaderName::from_static("ostype"), HeaderValue::from_static("linux"));
    headers.insert(HeaderName::from_static("docker-experimental"), HeaderValue::from_static("false"));
    reply
}
