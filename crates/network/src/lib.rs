//! The network side of containers: networks and who is in them (records), bridges, devices, addresses and routes
//! (rtnetlink), address translation and filtering (nf_tables), published ports, and the text of the files through which
//! programs learn names. Knows nothing of images and containers' configuration: a container is an id and a process.

mod allocate;
pub mod connect;
pub mod dns;
pub mod endpoints;
pub mod error;
pub mod files;
pub mod firewall;
pub mod legacy;
pub mod link;
pub mod model;
pub mod networks;
pub mod options;
mod owner;
mod poll;
pub mod proxy;
pub mod publish;
pub mod reserve;
pub mod subnet;
pub mod table;
pub mod transparent;
pub mod watch;

pub use error::{Error, Kind, Result};
pub use model::{Attachment, Driver, Endpoint, Network, Port, Protocol, Subnet};
