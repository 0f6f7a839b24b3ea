//! The image store of one root: `content/` (manifests and configurations byte for byte) and `layers/`.

use std::io::Read;
use std::path::{Path, PathBuf};

use records::rusqlite::{Connection, Transaction};

/// The tables of this crate.
pub const SCHEMA: records::Schema = records::Schema { room: "image", migrations: &[] };

/// The image store below one root directory.
pub struct Store {
    root: PathBuf,
}

/// An image, resolved and present.
#[derive(Clone, Debug)]
pub struct Image {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// The configuration, as pulled (for `host:` images a made-up one).
    pub config: oci_spec::image::ImageConfiguration,
    /// Configuration bytes.
    pub config_json: Vec<u8>,
    /// Layer directories, topmost first, ready to be overlay's lower directories.
    pub layers: Vec<PathBuf>,
    /// `name:tag` names.
    pub repo_tags: Vec<String>,
    /// `name@sha256:…` names.
    pub repo_digests: Vec<String>,
    /// Bytes of all layers.
    pub size: u64,
    /// Seconds since 1970.
    pub created: i64,
    /// Whether it is the machine's own tree (`host:/…`).
    pub host: bool,
}

/// Why an image operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such image; the text is Docker's.
    #[error("No such image: {0}")]
    NotFound(String),
    /// The archive or the registry's answer is damaged or hostile.
    #[error("{0}")]
    Untrusted(String),
    /// The reference or another argument is malformed.
    #[error("{0}")]
    Invalid(String),
    /// The image is for another platform.
    #[error("{0}")]
    Platform(String),
    /// The verb conflicts with the image's state.
    #[error("{0}")]
    Conflict(String),
    /// The registry said no or could not be reached.
    #[error("{0}")]
    Registry(String),
    /// A step failed.
    #[error("{step}: {cause}")]
    Step {
        /// Step and arguments.
        step: String,
        /// Cause.
        cause: String,
    },
    /// The database.
    #[error("database: {0}")]
    Database(#[from] records::rusqlite::Error),
}

/// Progress of a pull or load: layer (short id or empty), Docker's status word, bytes done, bytes in all.
pub type Progress<'a> = dyn FnMut(&str, &str, u64, u64) + 'a;

impl Store {
    /// The store below `root`; nothing is touched.
    pub fn new(root: &Path) -> Self {
        Store { root: root.to_owned() }
    }

    /// Finds an image by name, id, id prefix, digest, or `host:/path`.
    pub fn resolve(&self, _connection: &Connection, _name: &str) -> Result<Image, Error> {
        let _ = &self.root;
        todo!()
    }

    /// All images.
    pub fn list(&self, _connection: &Connection) -> Result<Vec<Image>, Error> {
        todo!()
    }

    /// Loads an archive; the names (or ids of unnamed images) that it brought.
    pub fn load(&self, _records: &mut records::Records, _input: &mut dyn Read, _platform: Option<&str>) -> Result<Vec<String>, Error> {
        todo!()
    }

    /// Adds a name to an image.
    pub fn tag(&self, _transaction: &Transaction<'_>, _name: &str, _reference: &str) -> Result<(), Error> {
        todo!()
    }
}
