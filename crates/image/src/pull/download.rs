//! One layer's bytes as a stream: first what an earlier pull left, then the rest from a registry, through broken
//! connections and, where there are several places, from the next one.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use super::partial::Partial;
use super::remote::Remote;
use crate::Digest;
use crate::error::{Error, Result};
use crate::remote::pause;

/// How often an interrupted download is resumed without having got any further.
const RESUMES: u32 = 5;
/// Bytes between two reports.
const REPORT: u64 = 512 << 10;
/// Why a download ends when another one failed.
pub(crate) const STOPPED: &str = "stopped because another layer failed";

/// A layer to fetch.
pub(crate) struct Wanted {
    pub(crate) blob: Digest,
    pub(crate) size: u64,
    pub(crate) diff_id: Digest,
    /// Where else it may be had, if its media type allows that.
    pub(crate) urls: Vec<String>,
}

/// What a worker tells: layer, Docker's status word, bytes done, bytes in all.
pub(crate) type Report = (usize, &'static str, u64, u64);

/// A blob as a stream.
pub(crate) struct Download<'d> {
    remote: &'d Remote,
    wanted: &'d Wanted,
    number: usize,
    partial: &'d mut Partial,
    stop: &'d AtomicBool,
    reports: Sender<Report>,
    /// Which of the remote's places is asked.
    place: usize,
    body: Option<Box<dyn Read + Send>>,
    done: u64,
    reported: u64,
    failures: u32,
}

impl<'d> Download<'d> {
    pub(crate) fn new(
        remote: &'d Remote,
        (number, wanted): (usize, &'d Wanted),
        partial: &'d mut Partial,
        stop: &'d AtomicBool,
        reports: Sender<Report>,
    ) -> Self {
        if partial.length() > wanted.size {
            partial.empty();
        }
        let place = remote.chosen();
        Download {
            remote,
            wanted,
            number,
            partial,
            stop,
            reports,
            place,
            body: None,
            done: 0,
            reported: 0,
            failures: 0,
        }
    }

    /// One read: from the file as long as that has something, then on a connection, on a new one if there is none.
    fn try_read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.body.is_none() && self.done < self.partial.length() {
            let got = self.partial.read_at(buffer, self.done).map_err(interrupted)?;
            if got > 0 {
                return Ok(got);
            }
        }
        if self.done == self.wanted.size && self.body.is_none() {
            return Ok(0);
        }
        let body = match &mut self.body {
            Some(body) => body,
            slot => {
                let (mut body, skip) = open(self.remote, self.place, self.wanted, self.done)?;
                io::copy(&mut body.by_ref().take(skip), &mut io::sink()).map_err(interrupted)?;
                slot.insert(body)
            }
        };
        let got = body.read(buffer).map_err(interrupted)?;
        if got == 0 && self.done < self.wanted.size {
            return Err(Error::Registry("the connection ended early".into()));
        }
        self.partial.append(&buffer[..got]);
        Ok(got)
    }

    fn advance(&mut self, got: usize) -> io::Result<usize> {
        self.done += got as u64;
        if got > 0 {
            self.failures = 0;
        }
        if self.done > self.wanted.size {
            let text = format!("the registry sends more than the {} bytes of the blob", self.wanted.size);
            return Err(io::Error::other(Error::untrusted(text)));
        }
        let complete = self.done == self.wanted.size;
        if self.done - self.reported >= REPORT || (complete && self.reported < self.done) {
            self.reported = self.done;
            self.report("Downloading");
            if complete {
                self.report("Verifying Checksum");
                self.report("Download complete");
            }
        }
        Ok(got)
    }

    /// Prepares for another try; whether there is one.
    fn recover(&mut self, refused: bool) -> bool {
        self.body = None;
        self.failures += 1;
        // That a registry does not begin at all has been tried often enough on the way.
        if refused || self.failures > RESUMES || self.done == 0 {
            self.place += 1;
            self.failures = 0;
            return self.place < self.remote.places();
        }
        self.report("Retrying");
        std::thread::sleep(pause(self.failures, None));
        true
    }

    fn report(&self, status: &'static str) {
        let (done, total) = if status == "Downloading" { (self.done, self.wanted.size) } else { (0, 0) };
        // Whoever listened may be gone; the download goes on.
        let _ = self.reports.send((self.number, status, done, total));
    }
}

/// The blob from the registry; a foreign one from elsewhere if the registry does not have it.
fn open(remote: &Remote, place: usize, wanted: &Wanted, offset: u64) -> Result<(Box<dyn Read + Send>, u64)> {
    let registry = remote.at(place)?;
    let own = registry.blob(&wanted.blob, offset);
    let Err(refused) = own else { return own };
    let others = wanted.urls.iter().map(|url| registry.foreign_blob(url, offset));
    others.into_iter().find(Result::is_ok).unwrap_or(Err(refused))
}

fn interrupted(cause: io::Error) -> Error {
    Error::Registry(format!("the connection broke: {cause}"))
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other(Error::Registry(STOPPED.into())));
            }
            match self.try_read(buffer) {
                Ok(got) => return self.advance(got),
                Err(error @ (Error::Registry(_) | Error::Refused(_))) => {
                    if !self.recover(matches!(error, Error::Refused(_))) {
                        return Err(io::Error::other(error));
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}
