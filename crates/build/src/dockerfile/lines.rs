//! From a Dockerfile's text to logical lines: continuations joined, comments taken out, here-documents attached. What a
//! line means is read elsewhere.

use super::directives::Directives;
use super::heredoc::Heredoc;
use super::split::{self, Command};
use crate::{Error, Result, Span};

/// Longest line: BuildKit's (`bufio.MaxScanTokenSize` less one).
const LONGEST: usize = 64 * 1024 - 1;

/// One instruction as it was written.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) heredocs: Vec<Heredoc>,
    /// The comment lines right before it.
    pub(super) comments: Vec<String>,
    pub(super) span: Span,
}

/// All of a Dockerfile's.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) directives: Directives,
    pub(super) lines: Vec<Line>,
    pub(super) warnings: Vec<(String, Span)>,
}

/// Reads a whole Dockerfile.
pub(super) fn read(source: &str) -> Result<Lines> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let mut reader = Reader { physical: source.split_inclusive('\n'), number: 0, lines: Lines::default() };
    let mut comments = Vec::new();
    while let Some(physical) = reader.next()? {
        let line = physical.trim_end_matches(['\r', '\n']).trim_start();
        let directive = reader.lines.directives.take(line).map_err(|error| error.at(reader.here()))?;
        if let Some(comment) = line.strip_prefix('#') {
            remember(&mut comments, comment.trim(), directive);
            continue;
        }
        reader.logical_line(line, &mut comments)?;
    }
    if reader.lines.lines.is_empty() {
        return Err(Error::new("file with no instructions").at(Span::line(reader.number.max(1))));
    }
    Ok(reader.lines)
}

fn remember(comments: &mut Vec<String>, comment: &str, directive: bool) {
    match (directive, comment.is_empty()) {
        (true, _) => {}
        (false, true) => comments.clear(),
        (false, false) => comments.push(comment.to_owned()),
    }
}

struct Reader<'a> {
    physical: std::str::SplitInclusive<'a, char>,
    number: usize,
    lines: Lines,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<&'a str>> {
        let Some(line) = self.physical.next() else { return Ok(None) };
        self.number += 1;
        if line.len() > LONGEST {
            let message = format!("dockerfile line greater than max allowed size of {LONGEST}");
            return Err(Error::new(message).at(self.here()));
        }
        Ok(Some(line))
    }

    fn here(&self) -> Span {
        Span::line(self.number)
    }

    /// Joins what belongs to the line that starts here, and keeps it unless it is empty.
    fn logical_line(&mut self, start: &str, comments: &mut Vec<String>) -> Result<()> {
        let first = self.number;
        let escape = self.lines.directives.escape;
        let (part, mut continues) = continuation(start, escape);
        if part.is_empty() && !continues {
            return Ok(());
        }
        let (mut text, mut empty_lines) = (part.to_owned(), false);
        while continues && let Some(physical) = self.next()? {
            let physical = physical.trim_end_matches(['\r', '\n']);
            if physical.trim_start().starts_with('#') {
                continue;
            }
            if physical.trim().is_empty() {
                empty_lines = true;
                continue;
            }
            let (part, more) = continuation(physical, escape);
            text += part;
            continues = more;
        }
        if empty_lines {
            self.lines.warnings.push((format!("Empty continuation line found in: {text}"), self.here()));
        }
        let mut line = Line {
            text,
            heredocs: Vec::new(),
            comments: std::mem::take(comments),
            span: Span { first, last: self.number },
        };
        self.attach_heredocs(&mut line).map_err(|error| error.at(line.span))?;
        line.span.last = self.number;
        self.lines.lines.push(line);
        Ok(())
    }

    fn attach_heredocs(&mut self, line: &mut Line) -> Result<()> {
        if !line.text.contains("<<") || !may_have_heredocs(&line.text, self.lines.directives.escape) {
            return Ok(());
        }
        for mut document in Heredoc::all_of(&line.text)? {
            loop {
                let Some(physical) = self.next()? else { return Err(Error::new("unterminated heredoc")) };
                let bare = physical.trim_end_matches(['\r', '\n']);
                let bare = if document.chomp { bare.trim_start_matches('\t') } else { bare };
                if bare == document.name {
                    break;
                }
                document.content += physical;
            }
            line.heredocs.push(document);
        }
        Ok(())
    }
}

/// The line without its continuation mark, and whether it has one: the escape character at the end, not itself escaped,
/// perhaps followed by blanks.
fn continuation(line: &str, escape: char) -> (&str, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (line, false),
    }
}

/// Only ADD, COPY and RUN have them, also behind ONBUILD, and not in their JSON form.
fn may_have_heredocs(line: &str, escape: char) -> bool {
    let mut command = Command::split(line, escape);
    if command.name.eq_ignore_ascii_case("onbuild") {
        command = Command::split(&command.arguments, escape);
    }
    let known = ["add", "copy", "run"].iter().any(|name| command.name.eq_ignore_ascii_case(name));
    known && !matches!(split::json(&command.arguments), Ok(Some(_)))
}
