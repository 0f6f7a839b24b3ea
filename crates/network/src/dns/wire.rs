//! DNS messages as bytes (RFC 1035, RFC 6891): reads questions, walks the records of answers, writes short answers.
//! Everything that comes in is hostile: no length is believed, no pointer followed, nothing allocated that the sender
//! chose the size of. Works in place, because an answer that is handed on changes in its number, its times to live and
//! nothing else, which no codec that decodes and encodes again can promise.

use std::net::IpAddr;

/// Bytes of the header.
pub(super) const HEADER: usize = 12;
/// What every resolver takes over UDP without extensions.
const SMALL: usize = 512;
/// As much as is sent over UDP, whatever a client says that it takes.
const LARGE: u16 = 4096;
/// Records that a message may have; more are taken for an attack.
const MAX_RECORDS: u32 = 2048;

/// Record types that something is done about.
pub(super) mod kind {
    pub(in crate::dns) const A: u16 = 1;
    pub(in crate::dns) const SOA: u16 = 6;
    pub(in crate::dns) const PTR: u16 = 12;
    pub(in crate::dns) const AAAA: u16 = 28;
    pub(in crate::dns) const OPT: u16 = 41;
}

/// Response codes (RFC 1035, 4.1.1).
pub(super) mod code {
    pub(in crate::dns) const OK: u8 = 0;
    pub(in crate::dns) const FORMAT: u8 = 1;
    pub(in crate::dns) const FAILURE: u8 = 2;
    pub(in crate::dns) const NO_NAME: u8 = 3;
    pub(in crate::dns) const NOT_IMPLEMENTED: u8 = 4;
}

const CLASS_IN: u16 = 1;
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const CHECKING_DISABLED: u16 = 0x0010;
const DNSSEC_OK: u8 = 0x80;

/// A question, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a> {
    /// The whole message.
    pub(super) bytes: &'a [u8],
    /// The name in small letters with dots, without the last one; empty: the root.
    pub(super) name: Name,
    /// Type asked for.
    pub(super) kind: u16,
    class: u16,
    /// Where the question ends.
    end: usize,
    /// Bytes that the client takes over UDP, if it said so by EDNS.
    size: Option<u16>,
    dnssec: bool,
}

/// Why a message is no question that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Too short, or itself an answer: answering could go on for ever.
    Silence,
    /// This code.
    Code(u8),
}

/// A name of at most 255 bytes, in small letters with dots.
#[derive(Clone, Copy)]
pub(super) struct Name {
    text: [u8; 256],
    length: usize,
    /// No label has bytes that look like something else as text.
    plain: bool,
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(self.bytes()))
    }
}

impl Name {
    /// As text, if it has no bytes that stand for something else there.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()).ok().filter(|_| self.plain)
    }

    fn bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// Reads the labels of a question; where the name ends. Names of questions have no pointers.
    fn read(bytes: &[u8], mut at: usize) -> Option<(Name, usize)> {
        let mut name = Name { text: [0; 256], length: 0, plain: true };
        let begin = at;
        loop {
            let length = usize::from(*bytes.get(at)?);
            at += 1;
            if length == 0 {
                return Some((name, at));
            }
            if length > 63 || at + length - begin > 254 {
                return None;
            }
            if name.length > 0 {
                name.push(b'.');
            }
            for byte in bytes.get(at..at + length)? {
                name.plain &= byte.is_ascii_graphic() && !matches!(byte, b'.' | b'/' | b'\\');
                name.push(byte.to_ascii_lowercase());
            }
            at += length;
        }
    }

    fn push(&mut self, byte: u8) {
        self.text[self.length] = byte;
        self.length += 1;
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(word(bytes, at)?) << 16 | u32::from(word(bytes, at + 2)?))
}

