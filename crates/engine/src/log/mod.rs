//! A container's log on disk: drivers, their options and the writing side. Lines of the container become entries,
//! entries become bytes in a file that is rotated. A full disk loses lines, which is counted and said, and never holds
//! up the container. Reading is in `read`.

mod files;
mod json;
mod lines;
mod local;
mod options;
pub(crate) mod read;

use std::path::Path;

pub(crate) use options::{Driver, Options, Subject, bytes};

use crate::model::Map;
use crate::verbs::Stream;
use crate::{Result, clock};
use files::LogFile;
use lines::Lines;

/// The writing side of one container's log.
pub(crate) struct Log {
    driver: Driver,
    /// Docker's `attrs`, already encoded as a JSON object; empty: none.
    attributes: String,
    file: Option<LogFile>,
    lines: [Lines; 2],
    /// Entries encoded but not written yet.
    batch: Vec<u8>,
    batched: u64,
    lost: u64,
}

impl Log {
    /// Opens (or goes on with) the log at `path`.
    pub(crate) fn open(options: &Options, path: &Path, attributes: &Map<String>) -> Result<Self> {
        let file = match options.driver {
            Driver::None => None,
            Driver::JsonFile | Driver::Local => Some(LogFile::open(path, options)?),
        };
        let attributes = if attributes.is_empty() { String::new() } else { crate::table::json(attributes)? };
        Ok(Log {
            driver: options.driver,
            attributes,
            file,
            lines: [Lines::default(), Lines::default()],
            batch: Vec::new(),
            batched: 0,
            lost: 0,
        })
    }

    /// Records what the container wrote. Never fails: what cannot be written is counted and reported later.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if self.file.is_none() {
            return;
        }
        let mut lines = std::mem::take(&mut self.lines[stream as usize]);
        lines.feed(bytes, clock::now(), |line, time| self.entry(stream, line, time));
        self.lines[stream as usize] = lines;
        self.flush();
    }

    /// Records what is left of a last line without newline: the stream has ended.
    pub(crate) fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some((line, time)) = self.lines[stream as usize].rest() {
                self.entry(stream, &line, time);
            }
        }
        self.flush();
    }

    fn entry(&mut self, stream: Stream, line: &[u8], time: i64) {
        self.encode(stream, line, time);
        if self.file.as_ref().is_some_and(|file| file.is_full_with(self.batch.len())) {
            self.flush();
        }
    }

    fn encode(&mut self, stream: Stream, line: &[u8], time: i64) {
        match self.driver {
            Driver::JsonFile => json::encode(&mut self.batch, stream, line, time, &self.attributes),
            Driver::Local => local::encode(&mut self.batch, stream, line, time),
            Driver::None => {}
        }
        self.batched += 1;
    }

    fn flush(&mut self) {
        if self.lost > 0 && self.batched > 0 {
            self.confess();
        }
        let Some(file) = &mut self.file else { return };
        if file.append(&self.batch).is_err() {
            self.lost += self.batched;
        }
        self.batch.clear();
        self.batch.shrink_to(1024);
        self.batched = 0;
    }

    /// Tries to say in the log that lines are missing.
    fn confess(&mut self) {
        let (batch, batched) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.batched));
        let notice = format!("kiste: {} log lines could not be written and are lost\n", self.lost);
        self.encode(Stream::Stderr, notice.as_bytes(), clock::now());
        if self.file.as_mut().is_some_and(|file| file.append(&self.batch).is_ok()) {
            self.lost = 0;
        }
        (self.batch, self.batched) = (batch, batched);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LogConfig;

    fn options(driver: &str, pairs: &[(&str, &str)]) -> Options {
        let config = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Options::parse(&LogConfig { driver: driver.to_owned(), config }).unwrap()
    }

    fn lines(reader: &mut read::Reader) -> Vec<String> {
        std::iter::from_fn(|| reader.next().unwrap()).map(|entry| String::from_utf8(entry.bytes).unwrap()).collect()
    }

    /// Writes 3000 numbered lines into small files; what is left must be the newest lines without a gap.
    fn rotation(driver: &str, compress: &str) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let options = options(driver, &[("max-size", "20k"), ("max-file", "3"), ("compress", compress)]);
        let mut log = Log::open(&options, &path, &Map::new()).unwrap();
        for number in 0..3000 {
            log.write(Stream::Stdout, format!("line {number}\n").as_bytes());
        }
        drop(log);
        let names = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(names, 3, "{driver} {compress}");
        assert!(std::fs::metadata(&path).unwrap().len() <= 20 << 10);
        let found = lines(&mut read::Reader::open(&path, options.driver, None).unwrap());
        assert!(found.len() > 100 && found.len() < 3000, "{}", found.len());
        let expected: Vec<String> = (3000 - found.len()..3000).map(|number| format!("line {number}\n")).collect();
        assert_eq!(found, expected);
        let tail = lines(&mut read::Reader::open(&path, options.driver, Some(5)).unwrap());
        assert_eq!(tail[tail.len() - 5..], expected[expected.len() - 5..]);
    }

    #[test]
    fn rotated_files_are_read_without_gap() {
        rotation("json-file", "false");
        rotation("local", "false");
    }

    /// A reader that is at the end goes on in the next file after a rotation.
    #[test]
    fn a_follower_survives_rotations() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let options = options("json-file", &[("max-size", "2k"), ("max-file", "4")]);
        let mut log = Log::open(&options, &path, &Map::new()).unwrap();
        let mut reader = read::Reader::open(&path, options.driver, None).unwrap();
        let mut found = Vec::new();
        for number in 0..500 {
            log.write(Stream::Stderr, format!("{number}\n").as_bytes());
            if number % 7 == 0 {
                found.extend(lines(&mut reader));
            }
        }
        found.extend(lines(&mut reader));
        assert_eq!(found, (0..500).map(|number| format!("{number}\n")).collect::<Vec<_>>());
    }

    /// A full disk (a device that is always full) costs lines, and the log says how many when there is room again.
    #[test]
    fn lost_lines_are_confessed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let options = options("json-file", &[]);
        let mut log = Log::open(&options, Path::new("/dev/full"), &Map::new()).unwrap();
        log.write(Stream::Stdout, b"one\ntwo\n");
        log.file = Some(LogFile::open(&path, &options).unwrap());
        log.write(Stream::Stdout, b"three\n");
        let found = lines(&mut read::Reader::open(&path, options.driver, None).unwrap());
        assert_eq!(found, ["kiste: 2 log lines could not be written and are lost\n", "three\n"]);
    }

    #[test]
    fn a_torn_line_costs_only_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, b"{\"log\":\"to").unwrap();
        let options = options("", &[]);
        Log::open(&options, &path, &Map::new()).unwrap().write(Stream::Stdout, b"next\n");
        assert_eq!(lines(&mut read::Reader::open(&path, options.driver, None).unwrap()), ["next\n"]);
    }
}
