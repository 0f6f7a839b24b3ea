//! `push`: from stored images to a registry, layers in parallel. What the registry has, or can take over from a
//! neighbour, is not sent again.

mod gzip;
mod layer;
mod manifest;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use records::rusqlite::OptionalExtension;

use crate::blobs::{self, Seen};
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::remote::{Access, Endpoint, Registry, Right, Settings};
use crate::store::{Progress, set_name};
use crate::{Digest, Reference, Store, config, save};
use layer::{How, Outgoing, Report, Sent, Way};
use manifest::Original;

/// Layers on their way at once.
const PARALLEL: usize = 4;

/// What to push.
#[derive(Clone, Debug, Default)]
pub struct Push {
    /// Reference as typed.
    pub reference: String,
    /// `os/arch[/variant]` that the image must be for.
    pub platform: Option<String>,
    /// Every tag of the repository.
    pub all_tags: bool,
    /// Who asks.
    pub access: Access,
}

/// A pushed image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// `name:tag`, as people write it.
    pub name: String,
    /// The tag.
    pub tag: String,
    /// Digest of the manifest.
    pub digest: String,
    /// Bytes of the manifest.
    pub size: u64,
}

impl Store {
    /// Pushes an image, or every tag of a repository. `progress` gets Docker's status words.
    pub fn push(
        &self,
        records: &mut records::Records,
        request: &Push,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Pushed>> {
        let reference: Reference = request.reference.parse()?;
        let platform = request.platform.as_deref().map(str::parse::<Platform>).transpose()?;
        if reference.digest().is_some() {
            return Err(Error::Invalid("cannot push a digest reference".into()));
        }
        if request.all_tags && reference.tag().is_some() {
            return Err(Error::Invalid("tag can't be used with --all-tags/-a".into()));
        }
        let reference = if request.all_tags { reference } else { reference.or_latest() };
        progress("", &format!("The push refers to repository [{}]", reference.name()), 0, 0);
        let tagged = self.tagged(records, &reference)?;
        let settings = Arc::new(Settings::read(&request.access)?);
        let endpoint = Endpoint::for_push(&settings, &reference)?;
        let target = Registry::connect(&settings, &endpoint, &reference.familiar_name(), Right::Push)?;
        let others = Arc::new(settings.for_others());
        let each = tagged
            .iter()
            .map(|(name, id)| self.push_one(records, (&others, &target), (name, id), platform.as_ref(), progress));
        each.collect()
    }

    /// The images that are meant, by their full names.
    fn tagged(&self, records: &records::Records, reference: &Reference) -> Result<Vec<(Reference, Digest)>> {
        let mut query = records.read().prepare("SELECT name, image FROM image_names ORDER BY name")?;
        let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        let mut found = Vec::new();
        for row in rows {
            let (name, id) = row?;
            let name: Reference = name.parse()?;
            if name.name() == reference.name() && name.tag().is_some() {
                found.push((name, id.parse()?));
            }
        }
        if found.is_empty() {
            let text = format!("An image does not exist locally with the tag: {}", reference.familiar_name());
            return Err(Error::Conflict(text));
        }
        if let Some(tag) = reference.tag() {
            found.retain(|(name, _)| name.tag() == Some(tag));
            if found.is_empty() {
                return Err(Error::Conflict(format!("tag does not exist: {}", reference.familiar())));
            }
        }
        Ok(found)
    }

    fn push_one(
        &self,
        records: &mut records::Records,
        (settings, target): (&Arc<Settings>, &Registry),
        (name, id): (&Reference, &Digest),
        platform: Option<&Platform>,
        progress: &mut Progress<'_>,
    ) -> Result<Pushed> {
        let config = self.read_blob(id)?;
        let parsed = config::parse(&config, id.as_str())?;
        Platform::of(&parsed).check(platform, &format!("image with reference {}", name.familiar()))?;
        let diff_ids = config::diff_ids(&parsed)?;
        let original = self.original(records, id)?;
        let outgoing = outgoing(records, &diff_ids, original.as_ref())?;
        let repository = name.name();
        let media_type = manifest::layer_type(original.as_ref());
        let way = Way {
            store: self,
            settings,
            target,
            repository: &repository,
            media_type: &media_type,
            silent: Mutex::default(),
        };
        let sent = send_layers(&way, &outgoing, progress)?;
        let same = sent.iter().map(|sent| &sent.inner).eq(&diff_ids);
        let config = if same { config } else { save::with_layers(&config, sent.iter().map(|sent| &sent.inner))? };
        let config_digest = Digest::of(&config);
        if !target.has_blob(&config_digest)? {
            target.put_blob(&config)?;
        }
        let seen: Vec<Seen> = sent.iter().map(|sent| sent.seen.clone()).collect();
        let manifest = manifest::over(original.as_ref(), (&config_digest, config.len()), &seen);
        let tag = name.tag().unwrap_or("latest").to_owned();
        target.publish(&tag, &manifest.media_type, &manifest.bytes)?;
        let digest = Digest::of(&manifest.bytes);
        say_compressed(&sent, progress);
        if same {
            remember(records, (name, id), &digest, &diff_ids, &seen)?;
        } else {
            let text = format!(
                "the archives of {id}'s layers are not kept, only their files: it was pushed as {config_digest}"
            );
            progress("", &text, 0, 0);
        }
        progress("", &format!("{tag}: digest: {digest} size: {}", manifest.bytes.len()), 0, 0);
        Ok(Pushed {
            id: id.to_string(),
            name: name.familiar(),
            tag,
            digest: digest.to_string(),
            size: manifest.bytes.len() as u64,
        })
    }

    /// The manifest that the image came with.
    fn original(&self, records: &records::Records, id: &Digest) -> Result<Option<Original>> {
        let mut query = records.read().prepare_cached("SELECT manifest FROM images WHERE id = ?1")?;
        let digest: Option<Option<String>> = query.query_row([id.as_str()], |row| row.get(0)).optional()?;
        let Some(digest) = digest.flatten() else { return Ok(None) };
        let bytes = self.read_blob(&digest.parse()?)?;
        Original::read(bytes, &format!("manifest {digest}")).map(Some)
    }
}

/// What is known of each layer: first as the image's own manifest has it.
fn outgoing(records: &records::Records, diff_ids: &[Digest], original: Option<&Original>) -> Result<Vec<Outgoing>> {
    let layers = original.map(|original| original.layers.as_slice()).filter(|layers| layers.len() == diff_ids.len());
    diff_ids
        .iter()
        .enumerate()
        .map(|(at, diff_id)| {
            let seen = blobs::of_layer(records.read(), diff_id)?;
            let own = layers.map(|layers| &layers[at]);
            let mut known = Vec::new();
            if let Some(own) = own {
                let (blob, media_type) = (own.digest()?, own.media_type.clone());
                known.extend(seen.iter().filter(|one| one.blob == blob).cloned());
                // Nobody knows where, but the registry may have it.
                known.push(Seen { blob, size: own.size, media_type, repository: String::new() });
            }
            known.extend(
                seen.into_iter().filter(|one| own.is_none_or(|own| own.digest().ok().as_ref() != Some(&one.blob))),
            );
            let foreign = own.is_some_and(|own| !own.foreign_urls().is_empty());
            Ok(Outgoing { diff_id: diff_id.clone(), known, foreign })
        })
        .collect()
}

/// Sends all layers, each content once; the answers are in the order of the layers.
fn send_layers(way: &Way<'_>, outgoing: &[Outgoing], progress: &mut Progress<'_>) -> Result<Vec<Sent>> {
    for layer in outgoing {
        progress(layer.diff_id.short(), "Preparing", 0, 0);
    }
    let next = AtomicUsize::new(0);
    let stop = AtomicUsize::new(0);
    let first =
        |number: usize| outgoing.iter().position(|one| one.diff_id == outgoing[number].diff_id).unwrap_or(number);
    let work = |reports: Sender<Report>| {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= outgoing.len() || stop.load(Ordering::Relaxed) > 0 {
                return Ok(done);
            }
            if first(number) != number {
                continue;
            }
            let sent = way.send(number, &outgoing[number], &reports);
            stop.fetch_add(usize::from(sent.is_err()), Ordering::Relaxed);
            let sent = sent?;
            // Whoever listened may be gone; the result counts.
            let _ = reports.send((number, words(&sent.how), 0, 0));
            done.push((number, sent));
        }
    };
    let outcomes: Vec<Result<Vec<(usize, Sent)>>> = std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        let workers: Vec<_> = (0..PARALLEL.min(outgoing.len()))
            .map(|_| {
                let (sender, work) = (sender.clone(), &work);
                scope.spawn(move || work(sender))
            })
            .collect();
        drop(sender);
        for (number, status, done, total) in receiver {
            progress(outgoing[number].diff_id.short(), &status, done, total);
        }
        let died = || Err(Error::Step { step: "push a layer".into(), cause: "an upload thread died".into() });
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| died())).collect()
    });
    let mut all: Vec<(usize, Sent)> = Vec::new();
    for outcome in outcomes {
        all.extend(outcome?);
    }
    let missing = || Error::Step { step: "push a layer".into(), cause: "it was not sent".into() };
    let sent = (0..outgoing.len()).map(|number| {
        let found = all.iter().find(|(one, _)| *one == first(number));
        found.map(|(_, sent)| sent.clone()).ok_or_else(missing)
    });
    sent.collect()
}

