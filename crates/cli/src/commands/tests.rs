//! The command table as a whole.

use std::ffi::OsString;

use super::{COMMANDS, GROUPS, find};

fn found(words: &[&str]) -> Option<(String, Vec<OsString>)> {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    find(&words).unwrap().map(|(path, _, rest)| (path, rest.to_vec()))
}

#[test]
fn every_parser_is_sound_and_every_name_is_there_once() {
    let tables = GROUPS.iter().map(|group| (Some(group.name), group.entries)).chain([(None, COMMANDS)]);
    for (group, entries) in tables {
        let mut names: Vec<&str> = entries.iter().flat_map(|entry| entry.names).copied().collect();
        for entry in entries {
            entry.command(entry.names[0]).debug_assert();
            let page = entry.page(entry.names[0]);
            assert!(page.contains(entry.about) && page.starts_with("Usage:  kiste "), "{page}");
        }
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "{group:?}");
    }
}

#[test]
fn management_spellings_lead_to_the_same_commands() {
    for (words, path) in [
        (&["run", "-d", "x"][..], "run"),
        (&["container", "run", "-d", "x"], "container run"),
        (&["container", "ls"], "container ls"),
        (&["container", "prune"], "container prune"),
        (&["image", "rm", "x"], "image rm"),
        (&["volume", "ls"], "volume ls"),
        (&["system", "info"], "system info"),
    ] {
        let (found, rest) = found(words).unwrap();
        assert_eq!(found, path);
        assert_eq!(rest, words[path.split(' ').count()..]);
    }
}

#[test]
fn help_is_asked_for_in_several_ways() {
    for words in [&["help"][..], &["help", "run"], &["container"], &["container", "--help"], &["volume", "-h"]] {
        assert_eq!(found(words), None, "{words:?}");
    }
}

#[test]
fn unknown_words_are_answered_with_what_is_near() {
    let failure = find(&["strat".into()]).err().unwrap();
    assert_eq!((failure.message.as_str(), failure.code), ("unknown command: kiste strat", 1));
    assert_eq!(failure.hint.as_deref(), Some("did you mean 'start'?"));
    let failure = find(&["volume".into(), "bogus".into(), "x".into()]).err().unwrap();
    assert_eq!(failure.message, "unknown command: kiste volume bogus");
    assert_eq!(failure.footer.as_deref(), Some("See 'kiste volume --help'."));
}
