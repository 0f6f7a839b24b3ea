//! `rmi`: takes a name away, and with the last name the image, by Docker's rules and in its words
//! (moby `daemon/images/image_delete.go`). Which containers use an image is the caller's knowledge.

use records::rusqlite::Transaction;

use crate::digest::Hasher;
use crate::error::{Error, Result};
use crate::reference::Reference;
use crate::store::{Store, find, name_of};
use crate::{Digest, config};

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name was taken away.
    Untagged(String),
    /// An image or a layer is gone: `sha256:…` of the image or the layer's chain id.
    Deleted(String),
}

/// Which containers use an image: one id of each sort is enough.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// A running one.
    pub running: Option<String>,
    /// One that does not run.
    pub stopped: Option<String>,
}

/// What is about to go.
struct Target {
    id: Digest,
    /// As it was typed.
    typed: String,
    /// The one name that was given; otherwise the image as a whole is meant.
    name: Option<Reference>,
    names: Vec<Reference>,
}

impl Store {
    /// Removes a name or an image. `usage` says, within the transaction, which containers use an image id.
    ///
    /// An image that is forced away while a stopped container uses it loses its names only: the container still needs
    /// its layers.
    pub fn remove<E: From<Error> + From<records::rusqlite::Error>>(
        &self,
        records: &mut records::Records,
        name: &str,
        force: bool,
        usage: impl FnOnce(&Transaction<'_>, &str) -> Result<Usage, E>,
    ) -> Result<Vec<Removed>, E> {
        records.set_durability(records::Durability::Power)?;
        let mark = self.mark()?;
        let outcome = records.write(|transaction| {
            let target = Target::find(transaction, name)?;
            let usage = usage(transaction, target.id.as_str())?;
            Ok::<_, E>(self.remove_target(transaction, &target, force, &usage)?)
        });
        match &outcome {
            Ok(removed) if removed.iter().any(|one| matches!(one, Removed::Deleted(_))) => {
                drop(mark);
                self.sweep(records)?;
            }
            _ => mark.clear(),
        }
        outcome
    }

    fn remove_target(
        &self,
        transaction: &Transaction<'_>,
        target: &Target,
        force: bool,
        usage: &Usage,
    ) -> Result<Vec<Removed>> {
        if let Some(name) = &target.name
            && target.survives(name)
        {
            return untag(transaction, [name]);
        }
        target.check(force, usage)?;
        let mut removed = untag(transaction, &target.names)?;
        if usage.running.is_none() && usage.stopped.is_none() {
            removed.extend(self.delete(transaction, &target.id)?);
        }
        Ok(removed)
    }

    /// Deletes the image's rows; which of its layers no other image has.
    fn delete(&self, transaction: &Transaction<'_>, id: &Digest) -> Result<Vec<Removed>> {
        let mut removed = vec![Removed::Deleted(id.to_string())];
        let layers = self.read_blob(id).and_then(|bytes| config::diff_ids(&config::parse(&bytes, id.as_str())?));
        transaction.execute("DELETE FROM images WHERE id = ?1", [id.as_str()])?;
        let mut used = transaction.prepare("SELECT 1 FROM image_layers WHERE layer = ?1")?;
        // An image whose configuration is damaged must be removable too.
        let layers = layers.unwrap_or_default();
        for (layer, chain) in layers.iter().zip(chain_ids(&layers)).rev() {
            if !used.exists([layer.as_str()])? {
                removed.push(Removed::Deleted(chain.to_string()));
            }
        }
        Ok(removed)
    }
}

impl Target {
    fn find(transaction: &Transaction<'_>, text: &str) -> Result<Self> {
        let id: Digest = find(transaction, text)?.parse()?;
        let name = name_of(transaction, text, id.as_str())?;
        let mut query = transaction.prepare("SELECT name FROM image_names WHERE image = ?1 ORDER BY name")?;
        let names = query.query_map([id.as_str()], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        let names = names.iter().map(|name| name.parse()).collect::<Result<_>>()?;
        Ok(Target { id, typed: text.to_owned(), name, names })
    }

    /// Whether the image keeps another tag when this name goes. Digests of the same repository do not count, as they
    /// go with its last tag.
    fn survives(&self, name: &Reference) -> bool {
        self.names.iter().any(|other| !same_name(other, name) && (other.tag().is_some() || other.name() != name.name()))
    }

    fn check(&self, force: bool, usage: &Usage) -> Result<()> {
        let user = usage.running.as_ref().or(usage.stopped.as_ref());
        match (&self.name, user) {
            (Some(_), Some(container)) if !force => Err(Error::Conflict(format!(
                "conflict: unable to remove repository reference {:?} (must force) - container {} is using its referenced image {}",
                self.typed,
                short(container),
                self.id.short()
            ))),
            (Some(_), _) => Ok(()),
            (None, _) => self.check_whole(force, usage),
        }
    }

    /// The rules for an image that was given by its id.
    fn check_whole(&self, force: bool, usage: &Usage) -> Result<()> {
        let conflict = |forced: &str, why: String| {
            Err(Error::Conflict(format!("conflict: unable to delete {} ({forced}) - {why}", self.id.short())))
        };
        let tags = self.names.iter().filter(|name| name.tag().is_some()).count();
        let one_repository = self.names.windows(2).all(|pair| pair[0].name() == pair[1].name());
        match (&usage.running, &usage.stopped) {
            (Some(container), _) => {
                conflict("cannot be forced", format!("image is being used by running container {}", short(container)))
            }
            _ if (tags > 1 || !one_repository) && !force => {
                conflict("must be forced", "image is referenced in multiple repositories".into())
            }
            (None, Some(container)) if !force => {
                conflict("must be forced", format!("image is being used by stopped container {}", short(container)))
            }
            _ => Ok(()),
        }
    }
}

fn short(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}

/// Equal but for a tag beside a digest, which the store does not keep.
fn same_name(stored: &Reference, given: &Reference) -> bool {
    stored.name() == given.name()
        && match given.digest() {
            Some(digest) => stored.digest() == Some(digest),
            None => stored == given,
        }
}

fn untag<'r>(transaction: &Transaction<'_>, names: impl IntoIterator<Item = &'r Reference>) -> Result<Vec<Removed>> {
    let mut delete = transaction.prepare("DELETE FROM image_names WHERE name = ?1")?;
    let mut removed = Vec::new();
    for name in names {
        let stored = match name.digest() {
            Some(digest) => format!("{}@{digest}", name.name()),
            None => name.to_string(),
        };
        delete.execute([&stored])?;
        removed.push(Removed::Untagged(stored.parse::<Reference>()?.familiar()));
    }
    Ok(removed)
}

/// OCI's names for stacks of layers (image-spec, `config.md`, *Layer ChainID*), lowest first.
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let chain = match chains.last() {
            None => diff_id.clone(),
            Some(below) => {
                let mut hasher = Hasher::new();
                hasher.update(below.as_str().as_bytes()).update(b" ").update(diff_id.as_str().as_bytes()).finish()
            }
        };
        chains.push(chain);
    }
    chains
}
