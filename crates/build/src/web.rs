//! Files from the web, for contexts and ADD: with the secrets that BuildKit names for their hosts, onto a file that has no
//! name.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use sha2::{Digest as _, Sha256};

use crate::cancel::Cancel;
use crate::copying::hex;
use crate::request::Request;
use crate::{Error, Result};

/// Largest file.
const LARGEST: u64 = 64 << 30;

/// What is known of a file that came.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The name that the server gave it.
    pub(crate) name: Option<String>,
    /// When it was changed last, in seconds since 1970.
    pub(crate) modified: Option<i64>,
    /// `sha256:…` of its content.
    pub(crate) digest: String,
}

/// Downloads an address; the file is open for reading, at its beginning.
pub(crate) fn download(address: &str, request: &Request, cancel: &Cancel) -> Result<(File, Known)> {
    let failed = |cause: String| Error::new(format!("failed to load {address}: {cause}"));
    let authorization = authorization(address, request)?;
    let arriving =
        image::fetch(&request.access, address, authorization.as_deref()).map_err(|error| failed(error.to_string()))?;
    let received = receive(arriving.stream, cancel);
    cancel.check()?;
    let (file, digest) = received.map_err(|error| failed(error.to_string()))?;
    let modified = arriving.modified.as_deref().and_then(date);
    Ok((file, Known { name: arriving.name, modified, digest }))
}

fn receive(mut stream: impl Read, cancel: &Cancel) -> io::Result<(File, String)> {
    let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let fd = rustix::fs::open("/var/tmp", flags, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
    let mut file = File::from(fd);
    let (mut hash, mut buffer, mut size) = (Sha256::new(), vec![0; 128 << 10], 0);
    loop {
        cancel.check().map_err(|error| io::Error::other(error.message))?;
        let got = stream.read(&mut buffer)?;
        if got == 0 {
            file.rewind()?;
            return Ok((file, format!("sha256:{}", hex(&hash.finalize()))));
        }
        size += got as u64;
        if size > LARGEST {
            return Err(io::Error::other(format!("it is larger than {LARGEST} bytes")));
        }
        hash.update(&buffer[..got]);
        file.write_all(&buffer[..got])?;
    }
}

/// `HTTP_AUTH_HEADER_host`, `HTTP_AUTH_TOKEN_host`, and the same without a host.
fn authorization(address: &str, request: &Request) -> Result<Option<String>> {
    let host = address.split("://").nth(1).unwrap_or_default().split(['/', '?', '#']).next().unwrap_or_default();
    secret(request.secrets.as_deref(), "HTTP_AUTH", host)
}

/// The header that a secret of this kind makes for a host.
pub(crate) fn secret(secrets: Option<&dyn crate::source::Secrets>, kind: &str, host: &str) -> Result<Option<String>> {
    let Some(secrets) = secrets else { return Ok(None) };
    for (id, token) in [
        (format!("{kind}_HEADER_{host}"), false),
        (format!("{kind}_HEADER.{host}"), false),
        (format!("{kind}_HEADER"), false),
        (format!("{kind}_TOKEN_{host}"), true),
        (format!("{kind}_TOKEN.{host}"), true),
        (format!("{kind}_TOKEN"), true),
    ] {
        // Without a host it would be given to anybody; only git's are meant so.
        if kind == "HTTP_AUTH" && !id.contains(host) {
            continue;
        }
        let Some(content) = secrets.secret(&id).map_err(Error::new)? else { continue };
        let text = String::from_utf8(content).map_err(|_| Error::new(format!("secret {id}: it is no text")))?;
        let text = text.trim();
        return Ok(Some(if token { format!("Bearer {text}") } else { text.to_owned() }));
    }
    Ok(None)
}

/// A date of HTTP in seconds since 1970.
fn date(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http() {
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(date("yesterday"), None);
    }
}
