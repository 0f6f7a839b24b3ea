//! Where lists are kept: a directory for each, a file for each of its images, named as Docker names them.

use std::path::PathBuf;

use super::entry::Entry;
use crate::error::{Error, Result, Step};
use crate::remote::Access;
use crate::{Reference, limits};

/// `manifests/` beside `config.json`.
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn new(access: &Access) -> Self {
        Place(access.directory().join("manifests"))
    }

    pub(super) fn exists(&self, list: &Reference) -> bool {
        self.directory(list).is_dir()
    }

    /// The images of a list, in the order of their names.
    pub(super) fn all(&self, list: &Reference) -> Result<Vec<Entry>> {
        let directory = self.directory(list);
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths.truncate(limits::IMAGES);
        paths.iter().map(read).collect()
    }

    pub(super) fn find(&self, list: &Reference, image: &Reference) -> Result<Option<Entry>> {
        let path = self.directory(list).join(file_name(image));
        if path.exists() { read(&path).map(Some) } else { Ok(None) }
    }

    pub(super) fn keep(&self, list: &Reference, entry: &Entry) -> Result<()> {
        let directory = self.directory(list);
        std::fs::create_dir_all(&directory).step(|| format!("make {}", directory.display()))?;
        let path = directory.join(file_name(&entry.reference()?));
        let text = serde_json::to_vec(entry).step(|| format!("write {}", path.display()))?;
        std::fs::write(&path, text).step(|| format!("write {}", path.display()))
    }

    pub(super) fn remove(&self, list: &Reference) -> Result<()> {
        let directory = self.directory(list);
        std::fs::remove_dir_all(&directory).step(|| format!("remove {}", directory.display()))
    }

    fn directory(&self, list: &Reference) -> PathBuf {
        self.0.join(file_name(list))
    }
}

fn read(path: &PathBuf) -> Result<Entry> {
    let text = std::fs::read(path).step(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).map_err(|cause| Error::untrusted(format!("{} is damaged: {cause}", path.display())))
}

/// A name without what a file name cannot have.
fn file_name(name: &Reference) -> String {
    name.to_string().replace(':', "-").replace('/', "_")
}
