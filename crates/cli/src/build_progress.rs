//! What a build shows while it works: lines in BuildKit's plain form, bars on a terminal, or BuildKit's JSON; and the
//! lines of the Dockerfile that an error points at.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use base64::Engine as _;
use build::{Event, Span};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::context::say;
use crate::failure::{Failure, Result};

/// Lines of a failed step's output that are shown again at the end.
const SHOWN_AGAIN: usize = 20;

/// How the progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One line for each thing that happens.
    Plain,
    /// A line for each step that changes in place.
    Terminal,
    /// BuildKit's status messages, one a line.
    RawJson,
    /// Not at all.
    Quiet,
}

impl Mode {
    /// `--progress`
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let terminal = io::stderr().is_terminal();
        match text {
            "auto" | "" => Ok(if terminal { Mode::Terminal } else { Mode::Plain }),
            "plain" => Ok(Mode::Plain),
            "tty" if terminal => Ok(Mode::Terminal),
            "tty" => Err(Failure::new("failed to get console: standard error is no terminal")),
            "rawjson" => Ok(Mode::RawJson),
            "quiet" | "none" => Ok(Mode::Quiet),
            other => {
                Err(Failure::new(format!("invalid progress mode {other}: try auto, plain, tty, rawjson or quiet")))
            }
        }
    }
}

/// One step as it is shown.
struct Step {
    digest: String,
    name: String,
    begun: Instant,
    started: String,
    bar: Option<ProgressBar>,
    /// Output without its end of line yet.
    partial: Vec<u8>,
    /// The last lines of output.
    lines: Vec<String>,
}

/// The display.
pub(crate) struct Display {
    mode: Mode,
    steps: HashMap<usize, Step>,
    bars: Option<MultiProgress>,
    /// The step that spoke last.
    last: usize,
    failed: Option<usize>,
}

impl Display {
    /// Shows nothing yet.
    pub(crate) fn new(mode: Mode) -> Self {
        let bars = (mode == Mode::Terminal).then(MultiProgress::new);
        Display { mode, steps: HashMap::new(), bars, last: 0, failed: None }
    }

    /// Shows an event.
    pub(crate) fn show(&mut self, event: &Event) {
        if let Event::Began { step, digest, name } = event {
            let bar = self.bars.as_ref().map(|bars| bars.add(bar(*step, name)));
            let started = jiff::Timestamp::now().to_string();
            let (digest, name) = (digest.clone(), name.clone());
            let begun = Instant::now();
            let new = Step { digest, name, begun, started, bar, partial: Vec::new(), lines: Vec::new() };
            self.steps.insert(*step, new);
        }
        if let Event::Failed { step, message } = event
            && message != "context canceled"
        {
            self.failed = Some(*step);
        }
        match self.mode {
            Mode::Quiet => {}
            Mode::Plain => self.plain(event),
            Mode::Terminal => self.on_terminal(event),
            Mode::RawJson => self.json(event),
        }
    }

    /// Nothing more comes.
    pub(crate) fn end(&mut self) {
        for step in self.steps.values_mut() {
            step.bar.take().into_iter().for_each(|bar| bar.abandon());
        }
    }

    /// The end of what a failed step wrote, where it is not on the screen.
    pub(crate) fn last_lines_of_failed(&self) -> Option<String> {
        let step = self.steps.get(&self.failed?)?;
        if self.mode != Mode::Terminal || step.lines.is_empty() {
            return None;
        }
        let rule = "-".repeat(6);
        Some(format!("{rule}\n > {}:\n{}\n{rule}\n", step.name, step.lines.join("\n")))
    }

    fn plain(&mut self, event: &Event) {
        match event {
            Event::Began { step, name, .. } => self.line(*step, name.lines().next().unwrap_or_default()),
            Event::Cached { step } => self.line(*step, "CACHED"),
            Event::Output { step, bytes, .. } => {
                for (seconds, line) in self.lines(*step, bytes) {
                    self.line(*step, &format!("{seconds:.3} {line}"));
                }
            }
            Event::Progress { step, part, total, done: true, .. } => {
                self.line(*step, &format!("{part} {total}B done"));
            }
            Event::Done { step, seconds } => {
                self.rest(*step);
                self.line(*step, &format!("DONE {seconds:.1}s"));
            }
            Event::Failed { step, message } => {
                self.rest(*step);
                self.line(*step, &format!("ERROR: {message}"));
            }
            Event::Progress { .. } | Event::Warning(_) => {}
        }
    }

