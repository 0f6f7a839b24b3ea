//! `features`: what this runtime can do, as JSON (runtime-spec, features.md). dockerd and containerd read it.

use super::{Call, print};
use crate::{Error, Result};

/// The document. `potentiallyUnsafeConfigAnnotations` are those that the systemd driver looks at, if it was asked for.
const FEATURES: &str = include_str!("features.json");

pub(super) fn run(call: Call<'_>) -> Result<u8> {
    match call.words.first() {
        None => print(FEATURES).map(|()| 0),
        Some(word) => Err(Error::new(format!("features: takes no arguments, got {}", word.to_string_lossy()))),
    }
}
