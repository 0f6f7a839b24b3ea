//! `cargo xtask bench`: see below.
use crate::Result;
use std::path::Path;
pub(crate) fn run(_root: &Path, _arguments: &[String]) -> Result {
    Err("not yet".to_owned())
}
