//! One direction of a connection: bytes go from one socket through a pipe to the other one, without being copied, and the
//! end of the one becomes the end of the other.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

/// Bytes moved at a time.
const PIECE: usize = 1 << 20;
/// Pieces that one connection may move before others get a turn.
const TURNS: usize = 16;

/// A pipe that bytes pass through: read and write end.
pub(super) type Pipe = (OwnedFd, OwnedFd);

/// Pipes that are empty and wait for the next bytes.
#[derive(Debug, Default)]
pub(super) struct Pipes(Vec<Pipe>);

/// Empty pipes that are kept.
const SPARE: usize = 4;

impl Pipes {
    fn take(&mut self) -> rustix::io::Result<Pipe> {
        match self.0.pop() {
            Some(pipe) => Ok(pipe),
            None => pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK),
        }
    }

    fn give_back(&mut self, pipe: Pipe) {
        if self.0.len() < SPARE {
            self.0.push(pipe);
        }
    }

    /// Closes them all.
    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Bytes on their way, and the pipe that they are in.
    pipe: Option<(Pipe, usize)>,
    /// The source has ended.
    ended: bool,
    /// The destination knows.
    told: bool,
}

/// A connection broke.
#[derive(Debug)]
pub(super) struct Broken;

impl Flow {
    /// Whether it wants to hear of bytes of its source.
    pub(super) fn wants_input(&self) -> bool {
        !self.ended && self.pipe.is_none()
    }

    /// Whether it wants to hear of room at its destination.
    pub(super) fn wants_room(&self) -> bool {
        self.pipe.is_some()
    }

    /// Whether everything is over.
    pub(super) fn is_over(&self) -> bool {
        self.told
    }

    /// Moves what there is.
    pub(super) fn pass(&mut self, from: &OwnedFd, to: &OwnedFd, pipes: &mut Pipes) -> Result<(), Broken> {
        for _ in 0..TURNS {
            if !self.drain(to, pipes)? || !self.fill(from, pipes)? {
                break;
            }
        }
        if self.ended && self.pipe.is_none() && !self.told {
            // A destination that has gone meanwhile needs not be told.
            let _ = shutdown(to, Shutdown::Write);
            self.told = true;
        }
        Ok(())
    }

    /// Empties the pipe; whether it is empty.
    fn drain(&mut self, to: &OwnedFd, pipes: &mut Pipes) -> Result<bool, Broken> {
        while let Some((pipe, waiting)) = &mut self.pipe {
            match splice(&pipe.0, None, to, None, *waiting, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
                Ok(0) => return Err(Broken),
                Ok(count) => *waiting -= count,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Broken),
            }
            if *waiting == 0
                && let Some((pipe, _)) = self.pipe.take()
            {
                pipes.give_back(pipe);
            }
        }
        Ok(true)
    }

    /// Fills the pipe; whether there is something in it.
    fn fill(&mut self, from: &OwnedFd, pipes: &mut Pipes) -> Result<bool, Broken> {
        if self.ended {
            return Ok(false);
        }
        let pipe = pipes.take().map_err(|_| Broken)?;
        loop {
            match splice(from, None, &pipe.1, None, PIECE, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
                Ok(0) => {
                    self.ended = true;
                    pipes.give_back(pipe);
                    return Ok(false);
                }
                Ok(count) => {
                    self.pipe = Some((pipe, count));
                    return Ok(true);
                }
                Err(Errno::AGAIN) => {
                    pipes.give_back(pipe);
                    return Ok(false);
                }
                Err(Errno::INTR) => {}
                Err(_) => return Err(Broken),
            }
        }
    }
}
