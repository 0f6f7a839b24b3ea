//! Tables of expansions: what POSIX shells and BuildKit make of them.

use super::*;

const VARIABLES: &[(&str, &str)] = &[("PWD", "/home"), ("SHELL", "bash"), ("KOREAN", "한국어"), ("NULL", "")];

fn text(source: &str) -> Result<String> {
    expand(source, &VARIABLES, Style::new('\\')).map(|expanded| expanded.text)
}

#[test]
fn plain_variables() {
    for (source, expected) in [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        ("he\\'llo", "he'llo"),
        ("he\\\\'llo'", "he\\llo"),
        ("abc\\tdef", "abctdef"),
        ("'abc\\tdef'", "abc\\tdef"),
        ("\"abc\\tdef\"", "abc\\tdef"),
        ("he$PWD", "he/home"),
        ("he${PWD}x", "he/homex"),
        ("he\\$PWD", "he$PWD"),
        ("he'$PWD'", "he$PWD"),
        ("he\"$PWD\"", "he/home"),
        ("he\"\\$PWD\"", "he$PWD"),
        ("he\\\\$PWD", "he\\/home"),
        ("he$PWD.", "he/home."),
        ("he$pwd.", "he."),
        ("he$", "he$"),
        ("he$ x", "he$ x"),
        ("he\\", "he"),
        ("$1x$23y", "xy"),
        ("$@$*$#a", "a"),
        ("안녕${KOREAN}", "안녕한국어"),
        ("x < y", "x < y"),
    ] {
        assert_eq!(text(source).unwrap(), expected, "{source}");
    }
}

#[test]
fn modifiers() {
    for (source, expected) in [
        ("${pwd:-/x}", "/x"),
        ("${PWD:-/x}", "/home"),
        ("${NULL:-x}", "x"),
        ("${NULL-x}", ""),
        ("${none-x}", "x"),
        ("${NULL+x}", "x"),
        ("${NULL:+x}", ""),
        ("${none+x}", ""),
        ("${PWD:+x}", "x"),
        ("${pwd:-${SHELL}}", "bash"),
        ("${pwd:-\"a b\"}", "a b"),
        ("${pwd:-a\\}b}", "a}b"),
        ("${PWD?gone}", "/home"),
    ] {
        assert_eq!(text(source).unwrap(), expected, "{source}");
    }
}

#[test]
fn patterns() {
    let variables: &[(&str, &str)] = &[("F", "foo.tar.gz"), ("P", "/a/b/c"), ("S", "a*b"), ("U", "한국한국")];
    let text = |source: &str| expand(source, &variables, Style::new('\\')).unwrap().text;
    for (source, expected) in [
        ("${F%.*}", "foo.tar"),
        ("${F%%.*}", "foo"),
        ("${F#*.}", "tar.gz"),
        ("${F##*.}", "gz"),
        ("${F#x}", "foo.tar.gz"),
        ("${P##*/}", "c"),
        ("${P%/*}", "/a/b"),
        ("${F/o/0}", "f0o.tar.gz"),
        ("${F//o/0}", "f00.tar.gz"),
        ("${F/.*/}", "foo"),
        ("${P//\\//-}", "-a-b-c"),
        ("${S#a\\*}", "b"),
        ("${U%국}", "한국한"),
    ] {
        assert_eq!(text(source), expected, "{source}");
    }
}

#[test]
fn errors_say_what_is_missing() {
    for (source, expected) in [
        ("${PWD", "missing '}'"),
        ("${", "missing '}'"),
        ("${}", "bad substitution"),
        ("${:x}", "bad substitution"),
        ("${PWD!x}", "unsupported modifier (!)"),
        ("${PWD:x}", "unsupported modifier (:x)"),
        ("${PWD:#x}", "unsupported modifier (:#)"),
        ("${PWD:-x", "missing '}'"),
        ("${PWD/x", "missing '/'"),
        ("${PWD/x/y", "missing '}'"),
        ("'x", "single-quote"),
        ("\"x", "double-quote"),
        ("${none?gone$SHELL}", "none: gonebash"),
        ("${NULL:?}", "NULL: is not allowed to be empty"),
        ("${none:?}", "none: is not allowed to be unset"),
        ("${PWD#\\x}", "invalid escape"),
    ] {
        let error = text(source).unwrap_err().message;
        assert!(error.contains(expected), "{source}: {error}");
    }
}

#[test]
fn words_split_after_expansion() {
    let variables: &[(&str, &str)] = &[("AB", "a b"), ("NULL", "")];
    for (source, expected) in [
        ("hello there", vec!["hello", "there"]),
        ("  x\ty  ", vec!["x", "y"]),
        ("'hello there' you", vec!["hello there", "you"]),
        ("hello\\ there", vec!["hello there"]),
        ("$AB", vec!["a", "b"]),
        ("\"$AB\"", vec!["a b"]),
        ("x$AB", vec!["xa", "b"]),
        ("$NULL", vec![]),
        ("<< EOF x", vec!["<< EOF", "x"]),
    ] {
        let words = expand(source, &variables, Style::new('\\')).unwrap().words;
        assert_eq!(words, expected, "{source}");
    }
}

#[test]
fn styles() {
    let raw = Style { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Style::new('\\') };
    let source = "'a' \"$x\" \\b ${y:-z} ${y/a/b}";
    assert_eq!(expand(source, &NoVariables, raw).unwrap().text, source);
    let heredoc = Style { plain_quotes: true, ..Style::new('\\') };
    assert_eq!(expand("it's $PWD", &VARIABLES, heredoc).unwrap().text, "it's /home");
    assert_eq!(expand("C:\\x`$PWD", &VARIABLES, Style::new('`')).unwrap().text, "C:\\x$PWD");
}

#[test]
fn tells_which_names_it_met() {
    let expanded = expand("$PWD $none ${other:-x}", &VARIABLES, Style::new('\\')).unwrap();
    assert_eq!(expanded.found.into_iter().collect::<Vec<_>>(), ["PWD"]);
    assert_eq!(expanded.missing.into_iter().collect::<Vec<_>>(), ["none", "other"]);
}

#[test]
fn deep_nesting_is_refused() {
    let source = "${a:-".repeat(10_000) + &"}".repeat(10_000);
    assert!(text(&source).is_err());
}

proptest::proptest! {
    /// Whatever comes: an answer, never a panic.
    #[test]
    fn never_panics(source in "[a-z$\\{\\}:#%/?*+'\"\\\\<>= -]{0,40}") {
        let _ = text(&source);
    }

    /// What holds nothing special stays as it is.
    #[test]
    fn plain_text_stays(source in "[a-zA-Z0-9 ./_=:-]{0,40}") {
        proptest::prop_assert_eq!(text(&source).unwrap(), source);
    }
}
