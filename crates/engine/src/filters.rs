//! `--filter key=value` of every list: which keys a verb knows, and how values match. Values of one key are
//! alternatives, keys are conditions that must all hold (Docker's rule; labels must all hold).

use regex::Regex;

use crate::model::Map;
use crate::{Error, Result};

/// The filters of one request, their keys checked.
pub(crate) struct Filters<'a>(&'a Map<Vec<String>>);

impl<'a> Filters<'a> {
    /// Errors for a key that the verb does not know.
    pub(crate) fn new(filters: &'a Map<Vec<String>>, known: &[&str]) -> Result<Self> {
        match filters.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(Error::invalid(format!("invalid filter '{key}'"))
                .hinted(format!("the filters are {}", known.join(", ")))),
            None => Ok(Filters(filters)),
        }
    }

    /// The values of a key.
    pub(crate) fn values(&self, key: &str) -> &'a [String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether a key was given.
    pub(crate) fn has(&self, key: &str) -> bool {
        !self.values(key).is_empty()
    }

    /// Whether one of the key's values satisfies, or the key was not given.
    pub(crate) fn any(&self, key: &str, satisfies: impl Fn(&str) -> bool) -> bool {
        !self.has(key) || self.values(key).iter().any(|value| satisfies(value))
    }

    /// Whether the labels satisfy every `label=NAME[=VALUE]` and no `label!=…`.
    pub(crate) fn labels(&self, labels: &Map<String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|have| have == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").iter().all(has) && !self.values("label!").iter().any(has)
    }

    /// The key's values as patterns.
    pub(crate) fn patterns(&self, key: &str) -> Result<Patterns> {
        let compile = |value: &String| {
            Regex::new(value).map_err(|error| {
                // The first lines of the text show the expression with a mark below the place.
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                Error::invalid(format!("invalid filter '{key}={value}': {reason}"))
            })
        };
        Ok(Patterns(self.values(key).iter().map(compile).collect::<Result<_>>()?))
    }

    /// A key that is a truth value, if it was given.
    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.values(key).first() else { return Ok(None) };
        match value.as_str() {
            "1" | "true" => Ok(Some(true)),
            "0" | "false" => Ok(Some(false)),
            _ => Err(Error::invalid(format!("invalid filter '{key}={value}'")).hinted("it is true or false")),
        }
    }

    /// `until=…`: a time in nanoseconds since 1970. Durations (`24h`) count back from now.
    pub(crate) fn until(&self) -> Result<Option<i64>> {
        let Some(value) = self.values("until").first() else { return Ok(None) };
        let time = crate::clock::parse(value).ok_or_else(|| {
            Error::invalid(format!("invalid filter 'until={value}'"))
                .hinted("a time (2026-01-31T12:00:00Z), seconds since 1970, or a duration (24h)")
        });
        time.map(Some)
    }
}

/// Regular expressions of which one must match.
pub(crate) struct Patterns(Vec<Regex>);

impl Patterns {
    /// Whether one matches, or there is none.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| pattern.is_match(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_values_and_labels() {
        let map = Map::from([
            ("label".to_owned(), vec!["a".to_owned(), "b=1".to_owned()]),
            ("name".to_owned(), vec!["^/?web$".to_owned()]),
        ]);
        assert!(Filters::new(&map, &["label"]).err().unwrap().message.contains("invalid filter 'name'"));
        let filters = Filters::new(&map, &["label", "name"]).unwrap();
        let labels =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Map<_>>();
        assert!(filters.labels(&labels(&[("a", ""), ("b", "1")])));
        assert!(!filters.labels(&labels(&[("a", ""), ("b", "2")])));
        let patterns = filters.patterns("name").unwrap();
        assert!(patterns.matches("/web") && !patterns.matches("/webs"));
        assert!(filters.any("status", |_| false), "a key that was not given");
    }
}
