//! Requests to the API, byte by byte.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| api::fuzz::request(bytes));
