//! Descriptors that go from the runtime's caller to the program: those of socket activation (sd_listen_fds(3)) and those of
//! `--preserve-fds`.

/// What the program inherits.
pub(crate) struct Inherited {
    /// Those that are open; a caller may promise more than it has (as with crun).
    pub(crate) descriptors: Vec<i32>,
    /// Variables that tell the program of sockets among them.
    pub(crate) variables: Vec<String>,
}

impl Inherited {
    /// Looks at the environment and the descriptors. Ours are all closed by `execve`, so none passes for the caller's.
    pub(crate) fn find(preserved: u32) -> Self {
        let listening = listening();
        if listening == 0 && preserved == 0 {
            return Self { descriptors: Vec::new(), variables: Vec::new() };
        }
        let count = i32::try_from(listening.saturating_add(preserved)).unwrap_or(i32::MAX - 3);
        let descriptors = (3..count.saturating_add(3)).filter(|number| linux::process::survives_exec(*number));
        let mut variables = Vec::new();
        if listening > 0 {
            variables.push(format!("LISTEN_FDS={listening}"));
            variables.push("LISTEN_PID=1".to_owned());
            if let Ok(names) = std::env::var("LISTEN_FDNAMES") {
                variables.push(format!("LISTEN_FDNAMES={names}"));
            }
        }
        Self { descriptors: descriptors.collect(), variables }
    }
}

/// Sockets that are for us: `LISTEN_PID` says so or is not there.
fn listening() -> u32 {
    let others = std::env::var("LISTEN_PID").is_ok_and(|pid| pid != std::process::id().to_string());
    if others { 0 } else { std::env::var("LISTEN_FDS").ok().and_then(|count| count.parse().ok()).unwrap_or(0) }
}
