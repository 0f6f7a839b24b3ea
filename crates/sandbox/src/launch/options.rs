//! The words of OCI mount options (runtime-spec, config.md "Mounts"; mount(8)) as attributes, propagation and data.

use std::path::PathBuf;

use linux::mount::attr;

/// Options of one mount, sorted by what carries them out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Attributes of the mount itself, to set and to clear.
    pub(super) set: u64,
    pub(super) clear: u64,
    /// Attributes of the mount and all below it.
    pub(super) set_recursive: u64,
    pub(super) clear_recursive: u64,
    /// `MS_PRIVATE` and the like; zero: not named.
    pub(super) propagation: u64,
    /// The propagation concerns submounts too.
    pub(super) propagate_recursive: bool,
    /// It is a bind mount.
    pub(super) bind: bool,
    /// With its submounts.
    pub(super) recursive: bool,
    /// Owners are shown through the container's user namespace.
    pub(super) idmap: bool,
    /// Submounts too.
    pub(super) idmap_recursive: bool,
    /// Copy what the image has at the destination into the new file system.
    pub(super) copy_up: bool,
    /// The source has no symbolic links, and if it has some by now, somebody is playing tricks (see [`NO_LINKS`]).
    pub(super) no_links: bool,
    /// Change what is mounted there already.
    pub(super) remount: bool,
    /// Words about a file system as a whole, in their order; without effect on bind mounts.
    pub(super) whole: Vec<&'static str>,
    /// Of a read-only overlay, only what is there (see [`SUBPATH`]).
    pub(super) subpath: Option<PathBuf>,
    /// What only the file system understands: `key` or `key=value`.
    pub(super) data: Vec<String>,
}

/// Our own word for a bind mount whose source is a path free of links inside a volume: a container that has the volume
/// too could meanwhile put a link in the way, to any place of the host (CVE-2021-25741).
pub const NO_LINKS: &str = "x-kiste.no-links";

/// Our own word, followed by a path that is resolved inside: only this part of a read-only overlay is mounted.
pub const SUBPATH: &str = "x-kiste.subpath=";

/// Words that set or clear attribute bits: (word, set, clear).
const ATTRIBUTES: [(&str, u64, u64); 18] = [
    ("ro", attr::RDONLY, 0),
    ("rw", 0, attr::RDONLY),
    ("nosuid", attr::NOSUID, 0),
    ("suid", 0, attr::NOSUID),
    ("nodev", attr::NODEV, 0),
    ("dev", 0, attr::NODEV),
    ("noexec", attr::NOEXEC, 0),
    ("exec", 0, attr::NOEXEC),
    ("noatime", attr::NOATIME, attr::ATIME),
    ("atime", attr::RELATIME, attr::ATIME),
    ("relatime", attr::RELATIME, attr::ATIME),
    ("norelatime", attr::STRICTATIME, attr::ATIME),
    ("strictatime", attr::STRICTATIME, attr::ATIME),
    ("nostrictatime", attr::RELATIME, attr::ATIME),
    ("nodiratime", attr::NODIRATIME, 0),
    ("diratime", 0, attr::NODIRATIME),
    ("nosymfollow", attr::NOSYMFOLLOW, 0),
    ("symfollow", 0, attr::NOSYMFOLLOW),
];

/// Words that the kernel takes for any file system (`fs/fs_context.c`), and one that only some know.
const WHOLE: [&str; 8] = ["sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand", IVERSION];

/// Count changes of files. A file system that cannot, does not: so it is with mount(2).
pub(super) const IVERSION: &str = "iversion";

/// Words that change nothing: defaults, and how much is logged, which mounting by descriptors does not do.
const NOTHING: [&str; 5] = ["defaults", "nofail", "noiversion", "silent", "loud"];

/// (word, flag) of the propagation types; an `r` before them means the whole tree.
const PROPAGATIONS: [(&str, libc::c_ulong); 4] = [
    ("private", libc::MS_PRIVATE),
    ("slave", libc::MS_SLAVE),
    ("shared", libc::MS_SHARED),
    ("unbindable", libc::MS_UNBINDABLE),
];

