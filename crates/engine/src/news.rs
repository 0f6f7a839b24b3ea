//! What somebody who waits for a container must not miss, however short its run: the file `news` in its state
//! directory. Whoever waits makes it; whoever changes the container's life appends one line if it is there. An open
//! descriptor goes on reading when the file is gone, so even the last word of a `--rm` container arrives.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::inotify;

use crate::{Context as _, Paths, Result, wake};

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Its process was executed.
    Started,
    /// Its process has ended and will be started again.
    Exited(i32),
    /// Its run is over and on record.
    Ended(i32),
    /// It is gone.
    Removed,
}

impl News {
    fn line(self) -> String {
        match self {
            News::Started => "started\n".to_owned(),
            News::Exited(code) => format!("exited {code}\n"),
            News::Ended(code) => format!("ended {code}\n"),
            News::Removed => "removed\n".to_owned(),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let (word, code) = line.split_once(' ').unwrap_or((line, "0"));
        Some(match word {
            "started" => News::Started,
            "exited" => News::Exited(code.parse().ok()?),
            "ended" => News::Ended(code.parse().ok()?),
            "removed" => News::Removed,
            _ => return None,
        })
    }
}

/// Tells those who wait, if there are any. They look at the records too, so that what cannot be written is no loss.
pub(crate) fn tell(paths: &Paths, id: &str, news: News) {
    let file = OpenOptions::new().append(true).open(paths.container_state(id).join("news"));
    if let Ok(mut file) = file {
        drop(file.write_all(news.line().as_bytes()));
    }
}

/// Reads what is told from now on.
pub(crate) struct Reader {
    file: BufReader<File>,
    watch: OwnedFd,
    partial: String,
}

impl Reader {
    /// From here on nothing is missed.
    pub(crate) fn open(paths: &Paths, id: &str) -> Result<Self> {
        let directory = paths.container_state(id);
        crate::make_directory(&directory)?;
        let path = directory.join("news");
        let step = || format!("follow {}", path.display());
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(&path).step(step)?;
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watch = inotify::init(flags).step(step)?;
        inotify::add_watch(&watch, &path, inotify::WatchFlags::MODIFY).step(step)?;
        file.seek(SeekFrom::End(0)).step(step)?;
        Ok(Reader { file: BufReader::with_capacity(256, file), watch, partial: String::new() })
    }

    /// Readable when there may be more.
    pub(crate) fn watch(&self) -> &OwnedFd {
        &self.watch
    }

    /// The next line; none if there is none yet.
    pub(crate) fn next(&mut self) -> Option<News> {
        wake::drain(&self.watch);
        loop {
            let read = self.file.read_line(&mut self.partial).unwrap_or(0);
            if read == 0 || !self.partial.ends_with('\n') {
                return None;
            }
            let line = std::mem::take(&mut self.partial);
            if let Some(news) = News::parse(line.trim_end()) {
                return Some(news);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_after_opening_arrives_even_when_the_file_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths { root: directory.path().join("root"), state: directory.path().join("state") };
        tell(&paths, "a", News::Started);
        let mut reader = Reader::open(&paths, "a").unwrap();
        assert_eq!(reader.next(), None);
        let all = [News::Started, News::Exited(1), News::Ended(137), News::Removed];
        all.into_iter().for_each(|news| tell(&paths, "a", news));
        std::fs::remove_dir_all(paths.container_state("a")).unwrap();
        assert!(wake::is_readable(reader.watch()));
        assert_eq!(all.map(|_| reader.next()), all.map(Some));
        assert_eq!(reader.next(), None);
        let mut late = Reader::open(&paths, "a").unwrap();
        assert_eq!(late.next(), None);
    }
}
