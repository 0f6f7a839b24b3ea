//! A file from the web, for `import` and builds: by the same proxies and certificates as everything else, without the
//! credentials of registries.

use std::io::Read;
use std::sync::Arc;

use ureq::http::{HeaderMap, Method, header};

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

/// A file on its way from the web.
pub struct Download {
    /// Its content.
    pub stream: Box<dyn Read + Send>,
    /// What `Content-Disposition` calls it: a name without directories.
    pub name: Option<String>,
    /// `Last-Modified`, as the server wrote it.
    pub modified: Option<String>,
}

/// Like [`download`], with what the answer's header says of the file. `authorization` is sent along to the first host.
pub fn fetch(access: &Access, url: &str, authorization: Option<&str>) -> Result<Download> {
    let settings = Arc::new(Settings::read(access)?);
    let headers: Vec<_> = authorization.map(|text| (header::AUTHORIZATION, text)).into_iter().collect();
    let response = Client::new(&settings).get(&Method::GET, url, &headers)?;
    if !response.status().is_success() {
        return Err(Error::Registry(format!("invalid response status {}", response.status().as_u16())));
    }
    let modified = text(response.headers(), &header::LAST_MODIFIED);
    let name = text(response.headers(), &header::CONTENT_DISPOSITION).and_then(|value| attachment(&value));
    Ok(Download { stream: Box::new(stream(response)), name, modified })
}

fn text(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// `filename=` of a `Content-Disposition`; what would lead elsewhere is no name.
fn attachment(value: &str) -> Option<String> {
    let field = value.split(';').map(str::trim).find_map(|field| field.strip_prefix("filename="))?;
    let name = field.trim_matches('"').rsplit('/').next().unwrap_or_default();
    (!name.is_empty() && name != "." && name != ".." && !name.contains('\\')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_attachments_lead_nowhere() {
        assert_eq!(attachment("attachment; filename=\"a.txt\"").as_deref(), Some("a.txt"));
        assert_eq!(attachment("attachment; filename=../../etc/passwd").as_deref(), Some("passwd"));
        assert_eq!(attachment("attachment; filename=\"..\""), None);
        assert_eq!(attachment("inline"), None);
    }
}
