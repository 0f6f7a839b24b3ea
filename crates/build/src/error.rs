//! The crate's error: a message and, where there is one, the place in the Dockerfile. How it is shown is left to the
//! command line.

/// Lines of a Dockerfile, from 1, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First line.
    pub first: usize,
    /// Last line.
    pub last: usize,
}

impl Span {
    /// One line.
    pub(crate) fn line(line: usize) -> Self {
        Span { first: line, last: line }
    }
}

/// What went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// One line, without the place.
    pub message: String,
    /// Where in the Dockerfile.
    pub span: Option<Span>,
    /// Exit code of the process that failed, if that was it.
    pub exit_code: Option<i32>,
    /// It was stopped: by the caller, or because another part of the build failed.
    pub cancelled: bool,
}

/// What a build ends with if not with an image.
#[derive(Clone, Debug, Default, thiserror::Error)]
#[error("{}", self.errors.first().map_or("the build failed", |error| error.message.as_str()))]
pub struct Failure {
    /// All errors of the Dockerfile, or the one of the step that failed; never empty.
    pub errors: Vec<Error>,
    /// The Dockerfile's name, for people.
    pub name: String,
    /// Its text, which the errors point into; empty if it could not be read.
    pub text: Vec<u8>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { errors: vec![error], ..Failure::default() }
    }
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a place.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Error { message: message.into(), ..Error::default() }
    }

    /// Of what was stopped.
    pub(crate) fn cancelled() -> Self {
        Error { cancelled: true, ..Error::new("context canceled") }
    }

    /// The same at a place, unless it has one already.
    pub(crate) fn at(mut self, span: Span) -> Self {
        self.span.get_or_insert(span);
        self
    }
}

/// ` (did you mean …?)` if one of the known words is at most two letters away (as BuildKit's `util/suggest`), else
/// nothing.
pub(crate) fn suggestion(word: &str, known: &[&str]) -> String {
    let (lower, mut best, mut least) = (word.to_lowercase(), None, 3);
    for candidate in known {
        let distance = edit_distance(&lower, &candidate.to_lowercase());
        if distance < least && distance > 0 {
            (best, least) = (Some(candidate), distance);
        }
    }
    best.map_or(String::new(), |word| format!(" (did you mean {word}?)"))
}

/// Levenshtein's.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, left) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, right) in to.iter().enumerate() {
            let cost = diagonal + usize::from(left != *right);
            diagonal = row[column + 1];
            row[column + 1] = cost.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_near_words_only() {
        assert_eq!(suggestion("COPPY", &["ADD", "COPY"]), " (did you mean COPY?)");
        assert_eq!(suggestion("frmo", &["from", "run"]), " (did you mean from?)");
        assert_eq!(suggestion("nothing", &["from", "run"]), "");
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }
}
