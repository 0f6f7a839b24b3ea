//! What a build shows while it works, in BuildKit's plain form, and the lines of the Dockerfile that an error points at.

use std::collections::HashMap;
use std::time::Instant;

use build::{Event, Span};

use crate::context::say;

/// Numbered lines on standard error.
pub(crate) struct Plain {
    quiet: bool,
    begun: HashMap<usize, Instant>,
    /// Output without its end of line yet, by step.
    partial: HashMap<usize, Vec<u8>>,
    /// The step that spoke last.
    last: usize,
}

impl Plain {
    /// Shows nothing if quiet.
    pub(crate) fn new(quiet: bool) -> Self {
        Plain { quiet, begun: HashMap::new(), partial: HashMap::new(), last: 0 }
    }

    /// Shows an event.
    pub(crate) fn show(&mut self, event: &Event) {
        if self.quiet {
            return;
        }
        match event {
            Event::Began { step, name } => {
                self.begun.insert(*step, Instant::now());
                let name = name.lines().next().unwrap_or_default();
                self.line(*step, name);
            }
            Event::Cached { step } => self.line(*step, "CACHED"),
            Event::Output { step, bytes } => self.output(*step, bytes),
            Event::Done { step, seconds } => {
                self.rest(*step);
                self.line(*step, &format!("DONE {seconds:.1}s"));
            }
            Event::Failed { step, message } => {
                self.rest(*step);
                self.line(*step, &format!("ERROR: {message}"));
            }
        }
    }

    fn line(&mut self, step: usize, text: &str) {
        let gap = if self.last != 0 && self.last != step { "\n" } else { "" };
        self.last = step;
        say(&format!("{gap}#{step} {text}\n"));
    }

    fn output(&mut self, step: usize, bytes: &[u8]) {
        let mut text = self.partial.remove(&step).unwrap_or_default();
        text.extend_from_slice(bytes);
        let seconds = self.begun.get(&step).map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            self.line(step, &format!("{seconds:.3} {}", line.trim_end()));
        }
        self.partial.insert(step, text);
    }

    fn rest(&mut self, step: usize) {
        if self.partial.get(&step).is_some_and(|text| !text.is_empty()) {
            self.output(step, b"\n");
        }
    }
}

/// The lines around an error, BuildKit's way.
pub(crate) fn pointer(name: &str, text: &str, span: Span) -> String {
    const AROUND: usize = 3;
    let rule = "-".repeat(20);
    let mut shown = format!("{name}:{}\n{rule}\n", span.first);
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if number + AROUND >= span.first && number <= span.last + AROUND {
            let mark = if (span.first..=span.last).contains(&number) { ">>>" } else { "   " };
            shown += &format!("{number:4} | {mark} {line}\n");
        }
    }
    shown + &rule + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_at_lines() {
        let text = "FROM a\nRUN b\nRUN c\n";
        let expected = "Dockerfile:2\n--------------------\n   1 |     FROM a\n   2 | >>> RUN b\n   3 |     RUN c\n--------------------\n";
        assert_eq!(pointer("Dockerfile", text, Span { first: 2, last: 2 }), expected);
    }
}
