//! Dockerfiles, parsed.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| build::fuzz::dockerfile(bytes));
