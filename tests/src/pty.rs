//! A terminal with a program on it, driven as a person would: type, read what appears, resize.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Longest that an expected text may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);

/// A pseudo terminal and the program on its other side.
pub struct Terminal {
    master: File,
    child: Child,
    screen: Arc<Screen>,
    /// How much of the screen `expect` has gone past.
    seen: usize,
}

#[derive(Default)]
struct Screen {
    text: Mutex<(Vec<u8>, bool)>,
    changed: Condvar,
}

impl Terminal {
    /// Starts a program in a session of its own whose controlling terminal is the new one, 24 by 80 characters.
    pub fn start(command: &Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pseudo terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("the other side is opened");
        let name = ptsname(&master, Vec::new()).expect("the other side has a name").into_string().expect("in ASCII");
        let slave = File::options().read(true).write(true).open(&name).expect("the other side opens");
        let copy = || slave.try_clone().expect("a descriptor can be copied");
        let child = with_terminal(command).stdin(copy()).stdout(copy()).stderr(copy()).spawn().expect("setsid(1) runs");
        let master = File::from(master);
        let screen = Arc::new(Screen::default());
        follow(master.try_clone().expect("a descriptor can be copied"), Arc::clone(&screen));
        let terminal = Terminal { master, child, screen, seen: 0 };
        terminal.resize(24, 80);
        terminal
    }

    /// Types.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("the terminal takes input");
    }

    /// Waits until a text appears after what was expected before; panics with the screen if it does not.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut guard = self.screen.text.lock().expect("no panic while reading");
        loop {
            let found = guard.0[self.seen..].windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = found {
                self.seen += at + text.len();
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let shown = String::from_utf8_lossy(&guard.0[self.seen..]).into_owned();
            assert!(!left.is_zero() && !guard.1, "{text:?} did not appear; there is {shown:?}");
            guard = self.screen.changed.wait_timeout(guard, left).expect("no panic while reading").0;
        }
    }

    /// Everything that appeared since the start.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.text.lock().expect("no panic while reading").0).into_owned()
    }

    /// Sets the size; the program gets SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("a terminal has a size");
    }

    /// Process id of the program.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the program's end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        crate::wait_until("the program on the terminal ends", PATIENCE, || child.try_wait().expect("a child"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same command, run by setsid(1): it makes standard input the controlling terminal and then executes the program in
/// its own process.
fn with_terminal(command: &Command) -> Command {
    let mut setsid = Command::new("setsid");
    setsid.arg("--ctty").arg(command.get_program()).args(command.get_args()).env("TERM", "xterm");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => setsid.env(name, value),
            None => setsid.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        setsid.current_dir(directory);
    }
    setsid
}

/// Reads until the other side is closed (EIO).
fn follow(mut master: File, screen: Arc<Screen>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let count = master.read(&mut buffer).unwrap_or(0);
            let mut text = screen.text.lock().expect("no panic while waiting");
            text.0.extend_from_slice(&buffer[..count]);
            text.1 = count == 0;
            screen.changed.notify_all();
            if count == 0 {
                return;
            }
        }
    });
}
