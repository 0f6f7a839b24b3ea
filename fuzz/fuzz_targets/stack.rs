//! Two layers, one over the other: whiteouts, opaque directories, replaced entries.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| image::fuzz::stack(bytes));
