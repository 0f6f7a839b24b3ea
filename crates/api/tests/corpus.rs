//! Goes through the fuzzer's corpus of requests and through random damage of it, without a fuzzer.

use std::path::Path;

#[test]
fn the_corpus_and_what_random_damage_makes_of_it() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/request");
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        api::fuzz::request(&bytes);
        (0..200).for_each(|seed| api::fuzz::request(&damaged(&bytes, seed)));
        // Cut off wherever it may be.
        (0..bytes.len()).step_by(3).for_each(|length| api::fuzz::request(&bytes[..length]));
        count += 1;
    }
    assert!(count > 0, "there is no corpus");
}

/// The bytes with a few of them changed, doubled or left out.
fn damaged(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut damaged = bytes.to_vec();
    for _ in 0..=random(4) {
        let at = random(damaged.len());
        match random(4) {
            0 => damaged[at] = random(256) as u8,
            1 => damaged[at] ^= 1 << random(8),
            2 => drop(damaged.remove(at)),
            _ => damaged.insert(at, damaged[at]),
        }
    }
    damaged
}
