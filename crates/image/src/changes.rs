//! Dockerfile instructions that `import -c` (and `commit -c`) applies to a configuration: CMD, ENTRYPOINT, ENV, EXPOSE,
//! HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// Applies one instruction to a configuration's `config` object.
pub(crate) fn apply(config: &mut Map<String, Value>, instruction: &str) -> Result<()> {
    let text = instruction.trim();
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let (name, rest) = (name.to_ascii_uppercase(), rest.trim());
    let known = "CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR";
    if !known.split(' ').any(|word| word == name) {
        return Err(Error::Invalid(format!("{name} is not a valid change command")));
    }
    if rest.is_empty() {
        return Err(Error::Invalid(format!("{name} requires at least one argument")));
    }
    let bad = |why: &str| Error::Invalid(format!("invalid change {instruction:?}: {why}"));
    match name.as_str() {
        "CMD" => set(config, "Cmd", command(rest)),
        "ENTRYPOINT" => set(config, "Entrypoint", command(rest)),
        "ENV" => pairs(rest).map_err(bad)?.into_iter().for_each(|(key, value)| set_variable(config, &key, &value)),
        "EXPOSE" => words(rest).map_err(bad)?.iter().try_for_each(|port| expose(config, port)).map_err(bad)?,
        "HEALTHCHECK" => set(config, "Healthcheck", health_check(rest).map_err(bad)?),
        "LABEL" => {
            let labels = object(config, "Labels");
            labels.extend(pairs(rest).map_err(bad)?.into_iter().map(|(key, value)| (key, Value::String(value))));
        }
        "ONBUILD" => list(config, "OnBuild").push(rest.into()),
        "STOPSIGNAL" => set(config, "StopSignal", rest.into()),
        "USER" => set(config, "User", rest.into()),
        "VOLUME" => {
            let paths = json_list(rest).map_or_else(|| words(rest), Ok).map_err(bad)?;
            object(config, "Volumes").extend(paths.into_iter().map(|path| (path, json!({}))));
        }
        _ => set(config, "WorkingDir", working_directory(config, rest)),
    }
    Ok(())
}

fn set(config: &mut Map<String, Value>, key: &str, value: Value) {
    config.insert(key.into(), value);
}

fn object<'c>(config: &'c mut Map<String, Value>, key: &str) -> &'c mut Map<String, Value> {
    let slot = config.entry(key).or_insert_with(|| json!({}));
    if !slot.is_object() {
        *slot = json!({});
    }
    match slot {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

fn list<'c>(config: &'c mut Map<String, Value>, key: &str) -> &'c mut Vec<Value> {
    let slot = config.entry(key).or_insert_with(|| json!([]));
    if !slot.is_array() {
        *slot = json!([]);
    }
    match slot {
        Value::Array(list) => list,
        _ => unreachable!("made a list above"),
    }
}

/// The exec form as it is, the shell form through `/bin/sh -c`.
fn command(text: &str) -> Value {
    json_list(text).map_or_else(|| json!(["/bin/sh", "-c", text]), |words| json!(words))
}

fn json_list(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') { serde_json::from_str(text).ok() } else { None }
}

fn set_variable(config: &mut Map<String, Value>, key: &str, value: &str) {
    let variables = list(config, "Env");
    let same =
        |entry: &Value| entry.as_str().and_then(|entry| entry.split_once('=')).is_some_and(|(name, _)| name == key);
    let entry = json!(format!("{key}={value}"));
    match variables.iter_mut().find(|entry| same(entry)) {
        Some(old) => *old = entry,
        None => variables.push(entry),
    }
}

/// `PORT[-PORT][/PROTOCOL]`.
fn expose(config: &mut Map<String, Value>, text: &str) -> Result<(), &'static str> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let protocol = protocol.to_ascii_lowercase();
    match (number(first), number(last), protocol.as_str()) {
        (Some(first), Some(last), "tcp" | "udp" | "sctp") if first <= last => {
            let ports = (first..=last).map(|port| (format!("{port}/{protocol}"), json!({})));
            object(config, "ExposedPorts").extend(ports);
            Ok(())
        }
        _ => Err("want ports as PORT[-PORT][/tcp|udp|sctp]"),
    }
}

