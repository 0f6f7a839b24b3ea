//! Places at which a test can make the process die as if by `kill -9`, to prove that nothing is lost or leaked
//! whichever step is the last. `KISTE_FAILPOINT=NAME` dies at the first hit of that place, `NAME:N` at the N-th;
//! `NAME:stop` stops at the first (SIGSTOP), so that a test can change the world before it lets the process go on.
//! Without the variable a hit costs one comparison. `KISTE_FAILPOINT_LOG=FILE` gets a line with the name before the
//! end, so that a test can tell that it was reached. Which places there are is known where they are.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Signal;

struct Armed {
    name: String,
    at: u64,
    hits: AtomicU64,
    signal: Signal,
}

/// Dies here if the environment says so.
pub fn hit(name: &'static str) {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let Some(armed) = ARMED.get_or_init(read_environment) else { return };
    if armed.name == name && armed.hits.fetch_add(1, Ordering::Relaxed) + 1 == armed.at {
        if let Some(file) = std::env::var_os("KISTE_FAILPOINT_LOG") {
            let log = std::fs::File::options().create(true).append(true).open(file);
            let _ = log.and_then(|mut log| std::io::Write::write_all(&mut log, format!("{name}\n").as_bytes()));
        }
        let _ = rustix::process::kill_process(rustix::process::getpid(), armed.signal);
    }
}

fn read_environment() -> Option<Armed> {
    let value = std::env::var("KISTE_FAILPOINT").ok()?;
    let (name, at) = match value.split_once(':') {
        Some((name, at)) => (name, at.parse().unwrap_or(1)),
        None => (value.as_str(), 1),
    };
    let signal = if value.ends_with(":stop") { Signal::STOP } else { Signal::KILL };
    Some(Armed { name: name.to_owned(), at, hits: AtomicU64::new(0), signal })
}
