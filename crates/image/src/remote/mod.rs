//! The way to registries (OCI distribution specification): where they are and whom to trust, who we are to them, and
//! the conversation itself. What arrives is checked against digests and limits before anybody sees it.

mod access;
mod authority;
mod certs;
mod challenge;
mod conf;
mod credentials;
mod dns;
mod endpoint;
mod helper;
mod http;
mod login;
mod pace;
mod proxy;
mod refusal;
mod registry;
mod upload;
mod url;

pub use access::Access;
pub use credentials::{Credentials, Kept, Keyring};
pub use login::{Found, log_in, search};

pub(crate) use access::Settings;
pub(crate) use endpoint::Endpoint;
pub(crate) use http::pause;
pub(crate) use registry::{Fetched, Registry, Right};
pub(crate) use upload::Source;
