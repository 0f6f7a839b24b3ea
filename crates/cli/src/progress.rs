//! Shows how a pull or load gets on: on a terminal one line a layer with a bar, elsewhere one line a change.

use std::io::{self, IsTerminal, Write};

use engine::PullProgress;

use crate::format::human;

/// Characters of a bar.
const WIDTH: u64 = 50;

/// The lines shown so far.
pub(crate) struct Progress {
    out: Box<dyn Write>,
    terminal: bool,
    quiet: bool,
    layers: Vec<(String, String)>,
}

impl Progress {
    /// On standard output, as `pull` has it.
    pub(crate) fn to_output(quiet: bool) -> Progress {
        let out = io::stdout();
        Progress { terminal: out.is_terminal(), out: Box::new(out), quiet, layers: Vec::new() }
    }

    /// On standard error, as `run` has it.
    pub(crate) fn to_errors(quiet: bool) -> Progress {
        let out = io::stderr();
        Progress { terminal: out.is_terminal(), out: Box::new(out), quiet, layers: Vec::new() }
    }

    /// Shows one step. That nobody reads it does not stop the work.
    pub(crate) fn show(&mut self, step: &PullProgress) {
        if self.quiet {
            return;
        }
        let text = match self.place(step) {
            Some(text) => text,
            None => return,
        };
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    /// What to write for a step; nothing if it changes nothing that is shown.
    fn place(&mut self, step: &PullProgress) -> Option<String> {
        if step.id.is_empty() {
            // Lines after it begin anew below.
            self.layers.clear();
            return Some(format!("{}\n", step.status));
        }
        // Amounts are for a terminal.
        if step.total > 0 && !self.terminal {
            return None;
        }
        let state = if self.terminal { format!("{} {}", step.status, bar(step)) } else { step.status.clone() };
        let line = format!("{}: {}", step.id, state.trim_end());
        let Some(index) = self.layers.iter().position(|(id, _)| *id == step.id) else {
            self.layers.push((step.id.clone(), state));
            return Some(format!("{line}\n"));
        };
        if self.layers[index].1 == state {
            return None;
        }
        self.layers[index].1 = state;
        if !self.terminal {
            return Some(format!("{line}\n"));
        }
        // Up to the line, replace it, and down again.
        let up = self.layers.len() - index;
        Some(format!("\x1b[{up}A\r\x1b[2K{line}\r\x1b[{up}B"))
    }
}

/// `[=====>     ]  1.2MB/3.4MB`, or nothing where there is nothing to count.
fn bar(step: &PullProgress) -> String {
    let PullProgress { current, total, .. } = *step;
    match (current, total) {
        (0, 0) => String::new(),
        (current, 0) => human::size(current),
        (current, total) => {
            let done = (u128::from(current.min(total)) * u128::from(WIDTH) / u128::from(total)) as usize;
            let bar = format!("{}>", "=".repeat(done.saturating_sub(1)));
            format!("[{bar:<width$}] {:>8}/{}", human::size(current), human::size(total), width = WIDTH as usize)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(id: &str, status: &str, current: u64, total: u64) -> PullProgress {
        PullProgress { id: id.into(), status: status.into(), current, total }
    }

    #[test]
    fn without_a_terminal_a_line_is_a_change_of_state() {
        let mut progress = Progress { out: Box::new(io::sink()), terminal: false, quiet: false, layers: Vec::new() };
        assert_eq!(progress.place(&step("a", "Waiting", 0, 0)).unwrap(), "a: Waiting\n");
        assert_eq!(progress.place(&step("a", "Downloading", 5, 10)), None);
        assert_eq!(progress.place(&step("a", "Pull complete", 0, 0)).unwrap(), "a: Pull complete\n");
        assert_eq!(progress.place(&step("", "Digest: x", 0, 0)).unwrap(), "Digest: x\n");
    }

    #[test]
    fn a_terminal_gets_its_line_replaced() {
        let mut progress = Progress { out: Box::new(io::sink()), terminal: true, quiet: false, layers: Vec::new() };
        progress.place(&step("a", "Waiting", 0, 0));
        progress.place(&step("b", "Waiting", 0, 0));
        let text = progress.place(&step("a", "Downloading", 5, 10)).unwrap();
        assert!(text.starts_with("\x1b[2A\r\x1b[2Ka: Downloading [") && text.ends_with("\r\x1b[2B"), "{text:?}");
        assert!(bar(&step("a", "", 10, 10)).starts_with(&format!("[{}>]", "=".repeat(49))));
    }
}
