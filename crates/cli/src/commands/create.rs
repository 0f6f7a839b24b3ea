//! `kiste create`: records a container without starting it. Also what it shares with `run`: the image that has to be
//! pulled first, and the file that gets the id.

use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use engine::model::CreateRequest;

use crate::commands::{Verb, pull};
use crate::context::{Context, say};
use crate::failure::{ENGINE_FAILED, Failure, Result};
use crate::options::environment::proxies;
use crate::options::{Options, Pull};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    options: Options,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] IMAGE [COMMAND] [ARG...]";
    const ABOUT: &'static str = "Create a new container";

    fn run(self, context: &Context) -> Result<u8> {
        let pull = self.options.pull();
        let cidfile = self.options.cidfile().map(Cidfile::reserve).transpose()?;
        let mut request = self.options.request()?;
        proxies(context.settings(), &mut request.config.env);
        let created =
            with_image(context, &request, pull, |request| context.engine.create(request).map_err(Failure::from));
        // Flags that contradict each other end with 125, what the engine refuses with 1 (docker create).
        let created = created.map_err(|failure| failure.coded(1))?;
        created.warnings.iter().for_each(|warning| context.warn(warning));
        if let Some(cidfile) = cidfile {
            cidfile.write(&created.id)?;
        }
        context.print(&format!("{}\n", created.id)).map(|()| 0)
    }
}

/// Does `work`, with the image pulled before if `--pull` says so, or in between if `work` finds that it is missing.
pub(super) fn with_image<T>(
    context: &Context,
    request: &CreateRequest,
    (when, quiet): (Pull, bool),
    mut work: impl FnMut(&CreateRequest) -> Result<T>,
) -> Result<T> {
    let image = &request.config.image;
    let fetch = || pull::for_container(context, image, request.platform.as_deref(), quiet);
    if when == Pull::Always {
        fetch()?;
    }
    match work(request) {
        Err(failure) if when == Pull::Missing && is_missing(&failure, image) => {
            if !quiet {
                say(&format!("Unable to find image '{}' locally\n", pull::familiar(image)));
            }
            fetch()?;
            work(request)
        }
        outcome => outcome,
    }
}

/// Whether the engine found no image; the machine's own tree (`host:`) can be pulled from nowhere.
fn is_missing(failure: &Failure, image: &str) -> bool {
    failure.message.starts_with("No such image") && !image.starts_with("host:")
}

/// The file of `--cidfile`: must not exist before, and does not stay if there is no container.
pub(super) struct Cidfile {
    path: PathBuf,
    written: Cell<bool>,
}

impl Cidfile {
    /// Makes the file, empty.
    pub(super) fn reserve(path: &Path) -> Result<Cidfile> {
        let failure = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::new(format!(
                "container ID file found, make sure the other container isn't running or delete {}",
                path.display()
            )),
            _ => Failure::new(format!("failed to create the container ID file {}: {error}", path.display())),
        };
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|error| failure(error).coded(ENGINE_FAILED))?;
        Ok(Cidfile { path: path.to_owned(), written: Cell::new(false) })
    }

    /// Writes the id, without a newline.
    pub(super) fn write(&self, id: &str) -> Result<()> {
        let failure =
            |error| Failure::new(format!("failed to write the container ID to {}: {error}", self.path.display()));
        fs::write(&self.path, id).map_err(|error| failure(error).coded(ENGINE_FAILED))?;
        self.written.set(true);
        Ok(())
    }
}

impl Drop for Cidfile {
    fn drop(&mut self) {
        if !self.written.get() {
            // An empty file tells nobody anything; if it cannot go, the next run says so.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_file_is_new_and_goes_with_a_failure() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cid");
        drop(Cidfile::reserve(&path).unwrap());
        assert!(!path.exists());
        Cidfile::reserve(&path).unwrap().write("abc").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "abc");
        let failure = Cidfile::reserve(&path).err().unwrap();
        assert!(failure.message.starts_with("container ID file found") && failure.code == 125);
    }
}
