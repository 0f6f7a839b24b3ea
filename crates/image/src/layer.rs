//! One layer's way from a stream into the store: inflated in the calling thread; hashed, written and indexed (or
//! unpacked) in another one, because both cost about the same.

use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::digest::Hasher;
use crate::driver::Driver;
use crate::error::{Result, Step};
use crate::inflate::{Compression, inflate};
use crate::tarread::{TarReader, damaged, read_full};
use crate::unpack::unpack;
use crate::{Digest, erofs, failpoint, space};

/// Name of a layer's archive, as inflated, in its directory.
pub(crate) const ARCHIVE: &str = "tar";
/// Name of the EROFS image that says where in the archive each file is.
pub(crate) const INDEX: &str = "index.erofs";
/// Name of the directory with an unpacked layer's files.
pub(crate) const FILES: &str = "fs";

/// Bytes handed over at a time, and how many such pieces wait at most.
const PIECE: usize = 256 << 10;
const PIECES: usize = 8;
/// Bytes after which the kernel is asked to begin writing to the disk.
const WRITE_BACK: u64 = 8 << 20;

/// A layer that is complete but for its publication.
#[derive(Debug)]
pub(crate) struct NewLayer {
    /// Digest of the uncompressed archive.
    pub(crate) diff_id: Digest,
    /// Digest of the bytes as they came.
    pub(crate) blob: Digest,
    /// Number of those bytes.
    pub(crate) blob_size: u64,
    /// Its directory.
    pub(crate) home: PathBuf,
    /// Bytes of its files.
    pub(crate) size: u64,
    pub(crate) driver: Driver,
}

/// Takes the stream, to its end, into the directory `home`, which is made.
pub(crate) fn receive(mut stream: impl Read, home: &Path, driver: Driver) -> Result<NewLayer> {
    std::fs::create_dir_all(home).step(|| format!("make {}", home.display()))?;
    let mut start = [0; 6];
    let got = read_full(&mut stream, &mut start).map_err(damaged)?;
    let whole = Cursor::new(start).take(got as u64).chain(stream);
    let home = home.to_owned();
    if Compression::of(&start[..got]) == Compression::None {
        let Stored { diff_id, length, size } = pump(whole, &home, driver)?;
        return Ok(NewLayer { blob: diff_id.clone(), diff_id, blob_size: length, home, size, driver });
    }
    let mut raw = Hashed { input: whole, hasher: Hasher::new(), count: 0 };
    let Stored { diff_id, size, .. } = pump(inflate(&mut raw)?, &home, driver)?;
    io::copy(&mut raw, &mut io::sink()).map_err(damaged)?;
    Ok(NewLayer { diff_id, blob: raw.hasher.finish(), blob_size: raw.count, home, size, driver })
}

/// What was made of the inflated stream.
struct Stored {
    diff_id: Digest,
    /// Bytes of the archive.
    length: u64,
    /// Bytes of its files.
    size: u64,
}

/// Reads here, stores there.
fn pump(mut content: impl Read, home: &Path, driver: Driver) -> Result<Stored> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(PIECES);
        let (back, used) = channel();
        let worker = scope.spawn(move || store(Arriving::new(receiver, back), home, driver));
        let read = hand_over(&mut content, &sender, &used);
        drop(sender);
        let stored = worker.join().unwrap_or_else(|_| Err("the storing thread died").step(|| "store a layer".into()));
        // A broken stream also looks truncated to the other side; the cause is here.
        read?;
        stored
    })
}

/// A buffer and how much of it is filled.
type Piece = (Vec<u8>, usize);

fn hand_over(content: &mut impl Read, sender: &SyncSender<Piece>, used: &Receiver<Vec<u8>>) -> Result<()> {
    loop {
        let mut piece = used.try_recv().unwrap_or_else(|_| vec![0; PIECE]);
        let got = read_full(content, &mut piece).map_err(damaged)?;
        // The other side only goes away when it has failed, and says why.
        if got == 0 || sender.send((piece, got)).is_err() {
            return Ok(());
        }
    }
}