    fn line(&mut self, step: usize, text: &str) {
        let gap = if self.last != 0 && self.last != step { "\n" } else { "" };
        self.last = step;
        say(&format!("{gap}#{step} {text}\n"));
    }

    /// The whole lines that a step has written now, and when.
    fn lines(&mut self, step: usize, bytes: &[u8]) -> Vec<(f64, String)> {
        let Some(step) = self.steps.get_mut(&step) else { return Vec::new() };
        step.partial.extend_from_slice(bytes);
        let (seconds, mut lines) = (step.begun.elapsed().as_secs_f64(), Vec::new());
        while let Some(end) = step.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = step.partial.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            step.lines.push(line.clone());
            lines.push((seconds, line));
        }
        let spare = step.lines.len().saturating_sub(SHOWN_AGAIN);
        step.lines.drain(..spare);
        lines
    }

    fn rest(&mut self, step: usize) {
        if self.steps.get(&step).is_some_and(|step| !step.partial.is_empty()) {
            for (seconds, line) in self.lines(step, b"\n") {
                self.line(step, &format!("{seconds:.3} {line}"));
            }
        }
    }

    fn on_terminal(&mut self, event: &Event) {
        let (step, mark, text) = match event {
            Event::Output { step, bytes, .. } => {
                let last = self.lines(*step, bytes).pop().map(|(_, line)| line);
                let bar = self.steps.get(step).and_then(|step| step.bar.as_ref());
                if let (Some(bar), Some(line)) = (bar, last) {
                    // What would move the cursor is left out.
                    bar.set_prefix(line.chars().filter(|letter| !letter.is_control()).collect::<String>());
                }
                return;
            }
            Event::Progress { step, part, current, total, .. } => {
                if let Some(bar) = self.steps.get(step).and_then(|step| step.bar.as_ref()) {
                    bar.set_prefix(format!("{part} {current}/{total}"));
                }
                return;
            }
            Event::Cached { step } => (step, "CACHED ", String::new()),
            Event::Done { step, .. } => (step, "", String::new()),
            Event::Failed { step, message } => {
                (step, "ERROR ", format!(": {}", message.lines().next().unwrap_or_default()))
            }
            Event::Began { .. } | Event::Warning(_) => return,
        };
        let Some(step) = self.steps.get_mut(step) else { return };
        if let Some(bar) = step.bar.take() {
            bar.set_prefix("");
            bar.finish_with_message(format!("{mark}{}{text}", step.name.lines().next().unwrap_or_default()));
        }
    }

    fn json(&self, event: &Event) {
        let now = jiff::Timestamp::now().to_string();
        let vertex = |step: &usize, more: Value| {
            let Some(step) = self.steps.get(step) else { return Value::Null };
            let mut vertex = json!({"digest": step.digest, "name": step.name, "started": step.started});
            more.as_object().into_iter().flatten().for_each(|(key, value)| vertex[key] = value.clone());
            json!({"vertexes": [vertex]})
        };
        let digest = |step: &usize| self.steps.get(step).map(|step| step.digest.clone()).unwrap_or_default();
        let message = match event {
            Event::Began { step, .. } => vertex(step, json!({})),
            Event::Cached { step } => vertex(step, json!({"completed": now, "cached": true})),
            Event::Done { step, .. } => vertex(step, json!({"completed": now})),
            Event::Failed { step, message } => vertex(step, json!({"completed": now, "error": message})),
            Event::Output { step, stream, bytes } => {
                let data = base64::engine::general_purpose::STANDARD.encode(bytes);
                json!({"logs": [{"vertex": digest(step), "stream": stream, "data": data, "timestamp": now}]})
            }
            Event::Progress { step, part, current, total, done } => {
                let mut status =
                    json!({"id": part, "vertex": digest(step), "current": current, "total": total, "timestamp": now});
                if *done {
                    status["completed"] = json!(now);
                }
                json!({"statuses": [status]})
            }
            Event::Warning(warning) => {
                let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
                let line = warning.span.map_or(0, |span| span.first);
                json!({"warnings": [{
                    "level": 1,
                    "short": encode(&format!("{}: {} (line {line})", warning.rule, warning.message)),
                    "detail": [encode(warning.description)],
                    "url": warning.url,
                }]})
            }
        };
        say(&format!("{message}\n"));
    }
}

fn bar(step: usize, name: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let template = " => {wide_msg} {elapsed:>5}\n    {prefix:.dim}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    bar.set_style(style);
    bar.set_message(format!("#{step} {}", name.lines().next().unwrap_or_default()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
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
