//! The names of one network, as a directory that every monitor reads and whoever attaches a container writes:
//! `names/NAME/CONTAINER` and `addresses/ADDRESS` are links whose text is the answer. So a change is one system call
//! that needs no lock and wakes nobody, a question costs a few system calls however many containers there are, nothing
//! is held in memory, and what a dead container left behind is known by its name.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, Mode, OFlags};
use rustix::io::Errno;

/// Longest name (RFC 1035, 2.3.4, without the last dot).
const LONGEST: usize = 253;
/// As many answers as anybody can use.
const ANSWERS: usize = 256;

/// The names of one network.
#[derive(Clone, Debug)]
pub struct Zone {
    directory: PathBuf,
}

/// What a container is called in a network.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its id.
    pub container: &'a str,
    /// Its names there. The first one is what its addresses are called.
    pub names: &'a [String],
    /// Its addresses there.
    pub addresses: &'a [IpAddr],
}

impl Zone {
    /// The zone in this directory, which need not exist yet.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Zone { directory: directory.into() }
    }

    /// Lets a container be found; what it was called before under the same names is replaced.
    ///
    /// # Errors
    /// If a name can be none, or the directory cannot be written to.
    pub fn add(&self, entry: &Entry<'_>) -> io::Result<()> {
        let text = entry.addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
        for name in entry.names {
            let directory = self.directory.join("names").join(file_name(name)?);
            put(&directory, entry.container, &text)?;
        }
        let Some(name) = entry.names.first() else { return Ok(()) };
        for address in entry.addresses {
            put(&self.directory.join("addresses"), &address.to_string(), &format!("{name} {}", entry.container))?;
        }
        Ok(())
    }

    /// Lets a container be found no longer. What is another's by now stays.
    pub fn remove(&self, entry: &Entry<'_>) {
        for directory in
            entry.names.iter().filter_map(|name| Some(self.directory.join("names").join(file_name(name).ok()?)))
        {
            let _ = rustix::fs::unlink(directory.join(entry.container));
            let _ = rustix::fs::rmdir(directory);
        }
        for address in entry.addresses {
            let path = self.directory.join("addresses").join(address.to_string());
            if read(&path).is_some_and(|text| text.split(' ').nth(1) == Some(entry.container)) {
                let _ = rustix::fs::unlink(path);
            }
        }
    }

    /// Takes away what containers left behind that `lives` does not know.
    pub fn sweep(&self, lives: impl Fn(&str) -> bool) {
        for name in list(&self.directory.join("names")) {
            let directory = self.directory.join("names").join(name);
            for container in list(&directory).filter(|container| !lives(container)) {
                let _ = rustix::fs::unlink(directory.join(container));
            }
            let _ = rustix::fs::rmdir(directory);
        }
        for address in list(&self.directory.join("addresses")) {
            let path = self.directory.join("addresses").join(address);
            if read(&path).is_some_and(|text| !text.split(' ').nth(1).is_some_and(&lives)) {
                let _ = rustix::fs::unlink(path);
            }
        }
    }

    /// Addresses behind a name in small letters; none if nobody is called that.
    pub(super) fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let directory = self.directory.join("names").join(file_name(name).ok()?);
        let directory = rustix::fs::open(directory, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut found = Vec::new();
        let mut known = false;
        for entry in Dir::read_from(&directory).ok()?.flatten().take(ANSWERS) {
            if entry.file_name().to_bytes().starts_with(b".") {
                continue;
            }
            if let Ok(text) = rustix::fs::readlinkat(&directory, entry.file_name(), Vec::new()) {
                known = true;
                found.extend(text.to_string_lossy().split(' ').filter_map(|word| word.parse::<IpAddr>().ok()));
            }
        }
        known.then_some(found)
    }

    /// What the container at this address is called.
    pub(super) fn name_of(&self, address: IpAddr) -> Option<String> {
        let text = read(&self.directory.join("addresses").join(address.to_string()))?;
        text.split(' ').next().map(str::to_owned)
    }
}