impl<'a> Query<'a> {
    /// Reads a message of a client.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let flags = word(bytes, 2).filter(|_| bytes.len() >= HEADER).ok_or(Refusal::Silence)?;
        if flags & RESPONSE != 0 {
            return Err(Refusal::Silence);
        }
        if flags & OPCODE != 0 {
            return Err(Refusal::Code(code::NOT_IMPLEMENTED));
        }
        Self::read_question(bytes).ok_or(Refusal::Code(code::FORMAT))
    }

    fn read_question(bytes: &'a [u8]) -> Option<Self> {
        if [word(bytes, 4)?, word(bytes, 6)?, word(bytes, 8)?] != [1, 0, 0] {
            return None;
        }
        let (name, at) = Name::read(bytes, HEADER)?;
        let (kind, class) = (word(bytes, at)?, word(bytes, at + 2)?);
        let mut query = Query { bytes, name, kind, class, end: at + 4, size: None, dnssec: false };
        let mut extensions = 0;
        walk(bytes, query.end, u32::from(word(bytes, 10)?), |record| {
            if record.kind == kind::OPT {
                extensions += 1;
                query.size = word(bytes, record.at + 2).map(|size| size.clamp(SMALL as u16, LARGE));
                query.dnssec = bytes.get(record.at + 6).is_some_and(|flags| flags & DNSSEC_OK != 0);
            }
        })?;
        (extensions <= 1).then_some(query)
    }

    /// The client's number for it.
    pub(super) fn id(&self) -> u16 {
        word(self.bytes, 0).unwrap_or(0)
    }

    /// Whether it is about the internet.
    pub(super) fn is_internet(&self) -> bool {
        self.class == CLASS_IN
    }

    /// Name, type and class as they came.
    pub(super) fn question(&self) -> &'a [u8] {
        &self.bytes[HEADER..self.end]
    }

    /// Bytes that an answer over UDP may have.
    pub(super) fn udp_limit(&self) -> usize {
        self.size.map_or(SMALL, usize::from)
    }

    /// What tells apart questions with different answers.
    pub(super) fn key(&self) -> Box<[u8]> {
        let flags = word(self.bytes, 2).unwrap_or(0) & (RECURSION_DESIRED | CHECKING_DISABLED);
        let extensions = [u8::from(self.size.is_some()), u8::from(self.dnssec)];
        let mut key = self.question().to_ascii_lowercase();
        // Type and class are no text.
        let tail = key.len() - 4;
        key[tail..].copy_from_slice(&self.question()[tail..]);
        key.extend(flags.to_be_bytes().into_iter().chain(extensions));
        key.into_boxed_slice()
    }

    /// An answer of our own. What does not fit into `limit` bytes is left out and the answer marked as truncated.
    pub(super) fn answer(&self, code: u8, records: &[Record], limit: usize) -> Vec<u8> {
        let mut reply = self.begin(code, 0);
        let tail = if self.size.is_some() { OWN_OPTIONS.len() } else { 0 };
        let mut count: u16 = 0;
        for record in records {
            let before = reply.len();
            record.write(&mut reply);
            if reply.len() + tail > limit {
                reply.truncate(before);
                reply[2] |= (TRUNCATED >> 8) as u8;
                break;
            }
            count += 1;
        }
        reply[6..8].copy_from_slice(&count.to_be_bytes());
        self.end_with_options(&mut reply);
        reply
    }

    /// An answer that only says: ask again over TCP.
    pub(super) fn truncated(&self) -> Vec<u8> {
        let mut reply = self.begin(code::OK, TRUNCATED);
        self.end_with_options(&mut reply);
        reply
    }

    fn begin(&self, code: u8, flags: u16) -> Vec<u8> {
        let asked = word(self.bytes, 2).unwrap_or(0) & (RECURSION_DESIRED | CHECKING_DISABLED);
        let flags = RESPONSE | RECURSION_AVAILABLE | asked | flags | u16::from(code);
        let mut reply = Vec::with_capacity(SMALL);
        for value in [self.id(), flags, 1, 0, 0, u16::from(self.size.is_some())] {
            reply.extend(value.to_be_bytes());
        }
        reply.extend(self.question());
        reply
    }

    fn end_with_options(&self, reply: &mut Vec<u8>) {
        if self.size.is_some() {
            reply.extend(OWN_OPTIONS);
        }
    }
}

/// Our own EDNS record: version 0, no options.
const OWN_OPTIONS: [u8; 11] = [0, 0, kind::OPT as u8, (LARGE >> 8) as u8, LARGE as u8, 0, 0, 0, 0, 0, 0];

/// An answer to a message that could not be read: its number and `code`.
pub(super) fn refusal(bytes: &[u8], code: u8) -> Vec<u8> {
    let asked = word(bytes, 2).unwrap_or(0) & (OPCODE | RECURSION_DESIRED);
    let flags = RESPONSE | asked | u16::from(code);
    [word(bytes, 0).unwrap_or(0), flags, 0, 0, 0, 0].into_iter().flat_map(u16::to_be_bytes).collect()
}

/// A record of our own about the name that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// A or AAAA.
    Address(IpAddr),
    /// PTR.
    Pointer(String),
}

