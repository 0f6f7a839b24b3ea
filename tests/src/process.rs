//! Runs commands with a deadline and keeps what they wrote.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What a command did.
#[derive(Debug)]
pub struct Output {
    /// What was run, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// The exit code; a command that a signal ended gives 128 and the signal's number.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Panics unless the command succeeded; standard output without the final newline.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code(), 0, "{self:#?}");
        self.stdout.trim_end_matches('\n')
    }

    /// Panics unless the command ended with this code and said all these texts on standard error.
    #[track_caller]
    pub fn fails(&self, code: i32, texts: &[&str]) -> &Self {
        assert_eq!(self.code(), code, "{self:#?}");
        for text in texts {
            assert!(self.stderr.to_lowercase().contains(&text.to_lowercase()), "no {text:?} in {self:#?}");
        }
        self
    }

    /// The lines of standard output.
    pub fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }
}

/// A limit as this machine needs it: emulated ones are slower by the factor `KISTE_TEST_PATIENCE`.
pub(crate) fn patient(limit: Duration) -> Duration {
    let factor = std::env::var("KISTE_TEST_PATIENCE").ok().and_then(|factor| factor.parse().ok());
    limit * factor.unwrap_or(1)
}

/// Runs a command to its end, with nothing to read; kills it and panics when it has not ended after `limit`.
#[track_caller]
pub fn finish(command: &mut Command, input: Option<&[u8]>, limit: Duration) -> Output {
    let (shown, limit) = (format!("{command:?}"), patient(limit));
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let spawned = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|e| panic!("{shown}: {e}"));
    feed(&mut child, input);
    let stdout = collect(child.stdout.take().expect("a pipe"));
    let stderr = collect(child.stderr.take().expect("a pipe"));
    let deadline = Instant::now() + limit;
    let status = wait(&mut child, deadline);
    let text = |receiver: Receiver<Vec<u8>>, name: &str| {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(2));
        let bytes = receiver.recv_timeout(left);
        let bytes =
            bytes.unwrap_or_else(|_| panic!("{shown}: ended ({status:?}), but somebody still holds its {name} open"));
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (stdout, stderr) = (text(stdout, "standard output"), text(stderr, "standard error"));
    let Some(status) = status else { panic!("{shown}: not finished after {limit:?}\n{stdout}\n{stderr}") };
    Output { command: shown, status, stdout, stderr }
}

fn feed(child: &mut Child, input: Option<&[u8]>) {
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input.map(<[u8]>::to_vec)) {
        // The command may end without reading; that is its affair.
        std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &input));
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// How it ended; `None` if it had to be killed.
fn wait(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        if Instant::now() > deadline {
            child.kill().expect("a child can be killed");
            child.wait().expect("a killed child ends");
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Polls until `condition` gives a value; panics with `what` after `limit`.
#[track_caller]
pub fn wait_until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let limit = patient(limit);
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
