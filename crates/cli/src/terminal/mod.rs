//! The user's terminal and the way between it and a process in a container: raw mode, window size, signals, detach
//! keys, and the relay of bytes. What the process is and how it was started is the commands' business.

pub(crate) mod prompt;
mod pump;
mod raw;
mod relay;
mod signals;

pub(crate) use engine::detach::Keys;
pub(crate) use relay::Relay;
pub(crate) use signals::Signals;

use rustix::stdio::{stdin, stdout};
use rustix::termios::{isatty, tcgetwinsize};

use crate::failure::{Failure, Result};

/// Rows and columns of the terminal, if there is one.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = [stdout(), stdin()].into_iter().find_map(|fd| tcgetwinsize(fd).ok())?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// A terminal in the container makes sense only with one on our side, if input is to come from there.
pub(crate) fn check_input(tty: bool, attach_stdin: bool) -> Result<()> {
    if tty && attach_stdin && !isatty(stdin()) {
        return Err(
            Failure::new("the input device is not a TTY").hinted("leave out -t to send input from a file or pipe")
        );
    }
    Ok(())
}
