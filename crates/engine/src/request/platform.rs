//! `--platform` and the architecture of the image that is used.

use crate::{Error, Result};

/// Checks an image's architecture against what was asked for; where nothing was asked for and it is not this machine's,
/// a warning in Docker's words (an emulator may be registered, so it is no error).
pub(crate) fn check(reference: &str, wanted: Option<&str>, architecture: &str) -> Result<Option<String>> {
    match wanted.filter(|wanted| !wanted.is_empty()) {
        Some(wanted) => match wanted.split('/').nth(1) {
            Some(asked) if normal(asked) != normal(architecture) => Err(Error::not_found(format!(
                "image with reference {reference} was found but does not provide the specified platform ({wanted})"
            ))
            .hinted(format!("it is here for linux/{architecture}; pull it for the other platform"))),
            _ => Ok(None),
        },
        None if normal(architecture) == normal(std::env::consts::ARCH) => Ok(None),
        None => Ok(Some(format!(
            "The requested image's platform (linux/{architecture}) does not match the detected host platform (linux/{}) \
             and no specific platform was requested",
            normal(std::env::consts::ARCH)
        ))),
    }
}

/// Go's name of an architecture, by which images call it.
fn normal(name: &str) -> &str {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "armhf" | "armel" => "arm",
        "i386" | "i686" | "x86" => "386",
        "powerpc64le" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_architecture_passes_and_others_are_told() {
        let own = normal(std::env::consts::ARCH);
        assert_eq!(check("a", None, own).unwrap(), None);
        assert_eq!(check("a", Some(&format!("linux/{own}")), own).unwrap(), None);
        assert!(check("a", None, "riscv64").unwrap().unwrap().contains("(linux/riscv64) does not match"));
        let error = check("a", Some("linux/s390x"), own).unwrap_err();
        assert!(error.message.contains("does not provide the specified platform (linux/s390x)"));
    }
}
