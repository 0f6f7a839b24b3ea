//! Where a build's input comes from: contexts, the Dockerfile, secrets and agents. Getting it onto this machine is done in
//! `contexts`; whoever speaks a protocol with a client implements the traits.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// A set of files.
#[derive(Clone, Default)]
pub enum Context {
    /// No files.
    #[default]
    Nothing,
    /// A directory on this machine.
    Directory(PathBuf),
    /// An archive, perhaps compressed, that is read once.
    Archive(Archive),
    /// A git repository, or an archive or a Dockerfile behind `http(s)://`.
    Address(String),
    /// An image (`docker-image://`), also as a base.
    Image(String),
    /// An image of an OCI image layout on this machine (`oci-layout://DIRECTORY[:TAG|@DIGEST]`).
    Layout(String),
    /// A stage of the Dockerfile (`target:`).
    Stage(String),
    /// Files that a client has.
    Remote(Arc<dyn Remote>),
}

/// Files that a client has.
pub trait Remote: Send + Sync {
    /// Brings what is wanted onto this machine and says where. Called at most a few times in a build, from any thread;
    /// the directory stays as it is until `self` is dropped. Owners in it do not count.
    ///
    /// # Errors
    /// A message for the user.
    fn fetch(&self, wanted: &Wanted) -> Result<PathBuf, String>;
}

/// Which part of a set of files a build looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Patterns of what is left out, `.dockerignore`'s.
    pub exclude: Vec<String>,
    /// Only these paths (Go's wildcards; links are followed) and what is below them; none: everything.
    pub paths: Option<Vec<String>>,
}

/// A stream with an archive.
#[derive(Clone)]
pub struct Archive(Arc<Mutex<Option<Box<dyn Read + Send>>>>);

impl Archive {
    /// Of a stream at its beginning.
    pub fn new(stream: impl Read + Send + 'static) -> Self {
        Archive(Arc::new(Mutex::new(Some(Box::new(stream)))))
    }

    /// The stream; none if it was taken before.
    pub(crate) fn take(&self) -> Option<Box<dyn Read + Send>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Where the Dockerfile is.
#[derive(Clone)]
pub enum Recipe {
    /// Here.
    Text(Vec<u8>),
    /// In the build context; without a name `Dockerfile` or `dockerfile`.
    InContext(Option<String>),
    /// In other files than the context's.
    In(Context, Option<String>),
}

impl Default for Recipe {
    fn default() -> Self {
        Recipe::InContext(None)
    }
}

/// Secrets of a build.
pub trait Secrets: Send + Sync {
    /// The content of a secret; none if there is none of this id.
    ///
    /// # Errors
    /// A message for the user.
    fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, String>;
}

/// Agents of ssh.
pub trait Agents: Send + Sync {
    /// A listening socket on this machine behind which the agent of this id (`default` without one) answers until `self`
    /// is dropped; none if there is none.
    ///
    /// # Errors
    /// A message for the user.
    fn agent(&self, id: &str) -> Result<Option<PathBuf>, String>;
}

/// One secret of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// The content of a file, read when it is needed.
    File(PathBuf),
    /// The content itself.
    Bytes(Vec<u8>),
}

/// Secrets of this machine by their ids.
#[derive(Clone, Debug, Default)]
pub struct LocalSecrets(pub BTreeMap<String, Secret>);

impl Secrets for LocalSecrets {
    fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, String> {
        match self.0.get(id) {
            None => Ok(None),
            Some(Secret::Bytes(bytes)) => Ok(Some(bytes.clone())),
            Some(Secret::File(path)) => {
                std::fs::read(path).map(Some).map_err(|error| format!("read {}: {error}", path.display()))
            }
        }
    }
}

/// Agents of this machine: sockets by their ids.
#[derive(Clone, Debug, Default)]
pub struct LocalAgents(pub BTreeMap<String, PathBuf>);

impl Agents for LocalAgents {
    fn agent(&self, id: &str) -> Result<Option<PathBuf>, String> {
        Ok(self.0.get(id).cloned())
    }
}
