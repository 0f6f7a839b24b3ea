//! Raw mode of our terminal, undone by a guard, by the way through a stop (`SIGTSTP`), and by a panic.

use std::sync::{Mutex, Once, PoisonError};

use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

/// The modes to go back to; set while the terminal is raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Keeps the terminal raw while it lives.
pub(super) struct Raw(());

impl Raw {
    /// Makes the terminal raw: every key goes to the container, nothing is echoed here. `None` if input is no terminal.
    pub(super) fn enter() -> Option<Raw> {
        static HOOK: Once = Once::new();
        if !isatty(stdin()) {
            return None;
        }
        // A panic aborts, so no guard would run: the hook does what the guard does.
        HOOK.call_once(|| {
            let report = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                report(info);
            }));
        });
        enter().then_some(Raw(()))
    }

    /// Makes it raw once more, after somebody else (a shell, while we were stopped) had it.
    pub(super) fn again(&self) {
        restore();
        enter();
    }

    /// Gives it back for the time of a stop.
    pub(super) fn pause(&self) {
        restore();
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

fn enter() -> bool {
    let Ok(modes) = tcgetattr(stdin()) else { return false };
    let mut raw = modes.clone();
    raw.make_raw();
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(modes);
    tcsetattr(stdin(), OptionalActions::Drain, &raw).is_ok()
}

fn restore() {
    if let Some(modes) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // The terminal may be gone; then there is nothing to restore.
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &modes);
    }
}
