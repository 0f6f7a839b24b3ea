//! Names by which a layer's archive hides what the layers below have (OCI image specification, *Whiteouts*; AUFS' form).

use crate::error::{Error, Result};

const WHITEOUT: &[u8] = b".wh.";
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What such a name means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mark<'a> {
    /// Everything that the layers below have in this directory is hidden.
    Opaque,
    /// This name is.
    Hidden(&'a [u8]),
    /// AUFS' own bookkeeping, which Docker ignores too.
    Bookkeeping,
}

impl<'a> Mark<'a> {
    /// Reads the last component of a path; `None`: an ordinary name.
    pub(crate) fn of(name: &'a [u8]) -> Result<Option<Self>> {
        match name {
            OPAQUE => Ok(Some(Mark::Opaque)),
            _ if name.starts_with(META) => Ok(Some(Mark::Bookkeeping)),
            _ => match name.strip_prefix(WHITEOUT) {
                None => Ok(None),
                Some(b"" | b"." | b"..") => Err(Error::untrusted("whiteout without a name")),
                Some(hidden) => Ok(Some(Mark::Hidden(hidden))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(Mark::of(b".wh..wh..opq").unwrap(), Some(Mark::Opaque));
        assert_eq!(Mark::of(b".wh..wh.plnk").unwrap(), Some(Mark::Bookkeeping));
        assert_eq!(Mark::of(b".wh.a").unwrap(), Some(Mark::Hidden(b"a")));
        assert_eq!(Mark::of(b".wha").unwrap(), None);
        for bad in [&b".wh."[..], b".wh..", b".wh..."] {
            assert!(Mark::of(bad).is_err());
        }
    }
}
