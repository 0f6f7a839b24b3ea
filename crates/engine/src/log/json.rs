//! Docker's `json-file` format, byte for byte: `{"log":"…","stream":"stdout","attrs":{…},"time":"…"}` a line
//! (moby `daemon/logger/jsonfilelog/jsonlog`).

use serde::Deserialize;

use crate::clock;
use crate::model::Map;
use crate::verbs::{LogEntry, Stream};

/// Appends one entry. `attributes` is a JSON object or empty.
pub(super) fn encode(out: &mut Vec<u8>, stream: Stream, line: &[u8], time: i64, attributes: &str) {
    out.extend_from_slice(b"{\"log\":\"");
    escape(out, line);
    out.extend_from_slice(match stream {
        Stream::Stdout => b"\",\"stream\":\"stdout\"",
        Stream::Stderr => b"\",\"stream\":\"stderr\"",
    });
    if !attributes.is_empty() {
        out.extend_from_slice(b",\"attrs\":");
        out.extend_from_slice(attributes.as_bytes());
    }
    out.extend_from_slice(b",\"time\":\"");
    out.extend_from_slice(clock::rfc3339(time).as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// JSON string contents as Docker writes them: HTML characters and line separators escaped, each invalid byte of UTF-8
/// as one replacement character. What needs no escape is copied in runs.
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        escape_text(out, chunk.valid().as_bytes());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

/// Escapes valid UTF-8.
fn escape_text(out: &mut Vec<u8>, text: &[u8]) {
    let mut plain = 0;
    let mut at = 0;
    while at < text.len() {
        let (length, escaped) = match &text[at..] {
            [b'\\', ..] => (1, *b"\\\\\0\0\0\0"),
            [b'"', ..] => (1, *b"\\\"\0\0\0\0"),
            [b'\n', ..] => (1, *b"\\n\0\0\0\0"),
            [b'\r', ..] => (1, *b"\\r\0\0\0\0"),
            [byte @ (0..=0x1f | b'<' | b'>' | b'&'), ..] => (1, hexadecimal(*byte)),
            [0xe2, 0x80, 0xa8, ..] => (3, *b"\\u2028"),
            [0xe2, 0x80, 0xa9, ..] => (3, *b"\\u2029"),
            _ => {
                at += 1;
                continue;
            }
        };
        out.extend_from_slice(&text[plain..at]);
        out.extend(escaped.into_iter().filter(|&byte| byte != 0));
        at += length;
        plain = at;
    }
    out.extend_from_slice(&text[plain..]);
}

/// `\u00XX`.
fn hexadecimal(byte: u8) -> [u8; 6] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    [b'\\', b'u', b'0', b'0', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    time: String,
    #[serde(default)]
    attrs: Map<String>,
}

/// Decodes the first entry of `bytes`: how many bytes it takes, and the entry if it is whole. None: more is needed.
pub(super) fn decode(bytes: &[u8]) -> Option<(usize, Option<LogEntry>)> {
    let end = bytes.iter().position(|&byte| byte == b'\n')? + 1;
    // A crash may have left NUL bytes, or the beginning of a line: such a line is passed over.
    let line = &bytes[..end];
    let start = line.iter().position(|&byte| byte != 0).unwrap_or(0);
    let entry = serde_json::from_slice::<Entry>(&line[start..]).ok();
    Some((end, entry.and_then(into_entry)))
}

fn into_entry(entry: Entry) -> Option<LogEntry> {
    let time = i64::try_from(entry.time.parse::<jiff::Timestamp>().ok()?.as_nanosecond()).ok()?;
    let stream = if entry.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
    Some(LogEntry { stream, time, bytes: entry.log.into_bytes(), attributes: entry.attrs.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected bytes are those of moby's `jsonlogbytes_test.go`.
    #[test]
    fn escapes_as_docker() {
        for (bytes, expected) in [
            (&b""[..], r#"{"log":"","stream":"stdout","time":"2006-01-02T15:04:05Z"}"#),
            (b"A log line\\", r#"{"log":"A log line\\","stream":"stdout","time":"2006-01-02T15:04:05Z"}"#),
            (b"A log line\r\n\t", r#"{"log":"A log line\r\n\u0009","stream":"stdout","time":"2006-01-02T15:04:05Z"}"#),
            (
                b"A < B > C & \"",
                r#"{"log":"A \u003c B \u003e C \u0026 \"","stream":"stdout","time":"2006-01-02T15:04:05Z"}"#,
            ),
            (b"\x7F\xe2\x80\xa8", "{\"log\":\"\x7f\\u2028\",\"stream\":\"stdout\",\"time\":\"2006-01-02T15:04:05Z\"}"),
            (b"a\xff\xfeb", r#"{"log":"a\ufffd\ufffdb","stream":"stdout","time":"2006-01-02T15:04:05Z"}"#),
        ] {
            let mut out = Vec::new();
            encode(&mut out, Stream::Stdout, bytes, 1_136_214_245_000_000_000, "");
            assert_eq!(String::from_utf8(out).unwrap().trim_end_matches('\n'), expected);
        }
    }

    #[test]
    fn damage_costs_only_its_own_line() {
        let mut bytes = b"{\"log\":\"torn\n\0\0\0".to_vec();
        encode(&mut bytes, Stream::Stderr, b"whole\n", 5, "{\"a\":\"b\"}");
        let (first, none) = decode(&bytes).unwrap();
        assert_eq!(none, None);
        let (_, entry) = decode(&bytes[first..]).unwrap();
        let entry = entry.unwrap();
        assert_eq!((entry.stream, entry.time, entry.bytes.as_slice()), (Stream::Stderr, 5, &b"whole\n"[..]));
        assert_eq!(entry.attributes, [("a".to_owned(), "b".to_owned())]);
    }
}
