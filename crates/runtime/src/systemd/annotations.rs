//! `org.systemd.property.NAME` annotations: properties of the unit, with values in the text format of GVariant (GLib
//! documentation, "GVariant Text Format"), so far as properties have such types: booleans, numbers, strings, arrays and
//! structures. Looked at only when the systemd driver was asked for, as in runc.

use std::collections::HashMap;

use super::value::Value;
use crate::{Error, Result};

const PREFIX: &str = "org.systemd.property.";

/// Values may lie in one another so often.
const DEPTH: usize = 16;

/// The properties in the annotations, sorted by name.
pub(super) fn properties(annotations: &HashMap<String, String>) -> Result<Vec<(String, Value)>> {
    let own = annotations.iter().filter_map(|(key, text)| Some((key.strip_prefix(PREFIX)?, text)));
    let mut properties = own.map(|(name, text)| property(name, text)).collect::<Result<Vec<_>>>()?;
    properties.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(properties)
}

fn property(name: &str, text: &str) -> Result<(String, Value)> {
    let wrong = |reason: &str| Error::new(format!("annotations: {PREFIX}{name}={text}: {reason}"));
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(wrong("the name of a property has at least three letters, and only letters"));
    }
    let value = parse(text).ok_or_else(|| wrong("not a value in the text format of GVariant"))?;
    match name.strip_suffix("Sec").filter(|stem| stem.ends_with(|letter: char| letter.is_ascii_lowercase())) {
        // As systemctl has it: `TimeoutStopSec` is `TimeoutStopUSec` on the bus.
        Some(stem) => {
            let microseconds = microseconds(&value).ok_or_else(|| wrong("not a number of seconds"))?;
            Ok((format!("{stem}USec"), Value::U64(microseconds)))
        }
        None => Ok((name.to_owned(), value)),
    }
}

fn microseconds(value: &Value) -> Option<u64> {
    let whole = match value {
        Value::Byte(number) => u64::from(*number),
        Value::I16(number) => u64::try_from(*number).ok()?,
        Value::U16(number) => u64::from(*number),
        Value::I32(number) => u64::try_from(*number).ok()?,
        Value::U32(number) => u64::from(*number),
        Value::I64(number) => u64::try_from(*number).ok()?,
        Value::U64(number) => *number,
        Value::F64(number) => return (*number >= 0.0).then_some((number * 1e6) as u64),
        _ => return None,
    };
    whole.checked_mul(1_000_000)
}

fn parse(text: &str) -> Option<Value> {
    let mut parser = Parser { rest: text };
    let value = parser.value(None, DEPTH)?;
    parser.rest.trim_start().is_empty().then_some(value)
}

/// Words that name the type of what follows.
const TYPES: [(&str, &str); 12] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
    ("signature", "g"),
];

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    /// One value, of the type `kind` if one was named.
    fn value(&mut self, kind: Option<&str>, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        self.rest = self.rest.trim_start();
        match self.rest.chars().next()? {
            '@' => {
                let (named, rest) = self.rest[1..].split_once(' ')?;
                let named = named.to_owned();
                self.rest = rest;
                self.value(Some(&named), depth)
            }
            '[' => self.array(kind, depth),
            '(' => self.tuple(depth),
            quote @ ('\'' | '"') => {
                let text = self.quoted(quote)?;
                Some(match kind {
                    None | Some("s") => Value::Text(text),
                    Some("o") => Value::Path(text),
                    Some("g") => Value::Signature(text),
                    _ => return None,
                })
            }
            _ => self.word(kind, depth),
        }
    }

    fn array(&mut self, kind: Option<&str>, depth: usize) -> Option<Value> {
        let element = kind.map(|kind| kind.strip_prefix('a')).map_or(Some(None), |element| element.map(Some))?;
        self.rest = &self.rest[1..];
        let mut values: Vec<Value> = Vec::new();
        while !self.take(']') {
            if !values.is_empty() && !self.take(',') {
                return None;
            }
            values.push(self.value(element, depth)?);
        }
        let signature = match (element, values.first()) {
            (Some(element), _) => element.to_owned(),
            (None, first) => first?.signature(),
        };
        let same = values.iter().all(|value| value.signature() == signature);
        same.then_some(Value::Array(signature, values))
    }

    fn tuple(&mut self, depth: usize) -> Option<Value> {
        self.rest = &self.rest[1..];
        let mut values = Vec::new();
        while !self.take(')') {
            if !values.is_empty() && !self.take(',') {
                return None;
            }
            // `('one',)` is how a structure of one is written.
            if !values.is_empty() && self.take(')') {
                break;
            }
            values.push(self.value(None, depth)?);
        }
        (!values.is_empty()).then_some(Value::Tuple(values))
    }

    fn take(&mut self, wanted: char) -> bool {
        let rest = self.rest.trim_start();
        let after = rest.strip_prefix(wanted);
        self.rest = after.unwrap_or(rest);
        after.is_some()
    }

    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut letters = self.rest.char_indices().skip(1);
        while let Some((index, letter)) = letters.next() {
            match letter {
                '\\' => text.push(match letters.next()?.1 {
                    'n' => '\n',
                    't' => '\t',
                    // Numbered characters are not worth it.
                    'u' | 'U' | 'x' => return None,
                    other => other,
                }),
                '\0' => return None,
                letter if letter == quote => {
                    self.rest = &self.rest[index + 1..];
                    return Some(text);
                }
                letter => text.push(letter),
            }
        }
        None
    }

    /// A name of a type, a truth or a number.
    fn word(&mut self, kind: Option<&str>, depth: usize) -> Option<Value> {
        let end = self.rest.find([' ', ',', ']', ')']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match TYPES.iter().find(|(name, _)| *name == word) {
            Some((_, named)) => self.value(Some(named), depth),
            None => number(word, kind),
        }
    }
}

