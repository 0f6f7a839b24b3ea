//! The engines that are compared: how each is told to do the same thing. Whole engines get the same image; bare OCI
//! runtimes get its unpacked tree, as a mark of what is possible.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::process::{self, at, find};
use crate::{Result, build, images};

pub(super) const IMAGE: &str = "busybox:latest";

/// Prefix of the names of the containers that a measurement makes.
pub(super) const NAME: &str = "kiste-bench-";

/// What all engines share: the image archive, and directories for Kiste and for the runtimes.
pub(super) struct World {
    kiste: PathBuf,
    archive: PathBuf,
    directory: PathBuf,
}

impl World {
    /// Builds the product as it is released (unless `KISTE_TEST_BINARY` names a build) and finds the image.
    pub(super) fn prepare(root: &Path) -> Result<Self> {
        let kiste = build::released(root)?;
        let archive = root.join("target/test-images/busybox.tar");
        if !archive.exists() {
            images::prepare(root)?;
        }
        let directory = root.join("target/bench");
        let _ = fs::remove_dir_all(&directory);
        at("create", &directory, fs::create_dir_all(&directory))?;
        Ok(World { kiste, archive, directory })
    }

    /// Where measurements may put files.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Kiste's root.
    pub(super) fn store(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// Kiste first, then Docker and Podman where they are there and work.
    pub(super) fn whole_engines(&self) -> Vec<Engine> {
        let state = format!("/run/kiste-bench-{}", std::process::id());
        let root = self.store().display().to_string();
        let kiste = [self.kiste.display().to_string(), "--root".to_owned(), root, "--state".to_owned(), state];
        let mut engines = vec![Engine::new("kiste", kiste.to_vec(), Kind::Whole)];
        for name in ["docker", "podman"].into_iter().filter(|name| find(name).is_some()) {
            let engine = Engine::new(name, vec![name.to_owned()], Kind::Whole);
            match engine.quiet(&["info"]) {
                Ok(_) => engines.push(engine),
                Err(error) => eprintln!("{name} is left out, it does not answer: {error}"),
            }
        }
        engines
    }

    /// Kiste first, then every peer that is there and works, each with the image.
    pub(super) fn engines(&self) -> Result<Vec<Engine>> {
        let mut engines = self.whole_engines();
        let archive = self.archive.display().to_string();
        for engine in &engines {
            engine.quiet(&["load", "-i", &archive])?;
            engine.remove_all()?;
        }
        for name in ["crun", "runc"].into_iter().filter(|name| find(name).is_some()) {
            let bundle = self.bundle(name)?;
            engines.push(Engine::new(name, vec![name.to_owned()], Kind::Runtime { bundle }));
        }
        Ok(engines)
    }

    /// A directory with the image's tree and the runtime's own default configuration, changed to run `true`.
    fn bundle(&self, runtime: &str) -> Result<PathBuf> {
        let bundle = self.directory.join(runtime);
        let rootfs = bundle.join("rootfs");
        at("create", &rootfs, fs::create_dir_all(rootfs.join("bin")))?;
        let busybox = find("busybox").ok_or("busybox is not installed")?;
        at("copy", &busybox, fs::copy(&busybox, rootfs.join("bin/true")))?;
        process::run(Command::new(runtime).arg("spec").current_dir(&bundle))?;
        let file = bundle.join("config.json");
        let text = at("read", &file, fs::read_to_string(&file))?;
        let mut config: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        config["process"]["args"] = serde_json::json!(["/bin/true"]);
        config["process"]["terminal"] = false.into();
        at("write", &file, fs::write(&file, config.to_string()))?;
        Ok(bundle)
    }
}

enum Kind {
    /// Has images, names, a list.
    Whole,
    /// Runs bundles.
    Runtime { bundle: PathBuf },
}

/// One engine.
pub(super) struct Engine {
    pub name: String,
    program: Vec<String>,
    kind: Kind,
}

impl Engine {
    fn new(name: &str, program: Vec<String>, kind: Kind) -> Self {
        Engine { name: name.to_owned(), program, kind }
    }

    /// One that has images, by the words that all its commands begin with.
    pub(super) fn whole_of(name: &str, program: Vec<String>) -> Self {
        Engine::new(name, program, Kind::Whole)
    }

    /// Whether it has containers with names, not only processes.
    pub(super) fn whole(&self) -> bool {
        matches!(self.kind, Kind::Whole)
    }

    /// Its command, before the verb.
    pub(super) fn words(&self) -> &[String] {
        &self.program
    }

    /// The words that its helper processes carry on their command lines, if they are its own.
    pub(super) fn mark(&self) -> &str {
        self.program.get(2).map_or("", String::as_str)
    }

    /// Time of one container from start to end.
    pub(super) fn run_true(&self) -> Result<Duration> {
        match &self.kind {
            Kind::Whole => self.timed(&["run", "--rm", "--network", "none", IMAGE, "true"]),
            Kind::Runtime { bundle } => {
                static NEXT: AtomicU32 = AtomicU32::new(0);
                let id = format!("{NAME}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
                self.timed(&["run", "-b", &bundle.display().to_string(), &id])
            }
        }
    }

    /// Starts a container that sleeps; its name ends with the index.
    pub(super) fn start_idle(&self, index: usize) -> Result {
        let name = format!("{NAME}{index}");
        self.timed(&["run", "-d", "--network", "none", "--name", &name, IMAGE, "sleep", "100000"]).map(drop)
    }

    /// Time of one command in the first idle container.
    pub(super) fn exec_true(&self) -> Result<Duration> {
        self.timed(&["exec", &format!("{NAME}0"), "true"])
    }

    /// Time of the list of running containers.
    pub(super) fn list(&self) -> Result<Duration> {
        self.timed(&["ps"])
    }

    /// Removes what measurements made, and nothing else.
    pub(super) fn remove_all(&self) -> Result {
        let names = self.quiet(&["ps", "-a", "--format", "{{.Names}}"])?;
        let names: Vec<&str> = names.lines().filter(|name| name.starts_with(NAME)).collect();
        for some in names.chunks(20) {
            self.quiet(&[&["rm", "-f"], some].concat())?;
        }
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = process::command(&self.program[0], &self.program[1..]);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end; what it printed.
    pub(super) fn quiet(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output().map_err(|e| format!("{}: {e}", self.name))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let error = String::from_utf8_lossy(&output.stderr);
        Err(format!("{} {}: {}", self.name, arguments.join(" "), error.trim()))
    }

    /// Time of a command. Without pipes, whose reading would be measured too.
    pub(super) fn timed(&self, arguments: &[&str]) -> Result<Duration> {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let status = command.status().map_err(|e| format!("{}: {e}", self.name))?;
        let took = start.elapsed();
        match status.success() {
            true => Ok(took),
            // Once more, to learn what it says.
            false => {
                Err(self.quiet(arguments).err().unwrap_or(format!("{} {}: {status}", self.name, arguments.join(" "))))
            }
        }
    }
}
