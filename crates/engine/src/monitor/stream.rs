//! The two ends of a client's streams. [`Sink`]: output on its way to a client that may read slowly, which must never
//! hold up the container. [`Feed`]: input on its way to a container that may read slowly, which holds up the client.
//! Which client gets what is decided by the caller.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::poll::{Poll, Token};

/// Bytes kept in memory for a client that does not read. Beyond that, a lossless one's output goes to a file.
const IN_MEMORY: usize = 1 << 20;
/// Bytes kept in the file of a lossless client.
const IN_FILE: u64 = 4 << 30;
/// Bytes kept in memory after that, or where the disk takes no more; beyond that the client is dropped like any other.
const IN_LAST_RESORT: u64 = 256 << 20;
/// Bytes moved at a time from the file back to memory.
const REFILL: usize = 64 << 10;

/// What became of a write to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Everything is with the client, or kept for it.
    Kept,
    /// The client has closed its end.
    Closed,
    /// The client does not read, and more is not kept for it.
    TooSlow,
}

/// Output on its way to a client.
pub(crate) struct Sink {
    pipe: OwnedFd,
    token: Token,
    waiting: VecDeque<u8>,
    /// Directory for what a lossless client has not read yet; none: a client that may be dropped.
    spill_to: Option<PathBuf>,
    /// At most two: on disk, then in memory.
    spills: VecDeque<Spill>,
    spills_made: usize,
}

/// An unlinked file with a part of the output that comes after what waits in memory.
struct Spill {
    file: File,
    read: u64,
    written: u64,
    limit: u64,
}

impl Sink {
    /// A sink into a non-blocking pipe. With `spill_to` (a directory on disk) nothing is lost before 4 GiB wait.
    pub(crate) fn new(pipe: OwnedFd, token: Token, spill_to: Option<&Path>) -> Self {
        Sink {
            pipe,
            token,
            waiting: VecDeque::new(),
            spill_to: spill_to.map(Path::to_owned),
            spills: VecDeque::new(),
            spills_made: 0,
        }
    }

    /// Whether nothing waits for the client.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.spills.is_empty()
    }

    /// Gives the client these bytes, now or when it reads.
    pub(crate) fn push(&mut self, poll: &Poll, mut bytes: &[u8]) -> Delivery {
        if self.is_idle() {
            match write_some(&self.pipe, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(_) => return Delivery::Closed,
            }
            if bytes.is_empty() {
                return Delivery::Kept;
            }
            if poll.watch_room(&self.pipe, self.token).is_err() {
                return Delivery::Closed;
            }
        }
        self.keep(bytes)
    }

    fn keep(&mut self, bytes: &[u8]) -> Delivery {
        if self.spills.is_empty() && self.waiting.len() + bytes.len() <= IN_MEMORY {
            self.waiting.extend(bytes);
            return Delivery::Kept;
        }
        let Some(directory) = &self.spill_to else { return Delivery::TooSlow };
        if self.spills.is_empty() {
            self.spills_made = 0;
        }
        loop {
            if self.spills.back_mut().is_some_and(|spill| spill.append(bytes).is_ok()) {
                return Delivery::Kept;
            }
            let next = match self.spills_made {
                0 => Spill::on_disk(directory),
                1 => Spill::in_memory(),
                _ => return Delivery::TooSlow,
            };
            self.spills_made += 1;
            self.spills.extend(next);
        }
    }

    /// The client has room again.
    pub(crate) fn flush(&mut self, poll: &Poll) -> Delivery {
        loop {
            if self.waiting.is_empty() && !self.refill() {
                poll.forget(&self.pipe);
                self.waiting = VecDeque::new();
                return Delivery::Kept;
            }
            let (front, _) = self.waiting.as_slices();
            match write_some(&self.pipe, front) {
                Ok(0) => return Delivery::Kept,
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(_) => return Delivery::Closed,
            }
        }
    }

    /// Takes the next part from the files; false if there is none.
    fn refill(&mut self) -> bool {
        while let Some(spill) = self.spills.front_mut() {
            let mut part = vec![0; REFILL.min((spill.written - spill.read) as usize)];
            if !part.is_empty() && spill.file.read_exact_at(&mut part, spill.read).is_ok() {
                spill.read += part.len() as u64;
                self.waiting.extend(part);
                return true;
            }
            self.spills.pop_front();
        }
        false
    }
}

