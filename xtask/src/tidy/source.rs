//! Rules for Rust files: a head that says what the file is for, a bounded length, `unsafe` and printing only where they
//! belong.

use std::path::Path;

use super::Finding;

/// Longest file, in lines; beyond it a file has more than one subject.
const LONGEST: usize = 700;

/// Files that may be longer, and why.
const LONGER: &[(&str, &str)] = &[("crates/engine/src/model.rs", "the Docker API's data, one type after the other")];

/// Macros that write to the standard streams or stand for code that is missing.
const PRINTING: &[&str] = &["println!", "eprintln!", "print!", "eprint!"];
const MISSING: &[&str] = &["todo!", "unimplemented!", "dbg!"];

pub(super) fn check(file: &Path, content: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !content.starts_with("//!") {
        findings.push(Finding::new(file, 1, "opens with `//!`: what the file is for"));
    }
    let lines = content.lines().count();
    if lines > LONGEST && !LONGER.iter().any(|(name, _)| file == Path::new(name)) {
        findings.push(Finding::new(file, 0, format!("{lines} lines; at most {LONGEST}")));
    }
    let code = without_text(content);
    for (index, line) in code.lines().enumerate() {
        findings.extend(line_rules(file, line).map(|rule| Finding::new(file, index + 1, rule)));
    }
    findings
}

fn line_rules(file: &Path, line: &str) -> impl Iterator<Item = String> {
    let mut rules = Vec::new();
    if !file.starts_with("crates/linux") && words(line).any(|word| word == "unsafe" || word == "unsafe_code") {
        rules.push("`unsafe` stands only in the crate linux".to_owned());
    }
    for name in MISSING.iter().filter(|name| calls(line, name)) {
        rules.push(format!("{name} is not finished code"));
    }
    if !may_print(file) {
        rules.extend(
            PRINTING.iter().filter(|name| calls(line, name)).map(|name| format!("{name} only in cli and xtask")),
        );
    }
    rules.into_iter()
}

/// The command line, the developer's tool, and programs that only tests and measurements run.
fn may_print(file: &Path) -> bool {
    ["crates/cli", "xtask", "tests"].iter().any(|place| file.starts_with(place))
        || file.components().any(|part| ["tests", "benches", "examples"].iter().any(|name| part.as_os_str() == *name))
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

fn calls(line: &str, macro_name: &str) -> bool {
    line.match_indices(macro_name).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// The code with comments, strings and character literals blanked out, line by line.
fn without_text(content: &str) -> String {
    let mut code = String::with_capacity(content.len());
    let mut rest = content;
    while let Some(first) = rest.chars().next() {
        let length = text_length(rest, code.ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        let (token, after) = rest.split_at(length.unwrap_or(first.len_utf8()));
        match length {
            Some(_) => code.extend(token.chars().filter(|c| *c == '\n')),
            None => code.push(first),
        }
        rest = after;
    }
    code
}

/// Bytes of the comment or literal that `rest` begins with, if it begins with one.
fn text_length(rest: &str, inside_word: bool) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    if rest.starts_with('"') {
        return Some(quoted_length(rest, '"'));
    }
    if rest.starts_with("r\"") || rest.starts_with("r#") && !inside_word {
        return raw_length(rest);
    }
    // A lifetime has no closing quote; a character literal has it within a few characters.
    let literal = rest.starts_with('\'') && (rest.starts_with("'\\") || rest.chars().nth(2) == Some('\''));
    literal.then(|| quoted_length(rest, '\''))
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        if character == quote && !escaped {
            return at + 1;
        }
        escaped = character == '\\' && !escaped;
    }
    rest.len()
}

fn raw_length(rest: &str) -> Option<usize> {
    let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
    rest[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    Some(rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(file: &str, code: &str) -> usize {
        check(Path::new(file), &format!("//! Head.\n{code}\n")).len()
    }

    #[test]
    fn unsafe_only_in_linux() {
        assert_eq!(rules("crates/engine/src/a.rs", "unsafe { f() }"), 1);
        assert_eq!(rules("crates/engine/src/a.rs", "#[allow(unsafe_code)]"), 1);
        assert_eq!(rules("crates/linux/src/a.rs", "unsafe { f() }"), 0);
        assert_eq!(rules("crates/engine/src/a.rs", "// unsafe\nlet s = \"unsafe\"; let r = r#\"unsafe \" \"#;"), 0);
    }

    #[test]
    fn printing_only_where_it_belongs() {
        assert_eq!(rules("crates/engine/src/a.rs", "println!(\"x\")"), 1);
        assert_eq!(rules("crates/cli/src/a.rs", "println!(\"x\")"), 0);
        assert_eq!(rules("crates/engine/src/a.rs", "my_print!(\"x\")"), 0);
    }

    #[test]
    fn literals_do_not_hide_code() {
        assert_eq!(
            without_text("a('\"', 'b', '\\'') /* \" */ + \"\\\"\" + x::<'a>(r\"\\\")"),
            "a(, , )  +  + x::<'a>()"
        );
        assert_eq!(rules("crates/engine/src/a.rs", "let c = '\"'; unsafe { f() } // \""), 1);
    }

    #[test]
    fn heads_and_lengths() {
        assert_eq!(check(Path::new("a.rs"), "fn main() {}\n").len(), 1);
        assert_eq!(rules("crates/engine/src/a.rs", &"\n".repeat(LONGEST)), 1);
        assert_eq!(rules("crates/engine/src/model.rs", &"\n".repeat(LONGEST)), 0);
    }
}
