//! Images: references, the registry client, the content store, layers. Knows nothing of containers and networks; takes
//! the database as a connection or transaction of the caller's, so that a caller can make one commit of its own rows
//! and the image's.

mod archive;
mod archive_docker;
mod archive_oci;
mod assemble;
mod attach;
mod attributes;
mod blobs;
mod changes;
mod check;
mod commit;
mod config;
mod deep;
mod digest;
mod driver;
mod erofs;
mod error;
mod failpoint;
#[doc(hidden)]
pub mod fuzz;
mod host;
mod import;
mod inflate;
mod inspect;
mod layer;
mod layer_archive;
mod limits;
mod lists;
mod load;
mod manifest;
mod merged;
mod mount;
#[cfg(test)]
mod mutations;
mod opened;
mod pack;
mod pax;
mod platform;
mod pull;
mod push;
pub mod reference;
mod remote;
mod remove;
mod save;
mod space;
mod sparse;
mod staging;
pub mod store;
mod tarread;
mod tarwrite;
mod tree;
mod unpack;
mod upper;
mod verify;
mod whiteout;

pub use assemble::{Assembled, Assembly, Part};
pub use check::{Problem, Report as CheckReport};
pub use commit::Commit;
pub use digest::Digest;
pub use driver::{Choice, Driver, VARIABLE as DRIVER_VARIABLE};
pub use error::Error;
pub use failpoint::NAMES as FAILPOINTS;
pub use host::is_host;
pub use inflate::inflate;
pub use lists::{Annotation, Lists, PushedList};
pub use merged::export;
pub use opened::open_archive;
pub use pack::{Owners, Packer, is_window_to_kernel};
pub use pull::{Distribution, Pull, Pulled, ask};
pub use push::{Push, Pushed};
pub use reference::Reference;
pub use remote::{
    Access, Credentials, Download, Found, Kept, Keyring, Knower, addresses, download, fetch, log_in, search,
};
pub use remove::{Removed, Usage};
pub use save::Save;
pub use store::{Image, Progress, Store};
pub use tarread::{Entry as TarEntry, Kind as TarKind, TarReader};
pub use tarwrite::{Header as TarHeader, TarWriter};
pub use unpack::unpack_files;
pub use upper::{Change, ChangeKind, Same, Upper};