impl Options {
    /// Sorts the words; what is unknown is left to the file system as data.
    pub(super) fn parse(words: &[String]) -> Self {
        let mut options = Self::default();
        words.iter().for_each(|word| options.add(word));
        options
    }

    fn add(&mut self, word: &str) {
        match word {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "idmap" => self.idmap = true,
            "ridmap" => (self.idmap, self.idmap_recursive) = (true, true),
            "tmpcopyup" => self.copy_up = true,
            "remount" => self.remount = true,
            _ if NOTHING.contains(&word) => {}
            _ if word.starts_with(SUBPATH) => self.subpath = word.strip_prefix(SUBPATH).map(PathBuf::from),
            NO_LINKS => self.no_links = true,
            _ => {
                if let Some(word) = WHOLE.iter().find(|known| **known == word) {
                    self.whole.push(word);
                } else if !self.add_attribute(word) && !self.add_propagation(word) {
                    self.data.push(word.to_owned());
                }
            }
        }
    }

    fn add_attribute(&mut self, word: &str) -> bool {
        let find = |word: &str| ATTRIBUTES.iter().find(|(name, ..)| *name == word);
        if let Some((_, set, clear)) = find(word) {
            apply(&mut self.set, &mut self.clear, *set, *clear);
            return true;
        }
        if let Some((_, set, clear)) = word.strip_prefix('r').and_then(find) {
            apply(&mut self.set_recursive, &mut self.clear_recursive, *set, *clear);
            return true;
        }
        false
    }

    fn add_propagation(&mut self, word: &str) -> bool {
        let find = |word: &str| PROPAGATIONS.iter().find(|(name, _)| *name == word);
        let (found, recursive) = match find(word) {
            Some(found) => (Some(found), false),
            None => (word.strip_prefix('r').and_then(find), true),
        };
        if let Some((_, flag)) = found {
            (self.propagation, self.propagate_recursive) = (*flag, recursive);
        }
        found.is_some()
    }
}

/// The last word wins: setting takes bits out of what is cleared (except the access-time field, which must be cleared
/// to be set) and the other way round.
fn apply(all_set: &mut u64, all_clear: &mut u64, set: u64, clear: u64) {
    *all_set = (*all_set & !clear) | set;
    *all_clear = (*all_clear & !(set & !attr::ATIME)) | clear;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Options {
        Options::parse(&words.iter().map(|word| word.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn attributes_and_data_are_told_apart() {
        let options = parse(&["nosuid", "strictatime", "mode=755", "size=65536k"]);
        assert_eq!(options.set, attr::NOSUID | attr::STRICTATIME);
        assert_eq!(options.clear, attr::ATIME);
        assert_eq!(options.data, ["mode=755", "size=65536k"]);
    }

    #[test]
    fn the_last_word_wins() {
        let options = parse(&["ro", "rw"]);
        assert_eq!((options.set, options.clear), (0, attr::RDONLY));
        let options = parse(&["rw", "ro", "noexec", "exec"]);
        assert_eq!((options.set, options.clear), (attr::RDONLY, attr::NOEXEC));
    }

    /// Every word of runtime-spec's table (config.md, "Linux mount options") is understood.
    #[test]
    fn no_word_of_the_specification_is_data() {
        let table = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev \
            nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime \
            rbind rdev rdiratime relatime remount rexec rnoatime rnodiratime rnoexec rnorelatime rnostrictatime rnosuid \
            rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared \
            silent slave strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap rnodev";
        let words: Vec<&str> = table.split_whitespace().collect();
        let options = parse(&words);
        assert_eq!(options.data, [""; 0]);
        assert!(options.remount && options.copy_up && options.idmap_recursive);
        assert_eq!(options.whole.len(), 8);
    }

    #[test]
    fn recursive_words() {
        let options = parse(&["rbind", "rro", "rslave", "ridmap"]);
        assert!(options.bind && options.recursive && options.idmap && options.idmap_recursive);
        assert_eq!(options.set_recursive, attr::RDONLY);
        assert_eq!((options.propagation, options.propagate_recursive), (libc::MS_SLAVE, true));
        assert_eq!(options.set, 0);
    }
}
