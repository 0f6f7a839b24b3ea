//! Keeps `docs/commands.md` true: it names every command and every flag of `run`.

use crate::commands::{COMMANDS, GROUPS, find};

const PAGE: &str = include_str!("../../../../docs/commands.md");

/// Words of the page, without the Markdown around them.
fn words() -> Vec<&'static str> {
    PAGE.split(|c: char| c.is_whitespace() || matches!(c, '`' | '|' | ',' | '\\' | '=' | '(' | ')')).collect()
}

#[test]
fn every_command_is_on_the_page() {
    let words = words();
    let missing: Vec<&str> = COMMANDS.iter().map(|entry| entry.names[0]).filter(|name| !words.contains(name)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "commands that docs/commands.md lacks");
    for group in GROUPS {
        assert!(words.contains(&group.name), "docs/commands.md lacks the group {}", group.name);
    }
}

#[test]
fn every_flag_of_run_is_on_the_page() {
    let (path, entry, _) = find(&["run".into()]).unwrap().unwrap();
    let command = entry.command(&path);
    let words = words();
    let documented = |arg: &&clap::Arg| {
        let long = arg.get_long().map(|name| format!("--{name}"));
        let short = arg.get_short().map(|name| format!("-{name}"));
        let known = |name: &String| {
            words.iter().any(|word| {
                word == name || word.strip_suffix('*').is_some_and(|stem| stem.len() > 3 && name.starts_with(stem))
            })
        };
        long.iter().chain(&short).any(known)
    };
    let missing: Vec<&str> = command
        .get_arguments()
        .filter(|arg| !arg.is_positional() && !documented(arg))
        .map(|arg| arg.get_id().as_str())
        .filter(|id| *id != "help")
        .collect();
    assert_eq!(missing, Vec::<&str>::new(), "flags of run that docs/commands.md lacks");
}
