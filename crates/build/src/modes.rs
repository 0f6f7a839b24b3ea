//! `--chmod`: octal, or symbolic as chmod(1) has it (`u+rwX,g=u,o-w`).

use crate::{Error, Result};

/// A change of permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeChange {
    /// These bits.
    Set(u32),
    /// Clauses, one after the other.
    Symbolic(Vec<Clause>),
}

/// `[ugoa]*[-+=][rwxXst]*` or `[ugoa]*[-+=][ugo]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Bits of the classes that it is about, special bits included.
    who: u32,
    operation: char,
    permissions: Permissions,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Permissions {
    /// Bits for all classes, and whether `X` adds execution where there is some already, or in directories.
    Bits(u32, bool),
    /// Those of another class, by its shift.
    Of(u32),
}

impl ModeChange {
    /// Reads one; none if the text is empty.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        if text.is_empty() {
            return Ok(None);
        }
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            return match u32::from_str_radix(text, 8) {
                Ok(mode) if mode <= 0o7777 => Ok(Some(ModeChange::Set(mode))),
                _ => Err(invalid(text)),
            };
        }
        let clauses = text.split(',').map(|clause| clauses(clause).ok_or_else(|| invalid(text)));
        Ok(Some(ModeChange::Symbolic(clauses.collect::<Result<Vec<_>>>()?.concat())))
    }

    /// What becomes of a file's permission bits.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            ModeChange::Set(bits) => *bits,
            ModeChange::Symbolic(clauses) => clauses.iter().fold(mode, |mode, clause| clause.apply(mode, is_directory)),
        }
    }
}

fn invalid(text: &str) -> Error {
    let rule = "it should be octal string and between 0 and 07777, or symbolic like u+rwX,go-w";
    Error::new(format!("invalid chmod parameter: '{text}'. {rule}"))
}

/// One clause may have several operations: `u+x-w`.
fn clauses(text: &str) -> Option<Vec<Clause>> {
    let end = text.find(['+', '-', '='])?;
    let mut who = 0;
    for class in text[..end].chars() {
        who |= match class {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    let who = if end == 0 { 0o7777 } else { who };
    let (mut found, mut rest) = (Vec::new(), &text[end..]);
    while let Some(operation) = rest.chars().next() {
        let length = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |next| next + 1);
        let permissions = permissions(&rest[1..length])?;
        found.push(Clause { who, operation, permissions });
        rest = &rest[length..];
    }
    Some(found)
}

fn permissions(text: &str) -> Option<Permissions> {
    match text {
        "u" => return Some(Permissions::Of(6)),
        "g" => return Some(Permissions::Of(3)),
        "o" => return Some(Permissions::Of(0)),
        _ => {}
    }
    let (mut bits, mut conditional) = (0, false);
    for letter in text.chars() {
        bits |= match letter {
            'r' => 0o444,
            'w' => 0o222,
            'x' => 0o111,
            's' => 0o6000,
            't' => 0o1000,
            'X' => {
                conditional = true;
                0
            }
            _ => return None,
        };
    }
    Some(Permissions::Bits(bits, conditional))
}

impl Clause {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let bits = match self.permissions {
            Permissions::Of(shift) => (mode >> shift & 7) * 0o111,
            Permissions::Bits(bits, true) if is_directory || mode & 0o111 != 0 => bits | 0o111,
            Permissions::Bits(bits, _) => bits,
        };
        let bits = bits & self.who;
        match self.operation {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => mode & !self.who | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_chmod_does() {
        let apply = |text: &str, mode, directory| ModeChange::parse(text).unwrap().unwrap().apply(mode, directory);
        for (text, mode, directory, expected) in [
            ("0755", 0o600, false, 0o755),
            ("u+x", 0o644, false, 0o744),
            ("go-r", 0o644, false, 0o600),
            ("a=rX", 0o644, false, 0o444),
            ("a=rX", 0o744, false, 0o555),
            ("a=rX", 0o700, true, 0o555),
            ("u=rwx,g=u,o=", 0o604, false, 0o770),
            ("+x", 0o644, false, 0o755),
            ("u+s,g+s,+t", 0o755, false, 0o7755),
            ("u+x-w", 0o644, false, 0o544),
            ("g=o", 0o741, false, 0o711),
        ] {
            assert_eq!(apply(text, mode, directory), expected, "{text} of {mode:o}");
        }
        assert_eq!(ModeChange::parse("").unwrap(), None);
        for bad in ["17777", "8", "u", "x+u", "u+q", "u+x,,", "0o7"] {
            assert!(ModeChange::parse(bad).is_err(), "{bad}");
        }
    }
}
