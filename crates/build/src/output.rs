//! What is made of a result: the forms, and where they go. Making them is done in `export`.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// One form of the result.
#[derive(Clone)]
pub enum Output {
    /// An image in the store under the request's names.
    Image {
        /// Its names are pushed to their registries.
        push: bool,
    },
    /// The files of the image, into a directory; several platforms get one each below it.
    Directory(PathBuf),
    /// The files of the image as an archive.
    Tar(Sink),
    /// An OCI image layout as an archive.
    Oci(Sink),
    /// What `docker load` takes.
    Docker(Sink),
    /// Nothing: the steps stay in the cache.
    Nothing,
}

/// Where an archive goes.
#[derive(Clone)]
pub enum Sink {
    /// A file, replaced when the archive is whole.
    File(PathBuf),
    /// A stream.
    Stream(Arc<Mutex<dyn Write + Send>>),
}

impl Sink {
    /// Writes; a file is there whole or not at all.
    pub(crate) fn fill(&self, write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        match self {
            Sink::Stream(stream) => {
                let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
                write(&mut *stream)?;
                stream.flush()
            }
            Sink::File(path) => {
                let mut partial = path.clone().into_os_string();
                partial.push(format!(".{}.partial", std::process::id()));
                let partial = PathBuf::from(partial);
                let filled = (|| {
                    let mut file = io::BufWriter::with_capacity(256 << 10, File::create(&partial)?);
                    write(&mut file)?;
                    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_data()?;
                    std::fs::rename(&partial, path)
                })();
                if filled.is_err() {
                    let _ = std::fs::remove_file(&partial);
                }
                filled
            }
        }
    }
}
