//! What a build context leaves out: `.dockerignore` files and the patterns of `--exclude`, with the semantics of
//! moby/patternmatcher: Go's `filepath.Match` plus `**`, the last matching pattern decides, `!` takes back, a pattern
//! that matches a directory matches all below it. Not those of gitignore. Walking the context is left to others.

use regex::Regex;

use crate::{Error, Result};

/// The patterns of a `.dockerignore` file, cleaned: without comments, empty lines, and leading slashes.
pub fn read(content: &str) -> Vec<String> {
    let content = content.strip_prefix('\u{feff}').unwrap_or(content);
    let lines = content.lines().filter(|line| !line.starts_with('#')).map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (mark, pattern) = line.strip_prefix('!').map_or(("", line), |rest| ("!", rest.trim()));
            if pattern.is_empty() {
                return mark.to_owned();
            }
            let pattern = clean(pattern);
            let relative = pattern.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&pattern);
            format!("{mark}{relative}")
        })
        .collect()
}

/// Patterns, ready to match.
#[derive(Debug, Default)]
pub struct Matcher {
    patterns: Vec<Pattern>,
}

/// Which patterns matched a directory: what its entries start from.
#[derive(Clone, Debug, Default)]
pub struct Parent(Vec<bool>);

#[derive(Debug)]
struct Pattern {
    takes_back: bool,
    /// Without wildcards, for pruning.
    prefix: String,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Regex(Regex),
}

impl Matcher {
    /// Compiles patterns; empty ones are left out.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self> {
        let patterns = patterns.iter().map(|pattern| pattern.as_ref().trim()).filter(|pattern| !pattern.is_empty());
        Ok(Matcher { patterns: patterns.map(Pattern::new).collect::<Result<_>>()? })
    }

    /// Whether there is nothing to match.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether the path (relative, `/` between names) is matched. `parent` is the answer for its directory (the
    /// default for those at the top); the answer for it, if it is a directory, comes back.
    pub fn matches(&self, path: &str, parent: &Parent) -> (bool, Parent) {
        let mut matched = false;
        let mut here = vec![false; self.patterns.len()];
        for (index, pattern) in self.patterns.iter().enumerate() {
            let inherited = parent.0.get(index).copied().unwrap_or(false);
            // What could not change the answer is not looked at: taking back what is not matched, matching again.
            here[index] = inherited || pattern.takes_back == matched && pattern.test.matches(path);
            if here[index] {
                matched = !pattern.takes_back;
            }
        }
        (matched, Parent(here))
    }

    /// Whether the path or one of its directories is matched.
    pub fn matches_deep(&self, path: &str) -> bool {
        let mut parent = Parent::default();
        let ends = path.match_indices('/').map(|(index, _)| index).chain([path.len()]);
        let mut matched = false;
        for end in ends {
            (matched, parent) = self.matches(&path[..end], &parent);
        }
        matched
    }

    /// Whether something below this matched directory may be taken back, so that it must be looked into.
    pub fn may_take_back_below(&self, directory: &str) -> bool {
        self.patterns.iter().filter(|pattern| pattern.takes_back).any(|pattern| {
            let prefix = pattern.prefix.as_str();
            below(prefix, directory) || below(directory, prefix)
        })
    }
}

/// Whether `path` is `directory` or in it. Everything is in the empty one.
fn below(path: &str, directory: &str) -> bool {
    directory.is_empty() || path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Pattern {
    fn new(source: &str) -> Result<Self> {
        let source = clean(source);
        let (takes_back, text) = source.strip_prefix('!').map_or((false, source.as_str()), |rest| (true, rest));
        if text.is_empty() {
            return Err(Error::new("illegal exclusion pattern: \"!\""));
        }
        let bad = || Error::new(format!("pattern {text:?}: syntax error in pattern"));
        if !is_valid(text) {
            return Err(bad());
        }
        let wild = text.find(['*', '?', '[', '\\']).unwrap_or(text.len());
        let prefix = match text[..wild].rfind('/') {
            _ if wild == text.len() => text,
            Some(slash) => &text[..slash],
            None => "",
        };
        Ok(Pattern { takes_back, prefix: prefix.to_owned(), test: Test::new(text).ok_or_else(bad)? })
    }
}

impl Test {
    /// None if the regular expression that it becomes is wrong.
    fn new(text: &str) -> Option<Self> {
        let is_wild = |text: &str| text.contains(['*', '?', '[', ']', '\\']);
        if !is_wild(text) {
            return Some(Test::Exact(text.to_owned()));
        }
        if let Some(start) = text.strip_suffix("**").filter(|start| !start.is_empty() && !is_wild(start)) {
            return Some(Test::Prefix(start.to_owned()));
        }
        if let Some(end) = text.strip_prefix("**").filter(|end| end.len() > 1 && !is_wild(end)) {
            return Some(Test::Suffix(end.to_owned()));
        }
        Regex::new(&regex(text)).ok().map(Test::Regex)
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Test::Exact(text) => path == text,
            Test::Prefix(start) => path.starts_with(start.as_str()),
            // `**/name` is also `name` at the top.
            Test::Suffix(end) => path.ends_with(end.as_str()) || end.strip_prefix('/') == Some(path),
            Test::Regex(regex) => regex.is_match(path),
        }
    }
}

/// A name as a pattern that matches nothing else.
pub(crate) fn escape(name: &str) -> String {
    let special = |letter: char| matches!(letter, '*' | '?' | '[' | '\\');
    name.chars().flat_map(|letter| special(letter).then_some('\\').into_iter().chain([letter])).collect()
}

