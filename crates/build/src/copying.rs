//! What COPY and ADD put where: from sources and a destination to the entries of a layer. The layer is written straight
//! from the sources; nothing is created on the way.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use image::{TarHeader, TarKind, TarWriter, open_archive};
use sha2::{Digest as _, Sha256};

use crate::digests::Digests;
use crate::files::{Found, Tree, has_wildcards, join, show, unescape};
use crate::ignore::Matcher;
use crate::modes::ModeChange;
use crate::{Error, Result};

/// Owner of what is copied, if it is not the source's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// How things are copied.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--chown`
    pub owner: Option<Owner>,
    /// `--chmod`
    pub mode: Option<ModeChange>,
    /// `--parents`
    pub parents: bool,
    /// `--exclude`
    pub exclude: Vec<String>,
    /// ADD: archives are unpacked.
    pub unpack: bool,
}

/// An archive whose entries go into the layer.
struct Archive<'a> {
    tree: &'a Tree,
    found: Found,
    /// The directory that they go to.
    place: Vec<u8>,
    owner: Option<Owner>,
    mode: Option<ModeChange>,
}

/// The entries of a layer.
pub struct Layer<'a> {
    base: Option<&'a Tree>,
    entries: BTreeMap<Vec<u8>, Entry<'a>>,
    archives: Vec<Archive<'a>>,
    /// For directories that are made on the way.
    now: i64,
}

struct Entry<'a> {
    header: TarHeader,
    content: Content<'a>,
}

