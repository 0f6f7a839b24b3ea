//! `cargo xtask bench images`: pulling, storing, committing, saving and reading images beside the engines that are on the
//! PATH, from one registry on the loopback interface, onto one disk.

mod content;
mod engines;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kiste_tests::Registry;
use kiste_tests::archive::{Image, digest};

use super::engines::World;
use super::report::Table;
use crate::Result;
use crate::process::at;
use engines::{Peer, all, timed};

/// How often each thing is measured.
struct Effort {
    pulls: usize,
    rounds: usize,
    starts: usize,
}

const FULL: Effort = Effort { pulls: 5, rounds: 5, starts: 15 };
const QUICK: Effort = Effort { pulls: 2, rounds: 2, starts: 7 };

/// Layers of the deep image.
const DEEP: usize = 60;
/// The container of which images are committed, and such an image.
const CONTAINER: &str = "kiste-bench-changed";
const COMMITTED: &str = "kiste-bench-committed:latest";
/// Changes 100 of the 16,000 files.
const CHANGE: &str = "n=0; for f in /data/*/*/00; do [ $n -lt 100 ] || break; echo changed >> $f; n=$((n + 1)); done";
const READ: &str = "tar cf - /data | wc -c";

/// What is measured, and where it lies.
struct Bench {
    peers: Vec<Peer>,
    effort: Effort,
    /// Names by which the images are pulled.
    large: String,
    deep: String,
    flat: String,
    /// The large image's layers as files: compressed, and as archives.
    blobs: Vec<PathBuf>,
    archives: Vec<PathBuf>,
    directory: PathBuf,
    _registry: Registry,
}

/// Measures everything, or what is named (`pulls`, `uses`); `--quick` with less effort.
pub(super) fn run(root: &Path, options: &[String]) -> Result {
    if let Some(other) = options.iter().find(|one| !["--quick", "pulls", "uses"].contains(&one.as_str())) {
        return Err(format!("bench images: unknown {other:?}; what can be given is pulls, uses, --quick"));
    }
    let has = |word: &str| options.iter().any(|option| option == word);
    let world = World::prepare(root)?;
    let bench = Bench::prepare(&world, if has("--quick") { QUICK } else { FULL })?;
    let mut table = Table::new(bench.peers.iter().map(|peer| peer.engine.name.clone()).collect());
    bench.forget_all();
    let mut measured = if has("uses") { Ok(Vec::new()) } else { bench.pulls(&mut table) };
    if measured.is_ok() && !has("pulls") {
        measured = bench.uses(&mut table).and(measured);
    }
    bench.forget_all();
    print!("{}", table.markdown());
    measured.map(|notes| notes.iter().for_each(|note| println!("{note}")))
}

impl Bench {
    fn prepare(world: &World, effort: Effort) -> Result<Self> {
        let directory = world.directory().join("images");
        at("create", &directory, fs::create_dir_all(&directory))?;
        let registry = Registry::start_here();
        let publish = |image: &Image| registry.push(&image.name, "latest", image);
        let (deep, flat) = (publish(&content::deep(DEEP)), publish(&content::deep(1)));
        let image = content::large();
        let large = publish(&image);
        let archive = |(number, layer): (usize, &Vec<u8>)| {
            let path = directory.join(format!("{number}.tar"));
            at("write", &path, fs::write(&path, layer)).map(|()| path)
        };
        let archives = image.layers.iter().enumerate().map(archive).collect::<Result<_>>()?;
        let blobs = image.parts().blobs[1..].iter().map(|blob| registry.blob_file(blob)).collect();
        eprintln!("large: {}", image.layers.iter().map(|layer| digest(layer)).collect::<Vec<_>>().join(" "));
        Ok(Bench { peers: all(world)?, effort, large, deep, flat, blobs, archives, directory, _registry: registry })
    }

    /// Pulls, and what they leave on the disk; what stands below the table.
    fn pulls(&self, table: &mut Table) -> Result<Vec<String>> {
        let before = self.peers.iter().map(Peer::disk).collect::<Result<Vec<_>>>()?;
        let times = self.rounds(self.effort.pulls, |peer| {
            peer.forget(&self.large);
            peer.pull(&self.large).map(Some)
        })?;
        let notes = vec![self.pace(times[0].iter().min().copied())?];
        table.times("`pull`", times);
        let after =
            self.peers.iter().zip(&before).map(|(peer, before)| {
                Ok(peer.disk()?.zip(*before).map(|(after, before)| after.saturating_sub(before)))
            });
        table.sizes("disk used", after.collect::<Result<_>>()?);
        Ok(notes)
    }

    /// What is done with images that are here.
    fn uses(&self, table: &mut Table) -> Result {
        self.peers.iter().try_for_each(|peer| peer.pull(&self.large).map(drop))?;
        self.starts(table)?;
        self.commits(table)?;
        let saved = self.directory.join("saved.tar");
        let times = self.rounds(self.effort.rounds, |peer| {
            let _ = fs::remove_file(&saved);
            peer.save(&self.large, &saved).map(Some)
        })?;
        table.times("`save -o FILE`", times);
        let copied = (0..self.effort.rounds).map(|_| self.copy(&self.archives)).collect::<Result<Vec<_>>>()?;
        table.times("`cat` of the layers' archives into a file", vec![copied]);
        self.reads(table)
    }

