//! The Docker Engine API over HTTP: what a client asks for is translated to the engine's verbs, what they answer to
//! Docker's JSON. Stateless: whatever must survive is in the engine's records, so a server may be killed at any time.
//! This is the only crate that is async; verbs run on threads that may block, what lasts is followed by descriptors.

mod building;
mod buildkit;
mod compat;
mod containers;
mod descriptor;
mod disk_usage;
mod engines;
mod events;
mod execs;
mod failure;
pub mod fuzz;
mod hijack;
mod images;
mod lenient;
mod networks;
mod pending;
mod policy;
mod registry;
mod reply;
mod request;
mod router;
mod server;
mod socket;
mod stream;
mod swarm;
mod system;
mod tls;
mod transport;
mod upload;
mod version;
mod volumes;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use engine::Paths;
use hyper::header::HeaderValue;

pub use engine::Bounds;
pub use policy::Policy;
pub use socket::{Access, Listener};
pub use tls::TlsFiles;

use crate::engines::{Engines, THREADS, Threads};
use crate::pending::Pending;

/// Bytes of stack that each of their threads may use.
const STACK: usize = 1 << 20;
/// How long a thread waits for more to do.
const IDLE: Duration = Duration::from_millis(250);

/// What all connections of a socket share. Clients that wait for a container are all sockets'.
pub(crate) struct Served {
    pub(crate) engines: Engines,
    pub(crate) pending: Arc<Pending>,
    pub(crate) policy: Policy,
    pub(crate) server: HeaderValue,
    /// Sessions of BuildKit's clients.
    pub(crate) sessions: buildkit::Sessions,
    /// Builds of the classic builder.
    pub(crate) cancels: building::Cancels,
    /// Builds that they have asked for.
    pub(crate) jobs: buildkit::Jobs,
}

/// Serves these sockets until the process ends. `log` gets one line for each thing that somebody should know.
pub fn serve(
    paths: Paths,
    listeners: Vec<Listener>,
    log: impl Fn(&str) + Send + Sync + 'static,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS)
        .thread_stack_size(STACK)
        .thread_keep_alive(IDLE)
        .build()?;
    let version = concat!("Kiste/", env!("CARGO_PKG_VERSION"), " (linux)");
    let (log, pending, threads) = (Arc::new(log), Arc::new(Pending::default()), Threads::default());
    let served = |policy: &Policy| {
        let log: Box<dyn Fn(&str) + Send + Sync> = {
            let log = log.clone();
            Box::new(move |line| log(line))
        };
        Arc::new(Served {
            engines: Engines::new(paths.clone(), policy.bounds.clone(), threads.clone(), log),
            pending: pending.clone(),
            policy: policy.clone(),
            server: HeaderValue::from_static(version),
            sessions: buildkit::Sessions::default(),
            cancels: building::Cancels::default(),
            jobs: buildkit::Jobs::default(),
        })
    };
    runtime.block_on(async {
        let mut accepting = tokio::task::JoinSet::new();
        for listener in listeners {
            let served = served(&listener.policy);
            accepting.spawn(socket::accept(listener, served));
        }
        while let Some(ended) = accepting.join_next().await {
            ended.map_err(std::io::Error::other)??;
        }
        Ok(())
    })
}
