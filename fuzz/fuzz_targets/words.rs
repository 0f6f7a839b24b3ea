//! Words of Dockerfiles, expanded.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| build::fuzz::words(bytes));