/// Seconds that clients may keep our own answers. Containers come and go, and asking again costs microseconds.
const OWN_TTL: u32 = 5;

impl Record {
    fn write(&self, to: &mut Vec<u8>) {
        let (kind, data) = match self {
            Record::Address(IpAddr::V4(address)) => (kind::A, address.octets().to_vec()),
            Record::Address(IpAddr::V6(address)) => (kind::AAAA, address.octets().to_vec()),
            Record::Pointer(name) => (kind::PTR, labels(name)),
        };
        to.extend([0xC0, HEADER as u8]);
        to.extend(kind.to_be_bytes());
        to.extend(CLASS_IN.to_be_bytes());
        to.extend(OWN_TTL.to_be_bytes());
        to.extend((data.len() as u16).to_be_bytes());
        to.extend(data);
    }
}

/// A name as labels; what does not fit is cut off.
fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        if bytes.len() + label.len() > 253 {
            break;
        }
        bytes.push(label.len() as u8);
        bytes.extend(label);
    }
    bytes.push(0);
    bytes
}

/// One record on a walk.
struct Walked {
    kind: u16,
    /// Where type, class, time to live and length begin.
    at: usize,
    data: usize,
    length: usize,
}

/// Goes through `count` records from `at` on; nothing if they are malformed.
fn walk(bytes: &[u8], mut at: usize, count: u32, mut visit: impl FnMut(&Walked)) -> Option<()> {
    if count > MAX_RECORDS {
        return None;
    }
    for _ in 0..count {
        at = skip_name(bytes, at)?;
        let (kind, length) = (word(bytes, at)?, usize::from(word(bytes, at + 8)?));
        let data = at + 10;
        bytes.get(data..data + length)?;
        visit(&Walked { kind, at, data, length });
        at = data + length;
    }
    Some(())
}

/// Where a name ends; pointers are not followed.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    let begin = at;
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            0xC0.. => return bytes.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
        if at - begin > 255 {
            return None;
        }
    }
}

/// What an answer of another server says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Response code.
    pub(super) code: u8,
    /// Not all of it: ask again over TCP.
    pub(super) truncated: bool,
    /// Seconds that it may be kept; none: not at all.
    pub(super) ttl: Option<u32>,
}

/// Whether `bytes` answers the question that was sent with `id`; nothing if it does not, or is malformed.
pub(super) fn judge(bytes: &[u8], id: u16, question: &[u8]) -> Option<Verdict> {
    let flags = word(bytes, 2).filter(|_| bytes.len() >= HEADER)?;
    if word(bytes, 0)? != id || flags & RESPONSE == 0 || flags & OPCODE != 0 {
        return None;
    }
    let code = (flags & 0xF) as u8;
    let failed = !matches!(code, code::OK | code::NO_NAME);
    // A server that did not understand need not repeat the question.
    if failed && word(bytes, 4)? == 0 {
        return Some(Verdict { code, truncated: false, ttl: None });
    }
    let echoed = bytes.get(HEADER..HEADER + question.len())?;
    if word(bytes, 4)? != 1 || !echoed.eq_ignore_ascii_case(question) {
        return None;
    }
    let truncated = flags & TRUNCATED != 0;
    let (lowest, negative) = times(bytes, HEADER + question.len())?;
    let ttl = if word(bytes, 6)? > 0 && code == code::OK { lowest } else { negative };
    Some(Verdict { code, truncated, ttl: ttl.filter(|ttl| *ttl > 0 && !failed && !truncated) })
}

/// Lowest time to live of all records; how long a "no" may be kept (RFC 2308: by the zone's SOA record).
fn times(bytes: &[u8], question_end: usize) -> Option<(Option<u32>, Option<u32>)> {
    let count = [6, 8, 10].into_iter().map(|at| word(bytes, at).map(u32::from)).sum::<Option<u32>>()?;
    let (mut lowest, mut negative) = (None::<u32>, None);
    walk(bytes, question_end, count, |record| {
        let Some(ttl) = long(bytes, record.at + 4).filter(|_| record.kind != kind::OPT) else { return };
        // Above that it is to be read as zero (RFC 2181, section 8).
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        lowest = Some(lowest.map_or(ttl, |lowest| lowest.min(ttl)));
        if record.kind == kind::SOA && record.length >= 4 {
            negative = long(bytes, record.data + record.length - 4).map(|minimum| minimum.min(ttl));
        }
    })?;
    Some((lowest, negative))
}

