//! The DNS server at 127.0.0.11 that each container asks: names of containers from the networks' [`Zone`]s, everything
//! else from other servers, with a cache. It runs in the container's monitor, as one descriptor in its epoll set, and holds
//! next to no memory while nobody asks. Who has which name is told to it by files; who attaches containers writes them.

mod cache;
#[cfg(test)]
mod damage;
mod forward;
mod names;
mod server;
mod socket;
mod tcp;
mod token;
mod upstream;
mod wire;
mod zone;

pub use names::{Member, Names};
pub use server::{Outside, Server, Settings};
pub use socket::{Sockets, Visit};
pub use upstream::ADDRESS;
pub use zone::{Entry, Zone};
