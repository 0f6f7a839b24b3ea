//! What the monitor does for the container's network as long as the container runs: it answers questions for names, and
//! serves published ports that the kernel's rules cannot. Both are descriptors in its epoll set and hold next to no memory
//! while nothing happens.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Instant;

use linux::namespace::is_rootless;
use network::connect::Connected;
use network::dns::{Outside, Server, Settings};
use network::proxy::{Proxy, Route};
use network::reserve::Reserved;
use network::{Attachment, Protocol};

use super::care::Care;
use super::poll::{Poll, Token};
use crate::plan::{Plan, Questions};
use crate::verbs::read_plan;
use crate::{Context, Paths, Result, naming, user_network};

/// The host's own name servers.
const HOST_FILE: &str = "/etc/resolv.conf";

/// The services of one container.
#[derive(Default)]
pub(super) struct Services {
    names: Option<Names>,
    proxy: Option<Proxy>,
    care: Option<Care>,
}

/// Its name server.
struct Names {
    server: Server,
    paths: Paths,
    id: String,
    /// The plan that the names are from: `network connect` changes it.
    plan: PathBuf,
    seen: Option<(u64, i64, i64)>,
}

impl Services {
    /// Starts what the plan asks for. `held` are sockets of the host that are to be led to the container from here.
    pub(super) fn begin(paths: &Paths, plan: &Plan, connected: &mut Connected, held: Vec<Reserved>) -> Result<Self> {
        let Some(attachment) = &plan.network else { return Ok(Services::default()) };
        let names = match (&plan.questions, connected.questions.take()) {
            (Some(questions), Some(sockets)) => {
                let names = naming::names(&paths.state, attachment);
                let outside = outside(attachment, questions, connected)?;
                let settings = Settings { names, outside, ndots: questions.ndots };
                let server = Server::new(sockets, settings).step(|| "start the name server".to_owned())?;
                let path = paths.container_state(&plan.id).join("plan.json");
                let seen = stamp(&path);
                Some(Names { server, paths: paths.clone(), id: plan.id.clone(), plan: path, seen })
            }
            _ => None,
        };
        let routes = routes(attachment, connected, held);
        let proxy = match routes.is_empty() {
            true => None,
            false => Some(Proxy::new(routes).step(|| "serve published ports".to_owned())?),
        };
        Ok(Services { names, proxy, care: Care::begin(paths, attachment) })
    }

    /// Adds them to the monitor's set.
    pub(super) fn watch(&self, poll: &Poll) -> Result<()> {
        if let Some(names) = &self.names {
            poll.watch_input(&names.server, Token::Names)?;
        }
        if let Some(proxy) = &self.proxy {
            poll.watch_input(proxy, Token::Proxy)?;
        }
        if let Some(care) = &self.care {
            poll.watch_input(&care.watch, Token::Watch)?;
        }
        Ok(())
    }

    /// When something is due by itself.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let names = self.names.as_ref().and_then(|names| names.server.deadline());
        let proxy = self.proxy.as_ref().and_then(Proxy::deadline);
        let care = self.care.as_ref().and_then(|care| care.watch.deadline());
        [names, proxy, care].into_iter().flatten().min()
    }

    /// Somebody asks for a name, or another server has answered.
    pub(super) fn answer(&mut self) {
        if let Some(names) = &mut self.names {
            names.refresh();
            names.server.turn();
        }
    }

    /// Something passes through a published port.
    pub(super) fn forward(&mut self) {
        if let Some(proxy) = &mut self.proxy {
            proxy.turn();
        }
    }

    /// Somebody has deleted parts of networks, or they have been made anew.
    pub(super) fn look_after(&mut self, poll: &Poll) {
        if let Some(care) = &mut self.care {
            care.turn(poll);
        }
    }

    /// Does what is due.
    pub(super) fn due(&mut self, now: Instant, poll: &Poll) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.answer();
            self.forward();
            self.look_after(poll);
        }
    }

    /// Gives memory back.
    pub(super) fn rest(&mut self) {
        if let Some(names) = &mut self.names {
            names.server.rest();
        }
        if let Some(proxy) = &mut self.proxy {
            proxy.rest();
        }
    }
}

impl Names {
    /// Follows the plan.
    fn refresh(&mut self) {
        let now = stamp(&self.plan);
        if now == self.seen {
            return;
        }
        self.seen = now;
        if let Ok(plan) = read_plan(&self.paths, &self.id)
            && let Some(attachment) = &plan.network
        {
            self.server.set_names(naming::names(&self.paths.state, attachment));
        }
    }
}

/// What tells one state of a file from another.
fn stamp(path: &std::path::Path) -> Option<(u64, i64, i64)> {
    let stat = rustix::fs::stat(path).ok()?;
    Some((stat.st_ino, stat.st_mtime, stat.st_mtime_nsec as i64))
}

/// Who is asked about names outside.
fn outside(attachment: &Attachment, questions: &Questions, connected: &Connected) -> Result<Outside> {
    let internal = attachment.endpoints.iter().all(|endpoint| endpoint.network.internal);
    Ok(match () {
        () if !questions.servers.is_empty() => {
            let namespace = connected.namespace.try_clone().step(|| "keep the network namespace".to_owned())?;
            Outside::Servers(questions.servers.clone(), Some(namespace))
        }
        () if internal => Outside::Nowhere,
        () if is_rootless() => Outside::Servers(vec![user_network::RESOLVER.to_owned()], None),
        () => Outside::Host(HOST_FILE.into()),
    })
}

/// What is served from here: IPv6 sockets, for the loopback and for containers that have only IPv4; without root every
/// one of the host's.
fn routes(attachment: &Attachment, connected: &mut Connected, held: Vec<Reserved>) -> Vec<Route> {
    let outside = !held.is_empty();
    let served: Vec<Reserved> = match outside {
        true => held,
        false => {
            let (served, kept) =
                std::mem::take(&mut connected.reserved).into_iter().partition(|r| !r.port.address.is_ipv4());
            connected.reserved = kept;
            served
        }
    };
    served.into_iter().filter_map(|reserved| route(attachment, reserved, outside)).collect()
}

/// `outside`: the socket is the host's, and we are not.
fn route(attachment: &Attachment, reserved: Reserved, outside: bool) -> Option<Route> {
    let port = reserved.port;
    let address = |v4: bool| -> Option<IpAddr> { attachment.published(v4)?.address(v4) };
    let v4 = port.address.is_ipv4();
    // A client of the host keeps its family, and so its address; who asks the loopback is nobody in particular, and most
    // programs serve IPv4.
    let first = v4 || !outside;
    let (target, other) = match (address(first), address(!first)) {
        (Some(address), other) => (address, other),
        (None, other) => (other?, None),
    };
    let end = |address: IpAddr| SocketAddr::new(address, port.target);
    let (target, other) = (end(target), other.map(end));
    let datagrams = match port.protocol {
        Protocol::Tcp => false,
        Protocol::Udp => true,
        Protocol::Sctp => return None,
    };
    if outside {
        // It was to let nothing in before there are rules; here there are none to come.
        let _ = linux::net::accept_all(reserved.socket.as_fd());
    }
    let transparent = outside && user_network::is_transparent();
    Some(Route { socket: reserved.socket, datagrams, target, other, transparent })
}
