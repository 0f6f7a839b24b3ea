//! `host:/directory`: the machine's own tree as a read-only base, so that a first run needs no download.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::error::{Error, Result};
use crate::store::Image;
use crate::{Digest, config, platform};

/// What begins the name of such an image.
pub(crate) const PREFIX: &str = "host:";

/// Whether a name stands for a directory of the machine's own.
pub fn is_host(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(is_path)
}

/// Whether what follows is meant as a directory: `host:5000/image` is an image of a registry called `host`.
pub(crate) fn is_path(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(['/', '.'])
}

const PATH_VARIABLE: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The image that `host:DIRECTORY` stands for. It is made up each time and stored nowhere.
pub(crate) fn image(directory: &str) -> Result<Image> {
    let root = check(directory)?;
    let config_json = describe(&root);
    let config = config::parse(&config_json, "configuration of a host: image")?;
    Ok(Image {
        id: Digest::of(&config_json).to_string(),
        config,
        config_json,
        repo_tags: vec![format!("{PREFIX}{}", root.display())],
        repo_digests: Vec::new(),
        layers: Vec::new(),
        size: 0,
        created: 0,
        directory: Some(root),
    })
}

fn check(directory: &str) -> Result<PathBuf> {
    let invalid = |cause: &str| {
        Error::Invalid(format!(
            "invalid image {PREFIX}{directory}: {cause}; want host: and an absolute directory, like host:/"
        ))
    };
    if !directory.starts_with('/') {
        return Err(invalid("the path is not absolute"));
    }
    let root = std::fs::canonicalize(directory).map_err(|cause| invalid(&cause.to_string()))?;
    if !root.is_dir() {
        return Err(invalid("not a directory"));
    }
    if root.to_str().is_none() {
        return Err(invalid("the path is not UTF-8"));
    }
    Ok(root)
}

fn describe(root: &Path) -> Vec<u8> {
    let shell = ["bin/bash", "usr/bin/bash"].iter().any(|shell| root.join(shell).symlink_metadata().is_ok());
    let host = platform::Platform::host();
    let document = json!({
        "architecture": host.architecture,
        "os": "linux",
        "config": {
            "Env": [PATH_VARIABLE],
            "Cmd": [if shell { "/bin/bash" } else { "/bin/sh" }],
            "WorkingDir": "/",
            "Labels": {"kiste.host": root.to_string_lossy()},
        },
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    document.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_tree() {
        let image = image("/").unwrap();
        assert_eq!(image.directory, Some(PathBuf::from("/")));
        assert_eq!(image.id, super::image("//").unwrap().id);
        for bad in ["", "etc", "/etc/passwd", "/no/such/directory"] {
            assert!(super::image(bad).unwrap_err().to_string().contains("absolute directory"), "{bad}");
        }
    }
}