    /// Runs `measure` for every engine in turn, round after round.
    fn rounds(
        &self,
        rounds: usize,
        mut measure: impl FnMut(&Peer) -> Result<Option<Duration>>,
    ) -> Result<Vec<Vec<Duration>>> {
        let mut times = vec![Vec::new(); self.peers.len()];
        for _ in 0..rounds {
            for (peer, times) in self.peers.iter().zip(&mut times) {
                times.extend(measure(peer)?);
            }
        }
        Ok(times)
    }

    /// The pull beside what it cannot do without: inflating, and hashing the archives.
    fn pace(&self, best: Option<Duration>) -> Result<String> {
        let gzip = [vec![PathBuf::from("-dc")], self.blobs.clone()].concat();
        let inflating = (0..3).map(|_| timed("gzip", &gzip)).collect::<Result<Vec<_>>>()?.into_iter().min();
        let hashing = (0..3).map(|_| timed("sha256sum", &self.archives)).collect::<Result<Vec<_>>>()?.into_iter().min();
        let size = |files: &[PathBuf]| {
            files.iter().map(|file| fs::metadata(file).map_or(0, |found| found.len())).sum::<u64>() as f64 / 1e6
        };
        let (packed, inflated) = (size(&self.blobs), size(&self.archives));
        let shown = |name: &str, time: Option<Duration>| {
            let seconds = time.unwrap_or_default().as_secs_f64();
            format!("{name} {seconds:.2} s ({:.0} MB/s)", inflated / seconds)
        };
        Ok(format!(
            "{packed:.0} MB in the registry, {inflated:.0} MB inflated; best times and inflated bytes each second: {}, {}, {}",
            shown("Kiste's pull", best),
            shown("`gzip -dc`", inflating),
            shown("`sha256sum`", hashing)
        ))
    }

    fn starts(&self, table: &mut Table) -> Result {
        for peer in self.peers.iter().filter(|peer| peer.runs()) {
            peer.pull(&self.flat)?;
            peer.pull(&self.deep)?;
            peer.run(&self.flat, &["true"])?;
            peer.run(&self.deep, &["true"])?;
        }
        let (mut flat, mut deep) = (vec![Vec::new(); self.peers.len()], vec![Vec::new(); self.peers.len()]);
        for _ in 0..self.effort.starts {
            for (number, peer) in self.peers.iter().enumerate().filter(|(_, peer)| peer.runs()) {
                flat[number].push(peer.run(&self.flat, &["true"])?);
                deep[number].push(peer.run(&self.deep, &["true"])?);
            }
        }
        table.times("`run --rm --network none IMAGE true`, 1 layer", flat);
        table.times(&format!("the same, {DEEP} layers"), deep);
        Ok(())
    }

    fn commits(&self, table: &mut Table) -> Result {
        let running = || self.peers.iter().filter(|peer| peer.runs());
        for peer in running() {
            let _ = peer.engine.quiet(&["rm", "-f", CONTAINER]);
            peer.engine.quiet(&["run", "--name", CONTAINER, "--network", "none", &self.large, "sh", "-c", CHANGE])?;
        }
        let times = self.rounds(self.effort.rounds, |peer| {
            if !peer.runs() {
                return Ok(None);
            }
            let took = peer.engine.timed(&["commit", CONTAINER, COMMITTED])?;
            peer.forget(COMMITTED);
            Ok(Some(took))
        })?;
        table.times("`commit` of 100 changed files of 16,000", times);
        running().try_for_each(|peer| peer.engine.quiet(&["rm", "-f", CONTAINER]).map(drop))
    }

    fn reads(&self, table: &mut Table) -> Result {
        let mut read = |name: &str, cold: bool| {
            let times = self.rounds(self.effort.rounds, |peer| {
                if !peer.runs() {
                    return Ok(None);
                }
                if cold {
                    rustix::fs::sync();
                    let file = Path::new("/proc/sys/vm/drop_caches");
                    at("write", file, fs::write(file, "3"))?;
                }
                peer.run(&self.large, &["sh", "-c", READ]).map(Some)
            })?;
            table.times(name, times);
            Ok(())
        };
        read("reading all files in a container (`tar cf - /data | wc -c`), cold", true)?;
        read("the same, warm", false)
    }

    fn copy(&self, files: &[PathBuf]) -> Result<Duration> {
        let target = self.directory.join("copied.tar");
        let _ = fs::remove_file(&target);
        let start = std::time::Instant::now();
        let mut output = at("create", &target, fs::File::create(&target))?;
        for file in files {
            let mut input = at("open", file, fs::File::open(file))?;
            at("copy", file, std::io::copy(&mut input, &mut output))?;
        }
        Ok(start.elapsed())
    }

    fn forget_all(&self) {
        for peer in &self.peers {
            if peer.runs() {
                // That it is not there is no failure.
                let _ = peer.engine.quiet(&["rm", "-f", CONTAINER]);
            }
            [COMMITTED, &self.large, &self.deep, &self.flat].iter().for_each(|image| peer.forget(image));
        }
    }
}