/// `NONE`, or `[--interval=D] [--timeout=D] [--start-period=D] [--start-interval=D] [--retries=N] CMD …`.
fn health_check(text: &str) -> Result<Value, &'static str> {
    let mut check = Map::new();
    let mut rest = text;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).ok_or("HEALTHCHECK needs CMD or NONE")?;
        let (name, value) = flag.split_once('=').ok_or("want --flag=value")?;
        let key = match name {
            "interval" => "Interval",
            "timeout" => "Timeout",
            "start-period" => "StartPeriod",
            "start-interval" => "StartInterval",
            "retries" => "Retries",
            _ => return Err("unknown flag of HEALTHCHECK"),
        };
        let number = if name == "retries" { value.parse().ok() } else { duration(value) };
        check.insert(key.into(), json!(number.filter(|n| *n >= 0).ok_or("malformed value of a flag of HEALTHCHECK")?));
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() => vec!["NONE".to_owned()],
        "CMD" if !command.trim().is_empty() => match json_list(command.trim()) {
            Some(words) => ["CMD".to_owned()].into_iter().chain(words).collect(),
            None => vec!["CMD-SHELL".to_owned(), command.trim().to_owned()],
        },
        _ => return Err("want NONE, or CMD and a command"),
    };
    check.insert("Test".into(), json!(test));
    Ok(Value::Object(check))
}

/// A Go duration (`1m30s`, `1.5s`, `200ms`) in nanoseconds.
fn duration(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |at| end + at);
        let factor = match &rest[end..unit_end] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            _ => return None,
        };
        total += number * factor;
        rest = &rest[unit_end..];
    }
    (!text.is_empty() && total < 9e18).then_some(total as i64)
}

fn working_directory(config: &Map<String, Value>, path: &str) -> Value {
    let old = config.get("WorkingDir").and_then(Value::as_str).unwrap_or("");
    if path.starts_with('/') { json!(path) } else { json!(format!("{}/{path}", old.trim_end_matches('/'))) }
}

/// `KEY=VALUE …` with quotes, or the old form `KEY VALUE`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let first = text.split(char::is_whitespace).next().unwrap_or("");
    if !first.contains('=') {
        let (key, value) = text.split_once(char::is_whitespace).ok_or("want KEY=VALUE")?;
        return Ok(vec![(key.into(), value.trim().into())]);
    }
    let pair = |word: String| {
        let (key, value) = word.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("want KEY=VALUE")?;
        Ok((key.to_owned(), value.to_owned()))
    };
    words(text)?.into_iter().map(pair).collect()
}

/// Splits at white space; quotes and backslashes protect.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (Some(open), _) if open == letter => quote = None,
            (Some('"') | None, '\\') => word.get_or_insert_default().extend(letters.next()),
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    if quote.is_some() { Err("a quote is not closed") } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Value {
        let mut config = Map::new();
        for change in changes {
            apply(&mut config, change).unwrap_or_else(|error| panic!("{change}: {error}"));
        }
        Value::Object(config)
    }

    #[test]
    fn every_instruction() {
        let config = applied(&[
            "CMD [\"a\", \"b c\"]",
            "entrypoint run it",
            "ENV A=1 B=\"x y\" C=z\\ w",
            "ENV A 2 3",
            "EXPOSE 80 53/udp 90-91",
            "HEALTHCHECK --interval=1m30s --retries=2 CMD true",
            "LABEL a=b \"c d\"=e",
            "ONBUILD RUN x",
            "STOPSIGNAL SIGINT",
            "USER me:us",
            "VOLUME /a /b",
            "VOLUME [\"/c d\"]",
            "WORKDIR /w",
            "WORKDIR v",
        ]);
        let expected = json!({
            "Cmd": ["a", "b c"], "Entrypoint": ["/bin/sh", "-c", "run it"], "Env": ["A=2 3", "B=x y", "C=z w"],
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "90/tcp": {}, "91/tcp": {}},
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 90_000_000_000_i64, "Retries": 2},
            "Labels": {"a": "b", "c d": "e"}, "OnBuild": ["RUN x"], "StopSignal": "SIGINT", "User": "me:us",
            "Volumes": {"/a": {}, "/b": {}, "/c d": {}}, "WorkingDir": "/w/v",
        });
        assert_eq!(config, expected);
    }

    #[test]
    fn refusals() {
        for bad in
            ["", "RUN x", "CMD", "ENV a", "ENV =b c=d", "EXPOSE 0", "EXPOSE 80/x", "LABEL \"a=b", "HEALTHCHECK x"]
        {
            assert!(apply(&mut Map::new(), bad).is_err(), "{bad}");
        }
    }
}
