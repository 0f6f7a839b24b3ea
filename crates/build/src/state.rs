//! The image that a stage has come to: its configuration, its history and the variables in force. Instructions that only
//! change these are carried out here; the texts of the history are BuildKit's.

use serde_json::{Map, Value, json};

use crate::dockerfile::{Argument, CommandLine, Healthcheck, Pair};
use crate::scope::{BuildArguments, Platform, Scope};
use crate::{Error, Result};

/// What BuildKit writes beside each step.
const COMMENT: &str = "buildkit.dockerfile.v0";
/// Where programs are looked for in an image that starts from nothing.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image in the making.
#[derive(Clone, Debug)]
pub struct State {
    /// The image configuration document.
    document: Map<String, Value>,
    /// Environment and arguments.
    pub scope: Scope,
    /// Declared arguments and their values, for the history of RUN.
    arguments: Vec<(String, String)>,
    /// A CMD of this Dockerfile outlives an ENTRYPOINT.
    command_is_ours: bool,
}

impl State {
    /// Of `FROM scratch`.
    pub fn scratch(platform: &Platform) -> Self {
        let mut document = Map::new();
        document.insert("architecture".into(), json!(platform.architecture));
        document.insert("os".into(), json!(platform.os));
        if !platform.variant.is_empty() {
            document.insert("variant".into(), json!(platform.variant));
        }
        document.insert("config".into(), json!({"Env": [format!("PATH={SEARCH_PATH}")], "WorkingDir": "/"}));
        document.insert("rootfs".into(), json!({"type": "layers", "diff_ids": []}));
        document.insert("history".into(), json!([]));
        State::of(document)
    }

    /// Of an image's configuration.
    pub fn image(config: &[u8]) -> Result<Self> {
        let document = serde_json::from_slice(config)
            .map_err(|error| Error::new(format!("the base image's configuration cannot be read: {error}")))?;
        Ok(State::of(document))
    }

    fn of(document: Map<String, Value>) -> Self {
        let mut state = State { document, scope: Scope::default(), arguments: Vec::new(), command_is_ours: false };
        for line in state.strings("Env") {
            let (name, value) = line.split_once('=').unwrap_or((&line, ""));
            state.scope.set(name, value);
        }
        state
    }

    /// The configuration document of the finished image.
    pub fn document(&self, created: &str) -> Vec<u8> {
        let mut document = self.document.clone();
        document.insert("created".into(), json!(created));
        Value::Object(document).to_string().into_bytes()
    }

    /// A document with only the layers, and one more: that of an image that is no more than a place for them.
    pub fn bare_document(&self, layer: Option<&str>) -> Vec<u8> {
        let layers: Vec<String> = self.layers().into_iter().chain(layer.map(str::to_owned)).collect();
        let kept = ["architecture", "os", "variant", "os.version"];
        let mut document: Map<String, Value> = kept
            .iter()
            .filter_map(|key| self.document.get_key_value(*key))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        document.insert("config".into(), json!({}));
        document.insert("rootfs".into(), json!({"type": "layers", "diff_ids": layers}));
        Value::Object(document).to_string().into_bytes()
    }

