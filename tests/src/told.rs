//! What is in an image, as a text: its configuration, its history, and what its files have that those of its base have
//! not. Two engines that built the same give the same text; what is as new as the build itself is only called new.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tar::EntryType;

/// Times after this are those of a build.
const NEW: u64 = 1_750_000_000;

/// What BuildKit writes beside layers of which the history says nothing.
const BASE: &str = "buildkit.exporter.image.v0";

/// An archive of `docker save` with one image in it.
struct Archive {
    file: File,
    /// Where each member begins, and its size.
    members: BTreeMap<String, (u64, u64)>,
}

impl Archive {
    fn open(path: &Path) -> Self {
        let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut members = BTreeMap::new();
        let mut tar = tar::Archive::new(&mut file);
        for entry in tar.entries_with_seek().expect("an archive").flatten() {
            let name = entry.path().expect("a name").to_string_lossy().into_owned();
            members.insert(name, (entry.raw_file_position(), entry.size()));
        }
        Archive { file, members }
    }

    fn member(&mut self, name: &str) -> impl Read + '_ {
        let (at, size) = *self.members.get(name).unwrap_or_else(|| panic!("no {name} in the archive"));
        self.file.seek(SeekFrom::Start(at)).expect("files can be searched");
        (&mut self.file).take(size)
    }

    fn document(&mut self, name: &str) -> Value {
        serde_json::from_reader(self.member(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The image's configuration and the names of its layers.
    fn image(&mut self) -> (Value, Vec<String>) {
        let manifest = self.document("manifest.json")[0].take();
        let layers = manifest["Layers"].as_array().into_iter().flatten();
        let layers = layers.filter_map(|name| name.as_str().map(str::to_owned)).collect();
        (self.document(manifest["Config"].as_str().unwrap_or_default()), layers)
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// The layers of an image that others build upon.
pub fn layers(archive: &Path) -> Vec<String> {
    texts(&Archive::open(archive).image().0["rootfs"]["diff_ids"])
}

/// Tells of an image (`docker save`). `bases` are the layers of images that it may stand upon.
pub fn tell(archive: &Path, bases: &[String]) -> String {
    let mut archive = Archive::open(archive);
    let (config, layers) = archive.image();
    let below = texts(&config["rootfs"]["diff_ids"]).iter().take_while(|layer| bases.contains(layer)).count();
    let mut base = Tree::default();
    for layer in &layers[..below] {
        base.apply(archive.member(layer), false);
    }
    let mut own = Tree(base.0.clone());
    let mut filled = vec![true; below];
    filled.extend(layers[below..].iter().map(|layer| own.apply(archive.member(layer), true)));
    let mut told = configuration(&config);
    history(&config, &filled, &mut told);
    own.tell(&base, &mut told);
    told
}

fn configuration(config: &Value) -> String {
    let mut told = String::new();
    for key in ["architecture", "os", "variant", "author"] {
        if let Some(text) = config[key].as_str().filter(|text| !text.is_empty()) {
            let _ = writeln!(told, "{key} {text}");
        }
    }
    let fields: BTreeMap<_, _> = config["config"].as_object().into_iter().flatten().collect();
    for (key, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
        let _ = writeln!(told, "config {key} {}", sorted(value));
    }
    told
}

/// The steps, `+` where they changed files. `filled` says of each layer whether there is anything in it: some engines
/// make layers of nothing, others none. What an engine says of layers of bases without a history is left out.
fn history(config: &Value, filled: &[bool], told: &mut String) {
    let steps = config["history"].as_array().into_iter().flatten();
    let mut filled = filled[filled.len() - filled.len().min(own_layers(config))..].iter();
    for step in steps.filter(|step| step["comment"] != BASE) {
        let changed = step["empty_layer"] != true && filled.next().copied().unwrap_or(false);
        let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
        let mark = if changed { "+" } else { "-" };
        let _ = writeln!(told, "history {mark} {:?} ({}{})", text("created_by"), text("comment"), text("author"));
    }
}

/// How many layers the history tells of.
fn own_layers(config: &Value) -> usize {
    let steps = config["history"].as_array().into_iter().flatten();
    steps.filter(|step| step["comment"] != BASE && step["empty_layer"] != true).count()
}

/// A document with its keys in order.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().collect();
            let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key:?}:{}", sorted(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(",")),
        plain => plain.to_string(),
    }
}

/// What is at a path.
#[derive(Clone, PartialEq)]
struct Node {
    kind: char,
    mode: u32,
    owner: (u64, u64),
    /// Of a file its size and digest, of a link its target, of a device its numbers.
    content: String,
    time: u64,
    attributes: BTreeMap<String, String>,
    /// Of the files, which have several names: the first of them.
    group: Option<String>,
}

#[derive(Default)]
struct Tree(BTreeMap<String, Node>);

impl Tree {
    /// Puts a layer on top; whether there was anything in it.
    fn apply(&mut self, layer: impl Read, hashed: bool) -> bool {
        let mut filled = false;
        let mut tar = tar::Archive::new(layer);
        let mut new: BTreeMap<String, Node> = BTreeMap::new();
        for entry in tar.entries().expect("a layer is an archive") {
            let mut entry = entry.expect("a sound layer");
            let path = entry.path().expect("a path").to_string_lossy().trim_matches('/').to_owned();
            let path = path.strip_prefix("./").unwrap_or(&path).to_owned();
            let (above, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name == ".wh..wh..opq" {
                filled = true;
                self.remove_below(above);
            } else if let Some(gone) = name.strip_prefix(".wh.") {
                filled = true;
                let gone = if above.is_empty() { gone.to_owned() } else { format!("{above}/{gone}") };
                self.remove_below(&gone);
                self.0.remove(&gone);
            } else if !path.is_empty() && path != "." {
                let node = node(&mut entry, &path, &new, hashed);
                // Engines write down directories that something was mounted in, too.
                filled |= !self.0.get(&path).is_some_and(|old| old.kind == 'd' && node.same(old));
                new.insert(path, node);
            }
        }
        for (path, node) in new {
            if node.kind != 'd' {
                self.remove_below(&path);
            }
            self.0.insert(path, node);
        }
        filled
    }

    fn remove_below(&mut self, path: &str) {
        let below = format!("{path}/");
        self.0.retain(|known, _| !known.starts_with(&below));
    }

    fn tell(&self, base: &Tree, told: &mut String) {
        for path in base.0.keys().filter(|path| !self.0.contains_key(*path)) {
            let _ = writeln!(told, "gone /{path}");
        }
        for (path, node) in &self.0 {
            if !base.0.get(path).is_some_and(|old| node.same(old)) {
                let _ = writeln!(told, "file /{path} {}", node.text(path));
            }
        }
    }
}

impl Node {
    /// Of a directory the time does not count.
    fn same(&self, old: &Node) -> bool {
        let time = if self.kind == 'd' { self.time } else { old.time };
        Node { time, ..old.clone() } == *self
    }

    fn text(&self, path: &str) -> String {
        let time = if self.time > NEW { "new".to_owned() } else { self.time.to_string() };
        // Of a directory the time tells when something in it was changed last.
        let time = if self.kind == 'd' { String::new() } else { format!(" {time}") };
        let (uid, gid) = self.owner;
        let mut text = format!("{} {:o} {uid}:{gid} {}{time}", self.kind, self.mode, self.content);
        for (name, value) in &self.attributes {
            let _ = write!(text, " {name}={value:?}");
        }
        if let Some(first) = self.group.as_ref().filter(|first| *first != path) {
            let _ = write!(text, " same as /{first}");
        }
        text.trim_end().to_owned()
    }
}

fn node<R: Read>(entry: &mut tar::Entry<'_, R>, path: &str, new: &BTreeMap<String, Node>, hashed: bool) -> Node {
    let header = entry.header().clone();
    let link = || entry.link_name().ok().flatten().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if header.entry_type() == EntryType::Link {
        let target = link().trim_start_matches("./").trim_matches('/').to_owned();
        let first = new.get(&target).unwrap_or_else(|| panic!("{path} is a link to {target}, which comes later"));
        return Node { group: first.group.clone().or(Some(target)), ..first.clone() };
    }
    let kind = match header.entry_type() {
        EntryType::Directory => 'd',
        EntryType::Symlink => 'l',
        EntryType::Char => 'c',
        EntryType::Block => 'b',
        EntryType::Fifo => 'p',
        _ => 'f',
    };
    let number = |value: std::io::Result<Option<u32>>| value.ok().flatten().unwrap_or_default();
    let mut content = match kind {
        'l' => format!("-> {}", link()),
        'c' | 'b' => format!("{}:{}", number(header.device_major()), number(header.device_minor())),
        _ => String::new(),
    };
    let attributes = attributes(entry);
    if kind == 'f' {
        content = entry.size().to_string();
        if hashed {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("a whole file");
            let digest = Sha256::digest(&bytes);
            content += &digest[..6].iter().fold(" ".to_owned(), |text, byte| format!("{text}{byte:02x}"));
        }
    }
    Node {
        kind,
        mode: header.mode().unwrap_or_default() & 0o7777,
        owner: (header.uid().unwrap_or_default(), header.gid().unwrap_or_default()),
        content,
        time: header.mtime().unwrap_or_default(),
        attributes,
        group: None,
    }
}

fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> BTreeMap<String, String> {
    let Ok(Some(extensions)) = entry.pax_extensions() else { return BTreeMap::new() };
    let pairs = extensions.flatten().filter_map(|pair| {
        let name = pair.key().ok()?.strip_prefix("SCHILY.xattr.")?.to_owned();
        Some((name, String::from_utf8_lossy(pair.value_bytes()).into_owned()))
    });
    pairs.collect()
}
