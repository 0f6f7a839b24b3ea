//! `system check`: reads everything that the store has, compares it with its digests and records, and mends what can be
//! mended. An index can be made again from its archive; what is damaged beyond that is forgotten, so that the next pull
//! or load brings it again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use records::rusqlite::{Connection, OptionalExtension, Transaction};

use crate::digest::Hasher;
use crate::error::{Result, Step};
use crate::layer::{ARCHIVE, FILES, INDEX};
use crate::staging::{lock_shared, make_directory, unique};
use crate::store::Store;
use crate::tarread::TarReader;
use crate::{Digest, config, deep, erofs};

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many images and layers were looked at.
    pub images: usize,
    /// See above.
    pub layers: usize,
    /// What was wrong.
    pub problems: Vec<Problem>,
}

/// Whether a container uses an image: asked in the transaction that would forget it.
type Used<'a> = &'a dyn Fn(&Connection, &str) -> bool;

/// One thing that was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In words.
    pub what: String,
    /// How it was mended, if it was.
    pub mended: Option<String>,
}

/// A layer's row against what is on the disk.
enum State {
    Good,
    /// The archive is right, its index is not: a new one, in a temporary file.
    Index(PathBuf),
    /// Nothing can be made of it.
    Lost(String),
}

impl Store {
    /// Checks everything. With `repair`, mends what it can; an image that `used` says to be some container's is never
    /// forgotten.
    pub fn check(&self, records: &mut records::Records, repair: bool, used: Used<'_>) -> Result<Report> {
        make_directory(&self.root.join("tmp"))?;
        let lock = lock_shared(self)?;
        let mut check = Check { store: self, repair, report: Report::default(), lost: BTreeSet::new() };
        check.database(records.read())?;
        check.layers(records)?;
        check.images(records, used)?;
        let Check { report, .. } = check;
        drop(lock);
        if repair {
            self.sweep(records)?;
        }
        Ok(report)
    }
}

struct Check<'s> {
    store: &'s Store,
    repair: bool,
    report: Report,
    /// DiffIDs of layers that cannot be used.
    lost: BTreeSet<String>,
}

impl Check<'_> {
    fn problem(&mut self, what: String, mended: Option<String>) {
        self.report.problems.push(Problem { what, mended });
    }

    /// SQLite's own checks of pages, indexes and references.
    fn database(&mut self, connection: &Connection) -> Result<()> {
        let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        if verdict != "ok" {
            self.problem(format!("database: {verdict}"), None);
        }
        let broken = connection
            .query_row("SELECT \"table\" FROM pragma_foreign_key_check LIMIT 1", [], |row| row.get::<_, String>(0))
            .optional()?;
        if let Some(table) = broken {
            self.problem(format!("database: a row of {table} refers to nothing"), None);
        }
        Ok(())
    }

    fn layers(&mut self, records: &mut records::Records) -> Result<()> {
        let ids = column(records.read(), "SELECT diff_id FROM layers ORDER BY diff_id")?;
        for id in &ids {
            let diff_id: Digest = id.parse()?;
            match self.layer(&diff_id)? {
                State::Good => {}
                State::Index(new) => self.replace(&new, &self.store.layer_home(&diff_id).join(INDEX), &diff_id)?,
                State::Lost(why) => {
                    self.lost.insert(id.clone());
                    self.problem(format!("layer {}: {why}", diff_id.short()), self.repair.then(|| "forgotten".into()));
                }
            }
        }
        self.report.layers = ids.len();
        Ok(())
    }

    fn layer(&self, diff_id: &Digest) -> Result<State> {
        let home = self.store.layer_home(diff_id);
        let archive = match File::open(home.join(ARCHIVE)) {
            Ok(file) => file,
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).step(|| format!("open {}", home.join(ARCHIVE).display()));
            }
            // An unpacked layer has no digest of its own; that it is there is all that can be said.
            Err(_) if home.join(FILES).is_dir() => return Ok(State::Good),
            Err(_) => return Ok(State::Lost(format!("{} is missing", home.display()))),
        };
        match digest_of(&archive) {
            Err(error) => return Ok(State::Lost(format!("its archive cannot be read: {error}"))),
            Ok(found) if found != *diff_id => return Ok(State::Lost(format!("its archive is {found}"))),
            Ok(_) => {}
        }
        let new = unique(&self.store.root.join("tmp"));
        write_index(&archive, &new)?;
        self.compare(new, &home.join(INDEX))
    }

    /// Keeps the new index if the old one differs.
    fn compare(&self, new: PathBuf, old: &Path) -> Result<State> {
        if same(&new, old) {
            remove(&new)?;
            return Ok(State::Good);
        }
        if !self.repair {
            remove(&new)?;
        }
        Ok(State::Index(new))
    }

    fn replace(&mut self, new: &Path, old: &Path, name: &Digest) -> Result<()> {
        let what = format!("the index of {} is missing or damaged", name.short());
        if !self.repair {
            self.problem(what, None);
            return Ok(());
        }
        File::open(new).and_then(|file| file.sync_data()).step(|| format!("sync {}", new.display()))?;
        std::fs::rename(new, old).step(|| format!("rename {} to {}", new.display(), old.display()))?;
        // It may be mounted; whoever starts next mounts the new one.
        self.store.unmount_one(name)?;
        self.problem(what, Some("made again from the archive".into()));
        Ok(())
    }

    fn images(&mut self, records: &mut records::Records, used: Used<'_>) -> Result<()> {
        let ids = column(records.read(), "SELECT id FROM images ORDER BY id")?;
        for id in &ids {
            match self.image(records, id)? {
                None => {}
                Some(why) if !self.repair => self.problem(format!("image {}: {why}", short(id)), None),
                Some(why) => {
                    records.set_durability(records::Durability::Power)?;
                    let forgotten = records.write(|transaction| forget(transaction, id, used))?;
                    let hint = if forgotten.is_some() { "" } else { "; a container uses it: remove that first" };
                    self.problem(format!("image {}: {why}{hint}", short(id)), forgotten);
                }
            }
        }
        self.report.images = ids.len();
        Ok(())
    }

    /// Why an image cannot be used; lesser damage is dealt with here.
    fn image(&mut self, records: &mut records::Records, id: &str) -> Result<Option<String>> {
        let parsed = self.store.read_blob(&id.parse()?).and_then(|bytes| config::parse(&bytes, id));
        let layers = match parsed.and_then(|config| config::diff_ids(&config)) {
            Ok(layers) => layers,
            Err(error) => return Ok(Some(format!("its configuration: {error}"))),
        };
        let rows = column_of(records.read(), "SELECT layer FROM image_layers WHERE image = ?1 ORDER BY position", id)?;
        if !layers.iter().map(Digest::as_str).eq(rows.iter().map(String::as_str)) {
            return Ok(Some("its layers are not those of its configuration".into()));
        }
        if let Some(lost) = rows.iter().find(|layer| self.lost.contains(*layer)) {
            return Ok(Some(format!("its layer {} is damaged or missing", short(lost))));
        }
        self.manifest(records, id)?;
        self.deep(&layers)?;
        Ok(None)
    }

    /// An image works without its manifest; only pushing it as it was needs that.
    fn manifest(&mut self, records: &mut records::Records, id: &str) -> Result<()> {
        let manifest = column_of(records.read(), "SELECT coalesce(manifest, '') FROM images WHERE id = ?1", id)?;
        let Some(manifest) = manifest.into_iter().next().filter(|manifest| !manifest.is_empty()) else { return Ok(()) };
        let Err(error) = self.store.read_blob(&manifest.parse()?) else { return Ok(()) };
        if self.repair {
            records.write(|transaction| {
                transaction.execute("UPDATE images SET manifest = NULL WHERE id = ?1", [id])?;
                Ok::<_, crate::Error>(())
            })?;
        }
        self.problem(format!("image {}: its manifest: {error}", short(id)), self.repair.then(|| "forgotten".into()));
        Ok(())
    }

    /// The index over all layers of a deep image, if it has been made.
    fn deep(&mut self, layers: &[Digest]) -> Result<()> {
        let Some((chain, path)) = self.store.deep_index(layers).filter(|(_, path)| path.exists()) else {
            return Ok(());
        };
        let new = unique(&self.store.root.join("tmp"));
        deep::make(self.store, layers, &new)?;
        if let State::Index(new) = self.compare(new, &path)? {
            self.replace(&new, &path, &chain)?;
        }
        Ok(())
    }
}