    /// Digests of the layers, lowest first.
    pub fn layers(&self) -> Vec<String> {
        let list = self.document.get("rootfs").and_then(|rootfs| rootfs["diff_ids"].as_array());
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Puts a layer on top.
    pub fn add_layer(&mut self, layer: &str) {
        let layers: Vec<String> = self.layers().into_iter().chain([layer.to_owned()]).collect();
        self.document.insert("rootfs".into(), json!({"type": "layers", "diff_ids": layers}));
    }

    /// What another stage starts from: arguments go with it, the right of a CMD to outlive an ENTRYPOINT does not.
    pub fn handed_on(self) -> Self {
        State { command_is_ours: false, ..self }
    }

    fn config(&mut self) -> &mut Map<String, Value> {
        let config = self.document.entry("config").or_insert_with(|| json!({}));
        if !config.is_object() {
            *config = json!({});
        }
        match config {
            Value::Object(config) => config,
            _ => unreachable!("made an object just now"),
        }
    }

    fn field(&self, name: &str) -> Option<&Value> {
        self.document.get("config").and_then(|config| config.get(name))
    }

    fn strings(&self, name: &str) -> Vec<String> {
        let list = self.field(name).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn string(&self, name: &str) -> String {
        self.field(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Whom the image is for.
    pub fn platform(&self) -> Platform {
        let text = |key: &str| self.document.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Platform { os: text("os"), architecture: text("architecture"), variant: text("variant") }
    }

    /// Whom RUN runs as, and who owns what WORKDIR makes.
    pub fn user(&self) -> String {
        self.string("User")
    }

    /// The working directory; `/` if there is none.
    pub fn directory(&self) -> String {
        Some(self.string("WorkingDir")).filter(|directory| !directory.is_empty()).unwrap_or_else(|| "/".to_owned())
    }

    /// The triggers that the base left; they run once.
    pub fn take_triggers(&mut self) -> Vec<String> {
        let triggers = self.strings("OnBuild");
        self.config().remove("OnBuild");
        triggers
    }

    /// A path as the working directory makes it absolute.
    pub fn absolute(&self, path: &str) -> String {
        let joined = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.directory()) };
        let slash =
            if path.ends_with('/') || path.is_empty() || path == "." || path.ends_with("/.") { "/" } else { "" };
        let clean = crate::ignore::clean(&joined);
        if clean == "/" { clean } else { clean + slash }
    }

    /// The words of a command, with the shell before them if it was written for one.
    pub fn command_words(&self, command: &CommandLine) -> Vec<String> {
        if !command.shell {
            return command.words.clone();
        }
        let shell = self.strings("Shell");
        let shell = if shell.is_empty() { vec!["/bin/sh".to_owned(), "-c".to_owned()] } else { shell };
        [shell, vec![command.words.join(" ")]].concat()
    }

    /// Writes a step down.
    pub fn remember(&mut self, text: &str, has_layer: bool, created: &str) {
        let mut step = json!({"created": created, "created_by": text, "comment": COMMENT});
        if !has_layer {
            step["empty_layer"] = json!(true);
        }
        let history = self.document.entry("history").or_insert_with(|| json!([]));
        if !history.is_array() {
            *history = json!([]);
        }
        history.as_array_mut().into_iter().for_each(|steps| steps.push(step.clone()));
    }

    /// ENV
    pub fn env(&mut self, pairs: &[Pair]) -> String {
        let mut lines = self.strings("Env");
        for pair in pairs {
            let line = format!("{}={}", pair.key, pair.value);
            match lines.iter_mut().find(|line| line.split('=').next() == Some(&pair.key)) {
                Some(old) => *old = line,
                None => lines.push(line),
            }
            self.scope.set(&pair.key, &pair.value);
        }
        self.config().insert("Env".into(), json!(lines));
        format!("ENV{}", shown(pairs))
    }

    /// ARG. `globals` are the arguments before the first FROM.
    pub fn arg(
        &mut self,
        arguments: &[Argument],
        given: &BuildArguments,
        globals: &Scope,
        escape: char,
    ) -> Result<String> {
        let mut text = "ARG".to_owned();
        for argument in arguments {
            let value = match (given.get(&argument.key), &argument.value) {
                (Some(given), _) => Some(given.to_owned()),
                (None, Some(default)) => Some(self.scope.word(default, escape)?),
                (None, None) => crate::words::Variables::get(globals, &argument.key).map(str::to_owned),
            };
            text += &format!(" {}", argument.key);
            if let Some(value) = &value {
                text += &format!("={value}");
                self.scope.set(&argument.key, value);
            }
            let (key, value) = (argument.key.clone(), value.unwrap_or_default());
            // One that is declared again keeps its place.
            match self.arguments.iter_mut().find(|(name, _)| *name == key) {
                Some(known) => known.1 = value,
                None => self.arguments.push((key, value)),
            }
        }
        Ok(text)
    }

    /// LABEL
    pub fn label(&mut self, pairs: &[Pair]) -> String {
        let labels = self.config().entry("Labels").or_insert_with(|| json!({}));
        if !labels.is_object() {
            *labels = json!({});
        }
        pairs.iter().for_each(|pair| labels[&pair.key] = json!(pair.value));
        format!("LABEL{}", shown(pairs))
    }

    /// CMD
    pub fn cmd(&mut self, command: &CommandLine) -> String {
        let words = self.command_words(command);
        self.command_is_ours = true;
        let text = format!("CMD {}", quoted(&words));
        self.config().insert("Cmd".into(), json!(words));
        self.config().insert("ArgsEscaped".into(), json!(true));
        text
    }

    /// ENTRYPOINT: takes the base's CMD away.
    pub fn entrypoint(&mut self, command: &CommandLine) -> String {
        let words = if command.words.is_empty() { Vec::new() } else { self.command_words(command) };
        if !self.command_is_ours {
            self.config().remove("Cmd");
        }
        let text = format!("ENTRYPOINT {}", quoted(&words));
        match words.is_empty() {
            true => drop(self.config().remove("Entrypoint")),
            false => drop(self.config().insert("Entrypoint".into(), json!(words))),
        }
        text
    }

    /// WORKDIR; the directory itself is made elsewhere.
    pub fn workdir(&mut self, path: &str) -> String {
        let path = self.absolute(path);
        let path = if path == "/" { path } else { path.trim_end_matches('/').to_owned() };
        let text = format!("WORKDIR {path}");
        self.config().insert("WorkingDir".into(), json!(path));
        text
    }

    /// USER
    pub fn set_user(&mut self, user: &str) -> String {
        self.config().insert("User".into(), json!(user));
        format!("USER {user}")
    }

    /// EXPOSE
    pub fn expose(&mut self, ports: &[String]) -> Result<String> {
        let ports = ports.iter().map(|port| exposed(port)).collect::<Result<Vec<_>>>()?.concat();
        let all = self.config().entry("ExposedPorts").or_insert_with(|| json!({}));
        ports.iter().for_each(|port| all[port] = json!({}));
        Ok(format!("EXPOSE [{}]", ports.join(" ")))
    }

    /// VOLUME
    pub fn volume(&mut self, volumes: &[String]) -> String {
        let all = self.config().entry("Volumes").or_insert_with(|| json!({}));
        volumes.iter().for_each(|volume| all[volume] = json!({}));
        format!("VOLUME [{}]", volumes.join(" "))
    }

    /// STOPSIGNAL
    pub fn stop_signal(&mut self, signal: &str) -> String {
        self.config().insert("StopSignal".into(), json!(signal));
        format!("STOPSIGNAL {signal}")
    }

    /// SHELL
    pub fn shell(&mut self, words: &[String]) -> String {
        self.config().insert("Shell".into(), json!(words));
        format!("SHELL [{}]", words.join(" "))
    }

    /// HEALTHCHECK
    pub fn healthcheck(&mut self, check: &Healthcheck) -> String {
        let mut value = json!({"Test": check.test});
        let durations = [
            ("Interval", check.interval),
            ("Timeout", check.timeout),
            ("StartPeriod", check.start_period),
            ("StartInterval", check.start_interval),
            ("Retries", check.retries),
        ];
        durations.into_iter().filter(|(_, number)| *number != 0).for_each(|(name, number)| value[name] = json!(number));
        self.config().insert("Healthcheck".into(), value);
        let durations = [check.interval, check.timeout, check.start_period, check.start_interval];
        let durations: Vec<String> = durations.iter().map(|one| format!("{:?}", duration(*one))).collect();
        format!("HEALTHCHECK &{{{} {} {}}}", quoted(&check.test), durations.join(" "), letter(check.retries))
    }

    /// ONBUILD
    pub fn onbuild(&mut self, trigger: &str) {
        let mut triggers = self.strings("OnBuild");
        triggers.push(trigger.to_owned());
        self.config().insert("OnBuild".into(), json!(triggers));
    }

    /// MAINTAINER
    pub fn maintainer(&mut self, name: &str) -> String {
        self.document.insert("author".into(), json!(name));
        format!("MAINTAINER {name}")
    }

    /// The history's text of a RUN: the declared arguments, then the words.
    pub fn run_text(&self, words: &[String]) -> String {
        let mut parts = Vec::new();
        if !self.arguments.is_empty() {
            parts.push(format!("|{}", self.arguments.len()));
            for (name, value) in &self.arguments {
                let value = crate::words::Variables::get(&self.scope, name).unwrap_or(value);
                parts.push(format!("{name}={value}"));
            }
        }
        format!("RUN {} # buildkit", [parts, words.to_vec()].concat().join(" "))
    }
}

fn shown(pairs: &[Pair]) -> String {
    pairs.iter().map(|pair| format!(" {}={}", pair.key, pair.value)).collect()
}

/// Go's `%q` of a list.
fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(" "))
}

