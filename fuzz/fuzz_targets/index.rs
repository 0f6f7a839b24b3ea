//! A layer's archive and the EROFS index over it.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| image::fuzz::index(bytes));
