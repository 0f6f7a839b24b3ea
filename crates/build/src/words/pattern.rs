//! Patterns of `${name#pattern}`, `${name%pattern}` and `${name/pattern/…}`: `*` and `?` as in POSIX shells, without
//! bracket expressions, as BuildKit has them.

use regex::Regex;

use crate::{Error, Result};

/// Removes what the pattern matches at the start (or the end) of the value: the shortest match, or the longest if greedy.
pub(super) fn trim(pattern: &str, value: &str, at_end: bool, greedy: bool) -> Result<String> {
    if !at_end {
        let found = regex(pattern, greedy, true)?.find(value).map_or(0, |found| found.end());
        return Ok(value[found..].to_owned());
    }
    // A regular expression finds the leftmost match, not the shortest one at the end: both are turned around.
    let turned: String = value.chars().rev().collect();
    let found = regex(&reversed(pattern), greedy, true)?.find(&turned).map_or(0, |found| found.end());
    Ok(turned[found..].chars().rev().collect())
}

/// Replaces the first longest match, or all.
pub(super) fn replace(pattern: &str, value: &str, replacement: &str, all: bool) -> Result<String> {
    let regex = regex(pattern, true, false)?;
    let limit = usize::from(!all);
    Ok(regex.replacen(value, limit, regex::NoExpand(replacement)).into_owned())
}

fn regex(pattern: &str, greedy: bool, anchored: bool) -> Result<Regex> {
    let bad = |why: String| Error::new(format!("invalid pattern ({pattern}) in substitution: {why}"));
    let mut text = if anchored { "^".to_owned() } else { String::new() };
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '*' => text += if greedy { ".*" } else { ".*?" },
            '?' => text.push('.'),
            // These two had to be escaped to stand in `${}`.
            '\\' if matches!(letters.peek(), Some('}' | '/')) => {}
            '\\' => match letters.next() {
                Some(escaped @ ('*' | '?' | '\\')) => text.extend(['\\', escaped]),
                escaped => {
                    return Err(bad(format!("invalid escape '\\{}'", escaped.map_or(String::new(), String::from))));
                }
            },
            letter => text += &regex::escape(letter.encode_utf8(&mut [0; 4])),
        }
    }
    Regex::new(&text).map_err(|error| bad(error.to_string()))
}

/// Turned around, but an escape stays before its letter.
fn reversed(pattern: &str) -> String {
    let mut units: Vec<Vec<char>> = Vec::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        let escaped = if letter == '\\' { letters.next() } else { None };
        units.push([letter].into_iter().chain(escaped).collect());
    }
    units.into_iter().rev().flatten().collect()
}