enum Content<'a> {
    None,
    File(&'a Tree, Found),
    /// Another name of the file that went to this place.
    Same(&'a Tree, Found, Vec<u8>),
    Bytes(Vec<u8>),
}

impl<'a> Layer<'a> {
    /// A layer on top of the files of `base`, if there are any; `now` is the time of what has none of its own.
    pub fn new(base: Option<&'a Tree>, now: i64) -> Self {
        Layer { base, entries: BTreeMap::new(), archives: Vec::new(), now }
    }

    /// Copies what `source` names in `tree` to `destination` (absolute; a slash at its end means a directory).
    pub fn copy(&mut self, tree: &'a Tree, source: &str, destination: &str, options: &Options) -> Result<()> {
        if options.parents {
            return self.copy_with_parents(tree, source, destination, options);
        }
        let sources = tree.glob(source)?;
        if sources.is_empty() && !has_wildcards(source) {
            return Err(Error::new(format!("{:?}: not found", crate::ignore::clean(&format!("/{source}")))));
        }
        let exclude = Matcher::new(&options.exclude)?;
        // A pattern that matches several things names a directory.
        let into = destination.ends_with('/') || sources.len() > 1;
        for found in &sources {
            if found.kind == TarKind::Directory {
                let place = self.place(destination, options)?;
                self.directory_content(tree, found, &place, &exclude, options)?;
            } else if options.unpack && found.kind == TarKind::File && open_archive(tree.read(found)?).is_some() {
                let place = self.place(destination, &Options { mode: None, ..options.clone() })?;
                let (owner, mode) = (options.owner, options.mode.clone());
                self.archives.push(Archive { tree, found: found.clone(), place, owner, mode });
            } else {
                let name = found.real.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
                if exclude.matches_deep(&String::from_utf8_lossy(&name)) {
                    continue;
                }
                let asked = source.rsplit('/').next().filter(|name| !has_wildcards(name) && !name.is_empty());
                // A link's own name counts, not that of what it leads to.
                let name = asked.map_or(name, |name| unescape(name).into_bytes());
                let place = self.file_place(destination, &name, into, options)?;
                self.put(tree, found, place, options)?;
            }
        }
        Ok(())
    }

    /// A file whose content is at hand.
    pub fn inline(&mut self, name: &str, content: &str, destination: &str, options: &Options) -> Result<()> {
        let place = self.file_place(destination, name.as_bytes(), destination.ends_with('/'), options)?;
        let mut header = TarHeader { mtime: self.now, ..TarHeader::new(place.clone(), TarKind::File) };
        self.dress(&mut header, options, true);
        let content = Content::Bytes(content.as_bytes().to_vec());
        self.entries.insert(place, Entry { header, content });
        Ok(())
    }

    /// A directory, made if it is missing.
    pub fn directory(&mut self, path: &str, owner: Option<Owner>) -> Result<()> {
        let options = Options { owner, ..Options::default() };
        self.place(path, &options).map(drop)
    }

    /// Whether there is anything in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.archives.is_empty()
    }

    fn copy_with_parents(&mut self, tree: &'a Tree, source: &str, destination: &str, options: &Options) -> Result<()> {
        let (start, pattern) = source.split_once("/./").unwrap_or(("/", source));
        let pattern = crate::ignore::clean(&format!("/{pattern}"));
        let pattern = pattern.trim_start_matches('/');
        let missing = || Error::new(format!("{:?}: not found", crate::ignore::clean(&format!("/{source}"))));
        let Some(start) = tree.find(start)? else { return Err(missing()) };
        let (wanted, exclude) = (Matcher::new(&[pattern])?, Matcher::new(&options.exclude)?);
        let place = self.place(destination, options)?;
        let all = tree.walk(&start)?;
        let chosen: Vec<&Found> = all
            .iter()
            .filter(|found| !found.path.is_empty())
            .filter(|found| {
                let path = String::from_utf8_lossy(&found.path);
                pattern.is_empty() || (wanted.matches_deep(&path) && !exclude.matches_deep(&path))
            })
            .collect();
        if chosen.is_empty() && !has_wildcards(pattern) {
            return Err(missing());
        }
        let by_path: BTreeMap<&[u8], &Found> = all.iter().map(|found| (found.path.as_slice(), found)).collect();
        for found in chosen {
            // Its directories come along, as they are in the source.
            for (index, _) in found.path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
                if let Some(above) = by_path.get(&found.path[..index]) {
                    self.put(tree, above, join(&place, &above.path), options)?;
                }
            }
            self.put(tree, found, join(&place, &found.path), options)?;
        }
        Ok(())
    }

    fn directory_content(
        &mut self,
        tree: &'a Tree,
        start: &Found,
        place: &[u8],
        exclude: &Matcher,
        options: &Options,
    ) -> Result<()> {
        let mut first: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
        for found in tree.walk(start)?.iter().filter(|found| !found.path.is_empty()) {
            if !exclude.is_empty() && exclude.matches_deep(&String::from_utf8_lossy(&found.path)) {
                continue;
            }
            let place = join(place, &found.path);
            let other = (found.kind == TarKind::File && found.linked)
                .then(|| first.entry((found.stamp.device, found.stamp.inode)).or_insert_with(|| place.clone()).clone());
            self.put(tree, found, place.clone(), options)?;
            if let Some(other) = other.filter(|other| *other != place)
                && let Some(entry) = self.entries.get_mut(&place)
            {
                entry.content = Content::Same(tree, found.clone(), other);
            }
        }
        Ok(())
    }

    fn put(&mut self, tree: &'a Tree, found: &Found, place: Vec<u8>, options: &Options) -> Result<()> {
        let mut header = TarHeader {
            size: found.size,
            mode: found.mode,
            uid: found.uid,
            gid: found.gid,
            mtime: found.mtime,
            device: found.device,
            ..TarHeader::new(place.clone(), found.kind)
        };
        match found.kind {
            TarKind::Symlink => header.link = tree.target(found)?,
            TarKind::File if !tree.is_context() => header.xattrs = tree.attributes(&tree.read(found)?),
            _ => {}
        }
        self.dress(&mut header, options, found.kind != TarKind::Symlink);
        let content = if found.kind == TarKind::File { Content::File(tree, found.clone()) } else { Content::None };
        self.entries.insert(place, Entry { header, content });
        Ok(())
    }

    fn dress(&self, header: &mut TarHeader, options: &Options, has_mode: bool) {
        if let Some(Owner { uid, gid }) = options.owner {
            (header.uid, header.gid) = (uid, gid);
        }
        if let Some(change) = options.mode.as_ref().filter(|_| has_mode) {
            header.mode = change.apply(header.mode, header.kind == TarKind::Directory);
        }
    }

    /// Where a file goes: into the destination if that is a directory (by its slash, or because it is one), else to where
    /// the destination's links lead.
    fn file_place(&mut self, destination: &str, name: &[u8], into: bool, options: &Options) -> Result<Vec<u8>> {
        let real = self.resolve(destination)?;
        let here = self.entries.get(&real).is_some_and(|entry| entry.header.kind == TarKind::Directory);
        if into || real.is_empty() || here || self.is_directory(destination)? {
            return Ok(join(&self.place(&format!("{destination}/"), options)?, name));
        }
        let split = real.iter().rposition(|byte| *byte == b'/');
        let (above, last) = split.map_or((&b""[..], real.as_slice()), |at| (&real[..at], &real[at + 1..]));
        Ok(join(&self.directories(above, true, options)?, last))
    }

    /// The real path of a directory in the image; what is missing of it is made. What a path without a slash at its end
    /// names is made as it is, what leads there gets the mode that is asked for (fsutil's `copy.Copy`).
    fn place(&mut self, path: &str, options: &Options) -> Result<Vec<u8>> {
        let real = self.resolve(path)?;
        self.directories(&real, path.ends_with('/'), options)
    }

    fn resolve(&self, path: &str) -> Result<Vec<u8>> {
        match self.base {
            Some(base) => base.resolve(path.as_bytes()),
            None => Ok(crate::ignore::clean(&format!("/{path}")).trim_matches('/').as_bytes().to_vec()),
        }
    }

    fn directories(&mut self, real: &[u8], all: bool, options: &Options) -> Result<Vec<u8>> {
        let names: Vec<&[u8]> = real.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        let known = self.deepest(&names)?;
        let mut place = names[..known].join(&b'/');
        for (index, name) in names.iter().enumerate().skip(known) {
            place = join(&place, name);
            let mut header = TarHeader { mtime: self.now, ..TarHeader::new(place.clone(), TarKind::Directory) };
            self.dress(&mut header, options, false);
            if let Some(ModeChange::Set(bits)) = options.mode
                && (all || index + 1 < names.len())
            {
                header.mode = bits & 0o777;
            }
            self.entries.entry(place.clone()).or_insert(Entry { header, content: Content::None });
        }
        Ok(place)
    }

    /// How many of the names lead to something that the image has.
    fn deepest(&self, names: &[&[u8]]) -> Result<usize> {
        let Some(base) = self.base else { return Ok(0) };
        for known in (1..=names.len()).rev() {
            let there = names[..known].join(&b'/');
            match base.find(&String::from_utf8_lossy(&there))? {
                Some(found) if found.kind == TarKind::Directory => return Ok(known),
                Some(_) => {
                    let wanted = show(&names.join(&b'/'));
                    return Err(Error::new(format!("cannot copy to {wanted}: {} is no directory", show(&there))));
                }
                None => {}
            }
        }
        Ok(0)
    }

    fn is_directory(&self, path: &str) -> Result<bool> {
        let found = self.base.map(|base| base.find(path)).transpose()?.flatten();
        Ok(found.is_some_and(|found| found.kind == TarKind::Directory))
    }

    /// Digest of what matters of it: names, kinds, owners, modes, links and contents, but no times. `root` is where the
    /// digests of files are remembered.
    pub fn digest(&self, root: &std::path::Path) -> Result<String> {
        let mut all = Sha256::new();
        let mut known = Digests::open(root);
        for (path, Entry { header, content }) in &self.entries {
            let head = format!(
                "{:?} {:o} {} {} {} {:?} {}\0",
                header.kind,
                header.mode,
                header.uid,
                header.gid,
                header.size,
                header.device,
                path.len()
            );
            all.update(head.as_bytes());
            all.update(path);
            all.update((header.link.len() as u64).to_le_bytes());
            all.update(&header.link);
            for (name, value) in &header.xattrs {
                all.update(format!("{name:?} {value:?}\0"));
            }
            match content {
                Content::None => {}
                Content::Bytes(bytes) => all.update(bytes),
                Content::File(tree, found) => all.update(known.digest(tree, found)?),
                Content::Same(tree, found, first) if !self.is_same(found, first) => {
                    all.update(known.digest(tree, found)?);
                }
                Content::Same(_, _, first) => {
                    all.update(b"same as\0");
                    all.update(first);
                }
            }
        }
        for Archive { tree, found, place, owner, mode } in &self.archives {
            all.update(format!("archive {} {owner:?} {mode:?}\0", place.len()));
            all.update(place);
            all.update(known.digest(tree, found)?);
        }
        known.keep();
        Ok(hex(&all.finalize()))
    }

    fn is_link(&self, entry: &Entry<'_>) -> bool {
        matches!(&entry.content, Content::Same(_, found, first) if self.is_same(found, first))
    }

    /// Whether a place still has the file that is to get another name: a later source may have replaced it.
    fn is_same(&self, found: &Found, first: &[u8]) -> bool {
        let there = self.entries.get(first).map(|entry| &entry.content);
        matches!(there, Some(Content::File(_, other)) if other.stamp == found.stamp)
    }

    /// Writes the layer's archive.
    pub fn write(&self, output: &mut dyn Write) -> io::Result<()> {
        let mut tar = TarWriter::new(output);
        let (links, others): (Vec<_>, Vec<_>) = self.entries.values().partition(|entry| self.is_link(entry));
        for Entry { header, content } in others {
            match content {
                Content::None => tar.entry(header)?,
                Content::Bytes(bytes) => tar.bytes(header, bytes)?,
                Content::File(tree, found) | Content::Same(tree, found, _) => {
                    let failed = |error: Error| io::Error::other(error.message);
                    let file = tree.read(found).map_err(failed)?;
                    tar.file(header, &file)?;
                    // The step's key says what was found; nothing else may be kept under it.
                    tree.check_unchanged(found, &file).map_err(failed)?;
                }
            }
        }
        // What they lead to comes first.
        for Entry { header, content } in links {
            if let Content::Same(_, _, first) = content {
                let header = TarHeader { kind: TarKind::HardLink, size: 0, link: first.clone(), ..header.clone() };
                tar.entry(&header)?;
            }
        }
        self.archives.iter().try_for_each(|archive| archive.write(&mut tar))?;
        tar.finish().map(drop)
    }
}

