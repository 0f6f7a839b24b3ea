//! `--log-driver` and `--log-opt`: Docker's names and grammar; differently from Docker every log is bounded by default
//! (20 MiB × 5), because unbounded logs fill disks.

use crate::model::{LogConfig, Map};
use crate::{Error, Result};

/// Where the log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// Docker's JSON lines.
    JsonFile,
    /// Our own compact format.
    Local,
    /// Nowhere.
    None,
}

/// The options of a log, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) driver: Driver,
    /// Bytes at which a file is full; none: never.
    pub(crate) max_size: Option<u64>,
    /// How many files there are at most, the present one included.
    pub(crate) max_file: u32,
    /// Whether full files are compressed (gzip).
    pub(crate) compress: bool,
    /// Labels and environment variables that are recorded with each line.
    labels: Vec<String>,
    env: Vec<String>,
    tag: String,
}

impl Options {
    /// Checks driver and options; messages follow Docker's.
    pub(crate) fn parse(config: &LogConfig) -> Result<Self> {
        let (driver, name) = match config.driver.as_str() {
            "" | "json-file" => (Driver::JsonFile, "json-file"),
            "local" => (Driver::Local, "local"),
            "none" => (Driver::None, "none"),
            other => {
                return Err(Error::invalid(format!("logger: no log driver named '{other}' is registered"))
                    .hinted("the log drivers are json-file, local and none"));
            }
        };
        let mut options = Options {
            driver,
            max_size: Some(20 << 20),
            max_file: 5,
            compress: driver == Driver::Local,
            labels: Vec::new(),
            env: Vec::new(),
            tag: String::new(),
        };
        for (key, value) in &config.config {
            options.set(key, value, name)?;
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &str, driver: &str) -> Result<()> {
        let list = || value.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect();
        match (key, self.driver) {
            // Logging never holds up a container here, so both modes are the same and no buffer is needed.
            ("mode", _) if matches!(value, "blocking" | "non-blocking") => {}
            ("mode", _) => return Err(Error::invalid(format!("logger: logging mode not supported: {value}"))),
            ("max-buffer-size", _) => drop(size(key, value)?),
            ("max-size", Driver::JsonFile | Driver::Local) => {
                self.max_size = if value == "-1" { None } else { Some(size(key, value)?) };
            }
            ("max-file", Driver::JsonFile | Driver::Local) => {
                self.max_file = value.parse().ok().filter(|&count| count >= 1).ok_or_else(|| bad(key, value))?;
            }
            ("compress", Driver::JsonFile | Driver::Local) => {
                self.compress = boolean(value).ok_or_else(|| bad(key, value))?
            }
            ("labels", Driver::JsonFile) => self.labels = list(),
            ("env", Driver::JsonFile) => self.env = list(),
            ("tag", Driver::JsonFile) => {
                check_tag(value)?;
                self.tag = value.to_owned();
            }
            ("labels-regex" | "env-regex", Driver::JsonFile) => {
                return Err(Error::not_implemented(format!("log opt '{key}' is not available"))
                    .hinted("name the labels or variables one by one with the log opt 'labels' or 'env'"));
            }
            _ => return Err(Error::invalid(format!("unknown log opt '{key}' for {driver} log driver"))),
        }
        Ok(())
    }

    /// Docker's extra attributes of every line: the chosen labels and variables, and the tag.
    pub(crate) fn attributes(&self, subject: &Subject<'_>) -> Map<String> {
        let labels = self.labels.iter().filter_map(|name| Some((name.clone(), subject.labels.get(name)?.clone())));
        let variables = self.env.iter().filter_map(|name| {
            let value = subject.env.iter().find_map(|line| line.strip_prefix(name.as_str())?.strip_prefix('='))?;
            Some((name.clone(), value.to_owned()))
        });
        let tag = (!self.tag.is_empty()).then(|| ("tag".to_owned(), render(&self.tag, subject)));
        labels.chain(variables).chain(tag).collect()
    }
}

/// What the attributes are taken from.
pub(crate) struct Subject<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) image: &'a str,
    pub(crate) labels: &'a Map<String>,
    pub(crate) env: &'a [String],
}