/// Deletes an image's row, if no container uses it; what the user should do then.
fn forget(transaction: &Transaction<'_>, id: &str, used: Used<'_>) -> Result<Option<String>> {
    if used(transaction, id) {
        return Ok(None);
    }
    let names = names_of(transaction, id)?;
    transaction.execute("DELETE FROM images WHERE id = ?1", [id])?;
    let again = if names.is_empty() { "load it again".into() } else { format!("pull {names} again") };
    Ok(Some(format!("forgotten: {again}")))
}

fn write_index(archive: &File, path: &Path) -> Result<()> {
    let mut reader = io::Seek::rewind(&mut &*archive).map(|()| TarReader::over_file(archive));
    let reader = reader.as_mut().map_err(|error| error.kind()).step(|| "read a layer's archive".into())?;
    let layer = erofs::build(reader, 0)?;
    let out = File::options().read(true).write(true).create_new(true).open(path);
    let out = out.step(|| format!("create {}", path.display()))?;
    let archives = [archive.try_clone().step(|| "duplicate a descriptor".into())?];
    erofs::write(&layer.tree, &archives, &out)
}

fn digest_of(file: &File) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    let mut input = file;
    loop {
        match io::Read::read(&mut input, &mut buffer)? {
            0 => return Ok(hasher.finish()),
            got => drop(hasher.update(&buffer[..got])),
        }
    }
}

fn same(one: &Path, other: &Path) -> bool {
    let digest = |path: &Path| File::open(path).and_then(|file| digest_of(&file));
    matches!((digest(one), digest(other)), (Ok(one), Ok(other)) if one == other)
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).step(|| format!("remove {}", path.display()))
}

fn column(connection: &Connection, query: &str) -> Result<Vec<String>> {
    let mut query = connection.prepare(query)?;
    let rows = query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(rows)
}

fn column_of(connection: &Connection, query: &str, of: &str) -> Result<Vec<String>> {
    let mut query = connection.prepare(query)?;
    let rows = query.query_map([of], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(rows)
}

fn names_of(connection: &Connection, id: &str) -> Result<String> {
    let names = column_of(connection, "SELECT name FROM image_names WHERE image = ?1 ORDER BY name", id)?;
    Ok(names.into_iter().filter(|name| !name.contains('@')).collect::<Vec<_>>().join(" "))
}

fn short(id: &str) -> &str {
    id.get(7..19).unwrap_or(id)
}