/// A name as a file's: in small letters, checked.
fn file_name(name: &str) -> io::Result<String> {
    let usable = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b'\\';
    let name = name.strip_suffix('.').unwrap_or(name);
    match !name.is_empty() && name.len() <= LONGEST && !name.starts_with('.') && name.bytes().all(usable) {
        true => Ok(name.to_ascii_lowercase()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} cannot be a name in a network"))),
    }
}

/// Makes or replaces the link `name` in a directory that somebody else may be removing because it was empty.
fn put(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    let fresh = directory.join(format!(".{name}"));
    for _ in 0..ATTEMPTS {
        std::fs::create_dir_all(directory)?;
        let _ = rustix::fs::unlink(&fresh);
        match rustix::fs::symlinkat(text, CWD, &fresh).and_then(|()| rustix::fs::rename(&fresh, directory.join(name))) {
            Err(Errno::NOENT) => {}
            other => return Ok(other?),
        }
    }
    Err(Errno::NOENT.into())
}

/// Tries against others that remove the directory again and again.
const ATTEMPTS: usize = 64;

fn read(path: &Path) -> Option<String> {
    let text = rustix::fs::readlinkat(CWD, path, Vec::new()).ok()?;
    Some(text.to_string_lossy().into_owned())
}

fn list(directory: &Path) -> impl Iterator<Item = String> {
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(container: &'a str, names: &'a [String], addresses: &'a [IpAddr]) -> Entry<'a> {
        Entry { container, names, addresses }
    }

    #[test]
    fn names_come_and_go() {
        let directory = tempfile::tempdir().unwrap();
        let zone = Zone::at(directory.path());
        let (web, both) = (["Web".to_owned(), "service".to_owned()], ["db".to_owned(), "service".to_owned()]);
        let (one, two): ([IpAddr; 2], [IpAddr; 1]) =
            (["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()], ["10.0.0.3".parse().unwrap()]);
        zone.add(&entry("aaa", &web, &one)).unwrap();
        zone.add(&entry("bbb", &both, &two)).unwrap();
        assert_eq!(zone.addresses("web"), Some(one.to_vec()));
        assert_eq!(zone.addresses("service").unwrap().len(), 3);
        assert_eq!(zone.addresses("nobody"), None);
        assert_eq!(zone.name_of(one[1]).as_deref(), Some("Web"));
        zone.remove(&entry("aaa", &web, &one));
        assert_eq!(zone.addresses("web"), None);
        assert_eq!(zone.addresses("service"), Some(two.to_vec()));
        assert_eq!(zone.name_of(one[0]), None);
        zone.sweep(|container| container != "bbb");
        assert_eq!((zone.addresses("db"), zone.name_of(two[0])), (None, None));
        assert_eq!(list(&directory.path().join("names")).count(), 0);
    }

    #[test]
    fn an_address_that_is_another_s_by_now_stays() {
        let directory = tempfile::tempdir().unwrap();
        let zone = Zone::at(directory.path());
        let (old, new) = (["old".to_owned()], ["new".to_owned()]);
        let address: [IpAddr; 1] = ["10.0.0.2".parse().unwrap()];
        zone.add(&entry("aaa", &old, &address)).unwrap();
        zone.add(&entry("bbb", &new, &address)).unwrap();
        zone.remove(&entry("aaa", &old, &address));
        assert_eq!(zone.name_of(address[0]).as_deref(), Some("new"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let zone = Zone::at(directory.path());
        for bad in ["", ".", "..", "../x", "a/b", ".hidden", "a b", "ä", &"x".repeat(254)] {
            assert!(zone.add(&entry("aaa", &[bad.to_owned()], &[])).is_err(), "{bad}");
            assert_eq!(zone.addresses(bad), None);
        }
    }
}
