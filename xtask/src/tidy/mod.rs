//! The house rules as checks: which crate may use which, where `unsafe`, printing and async may stand, how long a file
//! may be, which words stay out. Formatting and lints are rustfmt's and clippy's.

mod arrows;
mod source;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;

/// Where what breaks a rule stands, and which rule.
#[derive(Debug, PartialEq)]
struct Finding {
    file: PathBuf,
    /// 1 for the first line; 0: the file as a whole.
    line: usize,
    rule: String,
}

impl Finding {
    fn new(file: &Path, line: usize, rule: impl Into<String>) -> Self {
        Finding { file: file.to_owned(), line, rule: rule.into() }
    }
}

/// Checks the whole repository; prints what it finds.
pub(crate) fn run(root: &Path) -> Result {
    let files = project_files(root)?;
    let mut findings = arrows::check(root, &files)?;
    for file in &files {
        let Ok(content) = fs::read_to_string(root.join(file)) else { continue };
        findings.extend(text::check(root, file, &content));
        if file.extension().is_some_and(|extension| extension == "rs") {
            findings.extend(source::check(file, &content));
        }
    }
    for Finding { file, line, rule } in &findings {
        println!("{}:{line}: {rule}", file.display());
    }
    match findings.len() {
        0 => {
            println!("tidy: {} files, nothing to complain about", files.len());
            Ok(())
        }
        count => Err(format!("{count} breaches of the house rules")),
    }
}

/// Every file of the project, relative to its root, in a stable order: neither what was built nor what is hidden.
fn project_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(root.join(&directory)).map_err(|e| format!("list {}: {e}", directory.display()))?;
        for entry in entries.flatten() {
            let path = directory.join(entry.file_name());
            let Ok(kind) = entry.file_type() else { continue };
            if excluded(&path) {
                continue;
            }
            if kind.is_dir() {
                directories.push(path);
            } else if kind.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// `.git` is a file in a second work tree.
fn excluded(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "target" || name == ".git")
}
