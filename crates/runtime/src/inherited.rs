//! Descriptors that go from the runtime's caller to the program: those of socket activation (sd_listen_fds(3)) and those of
//! `--preserve-fds`.

use crate::{Error, Result};

/// What the program inherits, from descriptor 3 on.
pub(crate) struct Inherited {
    /// How many.
    pub(crate) count: u32,
    /// Variables that tell the program of sockets among them.
    pub(crate) variables: Vec<String>,
}

impl Inherited {
    /// Looks at the environment and the descriptors. To be called before anything is opened: later, a descriptor of our
    /// own might take the place of one that the caller has promised and not given.
    pub(crate) fn find(preserved: u32) -> Result<Self> {
        let listening = listening();
        let count = listening.saturating_add(preserved);
        for number in 3..count.saturating_add(3) {
            if !is_open(number) {
                return Err(Error::new(format!(
                    "unable to preserve fd {number}: bad file descriptor; the caller has not opened it"
                )));
            }
        }
        let mut variables = Vec::new();
        if listening > 0 {
            variables.push(format!("LISTEN_FDS={listening}"));
            variables.push("LISTEN_PID=1".to_owned());
            if let Ok(names) = std::env::var("LISTEN_FDNAMES") {
                variables.push(format!("LISTEN_FDNAMES={names}"));
            }
        }
        Ok(Self { count, variables })
    }
}

/// Sockets that are for us by `LISTEN_PID`.
fn listening() -> u32 {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    match number("LISTEN_PID") {
        Some(pid) if pid == std::process::id() => number("LISTEN_FDS").unwrap_or(0),
        _ => 0,
    }
}

fn is_open(number: u32) -> bool {
    let Ok(number) = i32::try_from(number) else { return false };
    // Through /proc, because a descriptor that may not be open cannot be borrowed.
    let path = format!("/proc/self/fd/{number}");
    rustix::fs::readlink(path, Vec::new()).is_ok()
}
