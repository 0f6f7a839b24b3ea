//! Manifests, indexes, configurations, policies, registries.conf, challenges.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| image::fuzz::documents(bytes));
