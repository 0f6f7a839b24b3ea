//! Images: references, the registry client, the content store, layers. Knows nothing of containers and networks; takes
//! the database as a connection or transaction of the caller's, so that a caller can make one commit of its own rows
//! and the image's.

mod config;
mod digest;
mod error;
mod host;
mod limits;
mod load;
mod platform;
pub mod reference;
pub mod store;

pub use digest::Digest;
pub use error::Error;
pub use reference::Reference;
pub use store::{Image, Progress, Store};