fn number(word: &str, kind: Option<&str>) -> Option<Value> {
    let fraction = word.contains(['.', 'e', 'E']) && !word.starts_with("0x");
    Some(match kind {
        None | Some("b") if matches!(word, "true" | "false") => Value::Bool(word == "true"),
        None if fraction => Value::F64(word.parse().ok()?),
        Some("d") => Value::F64(word.parse().ok()?),
        Some("y") => Value::Byte(integer(word)?.try_into().ok()?),
        Some("n") => Value::I16(integer(word)?.try_into().ok()?),
        Some("q") => Value::U16(integer(word)?.try_into().ok()?),
        None | Some("i") => Value::I32(integer(word)?.try_into().ok()?),
        Some("u") => Value::U32(integer(word)?.try_into().ok()?),
        Some("x") => Value::I64(integer(word)?.try_into().ok()?),
        Some("t") => Value::U64(integer(word)?.try_into().ok()?),
        _ => return None,
    })
}

fn integer(word: &str) -> Option<i128> {
    match word.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<(String, Value)> {
        property(name, text)
    }

    #[test]
    fn values_of_all_kinds() {
        let texts = |words: &[&str]| Value::Array("s".into(), words.iter().map(|word| Value::text(*word)).collect());
        for (text, value) in [
            ("'inactive-or-failed'", Value::text("inactive-or-failed")),
            (r#""a \"b\" \\""#, Value::text(r#"a "b" \"#)),
            ("true", Value::Bool(true)),
            ("12", Value::I32(12)),
            ("-1.5", Value::F64(-1.5)),
            ("uint64 18446744073709551615", Value::U64(u64::MAX)),
            ("byte 0xff", Value::Byte(255)),
            ("['a', 'b']", texts(&["a", "b"])),
            ("@as []", texts(&[])),
            ("@au [1, 2]", Value::Array("u".into(), vec![Value::U32(1), Value::U32(2)])),
            ("('a', true)", Value::Tuple(vec![Value::text("a"), Value::Bool(true)])),
            ("('a',)", Value::Tuple(vec![Value::text("a")])),
        ] {
            assert_eq!(read("Anything", text).unwrap().1, value, "{text}");
        }
    }

    #[test]
    fn seconds_are_microseconds_on_the_bus() {
        for (text, expected) in [("456", 456_000_000), ("byte 2", 2_000_000), ("double 1.5", 1_500_000)] {
            let (name, value) = read("TimeoutStopSec", text).unwrap();
            assert_eq!((name.as_str(), value), ("TimeoutStopUSec", Value::U64(expected)));
        }
        assert_eq!(read("TimeoutStopUSec", "uint64 5").unwrap().0, "TimeoutStopUSec");
        assert_eq!(read("XSec", "1").unwrap().0, "XSec");
    }

    #[test]
    fn what_is_none_is_refused_by_name() {
        for (name, text) in [
            ("X", "1"),
            ("Un.Known", "1"),
            ("TimeoutSec", "'soon'"),
            ("TimeoutSec", "-1"),
            ("TimeoutSec", "uint64 18446744073709551615"),
            ("Any", ""),
            ("Any", "'open"),
            ("Any", "[1, 'a']"),
            ("Any", "[]"),
            ("Any", "1 2"),
            ("Any", "byte 256"),
            ("Any", "uint32 -1"),
            ("Any", "()"),
            ("Any", "maybe"),
        ] {
            assert!(read(name, text).unwrap_err().text.contains(name), "{name}={text}");
        }
        assert!(read("Any", &"[".repeat(1000)).is_err());
    }
}
