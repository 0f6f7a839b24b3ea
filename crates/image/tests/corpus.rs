//! Goes through the fuzzers' corpus and through random damage of it, without a fuzzer.

use std::path::Path;

/// An entry point of a fuzzer.
type Target = fn(&[u8]);

#[test]
fn the_corpus_and_what_random_damage_makes_of_it() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let targets: [(&str, Target); 5] = [
        ("tar", image::fuzz::tar),
        ("index", image::fuzz::index),
        ("stack", image::fuzz::stack),
        ("documents", image::fuzz::documents),
        ("reference", image::fuzz::reference),
    ];
    for (name, target) in targets {
        let mut count = 0;
        for entry in std::fs::read_dir(corpus.join(name)).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            target(&bytes);
            (0..200).for_each(|seed| target(&damaged(&bytes, seed)));
            count += 1;
        }
        assert!(count > 0, "no corpus for {name}");
    }
}

/// The bytes with a few of them changed; checksums of headers are made right again, so that damage gets beyond them.
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
        damaged[at] = match random(3) {
            0 => random(256) as u8,
            1 => damaged[at] ^ (1 << random(8)),
            _ => b'0' + random(8) as u8,
        };
    }
    let shift = damaged.len() % 512;
    for block in damaged[shift..].chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        let sum: u32 = (0..512).map(|at| if (148..156).contains(&at) { 32 } else { u32::from(block[at]) }).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    damaged
}
