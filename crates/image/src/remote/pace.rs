//! A reader that gives up on a server which sends, but so slowly that nobody could wait for it.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// The least that must come in a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    window: Duration,
    bytes: u64,
}

/// Less than 1 KiB/s over half a minute is no download.
pub(crate) const SLOWEST: Pace = Pace { window: Duration::from_secs(30), bytes: 30 << 10 };

/// Checks the pace of what passes. Time that the reader's owner takes for itself between two reads does not count.
pub(crate) struct Paced<R> {
    input: R,
    pace: Pace,
    waited: Duration,
    got: u64,
}

impl<R> Paced<R> {
    pub(crate) fn new(input: R, pace: Pace) -> Self {
        Paced { input, pace, waited: Duration::ZERO, got: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let begun = Instant::now();
        let got = self.input.read(buffer)?;
        self.waited += begun.elapsed();
        self.got += got as u64;
        if self.waited >= self.pace.window {
            if self.got < self.pace.bytes && got > 0 {
                let text = format!("only {} bytes in {} s", self.got, self.waited.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            (self.waited, self.got) = (Duration::ZERO, 0);
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One byte a millisecond.
    struct Drip;

    impl Read for Drip {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            std::thread::sleep(Duration::from_millis(1));
            buffer[0] = b'x';
            Ok(1)
        }
    }

    #[test]
    fn a_drip_is_no_stream() {
        let window = Duration::from_millis(20);
        let fast_enough = Paced::new(Drip, Pace { window, bytes: 1 }).take(100).read_to_end(&mut Vec::new());
        assert_eq!(fast_enough.unwrap(), 100);
        let error = Paced::new(Drip, Pace { window, bytes: 1000 }).take(10_000).read_to_end(&mut Vec::new());
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
