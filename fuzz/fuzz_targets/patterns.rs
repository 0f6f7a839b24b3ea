//! Ignore files, matched against paths.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| build::fuzz::patterns(bytes));
