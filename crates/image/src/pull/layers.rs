//! All missing layers at the same time: downloads in parallel, the largest first, and the first failure ends the others.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};

use super::download::{Download, Report, STOPPED, Wanted};
use super::partial::Partial;
use super::remote::Remote;
use crate::error::{Error, Result};
use crate::layer::NewLayer;
use crate::staging::Staging;
use crate::store::Progress;

/// Layers on their way at once.
const PARALLEL: usize = 4;

/// One layer's work: its number, what is wanted, and what is there of it.
type Job<'j> = (usize, &'j Wanted, &'j mut Partial);

/// Fetches all layers.
pub(super) fn fetch(
    remote: &Remote,
    staging: &Staging<'_>,
    wanted: &[Wanted],
    partials: &mut [Partial],
    progress: &mut Progress<'_>,
) -> Result<Vec<NewLayer>> {
    let mut jobs: Vec<Job<'_>> =
        wanted.iter().zip(partials).enumerate().map(|(number, (one, partial))| (number, one, partial)).collect();
    // The last one is taken first.
    jobs.sort_by_key(|(_, one, _)| one.size);
    let (jobs, stop) = (Mutex::new(jobs), AtomicBool::new(false));
    let next = || jobs.lock().map_or(None, |mut jobs| jobs.pop());
    let work = |reports: Sender<Report>| {
        let mut done = Vec::new();
        while let Some((number, wanted, partial)) = next() {
            let fetched = fetch_layer(remote, (number, wanted), partial, staging, &stop, &reports);
            stop.fetch_or(fetched.is_err(), Ordering::Relaxed);
            done.push(fetched?);
            // Whoever listened may be gone; the result counts.
            let _ = reports.send((number, "Pull complete", 0, 0));
        }
        Ok(done)
    };
    let outcomes: Vec<Result<Vec<NewLayer>>> = std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        let workers: Vec<_> = (0..PARALLEL.min(wanted.len()))
            .map(|_| {
                let (sender, work) = (sender.clone(), &work);
                scope.spawn(move || work(sender))
            })
            .collect();
        drop(sender);
        for (number, status, done, total) in receiver {
            progress(wanted[number].blob.short(), status, done, total);
        }
        let died = || Err(Error::Step { step: "pull a layer".into(), cause: "a download thread died".into() });
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| died())).collect()
    });
    first_cause(outcomes)
}

/// All layers, or the failure that came first rather than its consequences.
fn first_cause(outcomes: Vec<Result<Vec<NewLayer>>>) -> Result<Vec<NewLayer>> {
    let mut layers = Vec::new();
    let mut failure = None;
    for outcome in outcomes {
        match outcome {
            Ok(more) => layers.extend(more),
            Err(Error::Registry(text)) if text == STOPPED => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(layers), Err)
}

/// What comes wrong is not kept; and if its beginning was an earlier pull's, that may be the reason: once more without.
fn fetch_layer(
    remote: &Remote,
    (number, wanted): (usize, &Wanted),
    partial: &mut Partial,
    staging: &Staging<'_>,
    stop: &AtomicBool,
    reports: &Sender<Report>,
) -> Result<NewLayer> {
    loop {
        let resumed = partial.length() > 0;
        let download = Download::new(remote, (number, wanted), partial, stop, reports.clone());
        match receive(download, wanted, staging) {
            Err(Error::Untrusted(text)) => {
                partial.empty();
                if !resumed {
                    return Err(Error::Untrusted(text));
                }
            }
            other => return other,
        }
    }
}

fn receive(download: Download<'_>, wanted: &Wanted, staging: &Staging<'_>) -> Result<NewLayer> {
    let layer = staging.receive(download).map_err(|error| match error {
        Error::Untrusted(text) => Error::Untrusted(format!("layer {}: {text}", wanted.blob.short())),
        other => other,
    })?;
    if layer.blob != wanted.blob || layer.blob_size != wanted.size {
        let text = format!("digest mismatch: layer {} is {} of {} bytes", wanted.blob, layer.blob, layer.blob_size);
        return Err(Error::untrusted(text));
    }
    if layer.diff_id != wanted.diff_id {
        let text = format!("digest mismatch: layer {} holds {}, not {}", wanted.blob, layer.diff_id, wanted.diff_id);
        return Err(Error::untrusted(text));
    }
    Ok(layer)
}
