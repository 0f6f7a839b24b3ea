//! A stored layer as the archive that it is: the one it came as, or, where only its files are kept, one made of them. The
//! latter has another digest, which is said.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use crate::digest::Hasher;
use crate::error::{Result, Step};
use crate::pack::Packer;
use crate::tarread::Kind;
use crate::tarwrite::Header;
use crate::unpack::is_whiteout;
use crate::upper::{check_depth, is_opaque, joined, names, status, subdirectory};
use crate::{Digest, Store, layer};

/// A layer's archive, uncompressed.
pub(crate) struct LayerArchive {
    /// The digest of the bytes.
    pub(crate) digest: Digest,
    /// Number of bytes.
    pub(crate) size: u64,
    /// The bytes, from the beginning.
    pub(crate) file: File,
}

impl Store {
    /// Opens a layer's archive.
    pub(crate) fn layer_archive(&self, diff_id: &Digest) -> Result<LayerArchive> {
        let path = self.layer_home(diff_id).join(layer::ARCHIVE);
        match File::open(&path) {
            Ok(file) => {
                let size = file.metadata().step(|| format!("read {}", path.display()))?.len();
                Ok(LayerArchive { digest: diff_id.clone(), size, file })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.made_of_files(diff_id),
            Err(error) => Err(error).step(|| format!("open {}", path.display())),
        }
    }

    fn made_of_files(&self, diff_id: &Digest) -> Result<LayerArchive> {
        let path = self.layer_home(diff_id).join(layer::FILES);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let files = fs::open(&path, flags, Mode::empty()).step(|| format!("open {}", path.display()))?;
        let mut file = self.scratch()?;
        let mut hashing = Hashing { file: &mut file, hasher: Hasher::new() };
        write(&files, BufWriter::with_capacity(1 << 20, &mut hashing))?;
        let digest = hashing.hasher.finish();
        let size = file.stream_position().step(|| "measure a layer's archive".into())?;
        file.rewind().step(|| "rewind a layer's archive".into())?;
        Ok(LayerArchive { digest, size, file })
    }

    /// A file without a name.
    fn scratch(&self) -> Result<File> {
        let directory = self.root.join("tmp");
        let step = || format!("make a temporary file in {}", directory.display());
        std::fs::create_dir_all(&directory).step(step)?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        match fs::open(&directory, flags | OFlags::TMPFILE, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(file.into()),
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                let path = directory.join(format!("archive-{}", std::process::id()));
                let file =
                    fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR).step(step)?;
                std::fs::remove_file(&path).step(step)?;
                Ok(file.into())
            }
            Err(error) => Err(error).step(step),
        }
    }
}

struct Hashing<'f> {
    file: &'f mut File,
    hasher: Hasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A layer's files, overlay's marks and all, as the archive of a changeset.
fn write(files: &OwnedFd, output: impl Write) -> Result<()> {
    let mut packer = Packer::new(output, &|uid, gid| (uid, gid));
    packer.add(files, OsStr::new("."), b".")?;
    let root = subdirectory(files, OsStr::new("."))?;
    root.iter().try_for_each(|root| directory(&mut packer, root, b"", 0))?;
    packer.finish().map(drop)
}

fn directory<W: Write>(packer: &mut Packer<'_, W>, files: &OwnedFd, path: &[u8], depth: usize) -> Result<()> {
    check_depth(depth, path)?;
    if !path.is_empty() && is_opaque(files, path)? {
        packer.note(&Header::new(joined(path, b".wh..wh..opq"), Kind::File))?;
    }
    for name in names(files)? {
        let Some(stat) = status(files, &name)? else { continue };
        if is_whiteout(&stat) {
            packer.note(&Header::new(joined(path, &[b".wh.", &name[..]].concat()), Kind::File))?;
            continue;
        }
        let (name, path) = (OsStr::from_bytes(&name), joined(path, &name));
        if packer.add_known(files, name, &path, &stat)? == Some(Kind::Directory)
            && let Some(inside) = subdirectory(files, name)?
        {
            directory(packer, &inside, &path, depth + 1)?;
        }
    }
    Ok(())
}
