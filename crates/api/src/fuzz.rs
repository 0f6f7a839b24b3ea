//! An entry point for fuzzers (`fuzz/`), and for the test that goes through their corpus: bytes as a client may send them.
//! They are taken apart as far as a request goes before it reaches the engine, and nothing is ever done with it.

use std::convert::Infallible;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use crate::lenient::Begun;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::transport::Connection;
use crate::{compat, containers, registry, server, version};

/// Reads a connection to its end.
pub fn request(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let Ok((mut client, ours)) = UnixStream::pair() else { return };
        let sending = async {
            // The server may end the connection first.
            drop(client.write_all(bytes).await);
            drop(client.shutdown().await);
            let mut answer = Vec::new();
            drop(tokio::io::AsyncReadExt::read_to_end(&mut client, &mut answer).await);
        };
        let serving = async {
            let Ok(begun) = Begun::read(Connection::Unix(ours)).await else { return };
            let service = service_fn(|raw| async { Ok::<Reply, Infallible>(look(raw).await) });
            drop(server::http().serve_connection(TokioIo::new(begun), service).await);
        };
        tokio::join!(sending, serving);
    });
}

/// Everything that handlers read of a request.
async fn look(raw: hyper::Request<Incoming>) -> Reply {
    let path = server::path(&raw);
    let (version, rest) = match version::split(&path) {
        Ok((version, rest)) => (version, rest.to_owned()),
        Err(failure) => return reply::failure(&failure),
    };
    let mut request = Request::new(raw, version, rest);
    drop((request.filters(), request.time("since"), request.number::<i64>("limit"), request.all("names")));
    drop((containers::size(&request), registry::access(&request), registry::platform(&request)));
    drop(engine::detach::Keys::parse(request.text("detachKeys").unwrap_or_default()));
    let wanted = match request.document().await {
        Ok(Some(document)) => containers::parse(document, version),
        Ok(None) => return reply::status(hyper::StatusCode::OK),
        Err(failure) => Err(failure),
    };
    let upgraded = wanted.and_then(|mut wanted| compat::upgrade_create(&mut wanted, version));
    upgraded.map_or_else(|failure| reply::failure(&failure), |()| reply::status(hyper::StatusCode::OK))
}
