//! Images: references, the registry client, the content store, layers. Knows nothing of containers and networks; takes
//! the database as a connection or transaction of the caller's, so that a caller can make one commit of its own rows
//! and the image's.

mod archive;
mod archive_docker;
mod archive_oci;
mod blobs;
mod changes;
mod commit;
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
mod merged;
mod pack;
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
mod tarwrite;
mod tree;
mod unpack;
mod upper;

pub use commit::Commit;
pub use digest::Digest;
pub use error::Error;
pub use merged::export;
pub use pack::{Owners, Packer};
pub use pull::{Pull, Pulled};
pub use push::{Push, Pushed};
pub use reference::Reference;
pub use remote::{Access, Credentials, Found, Kept, Keyring, log_in, search};
pub use remove::{Removed, Usage};
pub use store::{Image, Progress, Store};
pub use tarread::{Entry as TarEntry, Kind as TarKind, TarReader};
pub use tarwrite::{Header as TarHeader, TarWriter};
pub use upper::{Change, ChangeKind, Same, Upper};
