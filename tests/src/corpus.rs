//! The corpus of builds: Dockerfiles as people write them, one text file each, with their contexts. A case is laid out as
//! a directory, built by some engine, and what came out is told as a text that two engines can be compared by.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::archive;

/// The time of everything in a context.
const TIME: i64 = 1_600_000_000;

/// One case.
#[derive(Debug, Default)]
pub struct Case {
    /// Its name: that of its file.
    pub name: String,
    /// What is built before it, from the directory of this name, under this tag.
    pub before: Option<(String, String)>,
    options: Vec<String>,
    files: Vec<Entry>,
    archives: Vec<(String, String)>,
}

#[derive(Debug)]
struct Entry {
    path: String,
    mode: u32,
    link: Option<String>,
    content: String,
}

impl Case {
    /// All cases of a directory, by name.
    pub fn all(directory: &Path) -> Vec<Case> {
        let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|end| end == "case"));
        files.sort();
        let read = |path: &PathBuf| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            Case::parse(&name, &fs::read_to_string(path).expect("a case is a text"))
        };
        files.iter().map(read).collect()
    }

    /// Reads one: lines of a head (`options: …`, `before: DIRECTORY TAG`, `archive: FILE of DIRECTORY`, comments), then
    /// files, each after a line `-- PATH [MODE] --` or `-- PATH -> TARGET --`.
    pub fn parse(name: &str, text: &str) -> Self {
        let mut case = Case { name: name.to_owned(), ..Case::default() };
        for line in text.split_inclusive('\n') {
            let mark = line.trim_end().strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --"));
            match (mark, case.files.last_mut()) {
                (Some(mark), _) => case.files.push(Entry::parse(mark)),
                (None, Some(file)) => file.content += line,
                (None, None) => case.head(line.trim()),
            }
        }
        case
    }

    fn head(&mut self, line: &str) {
        let words = |rest: &str| rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        match line.split_once(": ") {
            Some(("options", rest)) => self.options = words(rest),
            Some(("before", rest)) => self.before = rest.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())),
            Some(("archive", rest)) => {
                self.archives.extend(rest.split_once(" of ").map(|(a, b)| (a.to_owned(), b.to_owned())));
            }
            _ => assert!(line.is_empty() || line.starts_with('#'), "{}: {line}", self.name),
        }
    }

    /// Makes the directory: `@context`, and beside it those whose names begin with `@`.
    pub fn lay_out(&self, directory: &Path) {
        for file in &self.files {
            let place = place(directory, &file.path);
            fs::create_dir_all(place.parent().expect("a file is in a directory")).expect("directories can be made");
            match &file.link {
                Some(target) => symlink(target, &place).expect("links can be made"),
                None if file.path.ends_with('/') => fs::create_dir_all(&place).expect("directories can be made"),
                None => fs::write(&place, &file.content).expect("files can be written"),
            }
            if file.link.is_none() {
                fs::set_permissions(&place, fs::Permissions::from_mode(file.mode)).expect("modes can be set");
            }
        }
        for (name, source) in &self.archives {
            pack(&place(directory, name), &place(directory, source));
        }
        settle(directory);
    }

    /// The words of `build`, but for the tag and the context; `@NAME` is the directory of that name.
    pub fn options(&self, directory: &Path) -> Vec<String> {
        let replaced = |word: &String| word.replace('@', &format!("{}/@", directory.display()));
        self.options.iter().map(replaced).collect()
    }
}

impl Entry {
    fn parse(mark: &str) -> Self {
        let (path, link) = match mark.split_once(" -> ") {
            Some((path, target)) => (path, Some(target.to_owned())),
            None => (mark, None),
        };
        let (path, mode) = path.split_once(" 0").unwrap_or((path, if path.ends_with('/') { "755" } else { "644" }));
        let mode = u32::from_str_radix(mode, 8).expect("modes are octal");
        Entry { path: path.to_owned(), mode, link, content: String::new() }
    }
}

fn place(directory: &Path, path: &str) -> PathBuf {
    if path.starts_with('@') { directory.join(path) } else { directory.join("@context").join(path) }
}

/// An archive of a directory, which goes; the file's name says how it is compressed.
fn pack(file: &Path, directory: &Path) {
    settle(directory);
    let mut tar = tar::Builder::new(Vec::new());
    tar.follow_symlinks(false);
    tar.mode(tar::HeaderMode::Complete);
    tar.append_dir_all(".", directory).expect("a directory can be packed");
    let bytes = tar.into_inner().expect("an archive in memory");
    let bytes = match file.extension().and_then(|end| end.to_str()) {
        Some("gz" | "tgz") => archive::gzip(&bytes),
        Some("xz") => archive::filter("xz", &["-c"], &bytes),
        Some("zst") => archive::filter("zstd", &["-qc"], &bytes),
        _ => bytes,
    };
    fs::File::create(file).and_then(|mut output| output.write_all(&bytes)).expect("files can be written");
    fs::remove_dir_all(directory).expect("what was made can be removed");
}

/// Gives everything one time and to root.
fn settle(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            settle(&entry.path());
        }
        touch(&entry.path());
    }
    touch(directory);
}

fn touch(path: &Path) {
    let time = Timespec { tv_sec: TIME, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("times can be set");
}
