//! Values of D-Bus as they go over the wire (D-Bus specification, "Type System" and "Marshaling"): what the service
//! manager's methods take and answer, in the byte order of this machine, which both ends share. Nothing of what a
//! message means.

/// One value. Dictionaries are missing: nothing that is called here has one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Byte(u8),
    Bool(bool),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    F64(f64),
    Text(String),
    Path(String),
    Signature(String),
    /// The signature of the elements, and these.
    Array(String, Vec<Value>),
    Tuple(Vec<Value>),
    Variant(Box<Value>),
}

impl Value {
    /// A string.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Whatever type it has, where the receiver takes any.
    pub(super) fn variant(self) -> Self {
        Self::Variant(Box::new(self))
    }

    /// The string in it, if it is one of the three kinds of them, in a variant or not.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Path(text) | Self::Signature(text) => Some(text),
            Self::Variant(value) => value.as_text(),
            _ => None,
        }
    }

    /// Its type in the letters of the specification.
    pub(super) fn signature(&self) -> String {
        match self {
            Self::Array(element, _) => format!("a{element}"),
            Self::Tuple(values) => format!("({})", values.iter().map(Self::signature).collect::<String>()),
            Self::Byte(_) => "y".into(),
            Self::Bool(_) => "b".into(),
            Self::I16(_) => "n".into(),
            Self::U16(_) => "q".into(),
            Self::I32(_) => "i".into(),
            Self::U32(_) => "u".into(),
            Self::I64(_) => "x".into(),
            Self::U64(_) => "t".into(),
            Self::F64(_) => "d".into(),
            Self::Text(_) => "s".into(),
            Self::Path(_) => "o".into(),
            Self::Signature(_) => "g".into(),
            Self::Variant(_) => "v".into(),
        }
    }

    /// Appends it; alignment counts from the beginning of `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        pad(out, alignment(self.signature().as_bytes()[0]));
        match self {
            Self::Byte(number) => out.push(*number),
            Self::Bool(truth) => out.extend(u32::from(*truth).to_ne_bytes()),
            Self::I16(number) => out.extend(number.to_ne_bytes()),
            Self::U16(number) => out.extend(number.to_ne_bytes()),
            Self::I32(number) => out.extend(number.to_ne_bytes()),
            Self::U32(number) => out.extend(number.to_ne_bytes()),
            Self::I64(number) => out.extend(number.to_ne_bytes()),
            Self::U64(number) => out.extend(number.to_ne_bytes()),
            Self::F64(number) => out.extend(number.to_ne_bytes()),
            Self::Text(text) | Self::Path(text) => {
                out.extend((text.len() as u32).to_ne_bytes());
                out.extend(text.as_bytes());
                out.push(0);
            }
            Self::Signature(text) => {
                out.push(text.len() as u8);
                out.extend(text.as_bytes());
                out.push(0);
            }
            Self::Array(element, values) => encode_array(element, values, out),
            Self::Tuple(values) => values.iter().for_each(|value| value.encode(out)),
            Self::Variant(value) => {
                Self::Signature(value.signature()).encode(out);
                value.encode(out);
            }
        }
    }
}

/// The length does not count the padding before the first element.
fn encode_array(element: &str, values: &[Value], out: &mut Vec<u8>) {
    let length = out.len();
    out.extend([0; 4]);
    pad(out, alignment(element.as_bytes().first().copied().unwrap_or(b'y')));
    let start = out.len();
    values.iter().for_each(|value| value.encode(out));
    let size = ((out.len() - start) as u32).to_ne_bytes();
    out[length..length + 4].copy_from_slice(&size);
}

/// Fills up with zeros.
pub(super) fn pad(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment), 0);
}

fn alignment(kind: u8) -> usize {
    match kind {
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b's' | b'o' | b'a' => 4,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 1,
    }
}

/// Values may lie in one another so often (the specification's limit of arrays and of structures together).
const DEPTH: usize = 64;

/// Reads values of the given types; `None` if the bytes are not such values. What follows them is left alone.
pub(super) fn decode(signature: &str, bytes: &[u8], start: usize) -> Option<Vec<Value>> {
    let mut reader = Reader { bytes, at: start };
    let (mut rest, mut values) = (signature.as_bytes(), Vec::new());
    while !rest.is_empty() {
        let (one, after) = split(rest)?;
        values.push(reader.value(one, DEPTH)?);
        rest = after;
    }
    Some(values)
}

