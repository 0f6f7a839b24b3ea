//! Detach keys: their grammar (`ctrl-p,ctrl-q`) and finding them in what is typed.

/// A sequence of keys that detaches, and how much of it has been typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    sequence: Vec<u8>,
    seen: usize,
}

impl Default for Keys {
    /// `ctrl-p,ctrl-q`.
    fn default() -> Self {
        Keys { sequence: vec![16, 17], seen: 0 }
    }
}

impl Keys {
    /// Parses comma-separated keys: a character, or `ctrl-` with a letter or one of `@ [ \ ] ^ _`. Nothing is the default.
    pub fn parse(text: &str) -> Result<Keys, String> {
        if text.is_empty() {
            return Ok(Keys::default());
        }
        let sequence = text.split(',').map(key).collect::<Option<Vec<u8>>>();
        match sequence {
            Some(sequence) => Ok(Keys { sequence, seen: 0 }),
            None => Err(format!("invalid detach keys ({text}) provided: Unknown character: '{text}'")),
        }
    }

    /// Takes typed bytes away that may belong to the sequence; says whether it is complete. Bytes held back come out
    /// in front of the next ones if they turn out not to belong to it.
    pub fn filter(&mut self, typed: &mut Vec<u8>) -> bool {
        let mut through = Vec::with_capacity(typed.len() + self.seen);
        for &byte in typed.iter() {
            if byte == self.sequence[self.seen] {
                self.seen += 1;
                if self.seen == self.sequence.len() {
                    self.seen = 0;
                    *typed = through;
                    return true;
                }
                continue;
            }
            through.extend_from_slice(&self.sequence[..self.seen]);
            self.seen = usize::from(byte == self.sequence[0] && self.sequence.len() > 1);
            if self.seen == 0 {
                through.push(byte);
            }
        }
        *typed = through;
        false
    }
}

fn key(text: &str) -> Option<u8> {
    let mut characters = text.chars();
    if let (Some(character), None) = (characters.next(), characters.next()) {
        return u8::try_from(character).ok().filter(u8::is_ascii);
    }
    let letter = text.strip_prefix("ctrl-")?;
    match letter.as_bytes() {
        [byte] if byte.is_ascii_alphabetic() => Some(byte.to_ascii_lowercase() - b'a' + 1),
        [b'@'] => Some(0),
        [b'['] => Some(27),
        [b'\\'] => Some(28),
        [b']'] => Some(29),
        [b'^'] => Some(30),
        [b'_'] => Some(31),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &mut Keys, text: &[u8]) -> (Vec<u8>, bool) {
        let mut bytes = text.to_vec();
        let complete = keys.filter(&mut bytes);
        (bytes, complete)
    }

    #[test]
    fn the_grammar_is_dockers() {
        assert_eq!(Keys::parse("ctrl-p,ctrl-q"), Ok(Keys::default()));
        assert_eq!(
            Keys::parse("a,ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_").unwrap().sequence,
            [97, 0, 27, 28, 29, 30, 31]
        );
        assert_eq!(Keys::parse(""), Ok(Keys::default()));
        for bad in ["ctrl-", "ctrl-1", "ab", "a,,b", "é"] {
            assert!(Keys::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_sequence_is_found_across_reads() {
        let mut keys = Keys::default();
        assert_eq!(typed(&mut keys, b"abc\x10"), (b"abc".to_vec(), false));
        assert_eq!(typed(&mut keys, b"\x11"), (vec![], true));
        assert_eq!(typed(&mut keys, b"x\x10\x11y"), (b"x".to_vec(), true));
    }

    #[test]
    fn what_was_held_back_comes_out_again() {
        let mut keys = Keys::default();
        assert_eq!(typed(&mut keys, b"\x10"), (vec![], false));
        assert_eq!(typed(&mut keys, b"x"), (b"\x10x".to_vec(), false));
        assert_eq!(typed(&mut keys, b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(typed(&mut keys, b"\x11"), (vec![], true));
    }

    #[test]
    fn one_key_is_a_sequence_too() {
        let mut keys = Keys::parse("q").unwrap();
        assert_eq!(typed(&mut keys, b"ab"), (b"ab".to_vec(), false));
        assert_eq!(typed(&mut keys, b"aq"), (b"a".to_vec(), true));
    }
}