/// Makes of the archive what the driver wants.
fn store(arriving: Arriving, home: &Path, driver: Driver) -> Result<Stored> {
    match driver {
        Driver::Erofs => index(arriving, home),
        Driver::Directory => {
            let files = home.join(FILES);
            make_root(&files)?;
            let mut arriving = arriving;
            let size = unpack(&mut arriving, &files)?;
            arriving.finish(size)
        }
    }
}

/// Keeps the archive and writes an index over it.
fn index(mut arriving: Arriving, home: &Path) -> Result<Stored> {
    let archive = create(&home.join(ARCHIVE))?;
    space::check(&archive)?;
    arriving.copy = Some(archive);
    let mut tar = TarReader::new(arriving);
    let layer = erofs::build(&mut tar, 0)?;
    let mut arriving = tar.into_inner();
    // What follows the end mark still belongs to the archive and its digest.
    io::copy(&mut arriving, &mut io::sink()).map_err(damaged)?;
    failpoint::hit("layer-written");
    let archives: Vec<File> = arriving.copy.take().into_iter().collect();
    erofs::write(&layer.tree, &archives, &create(&home.join(INDEX))?)?;
    failpoint::hit("layer-indexed");
    arriving.finish(layer.size)
}

/// A new file, also to be read.
fn create(path: &Path) -> Result<File> {
    File::options().read(true).write(true).create_new(true).open(path).step(|| format!("create {}", path.display()))
}

/// The root of an unpacked layer, which is the container's `/` unless the archive says otherwise.
pub(crate) fn make_root(directory: &Path) -> Result<()> {
    std::fs::create_dir(directory).step(|| format!("make {}", directory.display()))?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory, open).step(|| format!("set the mode of {}", directory.display()))
}

/// The receiving end as a reader, which hashes what arrives and copies it to a file.
struct Arriving {
    receiver: Receiver<Piece>,
    back: Sender<Vec<u8>>,
    piece: Piece,
    at: usize,
    hasher: Hasher,
    length: u64,
    copy: Option<File>,
}

impl Arriving {
    fn new(receiver: Receiver<Piece>, back: Sender<Vec<u8>>) -> Self {
        let hasher = Hasher::new();
        Arriving { receiver, back, piece: (Vec::new(), 0), at: 0, hasher, length: 0, copy: None }
    }

    /// Takes the next piece; whether there was one.
    fn next(&mut self) -> Result<bool> {
        let Ok(piece) = self.receiver.recv() else { return Ok(false) };
        let (used, _) = std::mem::replace(&mut self.piece, piece);
        if !used.is_empty() {
            // Whoever wants no buffers back has read everything.
            let _ = self.back.send(used);
        }
        self.at = 0;
        let bytes = &self.piece.0[..self.piece.1];
        self.hasher.update(bytes);
        if let Some(file) = &mut self.copy {
            file.write_all(bytes).step(|| "write a layer".into())?;
            write_back(file, self.length, bytes.len() as u64)?;
        }
        self.length += bytes.len() as u64;
        Ok(true)
    }

    fn finish(mut self, size: u64) -> Result<Stored> {
        while self.next()? {}
        Ok(Stored { diff_id: self.hasher.finish(), length: self.length, size })
    }
}

/// After some bytes: has the kernel begin to write them, so that the sync at the end is short, and looks at the space.
fn write_back(file: &File, length: u64, more: u64) -> Result<()> {
    let passed = |every: u64| length / every != (length + more) / every;
    if passed(WRITE_BACK) {
        linux::file::begin_write_back(file);
    }
    if passed(space::EVERY) { space::check(file) } else { Ok(()) }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.1 && !self.next().map_err(io::Error::other)? {
            return Ok(0);
        }
        let got = buffer.len().min(self.piece.1 - self.at);
        buffer[..got].copy_from_slice(&self.piece.0[self.at..self.at + got]);
        self.at += got;
        Ok(got)
    }
}

/// Hashes and counts what passes.
struct Hashed<R> {
    input: R,
    hasher: Hasher,
    count: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.input.read(buffer)?;
        self.hasher.update(&buffer[..got]);
        self.count += got as u64;
        Ok(got)
    }
}
