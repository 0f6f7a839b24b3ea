//! Archives, read to their end.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| image::fuzz::tar(bytes));
