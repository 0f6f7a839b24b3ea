//! `-e`, `--env-file`, `--label`, `--label-file`: names and values from flags, files and our own environment.

use std::env;
use std::path::{Path, PathBuf};

use engine::model::Map;

use crate::failure::{ENGINE_FAILED, Failure, Result};

/// The environment: the files' lines first, then the flags', so that flags win. `NAME` alone takes our own value; if we
/// have none it stays `NAME`, which takes the image's variable away.
pub(crate) fn environment(files: &[PathBuf], flags: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        // In a file, a name that we do not have is left out altogether.
        all.extend(
            lines(file, "env")?.into_iter().filter_map(|line| Some(own_value(&line)).filter(|line| line.contains('='))),
        );
    }
    all.extend(flags.iter().map(|flag| own_value(flag)));
    Ok(all)
}

/// One `-e`: `NAME=value` or `NAME`.
pub(crate) fn variable(text: &str) -> Result<String, String> {
    match text {
        "" => Err("invalid environment variable: ".to_owned()),
        _ if text.starts_with('=') => Err(format!("invalid environment variable: {text}")),
        _ => Ok(text.to_owned()),
    }
}

/// The proxy variables that the user's `config.json` asks for (`proxies.default`), in both cases, where the container's
/// environment does not set them already.
pub(crate) fn proxies(settings: &serde_json::Value, environment: &mut Vec<String>) {
    let names = [
        ("httpProxy", "HTTP_PROXY"),
        ("httpsProxy", "HTTPS_PROXY"),
        ("ftpProxy", "FTP_PROXY"),
        ("noProxy", "NO_PROXY"),
        ("allProxy", "ALL_PROXY"),
    ];
    for (key, upper) in names {
        let Some(value) = settings["proxies"]["default"][key].as_str().filter(|value| !value.is_empty()) else {
            continue;
        };
        for name in [upper.to_owned(), upper.to_ascii_lowercase()] {
            if !environment.iter().any(|line| line.split('=').next() == Some(&name)) {
                environment.push(format!("{name}={value}"));
            }
        }
    }
}

fn own_value(line: &str) -> String {
    match env::var(line) {
        Ok(value) if !line.contains('=') => format!("{line}={value}"),
        _ => line.to_owned(),
    }
}

/// The labels: files first, flags win.
pub(crate) fn labels(files: &[PathBuf], flags: Vec<(String, String)>) -> Result<Map<String>> {
    let mut all = Map::new();
    for file in files {
        for line in lines(file, "label")? {
            let (key, value) = line.split_once('=').unwrap_or((&line, ""));
            all.insert(key.to_owned(), value.to_owned());
        }
    }
    all.extend(flags);
    Ok(all)
}

/// The lines of a file that are neither empty nor comments, checked as Docker checks them.
fn lines(file: &Path, what: &str) -> Result<Vec<String>> {
    let failure =
        |why: String| Failure::new(format!("invalid {what} file ({}): {why}", file.display())).coded(ENGINE_FAILED);
    let bytes = std::fs::read(file)
        .map_err(|error| Failure::new(format!("open {}: {error}", file.display())).coded(ENGINE_FAILED))?;
    let text = String::from_utf8(bytes).map_err(|_| failure("invalid utf8 bytes".into()))?;
    let mut lines = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() {
            return Err(failure(format!("no variable name on line '{}': {line}", number + 1)));
        }
        if name.contains(char::is_whitespace) {
            return Err(failure(format!("variable '{name}' contains whitespaces")));
        }
        lines.push(line.to_owned());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn names_alone_take_our_own_value() {
        let home = format!("HOME={}", env::var("HOME").unwrap());
        let file = file("# comment\n\nA=1\n  HOME\nKISTE_SURELY_UNSET\nB=x y#z\n");
        let env =
            environment(&[file.path().into()], &["HOME".into(), "KISTE_SURELY_UNSET".into(), "A=2".into()]).unwrap();
        assert_eq!(env, ["A=1", home.as_str(), "B=x y#z", home.as_str(), "KISTE_SURELY_UNSET", "A=2"]);
    }

    #[test]
    fn damaged_files_are_named() {
        for (text, why) in
            [("a b=c\n", "variable 'a b' contains whitespaces"), ("=x\n", "no variable name on line '1': =x")]
        {
            let failure = environment(&[file(text).path().into()], &[]).unwrap_err();
            assert_eq!(failure.code, 125);
            assert!(failure.message.ends_with(why), "{}", failure.message);
        }
        assert!(environment(&["/nonexistent".into()], &[]).is_err());
        assert!(variable("=x").is_err() && variable("").is_err() && variable("x=").is_ok());
    }

    #[test]
    fn proxies_come_from_the_configuration_and_yield_to_flags() {
        let settings =
            serde_json::json!({"proxies": {"default": {"httpProxy": "http://p:1", "noProxy": "", "bogus": "x"}}});
        let mut environment = vec!["http_proxy=mine".to_owned()];
        proxies(&settings, &mut environment);
        assert_eq!(environment, ["http_proxy=mine", "HTTP_PROXY=http://p:1"]);
    }

    #[test]
    fn label_flags_win_over_files() {
        let labels = labels(&[file("a=1\nb\n").path().into()], vec![("a".into(), "2".into())]).unwrap();
        assert_eq!(labels, Map::from([("a".into(), "2".into()), ("b".into(), String::new())]));
    }
}
