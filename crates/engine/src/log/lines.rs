//! Cuts a stream of bytes into log entries as Docker does: one a line, its newline included; a line longer than 16 KiB
//! becomes several entries without newline, all with the time of the first. Encoding them is left to the drivers.

/// Longest entry in bytes, newline not counted.
pub(super) const LONGEST: usize = 16 << 10;

/// The unfinished line of one stream.
#[derive(Default)]
pub(super) struct Lines {
    part: Vec<u8>,
    /// Time of the first entry of a line that was cut.
    since: Option<i64>,
}

impl Lines {
    /// Takes bytes in, gives entries out.
    pub(super) fn feed(&mut self, mut bytes: &[u8], now: i64, mut emit: impl FnMut(&[u8], i64)) {
        while !bytes.is_empty() {
            let window = &bytes[..bytes.len().min(LONGEST - self.part.len())];
            let newline = window.iter().position(|&byte| byte == b'\n');
            let (taken, rest) = bytes.split_at(newline.map_or(window.len(), |at| at + 1));
            bytes = rest;
            let time = self.since.unwrap_or(now);
            if newline.is_some() && self.part.is_empty() {
                emit(taken, time);
                self.since = None;
                continue;
            }
            self.part.extend_from_slice(taken);
            if newline.is_some() {
                emit(&std::mem::take(&mut self.part), time);
                self.since = None;
            } else if self.part.len() == LONGEST {
                emit(&std::mem::take(&mut self.part), time);
                self.since = Some(time);
            } else {
                self.since = Some(time);
            }
        }
    }

    /// What is left at the end of the stream, with its time.
    pub(super) fn rest(&mut self) -> Option<(Vec<u8>, i64)> {
        let time = self.since.take().unwrap_or_default();
        (!self.part.is_empty()).then(|| (std::mem::take(&mut self.part), time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<(Vec<u8>, i64)> {
        let mut lines = Lines::default();
        let mut entries = Vec::new();
        for (time, chunk) in (1..).zip(chunks) {
            lines.feed(chunk, time, |line, time| entries.push((line.to_vec(), time)));
        }
        entries.extend(lines.rest());
        entries
    }

    #[test]
    fn lines_across_reads() {
        let entries = cut(&[b"one\ntw", b"o\nthree"]);
        assert_eq!(entries, [(b"one\n".to_vec(), 1), (b"two\n".to_vec(), 1), (b"three".to_vec(), 2)]);
    }

    /// The cases at the border: a line of exactly 16 KiB is cut before its newline, as with Docker.
    #[test]
    fn long_lines_are_cut() {
        let long = vec![b'x'; LONGEST];
        let entries = cut(&[&long, b"\ny\n"]);
        assert_eq!(entries, [(long.clone(), 1), (b"\n".to_vec(), 1), (b"y\n".to_vec(), 2)]);
        let short = [&long[1..], b"\n"].concat();
        assert_eq!(cut(&[&short]), [(short.clone(), 1)]);
    }
}
