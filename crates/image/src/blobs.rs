//! What is known of layers in registries: as which compressed blob each is where. A push needs not send again what the
//! other side has, or can take over from a neighbour.

use records::rusqlite::{Connection, Transaction};

use crate::Digest;
use crate::error::Result;
use crate::manifest::Descriptor;

/// A layer's compressed form, seen in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) blob: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: String,
    /// `host/path`.
    pub(crate) repository: String,
}

/// Remembers the layers of a manifest; `diff_ids` are theirs, in the same order.
pub(crate) fn remember(
    records: &mut records::Records,
    layers: &[Descriptor],
    diff_ids: &[Digest],
    repository: &str,
) -> Result<()> {
    let seen = layers.iter().zip(diff_ids).map(|(layer, diff_id)| {
        let blob = layer.digest()?;
        let seen = Seen { blob, size: layer.size, media_type: layer.media_type.clone(), repository: repository.into() };
        Ok((diff_id.clone(), seen))
    });
    let seen = seen.collect::<Result<Vec<_>>>()?;
    records.set_durability(records::Durability::Process)?;
    records.write(|transaction| seen.iter().try_for_each(|(diff_id, seen)| insert(transaction, diff_id, seen)))
}

/// Remembers one; a layer that has gone meanwhile needs no memory.
pub(crate) fn insert(transaction: &Transaction<'_>, diff_id: &Digest, seen: &Seen) -> Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO layer_blobs (diff_id, blob, size, media_type, repository)
             SELECT diff_id, ?2, ?3, ?4, ?5 FROM layers WHERE diff_id = ?1 ON CONFLICT DO NOTHING",
        )?
        .execute((diff_id.as_str(), seen.blob.as_str(), seen.size as i64, &seen.media_type, &seen.repository))?;
    Ok(())
}

/// Where a layer has been seen.
pub(crate) fn of_layer(connection: &Connection, diff_id: &Digest) -> Result<Vec<Seen>> {
    let mut query = connection.prepare_cached(
        "SELECT blob, size, media_type, repository FROM layer_blobs WHERE diff_id = ?1 ORDER BY repository, blob",
    )?;
    let rows = query.query_map([diff_id.as_str()], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get(2)?, row.get(3)?))
    })?;
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    let seen = rows.into_iter().map(|(blob, size, media_type, repository)| {
        Ok(Seen { blob: blob.parse()?, size: size as u64, media_type, repository })
    });
    seen.collect()
}
