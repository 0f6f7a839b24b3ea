//! Shell patterns, as the filters over image names have them.

/// Shell patterns as Go's `path.Match` has them: `*` and `?` do not cross a `/`, `[a-z]` and `[^a-z]` are sets, a
/// backslash quotes. A malformed pattern matches nothing.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    glob_at(&pattern, &text)
}

fn glob_at(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', rest @ ..] => {
            let reach = text.iter().position(|&c| c == '/').unwrap_or(text.len());
            (0..=reach).any(|skip| glob_at(rest, &text[skip..]))
        }
        [first, rest @ ..] => {
            let Some((&c, after)) = text.split_first() else { return false };
            match (first, rest) {
                ('?', _) => c != '/' && glob_at(rest, after),
                ('[', _) => set(rest, c).is_some_and(|rest| glob_at(rest, after)),
                ('\\', [quoted, rest @ ..]) => *quoted == c && glob_at(rest, after),
                _ => *first == c && glob_at(rest, after),
            }
        }
    }
}

/// What follows the set that `pattern` begins within, if the set has `c`.
fn set(pattern: &[char], c: char) -> Option<&[char]> {
    let end = pattern.iter().skip(1).position(|&p| p == ']')? + 1;
    let (negated, members) = match &pattern[..end] {
        ['^', members @ ..] => (true, members),
        members => (false, members),
    };
    let mut found = false;
    let mut members = members;
    while let Some((&first, rest)) = members.split_first() {
        members = match rest {
            ['-', last, rest @ ..] => {
                found |= (first..=*last).contains(&c);
                rest
            }
            _ => {
                found |= first == c;
                rest
            }
        };
    }
    (found != negated && c != '/').then(|| &pattern[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stay_within_a_segment() {
        assert!(glob("busy*", "busybox"));
        assert!(glob("*/app:?.?", "corp/app:1.2"));
        assert!(!glob("busy*", "busybox/other"));
        assert!(glob("a[0-9]c", "a5c") && !glob("a[^0-9]c", "a5c"));
        assert!(!glob("a[", "a["));
        assert!(glob(r"a\*", "a*"));
    }
}
