//! The forms in which layers are stored, and which one new layers get: archives with an EROFS index where that can be
//! mounted, directories elsewhere. Layers of both forms live side by side.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::attach::{self, Backing};
use crate::erofs;
use crate::error::{Error, Result, Step};
use crate::store::Store;

/// The form of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Its archive and an EROFS image that points into it.
    Erofs,
    /// A directory with its files.
    Directory,
}

/// Which driver new layers get, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The driver.
    pub driver: Driver,
    /// In words.
    pub reason: String,
}

/// What asks for a driver by its name.
pub const VARIABLE: &str = "KISTE_STORAGE_DRIVER";

impl FromStr for Driver {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "erofs" => Ok(Driver::Erofs),
            "directory" => Ok(Driver::Directory),
            _ => Err(Error::Invalid(format!("unknown storage driver {text:?}: want erofs or directory"))),
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Driver::Erofs => "erofs",
            Driver::Directory => "directory",
        })
    }
}

impl Store {
    /// The driver of new layers: what [`VARIABLE`] names, else EROFS if such an image in `directory` can be mounted.
    pub(crate) fn choose_driver(&self, directory: &Path) -> Result<Choice> {
        if let Some(driver) = self.driver {
            return Ok(choice(driver, "it was chosen"));
        }
        match std::env::var(VARIABLE) {
            Ok(name) if !name.is_empty() => {
                Ok(Choice { driver: name.parse()?, reason: format!("{VARIABLE} asks for it") })
            }
            _ => Ok(match probe(directory) {
                Ok(Backing::File) => choice(Driver::Erofs, "the kernel mounts EROFS images from files"),
                Ok(Backing::Loop) => choice(Driver::Erofs, "the kernel mounts EROFS images through loop devices"),
                Err(Error::Step { cause, .. }) => {
                    choice(Driver::Directory, &format!("EROFS images cannot be mounted here: {cause}"))
                }
                Err(error) => choice(Driver::Directory, &format!("EROFS images cannot be mounted here: {error}")),
            }),
        }
    }

    /// The same for `info`; leaves nothing behind.
    pub fn driver(&self) -> Result<Choice> {
        let directory = self.root.join("tmp");
        crate::staging::make_directory(&directory)?;
        self.choose_driver(&directory)
    }
}

fn choice(driver: Driver, reason: &str) -> Choice {
    Choice { driver, reason: reason.to_owned() }
}

/// Mounts an empty image, nowhere, and lets it go.
fn probe(directory: &Path) -> Result<Backing> {
    let path = crate::staging::unique(directory);
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path);
    let file = file.step(|| format!("create {}", path.display()))?;
    let outcome = erofs::write(&erofs::Tree::new(), &[], &file).and_then(|()| attach::image(&path, &[]));
    std::fs::remove_file(&path).step(|| format!("remove {}", path.display()))?;
    outcome.map(|(_, backing)| backing)
}
