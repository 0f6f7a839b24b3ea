//! `cargo xtask bench runtime`: Kiste's runc-compatible face beside crun and runc, with the configuration that Docker gives
//! a container: all namespaces, its seccomp profile, masked paths, limits.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::APART;
use super::report::Table;
use crate::process::{self, at, find};
use crate::{Result, build};

/// What dockerd 28.5 writes for `docker run --memory 256m --cpus 1 --pids-limit 100 --network none busybox true`, without
/// its own hooks and the files that it mounts.
const CONFIG: &str = include_str!("docker-config.json");

/// How often each thing is measured.
struct Effort {
    rounds: usize,
    burst: usize,
    /// Containers that are there while others are created: few and many.
    crowds: [usize; 2],
}

const FULL: Effort = Effort { rounds: 20, burst: 5, crowds: [10, 1000] };
const QUICK: Effort = Effort { rounds: 5, burst: 2, crowds: [10, 100] };
const AT_ONCE: usize = 32;

struct Runtime {
    name: String,
    program: Vec<String>,
    bundle: PathBuf,
}

/// Measures everything; `--quick` with less effort.
pub(super) fn run(root: &Path, quick: bool) -> Result {
    let effort = if quick { QUICK } else { FULL };
    let runtimes = prepare(root)?;
    let mut table = Table::new(runtimes.iter().map(|runtime| runtime.name.clone()).collect());
    for runtime in &runtimes {
        runtime.run_true()?;
    }
    let times = each(&runtimes, effort.rounds, |runtime| (0..effort.burst).map(|_| runtime.run_true()).collect())?;
    table.times("`run` of `/bin/true`, back to back", times);
    let times = each(&runtimes, effort.rounds, |runtime| {
        std::thread::sleep(APART);
        Ok(vec![runtime.run_true()?])
    })?;
    table.times("the same, 200 ms apart", times);
    let times = each(&runtimes, effort.rounds.div_ceil(4), |runtime| Ok(vec![runtime.many_at_once()?]))?;
    table.times("32 at once, until all have ended", times);
    execs(&runtimes, &effort, &mut table)?;
    let peaks = runtimes.iter().map(|runtime| runtime.peak().map(Some)).collect::<Result<_>>()?;
    table.sizes("largest resident set of a start", peaks);
    for count in effort.crowds {
        let times = runtimes.iter().map(|runtime| runtime.create_beside(count, &effort)).collect::<Result<_>>()?;
        table.times(&format!("`create` beside {count} containers"), times);
    }
    print!("{}", table.markdown());
    Ok(())
}

/// Kiste first, then every peer that is there; each with a bundle and a state root of its own.
fn prepare(root: &Path) -> Result<Vec<Runtime>> {
    let kiste = build::released(root)?.display().to_string();
    let directory = root.join("target/bench-runtime");
    let _ = fs::remove_dir_all(&directory);
    let mut programs = vec![("kiste", vec![kiste, "runtime".to_owned()])];
    programs.extend(
        ["crun", "runc"].into_iter().filter(|name| find(name).is_some()).map(|name| (name, vec![name.to_owned()])),
    );
    let runtime = |(name, mut program): (&str, Vec<String>)| {
        let bundle = directory.join(name);
        let bin = bundle.join("rootfs/bin");
        at("create", &bin, fs::create_dir_all(&bin))?;
        let busybox = find("busybox").ok_or("busybox is not installed")?;
        for program in ["true", "sleep"] {
            at("copy", &busybox, fs::copy(&busybox, bin.join(program)))?;
        }
        program.extend(["--root".to_owned(), format!("/run/kiste-bench-{}/{name}", std::process::id())]);
        let runtime = Runtime { name: name.to_owned(), program, bundle };
        runtime.configure(&["/bin/true"])?;
        Ok(runtime)
    };
    programs.into_iter().map(runtime).collect()
}

/// Runs `measure` for every runtime in turn, round after round.
fn each(
    runtimes: &[Runtime],
    rounds: usize,
    mut measure: impl FnMut(&Runtime) -> Result<Vec<Duration>>,
) -> Result<Vec<Vec<Duration>>> {
    let mut times = vec![Vec::new(); runtimes.len()];
    for _ in 0..rounds {
        for (runtime, times) in runtimes.iter().zip(&mut times) {
            times.extend(measure(runtime)?);
        }
    }
    Ok(times)
}