/// Go template fields that a tag may have.
const TAG_FIELDS: [&str; 5] = ["{{.ID}}", "{{.FullID}}", "{{.Name}}", "{{.ImageName}}", "{{.DaemonName}}"];

fn check_tag(tag: &str) -> Result<()> {
    let rest = TAG_FIELDS.iter().fold(tag.to_owned(), |tag, field| tag.replace(field, ""));
    if rest.contains("{{") {
        return Err(Error::invalid(format!("log opt 'tag': unknown template field in '{tag}'"))
            .hinted(format!("the fields are {}", TAG_FIELDS.join(" "))));
    }
    Ok(())
}

fn render(tag: &str, subject: &Subject<'_>) -> String {
    let short = subject.id.get(..12).unwrap_or(subject.id);
    let values = [short, subject.id, subject.name, subject.image, "kiste"];
    TAG_FIELDS.iter().zip(values).fold(tag.to_owned(), |tag, (field, value)| tag.replace(field, value))
}

fn bad(key: &str, value: &str) -> Error {
    Error::invalid(format!("invalid value '{value}' for log opt '{key}'"))
}

fn size(key: &str, value: &str) -> Result<u64> {
    bytes(value).ok_or_else(|| bad(key, value))
}

/// `20m`, `1.5g`, `4096`: powers of 1024, as Docker reads them (go-units `RAMInBytes`).
pub(crate) fn bytes(value: &str) -> Option<u64> {
    let lower = value.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match lower[digits.len()..].trim_end_matches('b').trim_end_matches('i') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return None,
    };
    let number: f64 = digits.trim().parse().ok()?;
    let bytes = number * factor as f64;
    (1.0..1e15).contains(&bytes).then_some(bytes as u64)
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(driver: &str, pairs: &[(&str, &str)]) -> Result<Options> {
        let config = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Options::parse(&LogConfig { driver: driver.to_owned(), config })
    }

    #[test]
    fn defaults_are_bounded() {
        let options = parse("", &[]).unwrap();
        assert_eq!((options.max_size, options.max_file, options.compress), (Some(20 << 20), 5, false));
        assert!(parse("local", &[]).unwrap().compress);
    }

    #[test]
    fn sizes_and_refusals() {
        assert_eq!(parse("", &[("max-size", "1.5k")]).unwrap().max_size, Some(1536));
        assert_eq!(parse("", &[("max-size", "10MB")]).unwrap().max_size, Some(10 << 20));
        assert_eq!(parse("", &[("max-size", "-1")]).unwrap().max_size, None);
        for (driver, key, value) in [
            ("", "max-size", "x"),
            ("", "max-size", "0"),
            ("", "max-file", "0"),
            ("", "nonsense", "1"),
            ("none", "max-size", "1m"),
            ("syslog", "tag", "x"),
            ("", "tag", "{{.Nonsense}}"),
            ("", "mode", "x"),
            ("local", "labels", "a"),
        ] {
            assert!(parse(driver, &[(key, value)]).is_err(), "{driver} {key}={value}");
        }
    }

    #[test]
    fn attributes_are_chosen() {
        let options = parse("", &[("labels", "a,missing"), ("env", "B"), ("tag", "{{.Name}}/{{.ID}}")]).unwrap();
        let labels = [("a".to_owned(), "1".to_owned()), ("x".to_owned(), "2".to_owned())].into();
        let env = ["BB=no".to_owned(), "B=yes".to_owned()];
        let subject = Subject { id: "0123456789abcdef", name: "n", image: "i", labels: &labels, env: &env };
        let attributes = options.attributes(&subject);
        let expected: Map<String> =
            [("B", "yes"), ("a", "1"), ("tag", "n/0123456789ab")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(attributes, expected);
    }
}
