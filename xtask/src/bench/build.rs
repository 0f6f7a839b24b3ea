//! `cargo xtask bench build`: builds beside `docker build` (BuildKit) and `podman build` (buildah): steps, copies of many
//! files, what is cached, and stages that need not wait for each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::engines::{Engine, IMAGE, World};
use super::interleaved;
use super::report::Table;
use crate::Result;
use crate::process::at;

/// Files of the two contexts, in directories of 100.
const FILES: usize = 10_000;
const MANY_FILES: usize = 50_000;
const STEPS: usize = 20;

/// Measures everything; `--quick` in fewer rounds.
pub(super) fn run(root: &Path, quick: bool) -> Result {
    let rounds = if quick { 2 } else { 5 };
    let world = World::prepare(root)?;
    let engines: Vec<Engine> = world.engines()?.into_iter().filter(Engine::whole).collect();
    let contexts = Contexts::prepare(world.directory())?;
    let mut table = Table::new(engines.iter().map(|engine| engine.name.clone()).collect());
    let mut row = |name: &str, context: &Path, options: &[&str], before: &mut dyn FnMut() -> Result| -> Result {
        let times = interleaved(&engines, rounds, |engine| {
            before()?;
            Ok(vec![build(engine, context, options)?])
        })?;
        table.times(name, times);
        Ok(())
    };
    let mut nothing = || Ok(());
    row("20 RUN steps", &contexts.steps, &["--no-cache"], &mut nothing)?;
    row("20 RUN steps, all cached", &contexts.steps, &[], &mut nothing)?;
    row("COPY of 10,000 files", &contexts.files, &["--no-cache"], &mut nothing)?;
    row("COPY of 10,000 files, cached", &contexts.files, &[], &mut nothing)?;
    let (changed, mut count) = (contexts.files.join("files/0/0"), 0);
    let mut change = || {
        count += 1;
        at("write", &changed, fs::write(&changed, format!("changed {count}\n")))
    };
    row("COPY of 10,000 files, one changed", &contexts.files, &[], &mut change)?;
    row("two stages of 2 s each", &contexts.stages, &["--no-cache"], &mut nothing)?;
    for engine in &engines {
        build(engine, &contexts.many, &[])?;
    }
    row("context of 50,000 files, nothing changed", &contexts.many, &[], &mut nothing)?;
    print!("{}", table.markdown());
    Ok(())
}

/// Time of one build.
fn build(engine: &Engine, context: &Path, options: &[&str]) -> Result<Duration> {
    let context = context.display().to_string();
    // Its builds raise these limits, which even root may not do on some machines.
    let limits: &[&str] =
        if engine.name == "podman" { &["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"] } else { &[] };
    engine.timed(&[&["build", "-q", "--network", "none", "-t", "kiste-bench"], limits, options, &[&context]].concat())
}

/// Directories with a Dockerfile each.
struct Contexts {
    steps: PathBuf,
    files: PathBuf,
    many: PathBuf,
    stages: PathBuf,
}

impl Contexts {
    fn prepare(directory: &Path) -> Result<Self> {
        let make = |name: &str, dockerfile: &str| -> Result<PathBuf> {
            let place = directory.join(name);
            at("create", &place, fs::create_dir_all(&place))?;
            let file = place.join("Dockerfile");
            at("write", &file, fs::write(&file, dockerfile))?;
            Ok(place)
        };
        let steps: String = (0..STEPS).map(|number| format!("RUN echo {number}\n")).collect();
        let copy = format!("FROM {IMAGE}\nCOPY files /files\n");
        let stages = format!(
            "FROM {IMAGE} AS a\nRUN sleep 2; touch /a\nFROM {IMAGE} AS b\nRUN sleep 2; touch /b\n\
             FROM {IMAGE}\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
        );
        let contexts = Contexts {
            steps: make("steps", &format!("FROM {IMAGE}\n{steps}"))?,
            files: make("files", &copy)?,
            many: make("many", &copy)?,
            stages: make("stages", &stages)?,
        };
        fill(&contexts.files.join("files"), FILES)?;
        fill(&contexts.many.join("files"), MANY_FILES)?;
        Ok(contexts)
    }
}

/// Files of a kibibyte.
fn fill(directory: &Path, count: usize) -> Result {
    for index in 0..count {
        let place = directory.join((index / 100).to_string());
        if index % 100 == 0 {
            at("create", &place, fs::create_dir_all(&place))?;
        }
        let file = place.join(index.to_string());
        at("write", &file, fs::write(&file, format!("{index:01024}")))?;
    }
    Ok(())
}
