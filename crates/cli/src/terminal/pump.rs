//! One direction of the relay: a source, a sink, and a bounded buffer between them. Never blocks on either.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, openat};
use rustix::io::Errno;

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// What a descriptor that must not be made non-blocking takes without blocking once poll says it is writable
/// (`PIPE_BUF`, pipe(7)).
const CAREFUL: usize = 4096;

/// A descriptor of ours or one that we were given.
pub(super) enum End {
    Owned(OwnedFd),
    Standard(BorrowedFd<'static>),
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            End::Owned(fd) => fd.as_fd(),
            End::Standard(fd) => fd.as_fd(),
        }
    }
}

impl End {
    /// A descriptor that is ours alone: made non-blocking.
    pub(super) fn own(fd: OwnedFd) -> End {
        if let Ok(flags) = fcntl_getfl(&fd) {
            // Failing leaves it blocking, which only costs responsiveness.
            let _ = fcntl_setfl(&fd, flags | OFlags::NONBLOCK);
        }
        End::Owned(fd)
    }

    /// One of our standard streams. Others share its open file description, so its flags are not ours to change; pipes
    /// and terminals are opened once more, non-blocking, where that is allowed.
    pub(super) fn standard(fd: BorrowedFd<'static>, access: OFlags) -> End {
        let kind = fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
        if !matches!(kind, Ok(FileType::Fifo | FileType::CharacterDevice)) {
            return End::Standard(fd);
        }
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        openat(CWD, path, flags, Mode::empty()).map_or(End::Standard(fd), End::Owned)
    }

    /// How much may be written when poll says writable.
    fn limit(&self) -> usize {
        let regular = |fd: &BorrowedFd<'_>| fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
        match self {
            End::Standard(fd) if !regular(fd) => CAREFUL,
            _ => usize::MAX,
        }
    }
}

/// What became of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Bytes moved, or nothing to do now.
    Fine,
    /// New bytes are in the buffer, which may be looked at before they go on.
    Filled,
    /// The sink takes no more; the direction is over.
    Broken,
}

/// One direction.
pub(super) struct Pump {
    source: Option<End>,
    sink: Option<End>,
    /// Bytes read and not yet written.
    pub(super) buffer: Vec<u8>,
    limit: usize,
}

impl Pump {
    pub(super) fn new(source: End, sink: End) -> Pump {
        let limit = sink.limit();
        Pump { source: Some(source), sink: Some(sink), buffer: Vec::new(), limit }
    }

    /// Whether nothing more will be moved.
    pub(super) fn done(&self) -> bool {
        self.sink.is_none()
    }

    /// What to poll for now.
    pub(super) fn wants(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let (source, sink) = (self.source.as_ref(), self.sink.as_ref()?);
        if self.buffer.is_empty() {
            source.map(|end| (end.as_fd(), PollFlags::IN))
        } else {
            Some((sink.as_fd(), PollFlags::OUT))
        }
    }

    /// Reads no more; what is in the buffer is still written, and then the sink is closed.
    pub(super) fn end_source(&mut self) {
        self.source = None;
        if self.buffer.is_empty() {
            self.sink = None;
        }
    }

    /// Does what poll said is possible.
    pub(super) fn step(&mut self) -> Step {
        if self.buffer.is_empty() { self.fill() } else { self.drain() }
    }

    fn fill(&mut self) -> Step {
        let Some(source) = &self.source else { return Step::Fine };
        let mut bytes = vec![0; CHUNK];
        match rustix::io::read(source, &mut bytes[..]) {
            Err(Errno::AGAIN | Errno::INTR) => Step::Fine,
            // EIO is the end of a terminal: hung up, or its other side closed.
            Ok(0) | Err(_) => {
                self.end_source();
                Step::Fine
            }
            Ok(n) => {
                bytes.truncate(n);
                self.buffer = bytes;
                Step::Filled
            }
        }
    }

    fn drain(&mut self) -> Step {
        let Some(sink) = &self.sink else { return Step::Fine };
        let most = self.buffer.len().min(self.limit);
        match rustix::io::write(sink, &self.buffer[..most]) {
            Ok(n) => {
                self.buffer.drain(..n);
                if self.buffer.is_empty() && self.source.is_none() {
                    self.sink = None;
                }
                Step::Fine
            }
            Err(Errno::AGAIN | Errno::INTR) => Step::Fine,
            Err(_) => {
                self.buffer.clear();
                (self.source, self.sink) = (None, None);
                Step::Broken
            }
        }
    }
}
