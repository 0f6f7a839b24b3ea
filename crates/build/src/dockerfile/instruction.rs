//! The instructions, typed, as they were written: nothing is expanded yet.

use super::mount::Mount;
use crate::Span;

/// An instruction with what is known of its place.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it says.
    pub instruction: Instruction,
    /// Its name as it was written.
    pub name: String,
    /// The whole logical line.
    pub code: String,
    /// Where it stands, here-documents included.
    pub span: Span,
    /// The comment lines right before it.
    pub comments: Vec<String>,
}

/// What an instruction says.
#[derive(Clone, Debug, PartialEq)]
pub enum Instruction {
    /// ADD
    Add(Add),
    /// ARG
    Arg(Vec<Argument>),
    /// CMD
    Cmd(CommandLine),
    /// COPY
    Copy(Copy),
    /// ENTRYPOINT; an empty one takes the base image's away.
    Entrypoint(CommandLine),
    /// ENV
    Env(Vec<Pair>),
    /// EXPOSE, sorted
    Expose(Vec<String>),
    /// FROM
    From(From),
    /// HEALTHCHECK
    Healthcheck(Healthcheck),
    /// LABEL
    Label(Vec<Pair>),
    /// MAINTAINER
    Maintainer(String),
    /// ONBUILD: the trigger as text, as the image's configuration keeps it
    Onbuild(String),
    /// RUN
    Run(Box<Run>),
    /// SHELL
    Shell(Vec<String>),
    /// STOPSIGNAL
    StopSignal(String),
    /// USER
    User(String),
    /// VOLUME
    Volume(Vec<String>),
    /// WORKDIR
    Workdir(String),
}

/// `FROM [--platform=] base [AS name]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct From {
    /// Image, stage, or `scratch`.
    pub base: String,
    /// The stage's name in lower case, if it has one.
    pub name: Option<String>,
    /// As it was written.
    pub platform: Option<String>,
}

/// A name and a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The name.
    pub key: String,
    /// The value.
    pub value: String,
    /// Written in the old form, with a space instead of `=`.
    pub spaced: bool,
}

/// A build argument.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    /// The name.
    pub key: String,
    /// The default, if it has one.
    pub value: Option<String>,
}

/// A command, in the shell's form (one word) or as a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommandLine {
    /// The words.
    pub words: Vec<String>,
    /// Written without JSON: the stage's shell goes before it.
    pub shell: bool,
    /// Here-documents of RUN.
    pub files: Vec<InlineFile>,
}

/// A here-document of RUN.
#[derive(Clone, Debug, PartialEq)]
pub struct InlineFile {
    /// The word that ends it.
    pub name: String,
    /// Its content.
    pub data: String,
    /// Leading tabs are to go.
    pub chomp: bool,
}

/// What ADD and COPY take, and where it goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources {
    /// Paths, patterns or addresses.
    pub paths: Vec<String>,
    /// Here-documents: name of the file, content, whether variables in it are expanded.
    pub inline: Vec<(String, String, bool)>,
    /// The destination.
    pub destination: String,
}

/// ADD
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Add {
    /// From where to where.
    pub sources: Sources,
    /// `--chown`, or empty.
    pub chown: String,
    /// `--chmod`, or empty.
    pub chmod: String,
    /// `--link`
    pub link: bool,
    /// `--keep-git-dir`, if it was given.
    pub keep_git_dir: Option<bool>,
    /// `--checksum`, or empty.
    pub checksum: String,
    /// `--unpack`, if it was given.
    pub unpack: Option<bool>,
    /// `--exclude`
    pub exclude: Vec<String>,
}

/// COPY
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Copy {
    /// From where to where.
    pub sources: Sources,
    /// `--from`: a stage, an image or a named context; empty: the build context.
    pub from: String,
    /// `--chown`, or empty.
    pub chown: String,
    /// `--chmod`, or empty.
    pub chmod: String,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude`
    pub exclude: Vec<String>,
}

/// RUN
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// What is run.
    pub command: CommandLine,
    /// `--mount` as written: their variables are expanded later, then [`Mount::parse`] reads them.
    pub mounts: Vec<String>,
    /// `--network`: `default`, `none` or `host`; none if it was not given.
    pub network: Option<String>,
    /// `--security`: `sandbox` or `insecure`; none if it was not given.
    pub security: Option<String>,
    /// `--device`
    pub devices: Vec<String>,
}

impl Run {
    /// The mounts, with the variables of their options expanded.
    pub fn mounts(&self, expand: &dyn Fn(&str) -> crate::Result<String>) -> crate::Result<Vec<Mount>> {
        self.mounts.iter().map(|text| Mount::parse(text, expand)).collect()
    }
}

/// HEALTHCHECK; durations in nanoseconds, 0: inherited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Healthcheck {
    /// As in an image's configuration: `NONE`, or `CMD` or `CMD-SHELL` and the command.
    pub test: Vec<String>,
    /// Between two checks.
    pub interval: i64,
    /// Until a check counts as failed.
    pub timeout: i64,
    /// In which failures do not count.
    pub start_period: i64,
    /// Between two checks in the start period.
    pub start_interval: i64,
    /// Failures until it is unhealthy.
    pub retries: i64,
}