/// The first whole type of a signature, and the rest.
fn split(signature: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut open = 0;
    for (index, letter) in signature.iter().enumerate() {
        match letter {
            b'(' | b'{' => open += 1,
            b')' | b'}' => open -= 1,
            _ => {}
        }
        if open < 0 {
            return None;
        }
        if open == 0 && *letter != b'a' {
            return Some(signature.split_at(index + 1));
        }
    }
    None
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, kind: &[u8], depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        self.at = self.at.checked_next_multiple_of(alignment(*kind.first()?))?;
        Some(match kind[0] {
            b'y' => Value::Byte(self.take::<1>()?[0]),
            b'b' => Value::Bool(u32::from_ne_bytes(self.take()?) != 0),
            b'n' => Value::I16(i16::from_ne_bytes(self.take()?)),
            b'q' => Value::U16(u16::from_ne_bytes(self.take()?)),
            b'i' => Value::I32(i32::from_ne_bytes(self.take()?)),
            b'u' => Value::U32(u32::from_ne_bytes(self.take()?)),
            b'x' => Value::I64(i64::from_ne_bytes(self.take()?)),
            b't' => Value::U64(u64::from_ne_bytes(self.take()?)),
            b'd' => Value::F64(f64::from_ne_bytes(self.take()?)),
            b's' => Value::Text(self.long_text()?),
            b'o' => Value::Path(self.long_text()?),
            b'g' => Value::Signature(self.short_text()?),
            b'a' => self.array(&kind[1..], depth)?,
            b'(' | b'{' => self.tuple(&kind[1..kind.len().checked_sub(1)?], depth)?,
            b'v' => {
                let signature = self.short_text()?;
                let (one, rest) = split(signature.as_bytes())?;
                Value::Variant(Box::new(rest.is_empty().then(|| self.value(one, depth))??))
            }
            _ => return None,
        })
    }

    fn array(&mut self, element: &[u8], depth: usize) -> Option<Value> {
        let length = u32::from_ne_bytes(self.take()?) as usize;
        self.at = self.at.checked_next_multiple_of(alignment(*element.first()?))?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let mut values = Vec::new();
        while self.at < end {
            let before = self.at;
            values.push(self.value(element, depth)?);
            (self.at > before && self.at <= end).then_some(())?;
        }
        Some(Value::Array(String::from_utf8(element.to_vec()).ok()?, values))
    }

    fn tuple(&mut self, mut kinds: &[u8], depth: usize) -> Option<Value> {
        let mut values = Vec::new();
        while !kinds.is_empty() {
            let (one, rest) = split(kinds)?;
            values.push(self.value(one, depth)?);
            kinds = rest;
        }
        Some(Value::Tuple(values))
    }

    fn long_text(&mut self) -> Option<String> {
        let length = u32::from_ne_bytes(self.take()?);
        self.characters(length as usize)
    }

    fn short_text(&mut self) -> Option<String> {
        let [length] = self.take()?;
        self.characters(length.into())
    }

    /// And the zero behind them.
    fn characters(&mut self, length: usize) -> Option<String> {
        let text = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length + 1;
        (self.at <= self.bytes.len()).then(|| String::from_utf8(text.to_vec()).ok())?
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.bytes.get(self.at..self.at.checked_add(N)?)?;
        self.at += N;
        bytes.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(value: &Value) -> Value {
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        decode(&value.signature(), &bytes, 0).unwrap().remove(0)
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let property = |name: &str, value: Value| Value::Tuple(vec![Value::text(name), value.variant()]);
        let devices =
            Value::Array("(ss)".into(), vec![Value::Tuple(vec![Value::text("/dev/char/1:3"), Value::text("rwm")])]);
        for value in [
            Value::Byte(7),
            Value::Bool(true),
            Value::I16(-2),
            Value::U16(3),
            Value::I32(-4),
            Value::U32(5),
            Value::I64(i64::MIN),
            Value::U64(u64::MAX),
            Value::F64(0.5),
            Value::text("ä"),
            Value::Path("/org/x".into()),
            Value::Signature("a(sv)".into()),
            Value::Array("u".into(), vec![Value::U32(1), Value::U32(2)]),
            Value::Array("t".into(), Vec::new()),
            property("DeviceAllow", devices),
            Value::Array("(sv)".into(), vec![property("A", Value::Bool(false)), property("B", Value::U64(9))]),
        ] {
            assert_eq!(again(&value), value);
        }
    }

    /// From the specification's rules by hand: padding before eight-byte elements does not count as length.
    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let mut bytes = Vec::new();
        Value::Array("t".into(), vec![Value::U64(1)]).encode(&mut bytes);
        let expected = [&8u32.to_ne_bytes()[..], &[0; 4], &1u64.to_ne_bytes()].concat();
        assert_eq!(bytes, expected);
        let mut bytes = vec![0];
        Value::text("ab").encode(&mut bytes);
        assert_eq!(bytes, [&[0; 4][..], &2u32.to_ne_bytes(), b"ab\0"].concat());
    }

    #[test]
    fn malformed_bytes_are_refused() {
        let huge = u32::MAX.to_ne_bytes();
        for (signature, bytes) in [
            ("s", &huge[..]),
            ("as", &huge[..]),
            ("t", &[1, 2][..]),
            ("v", b"\x01v\0\x01v\0"),
            ("v", b"\x02ss\0"),
            ("a", &[0; 8]),
            ("(s", &[0; 8]),
            (")", &[0; 8]),
            ("?", &[0; 8]),
            ("a()", &[8, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]),
            ("g", &[1, 0xff, 0]),
        ] {
            assert_eq!(decode(signature, bytes, 0), None, "{signature}");
        }
        let nested = [&b"\x01v\0"[..]; 100].concat();
        assert_eq!(decode("v", &nested, 0), None);
    }
}
