//! Containers of builds that were killed: each says which process made it, and the next build removes those whose process
//! is gone.

use std::sync::atomic::{AtomicU64, Ordering};

use engine::model::Map;
use engine::{Engine, Paths, RemoveOptions};

/// Says of a container that a build made it, and which.
pub(crate) const LABEL: &str = "io.kiste.build";

/// This process: its id, and when it began, as ids are used again.
pub(crate) fn owner() -> String {
    let id = std::process::id();
    format!("{id}-{}", began(&id.to_string()).unwrap_or_default())
}

/// A name that no other container has.
pub(crate) fn name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (id, now) = (std::process::id(), jiff::Timestamp::now().as_nanosecond());
    format!("build-{id}-{now:x}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Removes what nobody works on any more.
pub(crate) fn sweep(paths: &Paths) {
    // Nothing to look for as a rule, and then the records need not be opened.
    let some = std::fs::read_dir(paths.root.join("containers")).is_ok_and(|mut entries| entries.next().is_some());
    if !some {
        return;
    }
    let engine = Engine::new(paths.clone());
    let filters = Map::from([("label".to_owned(), vec![LABEL.to_owned()])]);
    let request = engine::ListRequest { all: true, filters, ..engine::ListRequest::default() };
    for container in engine.list(&request).unwrap_or_default() {
        let owner = container.labels.get(LABEL).cloned().unwrap_or_default();
        let (id, start) = owner.split_once('-').unwrap_or((&owner, ""));
        if began(id).as_deref() != Some(start) {
            let _ = engine.remove(&container.id, RemoveOptions { force: true, volumes: true });
        }
    }
}

/// The 22nd field of proc(5)'s `stat`.
fn began(id: &str) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let rest = stat.rsplit_once(')')?.1;
    rest.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_its_id_and_its_beginning() {
        let owner = owner();
        let (id, start) = owner.split_once('-').unwrap();
        assert_eq!(began(id).as_deref(), Some(start));
        assert!(start.parse::<u64>().unwrap() > 0);
        assert_ne!(name(), name());
    }
}
