//! Where the files of layers are seen: unpacked layers in their own directories, EROFS images mounted below one directory,
//! once until the next reboot and for all containers. Containers never use these mounts themselves but private
//! clones of them, so that taking one away harms nobody.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, flock};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

use crate::error::{Result, Step};
use crate::layer::{ARCHIVE, FILES, INDEX};
use crate::remove::chain_ids;
use crate::staging::make_directory;
use crate::store::{Image, Store};
use crate::{Digest, attach, deep, limits};

/// `f_type` of EROFS (`linux/magic.h`).
const EROFS_MAGIC: i64 = 0xE0F5_E1E2;

/// One read-only directory of an image's stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// An unpacked layer, or the machine's own tree.
    Directory(PathBuf),
    /// A layer with an index.
    Layer(Digest),
    /// All layers, merged under their chain's name.
    Merged(Digest),
}

impl Store {
    /// The image's read-only directories, topmost first, ready to be overlay's lower ones: mounts what is not mounted.
    pub fn mount(&self, image: &Image) -> Result<Vec<PathBuf>> {
        let parts = self.parts(image);
        parts.iter().try_for_each(|part| self.mount_part(image, part))?;
        Ok(parts.iter().map(|part| self.shown(part)).collect())
    }

    /// Where [`Store::mount`] shows the image's files, topmost first.
    pub fn directories(&self, image: &Image) -> Vec<PathBuf> {
        self.parts(image).iter().map(|part| self.shown(part)).collect()
    }

    /// Where one layer's files are, mounted if need be.
    pub fn mount_layer(&self, diff_id: &Digest) -> Result<PathBuf> {
        let part = self.part(diff_id);
        if let Part::Layer(_) = &part {
            self.attach(&part, &self.layer_home(diff_id).join(INDEX), std::slice::from_ref(diff_id))?;
        }
        Ok(self.shown(&part))
    }

    /// Whether the layer is kept as archive and index.
    pub(crate) fn is_indexed(&self, diff_id: &Digest) -> bool {
        rustix::fs::access(self.layer_home(diff_id).join(INDEX), rustix::fs::Access::EXISTS).is_ok()
    }

    fn part(&self, diff_id: &Digest) -> Part {
        match self.is_indexed(diff_id) {
            true => Part::Layer(diff_id.clone()),
            false => Part::Directory(self.layer_home(diff_id).join(FILES)),
        }
    }

    /// Name and place of the index over all of these layers, if they are to have one.
    pub(crate) fn deep_index(&self, layers: &[Digest]) -> Option<(Digest, PathBuf)> {
        let chain = chain_ids(layers).pop().filter(|_| layers.len() > limits::STACKED)?;
        // On the way of every start: what is mounted needs no look at each layer.
        let wanted = is_mounted(&self.mounts.join(chain.hex())) || layers.iter().all(|layer| self.is_indexed(layer));
        let path = deep::path(self, &chain);
        wanted.then_some((chain, path))
    }

    fn parts(&self, image: &Image) -> Vec<Part> {
        if let Some(directory) = &image.directory {
            return vec![Part::Directory(directory.clone())];
        }
        match self.deep_index(&image.layers) {
            Some((chain, _)) => vec![Part::Merged(chain)],
            None => {
                // Overlay takes no directory twice. Of equal layers the topmost one alone decides: it shows whatever
                // the lower one shows, and hides whatever that hides.
                let mut seen = HashSet::new();
                let stack = image.layers.iter().rev().filter(|layer| seen.insert(*layer));
                stack.map(|layer| self.part(layer)).collect()
            }
        }
    }

    fn shown(&self, part: &Part) -> PathBuf {
        match part {
            Part::Directory(path) => path.clone(),
            Part::Layer(digest) | Part::Merged(digest) => self.mounts.join(digest.hex()),
        }
    }

    fn mount_part(&self, image: &Image, part: &Part) -> Result<()> {
        match part {
            Part::Directory(_) => Ok(()),
            Part::Layer(layer) => self.attach(part, &self.layer_home(layer).join(INDEX), std::slice::from_ref(layer)),
            Part::Merged(chain) => {
                if is_mounted(&self.shown(part)) {
                    return Ok(());
                }
                deep::ensure(self, chain, &image.layers)?;
                self.attach(part, &deep::path(self, chain), &image.layers)
            }
        }
    }

    /// Mounts an image below the directory of mounts, unless it is there.
    fn attach(&self, part: &Part, image: &Path, layers: &[Digest]) -> Result<()> {
        let target = self.shown(part);
        if is_mounted(&target) {
            return Ok(());
        }
        make_directory(&target)?;
        let lock = File::open(&self.mounts).step(|| format!("open {}", self.mounts.display()))?;
        flock(&lock, FlockOperation::LockExclusive).step(|| format!("lock {}", self.mounts.display()))?;
        if is_mounted(&target) {
            return Ok(());
        }
        let archives: Vec<PathBuf> = layers.iter().map(|layer| self.layer_home(layer).join(ARCHIVE)).collect();
        let (mount, _) = attach::image(image, &archives)?;
        move_mount(mount, "", CWD, &target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .step(|| format!("mount {} on {}", image.display(), target.display()))
    }

    /// Takes the mounts away whose names are not in `keep`. Containers that use them are not disturbed.
    pub(crate) fn unmount_others(&self, keep: &HashSet<String>) -> Result<()> {
        for entry in std::fs::read_dir(&self.mounts).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_name().to_str().is_some_and(|name| keep.contains(name)) {
                continue;
            }
            unmount_at(&path)?;
        }
        Ok(())
    }

    /// Takes one mount away, if it is there.
    pub(crate) fn unmount_one(&self, name: &Digest) -> Result<()> {
        unmount_at(&self.mounts.join(name.hex()))
    }

    /// Takes all mounts of layers away; they come back when they are needed.
    pub fn unmount_all(&self) -> Result<()> {
        self.unmount_others(&HashSet::new())
    }
}

/// Unmounts, and removes the place.
fn unmount_at(path: &Path) -> Result<()> {
    match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(error) => return Err(error).step(|| format!("unmount {}", path.display())),
    }
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).step(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn is_mounted(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|system| system.f_type == EROFS_MAGIC)
}
