//! Words of a Dockerfile as a shell would read them: quotes, escapes and `$name` in all forms that BuildKit knows
//! (`frontend/dockerfile/shell`). Which words are expanded, and with which variables, is the caller's business.

mod pattern;

use std::collections::BTreeSet;

use crate::{Error, Result};

/// Where variables come from.
pub trait Variables {
    /// The value, if it is set.
    fn get(&self, name: &str) -> Option<&str>;
}

/// No variable at all.
pub struct NoVariables;

impl Variables for NoVariables {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

impl<S: AsRef<str>> Variables for &[(S, S)] {
    fn get(&self, name: &str) -> Option<&str> {
        self.iter().rev().find(|(key, _)| key.as_ref() == name).map(|(_, value)| value.as_ref())
    }
}

/// How words are read.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// The Dockerfile's escape character.
    pub escape: char,
    /// Quotes stay.
    pub raw_quotes: bool,
    /// Escape characters stay.
    pub raw_escapes: bool,
    /// Quotes mean nothing (here-documents).
    pub plain_quotes: bool,
    /// What is not set stays as it is written.
    pub keep_unset: bool,
}

impl Style {
    /// Everything is resolved.
    pub fn new(escape: char) -> Self {
        Style { escape, raw_quotes: false, raw_escapes: false, plain_quotes: false, keep_unset: false }
    }
}

/// An expanded word.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The whole, spaces kept.
    pub text: String,
    /// The whole split at spaces outside of quotes, after expansion.
    pub words: Vec<String>,
    /// Names that were asked for and are set.
    pub found: BTreeSet<String>,
    /// Names that were asked for and are not.
    pub missing: BTreeSet<String>,
}

/// Expands `source`.
pub fn expand(source: &str, variables: &dyn Variables, style: Style) -> Result<Expanded> {
    let mut reader = Reader {
        characters: source.chars().collect(),
        next: 0,
        depth: 0,
        style,
        variables,
        found: BTreeSet::new(),
        missing: BTreeSet::new(),
    };
    let (text, words) = reader
        .until(None, style.raw_escapes)
        .map_err(|error| Error::new(format!("failed to process {source:?}: {}", error.message)))?;
    Ok(Expanded { text, words, found: reader.found, missing: reader.missing })
}

/// Deepest nesting of `${a:-${b:-…}}`: each level is a level of recursion.
const DEEPEST: usize = 100;

struct Reader<'a> {
    characters: Vec<char>,
    next: usize,
    depth: usize,
    style: Style,
    variables: &'a dyn Variables,
    found: BTreeSet<String>,
    missing: BTreeSet<String>,
}

/// Collects words: spaces end one, except those of quotes and escapes.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
    inside: bool,
}

