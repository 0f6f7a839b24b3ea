//! How each engine is told to pull, to forget, to save and to commit, and where it keeps what it has.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::super::engines::{Engine, World};
use crate::process::{find, output};
use crate::{Result, process};

/// An engine with its words for images.
pub(super) struct Peer {
    pub(super) engine: Engine,
    /// Where it keeps layers, if it says so.
    directory: Option<PathBuf>,
}

/// Kiste first, then every peer that is there and works.
pub(super) fn all(world: &World) -> Result<Vec<Peer>> {
    let mut engines = world.whole_engines();
    if find("ctr").is_some() {
        let ctr = Engine::whole_of("ctr", ["ctr", "--namespace", "kiste-bench"].map(str::to_owned).to_vec());
        match ctr.quiet(&["version"]) {
            Ok(_) => engines.push(ctr),
            Err(error) => eprintln!("ctr is left out, containerd does not answer: {error}"),
        }
    }
    let peer = |engine: Engine| {
        let directory = match engine.name.as_str() {
            "kiste" => Some(world.store()),
            "docker" => Some(engine.quiet(&["info", "--format", "{{.DockerRootDir}}"])?.trim().into()),
            "podman" => Some(engine.quiet(&["info", "--format", "{{.Store.GraphRoot}}"])?.trim().into()),
            _ => None,
        };
        Ok(Peer { engine, directory })
    };
    engines.into_iter().map(peer).collect()
}

impl Peer {
    fn is(&self, name: &str) -> bool {
        self.engine.name == name
    }

    /// Whether it runs containers by Docker's words.
    pub(super) fn runs(&self) -> bool {
        !self.is("ctr")
    }

    pub(super) fn pull(&self, image: &str) -> Result<Duration> {
        match self.engine.name.as_str() {
            "podman" => self.engine.timed(&["pull", "--tls-verify=false", image]),
            "ctr" => self.engine.timed(&["images", "pull", "--plain-http", image]),
            _ => self.engine.timed(&["pull", image]),
        }
    }

    /// Forgets an image that may not be there.
    pub(super) fn forget(&self, image: &str) {
        let words = if self.is("ctr") { ["images", "rm", "--sync", image] } else { ["image", "rm", "-f", image] };
        // That it is not there is no failure.
        let _ = self.engine.quiet(&words);
    }

    pub(super) fn save(&self, image: &str, file: &Path) -> Result<Duration> {
        let file = file.display().to_string();
        match self.is("ctr") {
            true => self.engine.timed(&["images", "export", &file, image]),
            false => self.engine.timed(&["save", "-o", &file, image]),
        }
    }

    /// A container of the image to its end, without a network.
    pub(super) fn run(&self, image: &str, command: &[&str]) -> Result<Duration> {
        self.engine.timed(&[&["run", "--rm", "--network", "none", image], command].concat())
    }

    /// Kibibytes on the disk.
    pub(super) fn disk(&self) -> Result<Option<u64>> {
        let Some(directory) = &self.directory else { return Ok(None) };
        let text = output(process::command("du", ["-skx"]).arg(directory))?;
        let size = text.split_whitespace().next().and_then(|word| word.parse().ok());
        size.map(Some).ok_or_else(|| format!("du: {text}"))
    }
}

/// Time of a program of the machine, whose output nobody wants.
pub(super) fn timed(program: &str, arguments: &[PathBuf]) -> Result<Duration> {
    let mut command = Command::new(program);
    command.args(arguments).stdout(std::process::Stdio::null());
    let start = std::time::Instant::now();
    process::run(&mut command)?;
    Ok(start.elapsed())
}
