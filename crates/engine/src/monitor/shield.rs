//! Keeps the kernel from ending the monitor instead of the container when memory runs out. What the monitor starts does
//! not inherit that: it is lowered before each start. Needs CAP_SYS_RESOURCE; without it nothing changes.

use std::fs;
use std::sync::OnceLock;

const FILE: &str = "/proc/self/oom_score_adj";
/// One above "never": if nothing else is left, the monitor goes too.
const SHIELDED: &str = "-999";

static INHERITED: OnceLock<String> = OnceLock::new();

/// Notes the score that was inherited, which the container is to get.
pub(super) fn remember() {
    if let Ok(score) = fs::read_to_string(FILE) {
        let _ = INHERITED.set(score);
    }
}

/// From now on the kernel looks elsewhere first.
pub(super) fn raise() {
    if INHERITED.get().is_some() {
        let _ = fs::write(FILE, SHIELDED);
    }
}

/// Back to the inherited score, because something is about to be started.
pub(super) fn lower() {
    if let Some(score) = INHERITED.get() {
        let _ = fs::write(FILE, score);
    }
}