/// Docker's words.
fn words(how: &How) -> String {
    match how {
        How::Exists => "Layer already exists".into(),
        How::Mounted(from) => format!("Mounted from {}", from.trim_start_matches("library/")),
        How::Pushed | How::Compressed => "Pushed".into(),
    }
}

/// A layer that came from elsewhere and was compressed anew has another digest than there: no reason to stop, but worth a word.
fn say_compressed(sent: &[Sent], progress: &mut Progress<'_>) {
    let count = sent.iter().filter(|sent| sent.how == How::Compressed).count();
    if count > 0 {
        let layers = if count == 1 { "1 layer was".to_owned() } else { format!("{count} layers were") };
        progress("", &format!("{layers} compressed for this push: no registry had the original bytes"), 0, 0);
    }
}

/// The image has one more digest name now, and its layers are known there.
fn remember(
    records: &mut records::Records,
    (name, id): (&Reference, &Digest),
    digest: &Digest,
    diff_ids: &[Digest],
    seen: &[Seen],
) -> Result<()> {
    let repository = name.name();
    records.set_durability(records::Durability::Process)?;
    records.write(|transaction| {
        for (diff_id, seen) in diff_ids.iter().zip(seen) {
            let here = Seen { repository: repository.clone(), ..seen.clone() };
            blobs::insert(transaction, diff_id, &here)?;
        }
        let mut image = transaction.prepare_cached("SELECT 1 FROM images WHERE id = ?1")?;
        match image.exists([id.as_str()])? {
            true => set_name(transaction, &format!("{repository}@{digest}"), id.as_str()),
            false => Ok(()),
        }
    })
}