impl Words {
    fn letter(&mut self, letter: char) {
        if !letter.is_whitespace() {
            self.raw(letter);
        } else if self.inside && !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
            self.inside = false;
        }
    }

    fn raw(&mut self, letter: char) {
        self.current.push(letter);
        self.inside = true;
    }

    fn raw_text(&mut self, text: &str) {
        self.current.push_str(text);
        self.inside = true;
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.characters.get(self.next).copied()
    }

    fn take(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.next += 1;
        Some(letter)
    }

    /// Reads until `stop` (which is eaten), or until the end without one.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<(String, Vec<String>)> {
        if self.depth == DEEPEST {
            return Err(Error::new("substitutions are nested too deeply"));
        }
        self.depth += 1;
        let before = std::mem::replace(&mut self.style.raw_escapes, raw_escapes);
        let answer = self.until_inner(stop);
        self.style.raw_escapes = before;
        self.depth -= 1;
        answer
    }

    fn until_inner(&mut self, stop: Option<char>) -> Result<(String, Vec<String>)> {
        let (mut text, mut words) = (String::new(), Words::default());
        while let Some(letter) = self.peek() {
            if Some(letter) == stop {
                self.next += 1;
                return Ok((text, words.finish()));
            }
            match letter {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|letter| words.letter(letter));
                    text += &value;
                }
                '\'' | '"' if !self.style.plain_quotes => {
                    let value = if letter == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    words.raw_text(&value);
                    text += &value;
                }
                '<' => {
                    let value = self.heredoc_mark();
                    words.raw_text(&value);
                    text += &value;
                }
                _ => self.plain(&mut text, &mut words),
            }
        }
        match stop {
            Some(stop) => Err(Error::new(format!("unexpected end of statement while looking for matching {stop}"))),
            None => Ok((text, words.finish())),
        }
    }

    /// One letter without a meaning of its own, or an escape and the letter behind it.
    fn plain(&mut self, text: &mut String, words: &mut Words) {
        let Some(letter) = self.take() else { return };
        if letter != self.style.escape {
            words.letter(letter);
            text.push(letter);
            return;
        }
        if self.style.raw_escapes {
            words.raw(letter);
            text.push(letter);
        }
        if let Some(escaped) = self.take() {
            words.raw(escaped);
            text.push(escaped);
        }
    }

    fn single_quoted(&mut self) -> Result<String> {
        let mut text = String::new();
        let quote = self.take().filter(|_| self.style.raw_quotes);
        text.extend(quote);
        loop {
            match self.take() {
                None => {
                    return Err(Error::new("unexpected end of statement while looking for matching single-quote"));
                }
                Some('\'') => break,
                Some(letter) => text.push(letter),
            }
        }
        text.extend(quote);
        Ok(text)
    }

    /// sh(1): only `"`, `$` and the escape itself can be escaped.
    fn double_quoted(&mut self) -> Result<String> {
        let mut text = String::new();
        let quote = self.take().filter(|_| self.style.raw_quotes);
        text.extend(quote);
        loop {
            match self.peek() {
                None => {
                    return Err(Error::new("unexpected end of statement while looking for matching double-quote"));
                }
                Some('"') => break,
                Some('$') => text += &self.dollar()?,
                Some(letter) if letter == self.style.escape => self.escaped_in_quotes(&mut text),
                Some(letter) => {
                    self.next += 1;
                    text.push(letter);
                }
            }
        }
        self.next += 1;
        text.extend(quote);
        Ok(text)
    }

    fn escaped_in_quotes(&mut self, text: &mut String) {
        let escape = self.style.escape;
        self.next += 1;
        if self.style.raw_escapes {
            text.push(escape);
        }
        match self.peek() {
            None => {}
            Some(letter) if letter == '"' || letter == '$' || letter == escape => {
                self.next += 1;
                text.push(letter);
            }
            Some(_) => text.push(escape),
        }
    }

    /// `<<` may be followed by spaces that belong to the same word.
    fn heredoc_mark(&mut self) -> String {
        self.next += 1;
        if self.peek() != Some('<') {
            return "<".to_owned();
        }
        self.next += 1;
        let mut mark = "<<".to_owned();
        while let Some(space @ ('\t' | '\r' | ' ')) = self.peek() {
            mark.push(space);
            self.next += 1;
        }
        mark
    }

    fn dollar(&mut self) -> Result<String> {
        self.next += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(match (name.is_empty(), self.value(&name)) {
                (true, _) => "$".to_owned(),
                (false, None) if self.style.keep_unset => format!("${name}"),
                (false, value) => value.unwrap_or_default(),
            });
        }
        self.next += 1;
        match self.peek() {
            None => return Err(Error::new("syntax error: missing '}'")),
            Some('{' | '}' | ':') => return Err(Error::new("syntax error: bad substitution")),
            Some(_) => {}
        }
        let name = self.name();
        match self.take() {
            Some('}') => match self.value(&name) {
                None if self.style.keep_unset => Ok(format!("${{{name}}}")),
                value => Ok(value.unwrap_or_default()),
            },
            Some('/') => self.replace(&name),
            Some(':') => {
                let modifier = self.take();
                self.modified(&name, modifier, true)
            }
            modifier => self.modified(&name, modifier, false),
        }
    }

    /// `${name-word}` and its kin; with a colon, empty counts as not set.
    fn modified(&mut self, name: &str, modifier: Option<char>, colon: bool) -> Result<String> {
        let shown = format!("{}{}", if colon { ":" } else { "" }, modifier.map_or(String::new(), String::from));
        let Some(sign @ ('+' | '-' | '?' | '#' | '%')) = modifier else {
            return match modifier {
                None => Err(Error::new("syntax error: missing '}'")),
                Some(_) => Err(Error::new(format!("unsupported modifier ({shown}) in substitution"))),
            };
        };
        let trims = matches!(sign, '#' | '%');
        if colon && trims {
            return Err(Error::new(format!("unsupported modifier ({shown}) in substitution")));
        }
        let word = self.operand('}', trims, "syntax error: missing '}'")?;
        let value = self.value(name);
        if self.style.keep_unset && value.is_none() {
            return Ok(format!("${{{name}{shown}{word}}}"));
        }
        let usable = value.clone().filter(|value| !(colon && value.is_empty()));
        match sign {
            '-' => Ok(usable.unwrap_or(word)),
            '+' => Ok(usable.map_or(String::new(), |_| word)),
            '?' => usable.ok_or_else(|| {
                let state = if value.is_some() { "empty" } else { "unset" };
                let reason = if word.is_empty() { format!("is not allowed to be {state}") } else { word };
                Error::new(format!("{name}: {reason}"))
            }),
            _ => {
                let greedy = word.starts_with(sign);
                let pattern = if greedy { &word[1..] } else { &word };
                pattern::trim(pattern, &value.unwrap_or_default(), sign == '%', greedy)
            }
        }
    }

    /// `${name/pattern/replacement}`, `${name//pattern/replacement}`.
    fn replace(&mut self, name: &str) -> Result<String> {
        let all = self.peek() == Some('/');
        self.next += usize::from(all);
        let pattern = self.operand('/', true, "syntax error: missing '/' in ${}")?;
        let replacement = self.operand('}', true, "syntax error: missing '}'")?;
        match self.value(name) {
            None if self.style.keep_unset => Ok(format!("${{{name}/{pattern}/{replacement}}}")),
            value => pattern::replace(&pattern, &value.unwrap_or_default(), &replacement, all),
        }
    }

    /// Text up to `stop`; `missing` is the error if it never comes.
    fn operand(&mut self, stop: char, raw_escapes: bool, missing: &str) -> Result<String> {
        match self.until(Some(stop), raw_escapes) {
            Ok((text, _)) => Ok(text),
            Err(_) if self.peek().is_none() => Err(Error::new(missing)),
            Err(error) => Err(error),
        }
    }

    /// Letters, digits and `_`; only digits if it starts with one; or one of the shell's special parameters.
    fn name(&mut self) -> String {
        let rest = &self.characters[self.next..];
        let length = match rest.first() {
            Some(digit) if digit.is_ascii_digit() => rest.iter().take_while(|letter| letter.is_ascii_digit()).count(),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => rest.iter().take_while(|letter| letter.is_alphanumeric() || **letter == '_').count(),
        };
        let name = rest[..length].iter().collect();
        self.next += length;
        name
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = self.variables.get(name).map(str::to_owned);
        let names = if value.is_some() { &mut self.found } else { &mut self.missing };
        if !name.is_empty() {
            names.insert(name.to_owned());
        }
        value
    }
}

#[cfg(test)]
mod tests;