impl Archive<'_> {
    /// Writes the entries where they go; names that would lead out of there are refused.
    fn write(&self, output: &mut TarWriter<&mut dyn Write>) -> io::Result<()> {
        let failed = |text: String| io::Error::other(format!("ADD {}: {text}", show(&self.found.real)));
        let file = self.tree.read(&self.found).map_err(|error| failed(error.message))?;
        let same = file.try_clone()?;
        let mut archive = open_archive(file).ok_or_else(|| failed("it is no archive any more".to_owned()))?;
        while let Some(entry) = archive.next().map_err(|error| failed(error.to_string()))? {
            let Some(path) = inner(&entry.path).map_err(|text| failed(text.to_owned()))? else { continue };
            if entry.pieces().is_some() {
                return Err(failed(format!("{}: sparse files are not supported yet", show(&path))));
            }
            let mut header = TarHeader { path: join(&self.place, &path), ..TarHeader::from(&entry) };
            if entry.kind == TarKind::HardLink {
                let target = inner(&entry.link).map_err(|text| failed(text.to_owned()))?;
                header.link = join(&self.place, &target.unwrap_or_default());
            }
            if let Some(Owner { uid, gid }) = self.owner {
                (header.uid, header.gid) = (uid, gid);
            }
            if let Some(change) = self.mode.as_ref().filter(|_| entry.kind != TarKind::Symlink) {
                header.mode = change.apply(header.mode, entry.kind == TarKind::Directory);
            }
            match entry.kind {
                TarKind::File => drop(output.file(&header, &mut archive)?),
                _ => output.entry(&header)?,
            }
        }
        self.tree.check_unchanged(&self.found, &same).map_err(|error| failed(error.message))
    }
}

/// A name in an archive, clean; none for the archive's own root.
fn inner(path: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    if names.contains(&b"..".as_slice()) {
        return Err("a name in it leads out of it");
    }
    Ok((!names.is_empty()).then(|| names.join(&b'/')))
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
