//! The endpoints about the server itself: `_ping`, `version`, `info`.

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue, PRAGMA};

use crate::failure::Result;
use crate::reply::{self, Body, Reply};
use crate::request::Request;
use crate::{Served, compat};

/// `_ping`: lives, and speaks this version.
pub(crate) fn ping() -> Result<Reply> {
    let mut reply = reply::with_type(StatusCode::OK, "text/plain; charset=utf-8", Body::Whole("OK".into()));
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("builder-version"), HeaderValue::from_static("2"));
    headers.insert(HeaderName::from_static("swarm"), HeaderValue::from_static("inactive"));
    Ok(reply)
}

/// `version`.
pub(crate) async fn version(served: &Served) -> Result<Reply> {
    reply::ok(&served.engines.run(|engine| Ok(engine.version())).await?)
}

/// `info`.
pub(crate) async fn info(request: &Request, served: &Served) -> Result<Reply> {
    let mut document = served.engines.run(engine::Engine::info).await?;
    compat::info(&mut document, request.version);
    reply::ok(&document)
}
