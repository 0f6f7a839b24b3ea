//! The network side of a container: which network it lives in, and the three files through which its programs learn
//! names (`/etc/hosts`, `/etc/resolv.conf`, `/etc/hostname`). Bridges, addresses and ports come with user networks; until
//! then a container has its own loopback, no network, the host's, or another container's. Knows nothing of images and
//! containers' configuration.

pub mod files;
mod mode;

pub use mode::Mode;
