//! `diff` and `export`: what a container has changed, and all its files as one archive.

use std::io::Write;

use image::{Change, Same};

use crate::{Engine, Result};

impl Engine {
    /// What the container has changed in its image, sorted by path.
    pub fn diff(&self, name: &str) -> Result<Vec<Change>> {
        let container = self.look_up(name)?;
        Ok(self.writable(&container)?.trees().changes(Same::ByStatus)?)
    }

    /// Writes the container's files as a tar archive, without those of volumes and other mounts. An error of `output`
    /// ends it.
    pub fn export(&self, name: &str, output: &mut dyn Write) -> Result<()> {
        let container = self.look_up(name)?;
        let writable = self.writable(&container)?;
        image::export(&writable.upper, writable.lower(), output)?;
        self.container_event(&container, "export", &[])
    }
}
