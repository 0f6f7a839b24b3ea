//! The network side of a container. Bridges, addresses and ports are not here yet: a container has its own loopback, no
//! network, the host's, or another container's, all of which the sandbox makes by itself; here is the text of the files
//! through which its programs learn names. Knows nothing of images and containers' configuration.

pub mod dns;
pub mod files;
mod poll;
pub mod proxy;