impl Spill {
    fn in_memory() -> io::Result<Self> {
        let file = rustix::fs::memfd_create(c"kiste-output", rustix::fs::MemfdFlags::CLOEXEC)?;
        Ok(Spill { file: file.into(), read: 0, written: 0, limit: IN_LAST_RESORT })
    }

    fn on_disk(directory: &Path) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::TMPFILE.bits() as i32;
        let file = File::options().read(true).write(true).mode(0o600).custom_flags(flags).open(directory)?;
        Ok(Spill { file, read: 0, written: 0, limit: IN_FILE })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.written - self.read + bytes.len() as u64 > self.limit {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all_at(bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

/// Input on its way to the container: read from one client at a time, and only when the last part is taken.
#[derive(Default)]
pub(crate) struct Feed {
    waiting: VecDeque<u8>,
}

impl Feed {
    /// Whether the container has taken everything.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Writes bytes to the container's input, keeping what does not fit. An error: nobody reads there any more.
    pub(crate) fn push(&mut self, input: impl AsFd, bytes: &[u8]) -> io::Result<()> {
        let count = write_some(input, bytes)?;
        self.waiting.extend(&bytes[count..]);
        Ok(())
    }

    /// The container has room again.
    pub(crate) fn flush(&mut self, input: impl AsFd) -> io::Result<()> {
        while !self.waiting.is_empty() {
            let count = write_some(&input, self.waiting.as_slices().0)?;
            if count == 0 {
                return Ok(());
            }
            self.waiting.drain(..count);
        }
        Ok(())
    }
}

/// Writes as much as fits: 0 if nothing does.
fn write_some(descriptor: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::write(&descriptor, &bytes[done..]) {
            Ok(count) => done += count,
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(done)
}

/// Reads once: none if there is nothing at the moment, 0 at the end. A terminal that nobody has open any more says EIO.
pub(crate) fn read_some(descriptor: impl AsFd, buffer: &mut [u8]) -> Option<usize> {
    match rustix::io::read(descriptor, buffer) {
        Ok(count) => Some(count),
        Err(Errno::AGAIN | Errno::INTR) => None,
        Err(_) => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    /// A client that reads nothing until three MiB are written loses nothing if it is lossless, else it is dropped.
    #[test]
    fn slow_clients() {
        let poll = Poll::new().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let sent: Vec<u8> = (0..3usize << 20).map(|n| (n / 7) as u8).collect();
        // Where no file can be made (a full disk), memory has to do.
        for place in [directory.path(), Path::new("/nonexistent")] {
            assert!(slowly_received(&poll, place, &sent) == sent, "{}", place.display());
        }

        let (_reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let mut droppable = Sink::new(writer, Token::ClientStdout(2), None);
        assert!(sent.chunks(10_000).any(|part| droppable.push(&poll, part) == Delivery::TooSlow));
    }

    fn slowly_received(poll: &Poll, place: &Path, sent: &[u8]) -> Vec<u8> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let mut sink = Sink::new(writer, Token::ClientStdout(1), Some(place));
        for part in sent.chunks(10_000) {
            assert_eq!(sink.push(poll, part), Delivery::Kept);
        }
        let mut got = Vec::new();
        let mut buffer = vec![0; 50_000];
        while got.len() < sent.len() {
            if let Some(count) = read_some(&reader, &mut buffer) {
                got.extend_from_slice(&buffer[..count]);
            }
            assert_eq!(sink.flush(poll), Delivery::Kept);
        }
        assert!(sink.is_idle());
        got
    }

    #[test]
    fn a_client_that_went_is_noticed() {
        let poll = Poll::new().unwrap();
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        drop(reader);
        assert_eq!(Sink::new(writer, Token::ClientStdout(1), None).push(&poll, b"x"), Delivery::Closed);
    }
}
