//! The `local` driver's own format: binary frames with a checksum, so that any bytes come back as they were and damage
//! is passed over. A frame: `K`, flags (1: stderr), length (u32), time (i64, nanoseconds since 1970), bytes, CRC-32 of
//! all before; numbers little-endian.

use crate::verbs::{LogEntry, Stream};

use super::lines::LONGEST;

const MAGIC: u8 = b'K';
const HEAD: usize = 14;
const STDERR: u8 = 1;

/// Appends one entry.
pub(super) fn encode(out: &mut Vec<u8>, stream: Stream, line: &[u8], time: i64) {
    let start = out.len();
    out.extend([MAGIC, if stream == Stream::Stderr { STDERR } else { 0 }]);
    out.extend((line.len() as u32).to_le_bytes());
    out.extend(time.to_le_bytes());
    out.extend_from_slice(line);
    let sum = checksum(&out[start..]);
    out.extend(sum.to_le_bytes());
}

/// Decodes the first frame of `bytes`: how many bytes to go on by, and the entry if there is one. None: more is needed.
pub(super) fn decode(bytes: &[u8]) -> Option<(usize, Option<LogEntry>)> {
    let (&first, _) = bytes.split_first()?;
    if first != MAGIC {
        return Some((1, None));
    }
    let head = bytes.get(..HEAD)?;
    let length = u32::from_le_bytes(head[2..6].try_into().ok()?) as usize;
    if length > LONGEST + 1 || head[1] > STDERR {
        return Some((1, None));
    }
    let frame = bytes.get(..HEAD + length + 4)?;
    let (body, sum) = frame.split_at(HEAD + length);
    if checksum(body).to_le_bytes() != sum {
        return Some((1, None));
    }
    let stream = if head[1] == STDERR { Stream::Stderr } else { Stream::Stdout };
    let time = i64::from_le_bytes(head[6..14].try_into().ok()?);
    Some((frame.len(), Some(LogEntry { stream, time, bytes: body[HEAD..].to_vec(), attributes: Vec::new() })))
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    sum.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_passed_over() {
        let mut bytes = Vec::new();
        encode(&mut bytes, Stream::Stdout, b"lost\n", 1);
        bytes[HEAD] ^= 1;
        encode(&mut bytes, Stream::Stderr, b"kept \xff\n", 2);
        let mut found = Vec::new();
        let mut at = 0;
        while let Some((step, entry)) = decode(&bytes[at..]) {
            at += step;
            found.extend(entry);
        }
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].stream, found[0].bytes.as_slice()), (Stream::Stderr, &b"kept \xff\n"[..]));
    }
}
