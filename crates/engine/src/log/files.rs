//! The file that is written now and the full ones before it: `LOG`, `LOG.1` (newest) … `LOG.N`, compressed ones with
//! `.gz` added. Only the monitor writes, so there is no locking; readers find their way by inode numbers.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::Options;
use crate::{Context, Result};

/// The writing end of a rotated log.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    max_size: Option<u64>,
    max_file: u32,
    compress: bool,
    /// The process that compresses `LOG.1`.
    compressor: Option<OwnedFd>,
}

impl LogFile {
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self> {
        let step = || format!("open the log {}", path.display());
        let mut file = open(path).step(step)?;
        let size = end_torn_line(&mut file, options).step(step)?;
        let (max_size, max_file, compress) = (options.max_size, options.max_file, options.compress);
        Ok(LogFile { path: path.to_owned(), file, size, max_size, max_file, compress, compressor: None })
    }

    /// Whether the present file and this many bytes more fill it.
    pub(super) fn is_full_with(&self, more: usize) -> bool {
        self.max_size.is_some_and(|limit| self.size + more as u64 >= limit)
    }

    /// Appends all of `bytes` or, as far as the file shows, none of them.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_full_with(0) {
            self.rotate()?;
        }
        let written = self.file.write_all(bytes);
        match written {
            Ok(()) => self.size += bytes.len() as u64,
            // Half an entry would make the next one unreadable too.
            Err(_) => drop(self.file.set_len(self.size)),
        }
        written
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.max_file <= 1 {
            self.file.set_len(0)?;
            self.size = 0;
            return Ok(());
        }
        self.finish_compression();
        for suffix in ["", ".gz"] {
            ignore_missing(fs::remove_file(numbered(&self.path, self.max_file - 1, suffix)))?;
            for number in (1..self.max_file - 1).rev() {
                let next = numbered(&self.path, number + 1, suffix);
                ignore_missing(fs::rename(numbered(&self.path, number, suffix), next))?;
            }
        }
        let full = numbered(&self.path, 1, "");
        fs::rename(&self.path, &full)?;
        self.file = open(&self.path)?;
        self.size = 0;
        if self.compress {
            // A failure to compress leaves the file as it is, which readers understand too.
            let child = linux::clone::Clone::default().spawn(|| i32::from(compress(&full).is_err()));
            self.compressor = child.ok().map(|child| child.pidfd);
        }
        Ok(())
    }

    fn finish_compression(&mut self) {
        use std::os::fd::AsFd;
        if let Some(pidfd) = self.compressor.take() {
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        }
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        self.finish_compression();
    }
}

/// `LOG.NUMBER[SUFFIX]`.
pub(super) fn numbered(path: &Path, number: u32, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}{suffix}"));
    name.into()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).read(true).mode(0o640).open(path)
}

/// Ends a line that a crash has torn, so that it does not spoil the next one; the file's size.
fn end_torn_line(file: &mut File, options: &Options) -> io::Result<u64> {
    let size = file.metadata()?.len();
    if size == 0 || options.driver != super::Driver::JsonFile {
        return Ok(size);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(size);
    }
    // On a full disk the torn line stays, and costs the next one.
    Ok(size + u64::from(file.write_all(b"\n").is_ok()))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Replaces `LOG.1` by `LOG.1.gz`; at every moment at least one of them is whole.
fn compress(full: &Path) -> io::Result<()> {
    let (target, new) = (with_suffix(full, ".gz"), with_suffix(full, ".gz.new"));
    let mut encoder = flate2::write::GzEncoder::new(create(&new)?, flate2::Compression::fast());
    io::copy(&mut File::open(full)?, &mut encoder)?;
    encoder.finish()?;
    fs::rename(&new, &target)?;
    fs::remove_file(full)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(true).mode(0o640).open(path)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
