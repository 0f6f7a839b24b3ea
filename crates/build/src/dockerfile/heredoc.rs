//! Here-documents: which words of a line announce one. Their bodies are collected by `lines`.

use crate::words::{self, NoVariables, Style};
use crate::{Error, Result};

/// A here-document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it.
    pub name: String,
    /// Variables in it are expanded: its word was not quoted.
    pub expand: bool,
    /// `<<-`: leading tabs are removed.
    pub chomp: bool,
    /// Its lines, each with its end.
    pub content: String,
}

impl Heredoc {
    /// The content, without leading tabs if they are to go.
    pub fn text(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }

    /// Reads a word; none if it announces no here-document.
    pub(super) fn announced_by(word: &str) -> Result<Option<Self>> {
        let Some(rest) = word.trim_start_matches(|letter: char| letter.is_ascii_digit()).strip_prefix("<<") else {
            return Ok(None);
        };
        let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
        let rest = rest.trim_start();
        if rest.is_empty() || rest.contains('<') {
            return Ok(None);
        }
        let style = Style { keep_unset: true, ..Style::new('\\') };
        let plain = words::expand(rest, &NoVariables, style)?.words;
        let raw = words::expand(rest, &NoVariables, Style { raw_quotes: true, ..style })?.words;
        let ([name], [raw]) = (plain.as_slice(), raw.as_slice()) else { return Ok(None) };
        // Quotes that were taken off say: leave the content alone.
        let quotes = |text: &str| text.matches(['\'', '"']).count();
        Ok(Some(Heredoc { name: name.clone(), expand: quotes(name) == quotes(raw), chomp, content: String::new() }))
    }

    /// All that a line announces, in order.
    pub(super) fn all_of(line: &str) -> Result<Vec<Self>> {
        let style = Style { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Style::new('\\') };
        // A line that no shell could read (an open quote) announces none.
        let Ok(expanded) = words::expand(line, &NoVariables, style) else { return Ok(Vec::new()) };
        let documents = expanded.words.iter().map(|word| Heredoc::announced_by(word));
        documents.filter_map(Result::transpose).collect::<Result<_>>().map_err(|e: Error| e)
    }
}
