//! Paths of mounts: cleaned by their text alone, so that what is checked is what is mounted.

use crate::{Error, Result};

/// A path inside a volume or image: relative, and never out of it.
pub(super) fn check_subpath(path: &str) -> Result<String> {
    if path.starts_with('/') || path.split('/').any(|part| part == "..") || path.contains('\0') {
        return Err(Error::invalid(format!("subpath {path:?} must be a relative path within the volume")));
    }
    Ok(path.trim_matches('/').to_owned())
}

/// An absolute path in the container in its shortest form.
pub(super) fn clean_target(target: &str) -> Result<String, String> {
    if !target.starts_with('/') {
        return Err(format!("invalid mount path: '{target}' mount path must be absolute"));
    }
    if target.contains('\0') {
        return Err("invalid mount path: NUL byte".to_owned());
    }
    match clean(target).as_str() {
        "/" => Err("invalid specification: destination can't be '/'".to_owned()),
        cleaned => Ok(cleaned.to_owned()),
    }
}

/// `/a//b/../c/` → `/a/c`, by the text alone.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
