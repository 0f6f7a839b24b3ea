//! From a logical line to a typed instruction: the rules and the error texts of each (BuildKit's
//! `frontend/dockerfile/instructions`).

use super::flags::{Flags, Kind};
use super::instruction::{
    Add, Argument, CommandLine, Copy, From, Healthcheck, InlineFile, Instruction, Pair, Run, Sources, Step,
};
use super::lines::Line;
use super::split::{self, Command};
use super::{Heredoc, Mount};
use crate::error::suggestion;
use crate::{Error, Result};

const NAMES: &[&str] = &[
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a line.
pub(super) fn step(line: &Line, escape: char) -> Result<Step> {
    let command = Command::split(&line.text, escape);
    let request = Request { line, escape, name: command.name.to_uppercase(), command };
    let instruction = request.instruction()?;
    Ok(Step {
        instruction,
        name: request.command.name,
        code: line.text.trim().to_owned(),
        span: line.span,
        comments: line.comments.clone(),
    })
}

/// A line on its way to an instruction.
struct Request<'a> {
    line: &'a Line,
    escape: char,
    name: String,
    command: Command,
}

impl Request<'_> {
    fn instruction(&self) -> Result<Instruction> {
        Ok(match self.name.as_str() {
            "ADD" => Instruction::Add(self.add()?),
            "ARG" => Instruction::Arg(self.arguments()?),
            "CMD" => Instruction::Cmd(self.plain_command()?),
            "COPY" => Instruction::Copy(self.copy()?),
            "ENTRYPOINT" => Instruction::Entrypoint(self.plain_command()?),
            "ENV" => Instruction::Env(self.pairs()?),
            "EXPOSE" => Instruction::Expose(self.ports()?),
            "FROM" => Instruction::From(self.from()?),
            "HEALTHCHECK" => Instruction::Healthcheck(self.healthcheck()?),
            "LABEL" => Instruction::Label(self.pairs()?),
            "MAINTAINER" => Instruction::Maintainer(self.one_argument()?),
            "ONBUILD" => Instruction::Onbuild(self.trigger()?),
            "RUN" => Instruction::Run(Box::new(self.run()?)),
            "SHELL" => Instruction::Shell(self.shell()?),
            "STOPSIGNAL" => Instruction::StopSignal(self.one_argument()?),
            "USER" => Instruction::User(self.one_argument()?),
            "VOLUME" => Instruction::Volume(self.volumes()?),
            "WORKDIR" => Instruction::Workdir(self.one_argument()?),
            _ => {
                let hint = suggestion(&self.command.name, NAMES);
                return Err(Error::new(format!("unknown instruction: {}{hint}", self.command.name)));
            }
        })
    }

    fn rest(&self) -> &str {
        &self.command.arguments
    }

    fn flags(&self, known: &[(&'static str, Kind)]) -> Result<Flags> {
        Flags::parse(&self.command.flags, known)
    }

    fn some_argument(&self) -> Result<&str> {
        self.flags(&[])?;
        if self.rest().is_empty() {
            return Err(Error::new(format!("{} requires at least one argument", self.name)));
        }
        Ok(self.rest())
    }

    fn one_argument(&self) -> Result<String> {
        self.flags(&[])?;
        if self.rest().is_empty() {
            return Err(Error::new(format!("{} requires exactly one argument", self.name)));
        }
        Ok(self.rest().to_owned())
    }

    /// The arguments as words, from JSON or separated by blanks.
    fn list(&self) -> Result<Vec<String>> {
        Ok(split::json(self.rest())?.unwrap_or_else(|| split::blanks(self.rest())))
    }

    fn from(&self) -> Result<From> {
        let words = split::blanks(self.rest());
        let name = match words.as_slice() {
            [_] => None,
            [_, word, name] if word.eq_ignore_ascii_case("as") => Some(stage_name(name)?),
            _ => return Err(Error::new("FROM requires either one or three arguments")),
        };
        let flags = self.flags(&[("platform", Kind::Text)])?;
        Ok(From { base: words[0].clone(), name, platform: flags.text("platform").map(str::to_owned) })
    }

    fn pairs(&self) -> Result<Vec<Pair>> {
        let rest = self.some_argument()?;
        let words = split::words(rest, self.escape);
        let pairs = if words.first().is_some_and(|word| word.contains('=')) {
            let pair = |word: &String| {
                let (key, value) = word.split_once('=').ok_or_else(|| {
                    Error::new(format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value"))
                })?;
                Ok(Pair { key: key.to_owned(), value: value.to_owned(), spaced: false })
            };
            words.iter().map(pair).collect::<Result<Vec<_>>>()?
        } else {
            let (key, value) = split::name_and_rest(rest)
                .ok_or_else(|| Error::new(format!("{} must have two arguments", self.name)))?;
            vec![Pair { key: key.to_owned(), value: value.to_owned(), spaced: true }]
        };
        match pairs.iter().any(|pair| pair.key.is_empty()) {
            true => Err(Error::new(format!("{} names can not be blank", self.name))),
            false => Ok(pairs),
        }
    }

    fn arguments(&self) -> Result<Vec<Argument>> {
        let words = split::words(self.some_argument()?, self.escape);
        let argument = |word: String| match word.split_once('=') {
            Some(("", _)) => Err(Error::new("ARG names can not be blank")),
            Some((key, value)) => Ok(Argument { key: key.to_owned(), value: Some(value.to_owned()) }),
            None => Ok(Argument { key: word, value: None }),
        };
        words.into_iter().map(argument).collect()
    }

    fn ports(&self) -> Result<Vec<String>> {
        let mut ports = split::blanks(self.some_argument()?);
        ports.sort();
        Ok(ports)
    }

    fn volumes(&self) -> Result<Vec<String>> {
        self.some_argument()?;
        let volumes: Vec<String> = self.list()?.iter().map(|volume| volume.trim().to_owned()).collect();
        if volumes.is_empty() {
            return Err(Error::new("VOLUME requires at least one argument"));
        }
        match volumes.iter().any(String::is_empty) {
            true => Err(Error::new("VOLUME specified can not be an empty string")),
            false => Ok(volumes),
        }
    }

    fn shell(&self) -> Result<Vec<String>> {
        let rest = self.some_argument()?;
        match split::json(rest)? {
            None => {
                Err(Error::new(format!("SHELL requires the arguments to be in JSON form: {}", self.line.text.trim())))
            }
            Some(words) if words.is_empty() => Err(Error::new("SHELL requires at least one argument")),
            Some(words) => Ok(words),
        }
    }

    fn command_line(&self) -> Result<CommandLine> {
        let files = self.line.heredocs.iter().map(|document| InlineFile {
            name: document.name.clone(),
            data: document.content.clone(),
            chomp: document.chomp,
        });
        let files = files.collect();
        Ok(match split::json(self.rest())? {
            Some(words) => CommandLine { words, shell: false, files },
            None if self.rest().is_empty() => CommandLine { words: Vec::new(), shell: true, files },
            None => CommandLine { words: vec![self.rest().to_owned()], shell: true, files },
        })
    }

    fn plain_command(&self) -> Result<CommandLine> {
        self.flags(&[])?;
        self.command_line()
    }

    fn run(&self) -> Result<Run> {
        const KNOWN: &[(&str, Kind)] =
            &[("mount", Kind::Texts), ("network", Kind::Text), ("security", Kind::Text), ("device", Kind::Texts)];
        let flags = self.flags(KNOWN)?;
        let mounts = flags.texts("mount");
        mounts.iter().try_for_each(|mount| Mount::check_form(mount))?;
        let one_of = |flag: &str, what: &str, known: &[&str]| match flags.text(flag) {
            Some(value) if !known.contains(&value) => {
                Err(Error::new(format!("{what} {value:?} is not supported{}", suggestion(value, known))))
            }
            value => Ok(value.map(str::to_owned)),
        };
        Ok(Run {
            command: self.command_line()?,
            mounts,
            network: one_of("network", "network mode", &["default", "none", "host"])?,
            security: one_of("security", "security mode", &["sandbox", "insecure"])?,
            devices: flags.texts("device"),
        })
    }

    fn sources(&self) -> Result<Sources> {
        let mut words = self.list()?;
        let Some(destination) = words.pop().filter(|_| !words.is_empty()) else {
            let message =
                "requires at least two arguments, but only one was provided. Destination could not be determined";
            return Err(Error::new(format!("{} {message}", self.name)));
        };
        if Heredoc::announced_by(&destination).is_ok_and(|document| document.is_some()) {
            return Err(Error::new(format!("{} cannot accept a heredoc as a destination", self.name)));
        }
        let mut sources = Sources { destination, ..Sources::default() };
        for word in words {
            // Where there are bodies, the words announced them; in the JSON form a word is just a word.
            let announced = Heredoc::announced_by(&word).ok().flatten();
            match announced.and_then(|known| self.line.heredocs.iter().find(|document| document.name == known.name)) {
                Some(document) => {
                    sources.inline.push((document.name.clone(), document.text(), document.expand));
                }
                None => sources.paths.push(word),
            }
        }
        Ok(sources)
    }

    fn add(&self) -> Result<Add> {
        const KNOWN: &[(&str, Kind)] = &[
            ("chown", Kind::Text),
            ("chmod", Kind::Text),
            ("link", Kind::Bool),
            ("keep-git-dir", Kind::Bool),
            ("checksum", Kind::Text),
            ("unpack", Kind::Bool),
            ("exclude", Kind::Texts),
        ];
        let sources = self.sources()?;
        let flags = self.flags(KNOWN)?;
        Ok(Add {
            sources,
            chown: flags.owned("chown"),
            chmod: flags.owned("chmod"),
            link: flags.switch("link").unwrap_or(false),
            keep_git_dir: flags.switch("keep-git-dir"),
            checksum: flags.owned("checksum"),
            unpack: flags.switch("unpack"),
            exclude: flags.texts("exclude"),
        })
    }

    fn copy(&self) -> Result<Copy> {
        const KNOWN: &[(&str, Kind)] = &[
            ("chown", Kind::Text),
            ("from", Kind::Text),
            ("chmod", Kind::Text),
            ("link", Kind::Bool),
            ("exclude", Kind::Texts),
            ("parents", Kind::Bool),
        ];
        let sources = self.sources()?;
        let flags = self.flags(KNOWN)?;
        Ok(Copy {
            sources,
            from: flags.owned("from"),
            chown: flags.owned("chown"),
            chmod: flags.owned("chmod"),
            link: flags.switch("link").unwrap_or(false),
            parents: flags.switch("parents").unwrap_or(false),
            exclude: flags.texts("exclude"),
        })
    }

    fn trigger(&self) -> Result<String> {
        let rest = self.some_argument()?;
        let first = rest.split_whitespace().next().unwrap_or_default().to_uppercase();
        match first.as_str() {
            "ONBUILD" => return Err(Error::new("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
            "MAINTAINER" | "FROM" => return Err(Error::new(format!("{first} isn't allowed as an ONBUILD trigger"))),
            _ => {}
        }
        // An error in it shows here, not when somebody builds on the image.
        let line = Line {
            text: rest.to_owned(),
            heredocs: self.line.heredocs.clone(),
            comments: Vec::new(),
            span: self.line.span,
        };
        step(&line, self.escape)?;
        let bodies = self.line.heredocs.iter().map(|document| format!("\n{}{}", document.content, document.name));
        Ok(rest.to_owned() + &bodies.collect::<String>())
    }

    fn healthcheck(&self) -> Result<Healthcheck> {
        let (kind, rest) = match self.rest().split_once(char::is_whitespace) {
            Some((kind, rest)) => (kind.to_uppercase(), rest.trim_start()),
            None if self.rest().is_empty() => return Err(Error::new("HEALTHCHECK requires at least one argument")),
            None => (self.rest().to_uppercase(), ""),
        };
        if kind == "NONE" {
            return match rest {
                "" => Ok(Healthcheck { test: vec![kind], ..Healthcheck::default() }),
                _ => Err(Error::new("HEALTHCHECK NONE takes no arguments")),
            };
        }
        let flags =
            self.flags(&["interval", "timeout", "start-period", "start-interval", "retries"].map(|n| (n, Kind::Text)))?;
        if kind != "CMD" {
            return Err(Error::new(format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)")));
        }
        let test = match split::json(rest)? {
            _ if rest.is_empty() => Vec::new(),
            Some(words) => [vec!["CMD".to_owned()], words].concat(),
            None => vec!["CMD-SHELL".to_owned(), rest.to_owned()],
        };
        if test.len() < 2 {
            return Err(Error::new("Missing command after HEALTHCHECK CMD"));
        }
        let interval = |name: &str| interval(name, flags.text(name).unwrap_or_default());
        Ok(Healthcheck {
            test,
            interval: interval("interval")?,
            timeout: interval("timeout")?,
            start_period: interval("start-period")?,
            start_interval: interval("start-interval")?,
            retries: retries(flags.text("retries").unwrap_or_default())?,
        })
    }
}

/// A letter, then letters, digits, `-`, `_` and `.`; in lower case.
fn stage_name(name: &str) -> Result<String> {
    let lower = name.to_lowercase();
    let fine = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-_.".contains(letter);
    if lower.starts_with(|letter: char| letter.is_ascii_lowercase()) && lower.chars().all(fine) {
        return Ok(lower);
    }
    let rule = "name can't start with a number or contain symbols";
    Err(Error::new(format!("invalid name for build stage: {name:?}, {rule}")))
}

/// A duration in nanoseconds: none or at least a millisecond.
fn interval(name: &str, text: &str) -> Result<i64> {
    if text.is_empty() {
        return Ok(0);
    }
    let nanoseconds = duration(text).ok_or_else(|| Error::new(format!("time: invalid duration {text:?}")))?;
    if nanoseconds != 0 && nanoseconds < 1_000_000 {
        return Err(Error::new(format!("Interval {name:?} cannot be less than 1ms")));
    }
    Ok(nanoseconds)
}

/// Go's `time.ParseDuration`, in nanoseconds.
fn duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = &rest[end..];
    }
    (!text.is_empty() && total < i64::MAX as f64).then_some((sign * total) as i64)
}

fn retries(text: &str) -> Result<i64> {
    if text.is_empty() {
        return Ok(0);
    }
    match text.parse::<i32>() {
        Ok(number @ ..0) => Err(Error::new(format!("--retries cannot be negative ({number})"))),
        Ok(number) => Ok(number.into()),
        Err(_) => Err(Error::new(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
    }
}
