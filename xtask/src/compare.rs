//! `cargo xtask compare builds [--record] [CASE…]`: every case of the corpus built with docker (which must be on the PATH,
//! with its daemon running) and with Kiste, and what came out compared. `--record` writes down what docker made, which is
//! what the tests compare Kiste with where there is no docker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kiste_tests::{corpus, told};

use crate::process::{at, command};
use crate::{Result, build, images};

/// Where the corpus is.
const CORPUS: &str = "tests/builds";
const TAG: &str = "kiste-corpus:case";

/// Compares.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result {
    let (flags, names): (Vec<&String>, Vec<&String>) = arguments.iter().partition(|word| word.starts_with("--"));
    let record = flags.iter().any(|flag| *flag == "--record");
    let place = root.join("target/compare");
    let _ = fs::remove_dir_all(&place);
    at("create", &place, fs::create_dir_all(&place))?;
    let archives = ["busybox.tar", "debian.tar"].map(|name| root.join("target/test-images").join(name));
    if !archives.iter().all(|archive| archive.exists()) {
        images::prepare(root)?;
    }
    let bases: Vec<String> = archives.iter().flat_map(|archive| told::layers(archive)).collect();
    let kiste = build::released(root)?.display().to_string();
    let state = format!("/run/kiste-compare-{}", std::process::id());
    let store = place.join("root").display().to_string();
    let kiste = Builder { words: [&kiste, "--root", &store, "--state", &state].map(str::to_owned).to_vec() };
    let docker = Builder { words: vec!["docker".to_owned()] };
    for builder in [&kiste, &docker] {
        archives.iter().try_for_each(|archive| builder.run(&["load", "-q", "-i", &archive.display().to_string()]))?;
    }
    println!("| case | files | configuration and history |\n|---|---|---|");
    let mut different = 0;
    for case in corpus::Case::all(&root.join(CORPUS)).iter().filter(|case| chosen(&names, &case.name)) {
        let theirs = docker.make(case, &place.join("docker"), &bases)?;
        if record {
            let file = root.join(CORPUS).join(format!("{}.made", case.name));
            at("write", &file, fs::write(&file, &theirs))?;
        }
        let ours = kiste.make(case, &place.join("kiste"), &bases)?;
        different += usize::from(ours != theirs);
        println!("| {} | {} | {} |", case.name, verdict(&ours, &theirs, true), verdict(&ours, &theirs, false));
        show(&ours, &theirs);
    }
    let _ = fs::remove_dir_all(&state);
    if different == 0 { Ok(()) } else { Err(format!("{different} cases came out differently")) }
}

fn chosen(names: &[&String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|wanted| name.contains(wanted.as_str()))
}

/// How much of what was made is the same.
fn verdict(ours: &str, theirs: &str, files: bool) -> String {
    let lines = |text: &str| -> Vec<String> {
        let of_files = |line: &&str| line.starts_with("file ") || line.starts_with("gone ");
        text.lines().filter(|line| of_files(line) == files).map(str::to_owned).collect()
    };
    let (ours, theirs) = (lines(ours), lines(theirs));
    if ours == theirs { format!("same ({})", theirs.len()) } else { "DIFFERENT".to_owned() }
}

fn show(ours: &str, theirs: &str) {
    let only = |one: &str, other: &str, mark: &str| {
        one.lines()
            .filter(|line| !other.lines().any(|there| there == *line))
            .for_each(|line| eprintln!("{mark} {line}"));
    };
    only(theirs, ours, "  docker:");
    only(ours, theirs, "  kiste: ");
}

/// An engine that builds.
struct Builder {
    words: Vec<String>,
}

impl Builder {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(&self.words[0], &self.words[1..]);
        command.args(arguments).env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1");
        command
    }

    fn run(&self, arguments: &[&str]) -> Result {
        let output = self.command(arguments).output().map_err(|error| format!("{}: {error}", self.words[0]))?;
        if output.status.success() {
            return Ok(());
        }
        let error = String::from_utf8_lossy(&output.stderr);
        Err(format!("{} {}: {}", self.words[0], arguments.join(" "), error.trim()))
    }

    /// Builds a case; what came out, or how it failed.
    fn make(&self, case: &corpus::Case, place: &Path, bases: &[String]) -> Result<String> {
        let directory: PathBuf = place.join(&case.name);
        case.lay_out(&directory);
        let build = |tag: &str, context: &Path, options: &[String]| {
            let context = context.display().to_string();
            let fixed = ["build", "-q", "--network", "none", "-t", tag];
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            self.run(&[&fixed[..], &options, &[&context]].concat())
        };
        if let Some((before, tag)) = &case.before {
            build(tag, &directory.join(before), &[])?;
        }
        if let Err(error) = build(TAG, &directory.join("@context"), &case.options(&directory)) {
            return Ok(format!("failed {}\n", error.lines().last().unwrap_or_default()));
        }
        let archive = directory.join("made.tar");
        self.run(&["save", "-o", &archive.display().to_string(), TAG])?;
        let told = told::tell(&archive, bases);
        at("remove", &archive, fs::remove_file(&archive))?;
        Ok(told)
    }
}
