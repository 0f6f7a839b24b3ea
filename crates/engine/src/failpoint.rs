//! Places at which a test can make the process die as if by `kill -9`, to prove that nothing is lost or leaked
//! whichever step is the last. `KISTE_FAILPOINT=NAME` dies at the first hit of that place, `NAME:N` at the N-th.
//! Without the variable a hit costs one comparison. `KISTE_FAILPOINT_LOG=FILE` gets a line with the name before the
//! end, so that a test can tell that it was reached.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Every place, in the order in which a container's life passes them.
pub const NAMES: &[&str] = &[
    "create-begun",
    "create-directory-made",
    "create-committed",
    "run-recorded",
    "start-locked",
    "start-recorded",
    "start-planned",
    "start-monitor-spawned",
    "start-handed-over",
    "monitor-begun",
    "monitor-cgroup-made",
    "monitor-created",
    "monitor-status-written",
    "monitor-started",
    "monitor-running",
    "stop-requested",
    "stop-signalled",
    "exit-seen",
    "exit-status-written",
    "exit-cgroup-removed",
    "exit-recorded",
    "exit-state-removed",
    "remove-begun",
    "remove-marked",
    "remove-directory-gone",
    "remove-deleted",
];

struct Armed {
    name: String,
    at: u64,
    hits: AtomicU64,
}

/// Dies here if the environment says so. `name` is one of [`NAMES`].
pub fn hit(name: &'static str) {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let Some(armed) = ARMED.get_or_init(read_environment) else { return };
    if armed.name == name && armed.hits.fetch_add(1, Ordering::Relaxed) + 1 == armed.at {
        if let Some(file) = std::env::var_os("KISTE_FAILPOINT_LOG") {
            let log = std::fs::File::options().create(true).append(true).open(file);
            let _ = log.and_then(|mut log| std::io::Write::write_all(&mut log, format!("{name}\n").as_bytes()));
        }
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

fn read_environment() -> Option<Armed> {
    let value = std::env::var("KISTE_FAILPOINT").ok()?;
    let (name, at) = match value.split_once(':') {
        Some((name, at)) => (name, at.parse().unwrap_or(1)),
        None => (value.as_str(), 1),
    };
    Some(Armed { name: name.to_owned(), at, hits: AtomicU64::new(0) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    fn hits_below(directory: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                hits_below(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for rest in text.split("failpoint::hit(\"").skip(1) {
                    found.insert(rest[..rest.find('"').unwrap()].to_owned());
                }
            }
        }
    }

    /// The table names exactly the places that the code has (this file's own text excluded by its quoting).
    #[test]
    fn table_and_code_agree() {
        let mut found = BTreeSet::new();
        hits_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        found.retain(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') && !name.is_empty());
        let table: BTreeSet<String> = super::NAMES.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(table, found);
    }
}
