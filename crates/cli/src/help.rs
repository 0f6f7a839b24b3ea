//! The pages that are not about one command: `kiste --help`, `kiste container --help`, `kiste --version`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use crate::commands::{COMMANDS, Entry, GROUPS, find};
use crate::failure::{Failure, Result};

const OPTIONS: &str = "\
Global Options:
      --config string      Directory of the user's config.json (default \"~/.docker\")
  -D, --debug              Say on standard error what is done
  -l, --log-level string   How much is said on standard error: debug, info, warn, error (default \"info\")
      --root string        Directory for images, containers and volumes (default \"/var/lib/kiste\", or $KISTE_ROOT)
      --state string       Directory for what runs now (default \"/run/kiste\", or $KISTE_STATE)
  -v, --version            Print version information and quit
";

/// Prints a page.
pub(crate) fn page(text: &str) -> Result<u8> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.trim_end())?;
    Ok(0)
}

/// `kiste --version`.
pub(crate) fn print_version() -> Result<u8> {
    page(concat!("Kiste version ", env!("CARGO_PKG_VERSION")))
}

/// `kiste --help`.
pub(crate) fn print_all() -> Result<u8> {
    let mut text = "Usage:  kiste [OPTIONS] COMMAND\n\nA container engine without a daemon\n\nCommands:\n".to_owned();
    list(&mut text, COMMANDS.iter().map(line));
    text += "\nManagement Commands:\n";
    list(&mut text, GROUPS.iter().map(|group| (group.name, group.about)));
    text.push('\n');
    text += OPTIONS;
    text += "\nRun 'kiste COMMAND --help' for more information on a command.\n";
    page(&text)
}

/// The page for `kiste help …`, `kiste container` or `kiste container --help`.
pub(crate) fn print(words: &[OsString]) -> Result<u8> {
    let words = if words[0] == "help" { &words[1..] } else { words };
    let Some(first) = words.first() else { return print_all() };
    if let Some(group) = GROUPS.iter().find(|group| *first == group.name) {
        let mut text = format!("Usage:  kiste {} COMMAND\n\n{}\n\nCommands:\n", group.name, group.about);
        list(&mut text, group.entries.iter().map(line));
        write!(text, "\nRun 'kiste {} COMMAND --help' for more information on a command.\n", group.name)
            .expect("a string takes all");
        return page(&text);
    }
    match find(words)? {
        Some((path, entry, _)) => page(&entry.page(&path)),
        None => print_all(),
    }
}

fn line(entry: &Entry) -> (&'static str, &'static str) {
    (entry.names[0], entry.about)
}

fn list(text: &mut String, lines: impl Iterator<Item = (&'static str, &'static str)>) {
    for (name, about) in lines {
        writeln!(text, "  {name:<12}{about}").expect("a string takes all");
    }
}

/// Says that a command does not exist.
pub(crate) fn unknown(words: &[OsString], see: &str) -> Failure {
    let typed: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let mut failure = Failure::new(format!("unknown command: kiste {}", typed.join(" "))).see(see);
    failure.hint = similar(&typed[typed.len() - 1]).map(|name| format!("did you mean '{name}'?"));
    failure
}

/// The command nearest to a mistyped one, if one is near.
fn similar(typed: &str) -> Option<&'static str> {
    let near = |name: &&'static str| distance(typed, name) <= 1 + typed.len() / 4;
    COMMANDS.iter().flat_map(|entry| entry.names).copied().filter(near).min_by_key(|name| distance(typed, name))
}

/// Edit distance (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let change = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("run", "run"), 0);
        assert_eq!(distance("rnu", "run"), 2);
        assert_eq!(distance("strat", "start"), 2);
        assert_eq!(distance("", "ps"), 2);
    }
}