/// One name of a path as Go's `filepath.Match` reads it: `**` is no more than `*`.
pub(crate) fn name_regex(name: &str) -> Option<Regex> {
    let mut single = name.to_owned();
    while single.contains("**") {
        single = single.replace("**", "*");
    }
    Regex::new(&regex(&single)).ok().filter(|_| is_valid(name))
}

/// The pattern as a regular expression.
fn regex(text: &str) -> String {
    let mut out = "(?s)^".to_owned();
    let mut letters = text.chars().peekable();
    let mut class = false;
    while let Some(letter) = letters.next() {
        match letter {
            _ if class => {
                class = letter != ']';
                // These have a meaning in classes of ours only.
                let escape = if matches!(letter, '[' | '&' | '~') { "\\" } else { "" };
                out += escape;
                out.push(letter);
                if letter == '\\' {
                    out.extend(letters.next());
                }
            }
            '*' if letters.next_if_eq(&'*').is_some() => {
                letters.next_if_eq(&'/');
                out += if letters.peek().is_none() { ".*" } else { "(.*/)?" };
            }
            '*' => out += "[^/]*",
            '?' => out += "[^/]",
            '[' => {
                class = true;
                out.push('[');
                out.extend(letters.next_if_eq(&'^'));
            }
            '\\' => match letters.next() {
                Some(escaped) => out += &regex::escape(escaped.encode_utf8(&mut [0; 4])),
                None => out += "\\\\",
            },
            _ => out += &regex::escape(letter.encode_utf8(&mut [0; 4])),
        }
    }
    out + "$"
}

/// Go's `filepath.Match` accepts it: classes are closed and not empty, ranges are whole, no escape at the end.
fn is_valid(text: &str) -> bool {
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let fine = match letter {
            '\\' => letters.next().is_some(),
            '[' => is_valid_class(&mut letters),
            _ => true,
        };
        if !fine {
            return false;
        }
    }
    true
}

fn is_valid_class(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    letters.next_if_eq(&'^');
    let mut ranges = 0;
    loop {
        if ranges > 0 && letters.next_if_eq(&']').is_some() {
            return true;
        }
        if !is_bound(letters) || letters.next_if_eq(&'-').is_some() && !is_bound(letters) {
            return false;
        }
        ranges += 1;
    }
}

/// One letter of a class, perhaps escaped.
fn is_bound(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    match letters.next() {
        None | Some('-' | ']') => false,
        Some('\\') => letters.next().is_some(),
        Some(_) => true,
    }
}

/// Go's `path.Clean`: no empty names, no `.`, and `..` resolved where it can be.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|last| *last != "..") => drop(names.pop()),
            ".." if rooted => {}
            name => names.push(name),
        }
    }
    match (rooted, names.is_empty()) {
        (true, _) => format!("/{}", names.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => names.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Matcher::new(&[pattern]).unwrap().matches_deep(path)
    }

    #[test]
    fn one_pattern() {
        for (pattern, path, expected) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("dir/**", "other", false),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir2/file", true),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**/file", "dir/file", true),
            ("**file", "dir/filex", false),
            ("**/file*txt", "dir/file.txt", true),
            ("**/file*.txt*", "dir/file.txt", true),
            ("**/**/*.txt", "dir/file.txt", true),
            ("**/*.txt", "dir/file.text", false),
            ("a**/*.txt", "a/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a[b-d]e", "ace", true),
            ("a[b-d]e", "aae", false),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcdef", false),
            ("abc.def", "abc.def", true),
            ("abc?def", "abcZdef", true),
            ("abc?def", "abc/def", false),
            ("a\\\\", "a\\", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "dir/dir2/foo/bar", true),
            ("abc/**", "abc", false),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("dist/**/*", "dist/x/y.js", true),
            ("docs", "docs/deep/er", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_match_decides() {
        let cases: &[(&[&str], &str, bool)] = &[
            (&["docs/**", "!docs/README.md"], "docs/README.md", false),
            (&["docs", "!docs/README.md"], "docs/README.md", false),
            (&["!docs/README.md", "docs"], "docs/README.md", true),
            (&["*", "!a", "a/b"], "a/b", true),
            (&["*", "!a"], "a/c", false),
            (&["**", "!util/docker/web"], "util/docker/web/foo", false),
            (&["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", true),
            (&["dir/**", "!dir/bar"], "dir/bar/x", false),
        ];
        for (patterns, path, expected) in cases {
            assert_eq!(Matcher::new(patterns).unwrap().matches_deep(path), *expected, "{patterns:?} {path}");
        }
    }

    #[test]
    fn bad_patterns() {
        for pattern in ["[", "[^", "[^]", "[]", "a[-]", "[a-]", "a\\", "!", "x[a"] {
            assert!(Matcher::new(&[pattern]).is_err(), "{pattern}");
        }
    }

    #[test]
    fn files() {
        let content = "\u{feff}# comment\n  # no comment\n/test1\n\n/test2\t\n!/a/./b/\n!\n/\nx/../y\n";
        assert_eq!(read(content), ["# no comment", "test1", "test2", "!a/b", "!", "/", "y"]);
    }

    #[test]
    fn pruning_is_exact() {
        let matcher = Matcher::new(&["*", "!a/b", "!c/*/d"]).unwrap();
        for (directory, expected) in
            [("a", true), ("a/b", true), ("a/c", false), ("c", true), ("c/x", true), ("d", false)]
        {
            assert_eq!(matcher.may_take_back_below(directory), expected, "{directory}");
        }
        assert!(Matcher::new(&["*", "!**/x"]).unwrap().may_take_back_below("any/where"));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(pattern in "[a-c*?\\[\\]\\\\!/.^-]{0,12}", path in "[a-c/.]{1,12}") {
            if let Ok(matcher) = Matcher::new(&[pattern]) {
                let _ = matcher.matches_deep(&path);
            }
        }
    }
}
