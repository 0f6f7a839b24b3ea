//! A logical line taken apart: the instruction's name, its flags and the rest; the rest as words, pairs or JSON.

use crate::{Error, Result};

/// An instruction, its flags as they were written, and what is left.
#[derive(Debug, Default)]
pub(super) struct Command {
    pub(super) name: String,
    pub(super) flags: Vec<String>,
    pub(super) arguments: String,
}

/// Go's `[\t\v\f\r ]+`.
fn is_blank(letter: char) -> bool {
    matches!(letter, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

impl Command {
    /// Takes a line apart.
    pub(super) fn split(line: &str, escape: char) -> Self {
        let line = line.trim();
        let Some((name, rest)) = line.split_once(is_blank) else {
            return Command { name: line.to_owned(), ..Command::default() };
        };
        let (flags, rest) = flags(rest.trim_start_matches(is_blank), escape);
        Command { name: name.to_owned(), flags, arguments: rest.trim().to_owned() }
    }
}

/// The leading words that start with `--`, unquoted, and what follows them. A word `--` ends them.
fn flags(line: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = line.trim_start();
    while rest.starts_with("--") {
        let (word, quoted, after) = flag(rest, escape);
        rest = after;
        if word == "--" && !rest.is_empty() {
            return (flags, rest);
        }
        if quoted || (!word.is_empty() && word != "--") {
            flags.push(word);
        }
        rest = rest.trim_start();
    }
    (flags, rest)
}

/// One word: quotes and escapes taken off, whether there were quotes, and what follows.
fn flag(line: &str, escape: char) -> (String, bool, &str) {
    let (mut word, mut quote, mut quoted) = (String::new(), None, false);
    let mut letters = line.char_indices();
    while let Some((index, letter)) = letters.next() {
        match quote {
            None if letter.is_whitespace() => return (word, quoted, &line[index..]),
            None if matches!(letter, '\'' | '"') => (quote, quoted) = (Some(letter), true),
            Some(mark) if letter == mark => quote = None,
            _ if letter == escape => word.extend(letters.next().map(|(_, letter)| letter)),
            _ => word.push(letter),
        }
    }
    (word, quoted, "")
}

/// Words separated by blanks, quotes respected but kept: they are taken off when the words are expanded.
pub(super) fn words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut quoted) = (String::new(), None, false);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if quote.is_none() && letter.is_whitespace() {
            if quoted || !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            quoted = false;
            continue;
        }
        match quote {
            None if matches!(letter, '\'' | '"') => (quote, quoted) = (Some(letter), true),
            Some(mark) if letter == mark => quote = None,
            _ => {}
        }
        // Nothing can be escaped in single quotes; an escape at the very end is dropped.
        if letter == escape && quote != Some('\'') {
            let Some(escaped) = letters.next() else { break };
            word.extend([letter, escaped]);
        } else {
            word.push(letter);
        }
    }
    if quoted || !word.is_empty() {
        words.push(word);
    }
    words
}

/// Words separated by blanks, quotes mean nothing.
pub(super) fn blanks(text: &str) -> Vec<String> {
    text.split(is_blank).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The arguments as a JSON array of strings; none if they are no JSON array at all.
pub(super) fn json(text: &str) -> Result<Option<Vec<String>>> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Ok(None) };
    let texts = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(Error::new("when using JSON array syntax, arrays must be comprised of strings only")),
    });
    texts.collect::<Result<_>>().map(Some)
}

/// The first word of a pair, and the rest of an old-style `ENV name value`.
pub(super) fn name_and_rest(text: &str) -> Option<(&str, &str)> {
    text.split_once(is_blank).map(|(name, rest)| (name, rest.trim_start_matches(is_blank)))
}

/// Fields of a comma-separated list (RFC 4180), as mount options are.
pub(super) fn fields(text: &str) -> Result<Vec<String>> {
    let bad = || Error::new("failed to parse csv mounts: bare \" in non-quoted field");
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let (part, after) = quoted.split_once('"').ok_or_else(bad)?;
                field += part;
                let Some(more) = after.strip_prefix('"') else {
                    rest = after;
                    break;
                };
                field.push('"');
                quoted = more;
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field += &rest[..end];
            rest = &rest[end..];
            if field.contains('"') {
                return Err(bad());
            }
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(bad()),
        }
    }
}
