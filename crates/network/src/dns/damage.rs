//! What random bytes, and random damage of real messages, do to the reading of messages: nothing but a refusal. Names in
//! damaged messages point anywhere, themselves included.

use proptest::collection::vec;
use proptest::prelude::*;

use super::wire::tests::{question, response};
use super::wire::{Query, Record, Refusal, judge, kind, refusal, renew, reversed};

/// Bytes as they come from the wire: overwritten, with pointers of compression (RFC 1035, section 4.1.4), cut off.
fn damaged(mut bytes: Vec<u8>, marks: &[(prop::sample::Index, u8, bool)], end: prop::sample::Index) -> Vec<u8> {
    for (place, value, pointer) in marks {
        let at = place.index(bytes.len());
        bytes[at] = if *pointer { 0xC0 } else { *value };
    }
    bytes.truncate(end.index(bytes.len()) + 1);
    bytes
}

/// Everything that is done with a question; what is answered must be an answer to it.
fn ask(bytes: &[u8]) {
    match Query::read(bytes) {
        Ok(query) => {
            query.name.text().map(reversed);
            let records = [Record::Address([10, 0, 0, 1].into()), Record::Pointer("web.front".to_owned())];
            for limit in [0, 512, 65_535] {
                let answer = query.answer(0, &records, limit);
                assert!(judge(&answer, query.id(), query.question()).is_some(), "{bytes:?}: {answer:?}");
            }
            assert!(judge(&query.truncated(), query.id(), query.question()).unwrap().truncated);
            assert!(query.udp_limit() >= 512 && query.key().len() <= bytes.len() + 8);
        }
        Err(Refusal::Code(code)) => assert_eq!(refusal(bytes, code).len(), 12),
        Err(Refusal::Silence) => {}
    }
}

/// Everything that is done with another server's answer.
fn hear(bytes: &[u8], query: &Query<'_>) {
    if judge(bytes, query.id(), query.question()).is_some_and(|verdict| verdict.ttl.is_some()) {
        let mut kept = bytes.to_vec();
        renew(&mut kept, query, 7);
        assert_eq!(kept.len(), bytes.len());
        assert!(judge(&kept, query.id(), query.question()).is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_no_harm(bytes in vec(any::<u8>(), 0..2000)) {
        ask(&bytes);
        let asked = question(7, "web.example", kind::A, None);
        hear(&bytes, &Query::read(&asked).unwrap());
    }

    #[test]
    fn damaged_messages_are_no_harm(
        marks in vec(any::<(prop::sample::Index, u8, bool)>(), 0..6),
        end: prop::sample::Index,
        edns in proptest::option::of(any::<u16>()),
        ttl: u32,
    ) {
        let asked = question(7, "web.example", kind::A, edns);
        ask(&damaged(asked.clone(), &marks, end));
        let query = Query::read(&asked).unwrap();
        let told = response(&asked, 0, &[(kind::A, ttl, &[10, 0, 0, 1]), (5, ttl, &[0xC0, 12])], Some(ttl));
        hear(&damaged(told, &marks, end), &query);
    }
}