/// Makes a kept answer, `age` seconds old, into one to this query. The question has the same length, its letters may
/// differ in case.
pub(super) fn renew(bytes: &mut [u8], query: &Query<'_>, age: u32) {
    let question = query.question();
    bytes[..2].copy_from_slice(&query.id().to_be_bytes());
    bytes[HEADER..HEADER + question.len()].copy_from_slice(question);
    let counts = [6, 8, 10].into_iter().map(|at| word(bytes, at).map_or(0, u32::from)).sum();
    let mut places = Vec::new();
    let _ = walk(bytes, HEADER + question.len(), counts, |record| {
        if record.kind != kind::OPT {
            places.push(record.at + 4);
        }
    });
    for at in places {
        let ttl = long(bytes, at).unwrap_or(0).saturating_sub(age);
        bytes[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
    }
}

/// Sets the number of a message.
pub(super) fn set_id(bytes: &mut [u8], id: u16) {
    if let Some(place) = bytes.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// The address behind a name below `in-addr.arpa` or `ip6.arpa`.
pub(super) fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(numbers) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut parts = numbers.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = parts.next()?.parse().ok()?;
        }
        return parts.next().is_none().then(|| octets.into());
    }
    let mut digits = name.strip_suffix(".ip6.arpa")?.split('.').map(|digit| match digit.len() {
        1 => u8::from_str_radix(digit, 16).ok(),
        _ => None,
    });
    let mut octets = [0; 16];
    for octet in octets.iter_mut().rev() {
        let low = digits.next()??;
        *octet = digits.next()?? << 4 | low;
    }
    digits.next().is_none().then(|| octets.into())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A question as clients send it; `edns` adds an EDNS record with that size.
    pub(in crate::dns) fn question(id: u16, name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            [id, 0x0100, 1, 0, 0, u16::from(edns.is_some())].into_iter().flat_map(u16::to_be_bytes).collect();
        bytes.extend(labels(name));
        bytes.extend(kind.to_be_bytes());
        bytes.extend(CLASS_IN.to_be_bytes());
        if let Some(size) = edns {
            bytes.extend([0, 0, kind::OPT as u8]);
            bytes.extend(size.to_be_bytes());
            bytes.extend([0; 6]);
        }
        bytes
    }

    /// An answer of a server: (type, time to live, data) each.
    pub(in crate::dns) fn response(query: &[u8], code: u8, answers: &[(u16, u32, &[u8])], soa: Option<u32>) -> Vec<u8> {
        let end = Query::read(query).unwrap().end;
        let mut bytes = query[..end].to_vec();
        bytes[2] |= 0x80;
        bytes[3] = 0x80 | code;
        bytes[6..12].copy_from_slice(&[0, answers.len() as u8, 0, u8::from(soa.is_some()), 0, 0]);
        for (kind, ttl, data) in answers {
            bytes.extend([0xC0, 12]);
            bytes.extend(kind.to_be_bytes());
            bytes.extend([0, 1]);
            bytes.extend(ttl.to_be_bytes());
            bytes.extend((data.len() as u16).to_be_bytes());
            bytes.extend(*data);
        }
        if let Some(minimum) = soa {
            bytes.extend([0, 0, kind::SOA as u8, 0, 1, 0, 0, 14, 16, 0, 22, 0, 0]);
            bytes.extend([0; 16]);
            bytes.extend(minimum.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn a_question_is_read() {
        let bytes = question(7, "Web.Example", kind::A, Some(1232));
        let query = Query::read(&bytes).unwrap();
        assert_eq!((query.id(), query.name.text(), query.kind, query.udp_limit()), (7, Some("web.example"), 1, 1232));
        let plain = question(7, "x", kind::A, None);
        assert_eq!(Query::read(&plain).unwrap().udp_limit(), 512);
        let root = question(1, "", 2, None);
        assert_eq!(Query::read(&root).unwrap().name.text(), Some(""));
    }

    #[test]
    fn malformed_questions_are_refused_and_answers_met_with_silence() {
        let good = question(7, "a.b", kind::A, None);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let refused = |bytes: &[u8]| Query::read(bytes).unwrap_err();
        assert_eq!(refused(&good[..11]), Refusal::Silence);
        assert_eq!(refused(&with(2, 0x81)), Refusal::Silence);
        assert_eq!(refused(&with(2, 0x11)), Refusal::Code(code::NOT_IMPLEMENTED));
        for bytes in [
            with(5, 0),
            with(5, 2),
            with(7, 1),
            with(11, 1),
            with(12, 0xC0),
            with(12, 64),
            with(12, 60),
            good[..good.len() - 1].to_vec(),
        ] {
            assert_eq!(refused(&bytes), Refusal::Code(code::FORMAT), "{bytes:?}");
        }
        let long = question(7, &["x".repeat(63).as_str(); 4].join("."), kind::A, None);
        assert!(Query::read(&long).is_ok_and(|query| query.name.length < 256));
    }

    #[test]
    fn strange_names_are_not_text() {
        let mut bytes = question(7, "a.b", kind::A, None);
        bytes[13] = b'/';
        assert_eq!(Query::read(&bytes).unwrap().name.text(), None);
        bytes[13] = b'.';
        assert_eq!(Query::read(&bytes).unwrap().name.text(), None);
    }

    #[test]
    fn an_own_answer_repeats_the_question_and_is_cut_to_size() {
        let bytes = question(7, "WeB", kind::A, Some(512));
        let query = Query::read(&bytes).unwrap();
        let records: Vec<Record> = (0..100).map(|n| Record::Address([10, 0, 0, n].into())).collect();
        let whole = query.answer(code::OK, &records, 65535);
        assert_eq!(whole[..12], [0, 7, 0x81, 0x80, 0, 1, 0, 100, 0, 0, 0, 1]);
        assert_eq!(whole[12..16], *b"\x03WeB");
        assert_eq!(judge(&whole, 7, query.question()).unwrap().ttl, Some(OWN_TTL));
        let cut = query.answer(code::OK, &records, query.udp_limit());
        assert!(cut.len() <= 512 && cut[2] & 2 != 0 && cut[7] > 20);
        assert!(judge(&cut, 7, query.question()).unwrap().truncated);
    }

    #[test]
    fn answers_are_judged() {
        let bytes = question(9, "db", kind::A, None);
        let query = Query::read(&bytes).unwrap();
        let judge = |answer: &[u8]| judge(answer, 9, query.question());
        let good = response(&bytes, code::OK, &[(1, 300, &[1, 2, 3, 4]), (1, 60, &[1, 2, 3, 5])], None);
        assert_eq!(judge(&good), Some(Verdict { code: 0, truncated: false, ttl: Some(60) }));
        assert_eq!(judge(&response(&bytes, code::NO_NAME, &[], Some(30))).unwrap().ttl, Some(30));
        assert_eq!(judge(&response(&bytes, code::NO_NAME, &[], None)).unwrap().ttl, None);
        assert_eq!(judge(&response(&bytes, code::FAILURE, &[], Some(30))).unwrap().ttl, None);
        assert_eq!(judge(&response(&bytes, code::OK, &[(1, u32::MAX, &[1, 2, 3, 4])], None)).unwrap().ttl, None);
        let other = question(9, "dc", kind::A, None);
        assert_eq!(judge(&response(&other, code::OK, &[], None)), None);
        assert_eq!(judge(&good[..good.len() - 1]), None);
        let mut number = good.clone();
        number[1] = 8;
        assert_eq!(judge(&number), None);
    }

    #[test]
    fn a_kept_answer_ages_and_takes_the_letters_of_the_new_question() {
        let first = question(1, "db.example", kind::A, None);
        let mut kept = response(&first, code::OK, &[(1, 300, &[1, 2, 3, 4])], Some(60));
        let second = question(2, "DB.example", kind::A, None);
        let query = Query::read(&second).unwrap();
        assert_eq!(query.key(), Query::read(&first).unwrap().key());
        renew(&mut kept, &query, 100);
        let verdict = judge(&kept, 2, query.question()).unwrap();
        assert_eq!(verdict.ttl, Some(200));
        assert_eq!(kept[HEADER + 1..HEADER + 3], *b"DB");
    }

    #[test]
    fn reversed_addresses() {
        assert_eq!(reversed("4.3.2.1.in-addr.arpa"), Some([1, 2, 3, 4].into()));
        let six = format!("1.{}d.f.ip6.arpa", "0.".repeat(29));
        assert_eq!(reversed(&six), Some("fd00::1".parse().unwrap()));
        for bad in ["3.2.1.in-addr.arpa", "5.4.3.2.1.in-addr.arpa", "256.3.2.1.in-addr.arpa", "x.ip6.arpa", "a"] {
            assert_eq!(reversed(bad), None, "{bad}");
        }
    }
}
