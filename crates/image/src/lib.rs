//! Images: references, the registry client, the content store, layers. Knows nothing of containers and networks; takes
//! the database as a connection or transaction of the caller's, so that a caller can make one commit of its own rows
//! and the image's.

pub mod reference;
pub mod store;

pub use store::Store;
