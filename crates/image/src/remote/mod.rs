//! The way to registries (OCI distribution specification): where they are and whom to trust, who we are to them, and
//! the conversation itself. What arrives is checked against digests and limits before anybody sees it.

mod access;
mod authority;
mod certs;
mod challenge;
mod conf;
mod credentials;
mod dns;
mod download;
mod endpoint;
mod helper;
mod http;
mod login;
mod pace;
mod proxy;
mod referrers;
mod refusal;
mod registry;
mod short_names;
mod upload;
mod url;

pub use access::Access;
pub use credentials::{Credentials, Kept, Keyring, Knower};
pub use dns::addresses;
pub use download::{Download, download, fetch};
pub use login::{Found, log_in, search};

pub(crate) use access::{Settings, policy};
pub(crate) use endpoint::Endpoint;
pub(crate) use http::pause;
pub(crate) use registry::{Fetched, Registry, Right};
pub(crate) use upload::Source;

/// Whether a `WWW-Authenticate` means something: for fuzzers.
pub(crate) fn challenged(text: &str) -> bool {
    let value = ureq::http::HeaderValue::from_str(text).ok();
    let headers = value.map(|value| ureq::http::HeaderMap::from_iter([(ureq::http::header::WWW_AUTHENTICATE, value)]));
    headers.is_some_and(|headers| challenge::Challenge::of(&headers).is_some())
}

/// What a `registries.conf` means: for fuzzers.
pub(crate) fn configured(text: &str) -> Option<conf::Conf> {
    conf::Conf::parse(text).ok()
}
