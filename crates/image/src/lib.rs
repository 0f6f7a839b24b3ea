//! Images: references, the registry client, the content store, layers. Knows nothing of containers and networks; takes
//! the database as a connection or transaction of the caller's, so that a caller can make one commit of its own rows
//! and the image's.

mod archive;
mod archive_docker;
mod archive_oci;
mod blobs;
mod changes;
mod config;
mod digest;
mod error;
mod host;
mod import;
mod inflate;
mod inspect;
mod layer;
mod limits;
mod load;
mod manifest;
mod pax;
mod platform;
mod pull;
mod push;
pub mod reference;
mod remote;
mod remove;
mod staging;
pub mod store;
mod tarread;
mod tree;
mod unpack;

pub use digest::Digest;
pub use error::Error;
pub use pull::{Pull, Pulled};
pub use push::{Push, Pushed};
pub use reference::Reference;
pub use remote::{Access, Credentials, Found, Kept, Keyring, log_in, search};
pub use remove::{Removed, Usage};
pub use store::{Image, Progress, Store};
