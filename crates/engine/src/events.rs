//! The event log: `events.log` in the root, one JSON object a line. Whoever makes something happen appends one line
//! with one write(2), so that lines of several processes never mix; a full file becomes `events.log.1` and the one
//! before is forgotten. Reading and filtering is the verb's business (`verbs/events.rs`).

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use network::{Attachment, Network};
use rustix::fs::{FlockOperation, flock};

use crate::model::{Actor, Event, Map};
use crate::{Context as _, Paths, Result, clock};

/// Size in bytes at which the log is rotated.
const ROTATE_AT: u64 = 4 << 20;

/// An event of now.
pub(crate) fn event(kind: &str, action: &str, id: &str, attributes: Map<String>) -> Event {
    let now = clock::now();
    Event {
        kind: kind.to_owned(),
        action: action.to_owned(),
        actor: Actor { id: id.to_owned(), attributes },
        scope: "local".to_owned(),
        time: now / 1_000_000_000,
        time_nano: now,
    }
}

/// A container's event: its labels, image and name are attributes, as with Docker, and `more` are added.
pub(crate) fn container_event(
    id: &str,
    name: &str,
    image: &str,
    labels: &Map<String>,
    action: &str,
    more: &[(&str, String)],
) -> Event {
    let mut attributes = labels.clone();
    attributes.insert("image".to_owned(), image.to_owned());
    attributes.insert("name".to_owned(), name.to_owned());
    attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    event("container", action, id, attributes)
}

/// An event of a network; `more` is added to its name and driver.
pub(crate) fn network_event(network: &Network, action: &str, more: &[(&str, &str)]) -> Event {
    let mut attributes =
        Map::from([("name".to_owned(), network.name.clone()), ("type".to_owned(), network.driver.name().to_owned())]);
    attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    event("network", action, &network.id, attributes)
}

/// What the networks of a container tell when it begins to run (`connect`) and when it has ended (`disconnect`). The
/// container matters more than its history: a full disk is not its problem.
pub(crate) fn tell_networks(paths: &Paths, container: &str, attachment: Option<&Attachment>, action: &str) {
    for endpoint in attachment.iter().flat_map(|attachment| &attachment.endpoints) {
        drop(append(paths, &network_event(&endpoint.network, action, &[("container", container)])));
    }
}

/// Appends an event. The root directory must exist.
pub(crate) fn append(paths: &Paths, event: &Event) -> Result<()> {
    let path = paths.events();
    let mut line = serde_json::to_vec(event).step(|| "encode an event".to_owned())?;
    line.push(b'\n');
    let mut log = open(paths).step(|| format!("open {}", path.display()))?;
    if log.metadata().map(|data| data.size()).unwrap_or(0) >= ROTATE_AT {
        rotate(paths, &log).step(|| format!("rotate {}", path.display()))?;
        log = open(paths).step(|| format!("open {}", path.display()))?;
    }
    log.write_all(&line).step(|| format!("append to {}", path.display()))
}

fn open(paths: &Paths) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(paths.events())
}

/// Moves the full log aside, once, however many processes find it full at the same time.
fn rotate(paths: &Paths, full: &File) -> std::io::Result<()> {
    flock(full, FlockOperation::LockExclusive)?;
    let path = paths.events();
    let still_current = std::fs::metadata(&path).map(|data| data.ino()).ok() == Some(full.metadata()?.ino());
    if still_current {
        std::fs::rename(&path, rotated(paths))?;
    }
    Ok(())
}

/// Where the log before the present one is.
pub(crate) fn rotated(paths: &Paths) -> std::path::PathBuf {
    paths.root.join("events.log.1")
}
