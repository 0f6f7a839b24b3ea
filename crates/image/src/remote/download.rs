//! A file from the web, for `import`: by the same proxies and certificates as everything else, without credentials.

use std::io::Read;
use std::sync::Arc;

use ureq::http::Method;

use super::access::{Access, Settings};
use super::http::{Client, stream};
use crate::error::{Error, Result};

/// Begins to download what a `http` or `https` URL names.
pub fn download(access: &Access, url: &str) -> Result<impl Read + use<>> {
    let settings = Arc::new(Settings::read(access)?);
    let response = Client::new(&settings).get(&Method::GET, url, &[])?;
    match response.status() {
        status if status.is_success() => Ok(stream(response)),
        status => Err(Error::Registry(format!("GET {url}: {status}"))),
    }
}
