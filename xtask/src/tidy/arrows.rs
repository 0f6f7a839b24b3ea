//! Who may depend on whom: the crates form layers, arrows point only down. Read from the manifests, whose dependencies
//! all stand in the workspace's one table.

use std::fs;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::Result;

/// Each crate and the crates of this repository that it may use (ARCHITECTURE.md: the rooms).
const MAY_USE: &[(&str, &[&str])] = &[
    ("linux", &[]),
    ("records", &["linux"]),
    ("sandbox", &["linux"]),
    ("runtime", &["sandbox", "linux"]),
    ("image", &["records", "linux"]),
    ("network", &["records", "linux"]),
    ("engine", &["sandbox", "image", "network", "records", "linux"]),
    ("build", &["engine", "sandbox", "image", "network", "records", "linux"]),
    ("api", &["build", "engine", "image", "records"]),
    ("cli", &["api", "build", "engine", "runtime", "sandbox", "image", "network", "linux"]),
    ("kiste-tests", &[]),
    ("xtask", &["kiste-tests"]),
];

/// The async world, and who may enter it: the API, and the tests of it with clients that are async.
const ASYNC: &[&str] = &["tokio", "hyper", "axum", "tonic", "async-std", "smol", "futures"];
const ASYNC_CRATES: [&str; 2] = ["api", "kiste-tests"];

/// Most packages that `Cargo.lock` may list: what is built is what must be trusted.
/// Some hundred of them are there only for the client libraries that tests drive (bollard, testcontainers), and in nothing
/// that is given away.
const MOST_PACKAGES: usize = 350;

/// Checks every manifest, and the size of the lock file.
pub(super) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| is_member(file)) {
        let content = fs::read_to_string(root.join(file)).map_err(|e| format!("read {}: {e}", file.display()))?;
        findings.extend(check_manifest(file, &content));
    }
    let lock = fs::read_to_string(root.join("Cargo.lock")).map_err(|e| format!("read Cargo.lock: {e}"))?;
    let packages = lock.lines().filter(|line| *line == "[[package]]").count();
    if packages > MOST_PACKAGES {
        let rule = format!("{packages} packages; at most {MOST_PACKAGES}: leave a dependency out or argue for more");
        findings.push(Finding::new(Path::new("Cargo.lock"), 0, rule));
    }
    Ok(findings)
}

/// Whether this is the manifest of a crate of the workspace: the fuzz targets are a workspace of their own.
fn is_member(file: &Path) -> bool {
    file.ends_with("Cargo.toml") && file.parent() != Some(Path::new("")) && !file.starts_with("fuzz")
}

fn check_manifest(file: &Path, content: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = crate_name(content);
    let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == name) else {
        return vec![Finding::new(file, 0, format!("crate {name} has no place among the layers: add it to MAY_USE"))];
    };
    // linux alone allows `unsafe`, so it repeats the workspace's lints with that difference.
    let lints = if name == "linux" { "[lints.rust]" } else { "[lints]\nworkspace = true" };
    if !content.contains(lints) {
        findings.push(Finding::new(file, 0, format!("takes the workspace's lints: {lints}")));
    }
    for (line, dependency, value) in dependencies(content) {
        if !value.contains("workspace = true") {
            findings.push(Finding::new(
                file,
                line,
                format!("{dependency}: versions stand in the workspace's table only"),
            ));
        }
        let inside = MAY_USE.iter().any(|(known, _)| *known == dependency);
        if inside && !allowed.contains(&dependency.as_str()) {
            findings.push(Finding::new(
                file,
                line,
                format!("{name} must not use {dependency}: arrows point only down"),
            ));
        }
        if ASYNC.contains(&dependency.as_str()) && !ASYNC_CRATES.contains(&name) {
            findings.push(Finding::new(file, line, format!("{dependency}: only {} is async", ASYNC_CRATES[0])));
        }
    }
    findings
}

fn crate_name(manifest: &str) -> &str {
    let name = manifest.lines().find_map(|line| line.strip_prefix("name = "));
    name.unwrap_or_default().trim_matches('"')
}

/// Line, name and value of every dependency, whatever its section (`[dev-dependencies]`, `[target.….dependencies]`).
fn dependencies(manifest: &str) -> Vec<(usize, String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for (index, line) in manifest.lines().enumerate() {
        if let Some(head) = line.strip_prefix('[') {
            section = head.trim_end_matches(']').to_owned();
            // `[dependencies.NAME]` hides the version from this check, so it counts as a breach by itself.
            if let Some((_, name)) = section.split_once("dependencies.") {
                found.push((index + 1, name.to_owned(), String::new()));
            }
        } else if section.ends_with("dependencies")
            && let Some((name, value)) = line.split_once('=')
        {
            let name = name.trim();
            let (name, suffix) = name.split_once('.').unwrap_or((name, ""));
            found.push((index + 1, name.to_owned(), format!("{suffix} ={value}")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(manifest: &str) -> Vec<String> {
        let manifest = format!("{manifest}\n[lints]\nworkspace = true\n[lints.rust]\n");
        check_manifest(Path::new("Cargo.toml"), &manifest).into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn arrows_point_down() {
        assert_eq!(rules("name = \"engine\"\n[dependencies]\nimage.workspace = true"), Vec::<String>::new());
        assert_eq!(rules("name = \"image\"\n[dependencies]\nsandbox.workspace = true").len(), 1);
        assert_eq!(rules("name = \"sandbox\"\n[dev-dependencies]\nrecords.workspace = true").len(), 1);
        assert_eq!(rules("name = \"stranger\"").len(), 1);
    }

    #[test]
    fn versions_stand_in_the_workspace_table() {
        assert_eq!(rules("name = \"linux\"\n[dependencies]\nlibc = \"0.2\"").len(), 1);
        assert_eq!(rules("name = \"linux\"\n[dependencies.libc]\nversion = \"0.2\"").len(), 1);
        let features = "name = \"linux\"\n[dependencies]\nlibc = { workspace = true, features = [\"extra_traits\"] }";
        assert_eq!(rules(features), Vec::<String>::new());
    }

    #[test]
    fn only_the_api_is_async() {
        assert_eq!(rules("name = \"engine\"\n[dependencies]\ntokio.workspace = true").len(), 1);
        assert_eq!(rules("name = \"api\"\n[dependencies]\ntokio.workspace = true"), Vec::<String>::new());
    }
}
