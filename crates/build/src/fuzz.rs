//! Entry points for fuzzers (`fuzz/`), and for the tests that throw anything at them: bytes in, and a panic if something is
//! wrong that no bytes may bring about.

use crate::ignore::{self, Matcher, Parent};
use crate::words::{Style, expand};
use crate::{Span, dockerfile};

/// Reads a Dockerfile; what is found lies inside of it.
pub fn dockerfile(bytes: &[u8]) {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    let inside = |span: Span| assert!(span.first >= 1 && span.first <= span.last && span.last <= lines, "{span:?}");
    match dockerfile::parse(bytes) {
        Ok(file) => {
            for stage in &file.stages {
                inside(stage.span);
                stage.steps.iter().for_each(|step| inside(step.span));
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            errors.iter().filter_map(|error| error.span).for_each(inside);
        }
    }
}

/// Expands a word with some variables.
pub fn words(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let variables = [("a", "value"), ("b", ""), ("path", "/x/y.tar.gz")];
    for escape in ['\\', '`'] {
        for raw in [false, true] {
            let style = Style { raw_quotes: raw, raw_escapes: raw, keep_unset: raw, ..Style::new(escape) };
            drop(expand(&text, &variables.as_slice(), style));
        }
    }
}

/// Matches paths against the patterns of an ignore file; a whole path and its parts give the same answer.
pub fn patterns(bytes: &[u8]) {
    let Ok(matcher) = Matcher::new(&ignore::read(&String::from_utf8_lossy(bytes))) else { return };
    let (mut parent, mut matched) = (Parent::default(), false);
    for path in ["a", "a/b", "a/b/c.log"] {
        (matched, parent) = matcher.matches(path, &parent);
    }
    assert_eq!(matched, matcher.matches_deep("a/b/c.log"));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), text in "[FROMRUNCPYADENVLB a-c${}:#%/+?=<>\\\\`\"'\\[\\]*!.\n-]{0,200}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                super::dockerfile(bytes);
                super::words(bytes);
                super::patterns(bytes);
            }
        }
    }
}
