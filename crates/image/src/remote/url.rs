//! The few things about URLs that the client needs: escaping for queries, and where a `Location` leads.

use ureq::http::Uri;

use crate::error::{Error, Result};

/// Parses an absolute URL.
pub(crate) fn parse(url: &str) -> Result<Uri> {
    let parsed: Uri = url.parse().map_err(|cause| Error::Registry(format!("malformed URL {url:?}: {cause}")))?;
    match (parsed.scheme_str(), parsed.authority()) {
        (Some("http" | "https"), Some(authority)) if !authority.as_str().contains('@') => Ok(parsed),
        _ => Err(Error::Registry(format!("malformed URL {url:?}: want http(s)://host/path without a user"))),
    }
}

/// The URL without its query, which may carry signatures of object stores: for messages.
pub(crate) fn shown(url: &Uri) -> String {
    let text = url.to_string();
    text.split('?').next().unwrap_or("").to_owned()
}

/// `http(s)://host[:port]`.
pub(crate) fn origin(url: &Uri) -> String {
    format!("{}://{}", url.scheme_str().unwrap_or("https"), url.authority().map_or("", |name| name.as_str()))
}

/// What a `Location` header found in an answer of `from` means; never from https to http.
pub(crate) fn join(from: &Uri, location: &str) -> Result<Uri> {
    let scheme = from.scheme_str().unwrap_or("https");
    let absolute = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{}{location}", origin(from))
    } else {
        location.to_owned()
    };
    let bad = |why: String| Error::Registry(format!("{}: redirect {why}", shown(from)));
    let next = parse(&absolute).map_err(|cause| bad(format!("to a {cause}")))?;
    match (scheme, next.scheme_str()) {
        ("https", Some("https")) | ("http", Some("http" | "https")) => Ok(next),
        _ => Err(bad("from https to something less".into())),
    }
}

/// Percent-encodes for a query.
pub(crate) fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/:".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Adds parameters to a URL that may have some already; the values are escaped.
pub(crate) fn with_query(url: &str, parameters: &[(&str, &str)]) -> String {
    parameters.iter().fold(url.to_owned(), |url, (key, value)| {
        let separator = if url.contains('?') { '&' } else { '?' };
        format!("{url}{separator}{key}={}", escape(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let to = |from: &str, location: &str| join(&from.parse().unwrap(), location).map(|url| url.to_string());
        assert_eq!(to("https://a:1/b/c", "/d?e=f").unwrap(), "https://a:1/d?e=f");
        assert_eq!(to("https://a/b", "https://c/d").unwrap(), "https://c/d");
        assert_eq!(to("https://a/b", "//c/d").unwrap(), "https://c/d");
        assert_eq!(to("http://127.0.0.1:5/b", "http://127.0.0.1:6/d").unwrap(), "http://127.0.0.1:6/d");
        for bad in
            ["http://a/b", "file:///etc/passwd", "relative", "", "https://", "https://user:pw@c/d", "gopher://x/"]
        {
            assert!(to("https://a/b", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn queries() {
        assert_eq!(escape("a b&c:d/e"), "a%20b%26c:d/e");
        assert_eq!(with_query("https://a/t", &[("s", "x y"), ("u", "1")]), "https://a/t?s=x%20y&u=1");
        assert_eq!(with_query("https://a/t?k=v", &[("s", "x")]), "https://a/t?k=v&s=x");
    }
}