fn execs(runtimes: &[Runtime], effort: &Effort, table: &mut Table) -> Result {
    for runtime in runtimes {
        runtime.configure(&["/bin/sleep", "100000"])?;
        runtime.timed(&["run", "--detach", &runtime.idle()])?;
        runtime.timed(&["exec", &runtime.idle(), "/bin/true"])?;
    }
    let times = each(runtimes, effort.rounds, |runtime| {
        (0..effort.burst).map(|_| runtime.timed(&["exec", &runtime.idle(), "/bin/true"])).collect()
    })?;
    table.times("`exec` of `/bin/true`", times);
    let times = each(runtimes, effort.rounds, |runtime| {
        std::thread::sleep(APART);
        Ok(vec![runtime.timed(&["exec", &runtime.idle(), "/bin/true"])?])
    })?;
    table.times("the same, 200 ms apart", times);
    for runtime in runtimes {
        runtime.timed(&["delete", "--force", &runtime.idle()])?;
        runtime.configure(&["/bin/true"])?;
    }
    Ok(())
}

impl Runtime {
    /// The container that `exec` enters; the runtimes derive the cgroup from the id, and none may find another's there.
    fn idle(&self) -> String {
        format!("idle-{}", self.name)
    }

    fn configure(&self, arguments: &[&str]) -> Result {
        let file = self.bundle.join("config.json");
        let mut config: serde_json::Value =
            serde_json::from_str(CONFIG).map_err(|e| format!("docker-config.json: {e}"))?;
        config["process"]["args"] = serde_json::json!(arguments);
        if let Some(linux) = config["linux"].as_object_mut() {
            linux.remove("cgroupsPath");
        }
        at("write", &file, fs::write(&file, config.to_string()))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = process::command(&self.program[0], &self.program[1..]);
        command.args(arguments).current_dir(&self.bundle).stdin(Stdio::null());
        command
    }

    /// Without pipes, whose reading would be measured too.
    fn timed(&self, arguments: &[&str]) -> Result<Duration> {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let status = command.status().map_err(|e| format!("{}: {e}", self.name))?;
        let took = start.elapsed();
        match status.success() {
            true => Ok(took),
            // Once more, to learn what it says.
            false => {
                let output = self.command(arguments).output().map_err(|e| format!("{}: {e}", self.name))?;
                Err(format!(
                    "{} {}: {}",
                    self.name,
                    arguments.join(" "),
                    String::from_utf8_lossy(&output.stderr).trim()
                ))
            }
        }
    }

    fn run_true(&self) -> Result<Duration> {
        self.timed(&["run", &id()])
    }

    fn many_at_once(&self) -> Result<Duration> {
        let start = Instant::now();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(|| self.run_true())).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?.map(drop))
        })?;
        Ok(start.elapsed())
    }

    /// Kibibytes, as time(1) has them from wait4(2).
    fn peak(&self) -> Result<u64> {
        let time = find("time").ok_or("time(1) is not installed: apt-get install time")?;
        let own = self.command(&["run", &id()]);
        let output = Command::new(time)
            .args(["-f", "%M"])
            .arg(own.get_program())
            .args(own.get_args())
            .current_dir(&self.bundle)
            .output();
        let output = output.map_err(|e| format!("time: {e}"))?;
        let text = String::from_utf8_lossy(&output.stderr);
        text.lines().last().and_then(|line| line.trim().parse().ok()).ok_or_else(|| format!("time: {text}"))
    }

    /// Times of `create` while `count` others wait for their start.
    fn create_beside(&self, count: usize, effort: &Effort) -> Result<Vec<Duration>> {
        let crowd: Vec<String> = (0..count).map(|index| format!("crowd-{index}")).collect();
        crowd.iter().try_for_each(|id| self.timed(&["create", id]).map(drop))?;
        let times = (0..effort.rounds).map(|_| {
            let id = id();
            let took = self.timed(&["create", &id])?;
            self.timed(&["delete", "--force", &id])?;
            Ok(took)
        });
        let times = times.collect();
        crowd.iter().try_for_each(|id| self.timed(&["delete", "--force", id]).map(drop))?;
        times
    }
}

/// One that has not been used.
fn id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
