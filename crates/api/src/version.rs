//! Versions of the API: which are served, and how a path names one. What a version changes in a document is decided by
//! the handlers.

use std::fmt;

use crate::failure::{Failure, Result};

/// `major.minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u16, pub(crate) u16);

/// The oldest version that is served.
pub(crate) const OLDEST: Version = Version(1, 24);
/// The version that clients are told of, and that of a path that names none.
pub(crate) const USUAL: Version = Version(1, 51);
/// The newest version that a path may name.
pub(crate) const NEWEST: Version = Version(1, 55);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The version and the rest of a path: `/v1.44/info` is `1.44` and `/info`.
pub(crate) fn split(path: &str) -> Result<(Version, &str)> {
    let Some((version, rest)) = prefix(path) else { return Ok((USUAL, path)) };
    if version < OLDEST {
        return Err(Failure::bad_request(format!(
            "client version {version} is too old. Minimum supported API version is {OLDEST}, please upgrade your client to a newer version"
        )));
    }
    if version > NEWEST {
        return Err(Failure::bad_request(format!(
            "client version {version} is too new. Maximum supported API version is {NEWEST}"
        )));
    }
    Ok((version, rest))
}

fn prefix(path: &str) -> Option<(Version, &str)> {
    let rest = path.strip_prefix("/v")?;
    let (version, _) = rest.split_once('/')?;
    let (major, minor) = version.split_once('.')?;
    let digits = |text: &str| if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None };
    Some((Version(digits(major)?, digits(minor)?), &rest[version.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_a_version_or_not() {
        assert_eq!(split("/v1.40/info").unwrap(), (Version(1, 40), "/info"));
        assert_eq!(split("/info").unwrap(), (USUAL, "/info"));
        assert_eq!(split("/volumes/x").unwrap(), (USUAL, "/volumes/x"));
        assert_eq!(split("/v1.x/info").unwrap(), (USUAL, "/v1.x/info"));
        assert!(split("/v1.12/info").unwrap_err().message.starts_with("client version 1.12 is too old."));
        assert!(split("/v1.99/info").unwrap_err().message.ends_with("Maximum supported API version is 1.55"));
        assert!(Version(1, 9) < Version(1, 24));
    }
}
