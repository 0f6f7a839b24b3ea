//! The Docker Engine API over HTTP: what a client asks for is translated to the engine's verbs, what they answer to
//! Docker's JSON. Stateless: whatever must survive is in the engine's records, so a server may be killed at any time.
//! This is the only crate that is async; verbs run on threads that may block, what lasts is followed by descriptors.

mod building;
mod containers;
mod descriptor;
mod disk_usage;
mod engines;
mod events;
mod execs;
mod failure;
mod hijack;
mod images;
mod lenient;
mod networks;
mod pending;
mod registry;
mod reply;
mod request;
mod router;
mod server;
mod socket;
mod stream;
mod swarm;
mod system;
mod version;
mod volumes;

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use engine::Paths;
use hyper::header::HeaderValue;

pub use socket::{Access, bind, inherited};

use crate::engines::Engines;
use crate::pending::Pending;

/// Verbs that may block at the same time; more wait.
const THREADS: usize = 256;
/// Bytes of stack that each of their threads may use.
const STACK: usize = 1 << 20;
/// How long a thread waits for more to do.
const IDLE: Duration = Duration::from_secs(2);

/// What all connections of a server share.
pub(crate) struct Served {
    pub(crate) engines: Engines,
    pub(crate) pending: Pending,
    pub(crate) server: HeaderValue,
    /// Builds of the classic builder.
    pub(crate) cancels: building::Cancels,
}

/// Serves these sockets until the process ends. `log` gets one line for each thing that somebody should know.
pub fn serve(
    paths: Paths,
    listeners: Vec<UnixListener>,
    log: impl Fn(&str) + Send + Sync + 'static,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS)
        .thread_stack_size(STACK)
        .thread_keep_alive(IDLE)
        .build()?;
    let version = concat!("Kiste/", env!("CARGO_PKG_VERSION"), " (linux)");
    let served = Arc::new(Served {
        engines: Engines::new(paths, Box::new(log)),
        pending: Pending::default(),
        server: HeaderValue::from_static(version),
        cancels: building::Cancels::default(),
    });
    runtime.block_on(async {
        let mut accepting = tokio::task::JoinSet::new();
        for listener in listeners {
            accepting.spawn(socket::accept(socket::to_runtime(listener)?, served.clone()));
        }
        while let Some(ended) = accepting.join_next().await {
            ended.map_err(std::io::Error::other)??;
        }
        Ok(())
    })
}
