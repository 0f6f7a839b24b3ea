//! Questions on a terminal, secret ones without an echo.

use std::io::{self, BufRead};

use rustix::stdio::stdin;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::context::Context;
use crate::failure::{Failure, Result};

/// Asks for a line.
pub(crate) fn line(context: &Context, question: &str) -> Result<String> {
    context.print(question)?;
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::new(format!("read the answer: {error}")))?;
    Ok(answer.trim_end_matches(['\n', '\r']).to_owned())
}

/// Asks for a line that nobody shall see.
pub(crate) fn secret(context: &Context, question: &str) -> Result<String> {
    let quiet = Quiet::enter();
    let answer = line(context, question);
    if quiet.is_some() {
        context.print("\n")?;
    }
    answer
}

/// Keeps the terminal from echoing while it lives.
struct Quiet(Termios);

impl Quiet {
    fn enter() -> Option<Quiet> {
        let before = tcgetattr(stdin()).ok()?;
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin(), OptionalActions::Flush, &modes).ok()?;
        Some(Quiet(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore.
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.0);
    }
}
