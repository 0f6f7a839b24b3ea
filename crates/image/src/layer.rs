//! One layer's way from a stream into a directory: inflated and hashed in the calling thread, unpacked in another one,
//! because both cost about the same.

use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use crate::Digest;
use crate::digest::Hasher;
use crate::error::{Result, Step};
use crate::inflate::{Compression, inflate};
use crate::tarread::{damaged, read_full};
use crate::unpack::unpack;

/// Bytes handed over at a time, and how many such pieces wait at most.
const PIECE: usize = 256 << 10;
const PIECES: usize = 8;

/// A layer that was unpacked and awaits publication.
#[derive(Debug)]
pub(crate) struct NewLayer {
    /// Digest of the uncompressed archive.
    pub(crate) diff_id: Digest,
    /// Digest of the bytes as they came.
    pub(crate) blob: Digest,
    /// Number of those bytes.
    pub(crate) blob_size: u64,
    /// Where `fs/` is.
    pub(crate) home: PathBuf,
    /// Bytes of its files.
    pub(crate) size: u64,
}

/// Unpacks the stream, to its end, into `home/fs`.
pub(crate) fn receive(mut stream: impl Read, home: &Path) -> Result<NewLayer> {
    let directory = home.join("fs");
    make_directory(&directory)?;
    let mut start = [0; 6];
    let got = read_full(&mut stream, &mut start).map_err(damaged)?;
    let whole = Cursor::new(start).take(got as u64).chain(stream);
    if Compression::of(&start[..got]) == Compression::None {
        let (diff_id, blob_size, size) = pump(whole, &directory)?;
        return Ok(NewLayer { blob: diff_id.clone(), diff_id, blob_size, home: home.to_owned(), size });
    }
    let mut raw = Hashed { input: whole, hasher: Hasher::new(), count: 0 };
    let (diff_id, _, size) = pump(inflate(&mut raw)?, &directory)?;
    io::copy(&mut raw, &mut io::sink()).map_err(damaged)?;
    Ok(NewLayer { diff_id, blob: raw.hasher.finish(), blob_size: raw.count, home: home.to_owned(), size })
}

/// The layer's root, which is the container's `/` unless the archive says otherwise.
fn make_directory(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).step(|| format!("make {}", directory.display()))?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory, open).step(|| format!("set the mode of {}", directory.display()))
}

/// Hashes the content here and unpacks it there; digest and length of the content, and bytes of the files.
fn pump(mut content: impl Read, directory: &Path) -> Result<(Digest, u64, u64)> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<Vec<u8>>(PIECES);
        let worker = scope.spawn(move || unpack(Pieces { receiver, piece: Vec::new(), at: 0 }, directory));
        let mut hasher = Hasher::new();
        let mut length = 0;
        let read = loop {
            let mut piece = vec![0; PIECE];
            match read_full(&mut content, &mut piece) {
                Ok(0) => break Ok(()),
                Ok(got) => piece.truncate(got),
                Err(error) => break Err(damaged(error)),
            }
            hasher.update(&piece);
            length += piece.len() as u64;
            if sender.send(piece).is_err() {
                break Ok(()); // The other side failed and says why.
            }
        };
        drop(sender);
        let unpacked =
            worker.join().unwrap_or_else(|_| Err("the unpacking thread died").step(|| "unpack a layer".into()));
        // A broken stream also looks truncated to the other side; the cause is here.
        read?;
        let size = unpacked?;
        Ok((hasher.finish(), length, size))
    })
}

/// The receiving end as a reader.
struct Pieces {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            let Ok(piece) = self.receiver.recv() else { return Ok(0) };
            (self.piece, self.at) = (piece, 0);
        }
        let got = buffer.len().min(self.piece.len() - self.at);
        buffer[..got].copy_from_slice(&self.piece[self.at..self.at + got]);
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