/// Go's `%q` of a number: the letter of that code. That is how BuildKit comes to write the retries of a HEALTHCHECK.
fn letter(code: i64) -> String {
    match u32::try_from(code).ok().and_then(char::from_u32) {
        Some('\'') => "'\\''".to_owned(),
        Some(special @ ('\\' | '\n' | '\r' | '\t')) => format!("'{}'", special.escape_default()),
        Some('\x07') => "'\\a'".to_owned(),
        Some('\x08') => "'\\b'".to_owned(),
        Some('\x0b') => "'\\v'".to_owned(),
        Some('\x0c') => "'\\f'".to_owned(),
        Some(control) if control.is_ascii_control() => format!("'\\x{:02x}'", control as u32),
        Some(plain) => format!("'{plain}'"),
        None => "'\u{fffd}'".to_owned(),
    }
}

/// `port[-port][/protocol]`, one by one.
fn exposed(text: &str) -> Result<Vec<String>> {
    let bad = || Error::new(format!("invalid containerPort: {text}"));
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_lowercase() };
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(Error::new(format!("invalid proto: {protocol}")));
    }
    // `address:port:port`: only what is inside counts.
    let ports = ports.rsplit(':').next().unwrap_or_default();
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
    if first > last {
        return Err(bad());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// Go's `time.Duration.String`.
fn duration(nanoseconds: i64) -> String {
    let fraction = |value: f64| format!("{value:.9}").trim_end_matches('0').trim_end_matches('.').to_owned();
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000_000_000 => format!("{}ms", fraction(nanoseconds as f64 / 1e6)),
        _ => {
            let (hours, rest) = (nanoseconds / 3_600_000_000_000, nanoseconds % 3_600_000_000_000);
            let (minutes, rest) = (rest / 60_000_000_000, rest % 60_000_000_000);
            let seconds = fraction(rest as f64 / 1e9);
            match (hours, minutes) {
                (0, 0) => format!("{seconds}s"),
                (0, _) => format!("{minutes}m{seconds}s"),
                _ => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::image(br#"{"os":"linux","config":{"Env":["A=1"],"Cmd":["x"],"WorkingDir":"/w","OnBuild":["RUN y"]}}"#)
            .unwrap()
    }

    #[test]
    fn environment_and_arguments() {
        let mut state = state();
        let pair = |key: &str, value: &str| Pair { key: key.into(), value: value.into(), spaced: false };
        assert_eq!(state.env(&[pair("B", "2"), pair("A", "3")]), "ENV B=2 A=3");
        assert_eq!(state.strings("Env"), ["A=3", "B=2"]);
        let argument = |key: &str, value: Option<&str>| Argument { key: key.into(), value: value.map(str::to_owned) };
        let mut globals = Scope::default();
        globals.set("G", "g");
        let given = BuildArguments(vec![("C".into(), "given".into())]);
        let declared =
            [argument("C", Some("default")), argument("D", Some("$A")), argument("G", None), argument("N", None)];
        assert_eq!(state.arg(&declared, &given, &globals, '\\').unwrap(), "ARG C=given D=3 G=g N");
        assert_eq!(
            state.run_text(&["sh".into(), "-c".into(), "x".into()]),
            "RUN |4 C=given D=3 G=g N= sh -c x # buildkit"
        );
    }

    #[test]
    fn commands() {
        let mut state = state();
        let shell = CommandLine { words: vec!["a \"b\"".into()], shell: true, files: Vec::new() };
        assert_eq!(state.entrypoint(&shell), "ENTRYPOINT [\"/bin/sh\" \"-c\" \"a \\\"b\\\"\"]");
        assert_eq!(state.field("Cmd"), None);
        state.shell(&["ash".into()]);
        assert_eq!(state.cmd(&shell), "CMD [\"ash\" \"a \\\"b\\\"\"]");
        state.entrypoint(&CommandLine::default());
        assert_eq!((state.field("Entrypoint"), state.strings("Cmd").len()), (None, 2));
        assert_eq!(state.take_triggers(), ["RUN y"]);
        assert!(state.take_triggers().is_empty());
    }

    #[test]
    fn paths_and_ports() {
        let mut state = state();
        for (path, expected) in
            [("a", "/w/a"), ("a/", "/w/a/"), ("/a/../b/", "/b/"), (".", "/w/"), ("..", "/"), ("/", "/")]
        {
            assert_eq!(state.absolute(path), expected);
        }
        assert_eq!(state.workdir("x/"), "WORKDIR /w/x");
        assert_eq!(state.directory(), "/w/x");
        assert_eq!(state.expose(&["80".into(), "7-8/UDP".into()]).unwrap(), "EXPOSE [80/tcp 7/udp 8/udp]");
        assert!(state.expose(&["x".into()]).is_err() && state.expose(&["2-1".into()]).is_err());
    }

    #[test]
    fn numbers_as_letters() {
        let letters = [0, 3, 7, 10, 39, 65, 92].map(letter);
        assert_eq!(letters, [r"'\x00'", r"'\x03'", r"'\a'", r"'\n'", r"'\''", "'A'", r"'\\'"]);
    }

    #[test]
    fn health_and_documents() {
        let mut state = state();
        let check = Healthcheck {
            test: vec!["CMD-SHELL".into(), "x".into()],
            interval: 90_500_000_000,
            ..Healthcheck::default()
        };
        let text = state.healthcheck(&check);
        assert_eq!(text, r#"HEALTHCHECK &{["CMD-SHELL" "x"] "1m30.5s" "0s" "0s" "0s" '\x00'}"#);
        state.remember("RUN x # buildkit", true, "2020-01-01T00:00:00Z");
        let document: Value = serde_json::from_slice(&state.document("2020-01-01T00:00:00Z")).unwrap_or_default();
        assert_eq!(document["history"][0]["created_by"], "RUN x # buildkit");
        assert_eq!(document["created"], "2020-01-01T00:00:00Z");
    }
}
