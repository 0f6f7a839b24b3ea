//! The engine's places at which a test can make the process die as if by `kill -9`.

/// Every place, in the order in which a container's life passes them, then a network's.
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
    "monitor-connected",
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
    "network-recorded",
    "network-made",
    "network-forgotten",
    "network-unmade",
];

/// Dies here if the environment says so (see [`linux::failpoint`]). `name` is one of [`NAMES`].
pub fn hit(name: &'static str) {
    linux::failpoint::hit(name);
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
