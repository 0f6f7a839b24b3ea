//! `cargo xtask bench`: Kiste beside the engines that are on the PATH, in one run on one machine: interleaved rounds,
//! medians and ratios, as a Markdown table for `docs/performance.md`.

mod api;
mod build;
mod engines;
mod images;
mod memory;
mod network;
mod report;
mod runtime;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::Result;
use engines::Engine;
use report::Table;

/// How often each thing is measured.
struct Effort {
    /// Interleaved rounds of one measurement for each engine.
    rounds: usize,
    /// Runs one after the other within a round, where they are to be back to back.
    burst: usize,
    /// Rounds of twenty starts at once.
    parallel_rounds: usize,
    /// Containers for the list and for the memory.
    crowd: usize,
}

const FULL: Effort = Effort { rounds: 15, burst: 5, parallel_rounds: 5, crowd: 100 };
const QUICK: Effort = Effort { rounds: 5, burst: 2, parallel_rounds: 2, crowd: 20 };

/// Long enough that the kernel's deferred work of one start no longer speeds up the next.
const APART: Duration = Duration::from_millis(200);
const AT_ONCE: usize = 20;

/// Measures everything; `--quick` with less effort.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result {
    let effort = match arguments {
        [] => FULL,
        [option] if option == "--quick" => QUICK,
        [what] if what == "runtime" => return runtime::run(root, false),
        [what, option] if what == "runtime" && option == "--quick" => return runtime::run(root, true),
        [what] if what == "build" => return build::run(root, false),
        [what, option] if what == "build" && option == "--quick" => return build::run(root, true),
        [what] if what == "network" => return network::run(root, false),
        [what, option] if what == "network" && option == "--quick" => return network::run(root, true),
        [what, options @ ..] if what == "images" => return images::run(root, options),
        [what] if what == "api" => return api::run(root, false),
        [what, option] if what == "api" && option == "--quick" => return api::run(root, true),
        _ => {
            return Err(
                "bench: what can be given is `build`, `runtime`, `network`, `images` or `api`, and --quick".to_owned()
            );
        }
    };
    if !rustix::process::geteuid().is_root() {
        return Err("the engines are measured as root".to_owned());
    }
    let world = engines::World::prepare(root)?;
    let engines = world.engines()?;
    let mut table = Table::new(engines.iter().map(|engine| engine.name.clone()).collect());
    starts(&engines, &effort, &mut table)?;
    parallel_starts(&engines, &effort, &mut table)?;
    execs(&engines, &effort, &mut table)?;
    crowds(&engines, &effort, &mut table)?;
    print!("{}", table.markdown());
    Ok(())
}

/// Runs `measure` for every engine in turn, round after round, so that whatever else the machine does hits all alike.
fn interleaved(
    engines: &[Engine],
    rounds: usize,
    mut measure: impl FnMut(&Engine) -> Result<Vec<Duration>>,
) -> Result<Vec<Vec<Duration>>> {
    let mut times = vec![Vec::new(); engines.len()];
    for _ in 0..rounds {
        for (engine, times) in engines.iter().zip(&mut times) {
            times.extend(measure(engine)?);
        }
    }
    Ok(times)
}

fn starts(engines: &[Engine], effort: &Effort, table: &mut Table) -> Result {
    for engine in engines {
        engine.run_true()?;
    }
    let times = interleaved(engines, effort.rounds, |engine| (0..effort.burst).map(|_| engine.run_true()).collect())?;
    table.times("`run --rm --network none IMAGE true`, back to back", times);
    let times = interleaved(engines, effort.rounds, |engine| {
        std::thread::sleep(APART);
        Ok(vec![engine.run_true()?])
    })?;
    table.times("the same, 200 ms apart", times);
    Ok(())
}

fn parallel_starts(engines: &[Engine], effort: &Effort, table: &mut Table) -> Result {
    let times = interleaved(engines, effort.parallel_rounds, |engine| {
        if !engine.whole() {
            return Ok(Vec::new());
        }
        let start = Instant::now();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE).map(|index| scope.spawn(move || engine.start_idle(index))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
        })?;
        let took = start.elapsed();
        engine.remove_all()?;
        Ok(vec![took])
    })?;
    table.times("20 × `run -d` at once, until all have answered", times);
    Ok(())
}

fn execs(engines: &[Engine], effort: &Effort, table: &mut Table) -> Result {
    for engine in engines.iter().filter(|engine| engine.whole()) {
        engine.start_idle(0)?;
        engine.exec_true()?;
    }
    let times = interleaved(engines, effort.rounds, |engine| match engine.whole() {
        true => (0..effort.burst).map(|_| engine.exec_true()).collect(),
        false => Ok(Vec::new()),
    })?;
    table.times("`exec CONTAINER true`", times);
    let memory = engines.iter().map(|engine| engine.whole().then(|| memory::of(engine)));
    table.memory("memory (PSS) beside 1 idle container: monitors", memory.collect());
    engines.iter().filter(|engine| engine.whole()).try_for_each(Engine::remove_all)
}

fn crowds(engines: &[Engine], effort: &Effort, table: &mut Table) -> Result {
    for engine in engines.iter().filter(|engine| engine.whole()) {
        (0..effort.crowd).try_for_each(|index| engine.start_idle(index))?;
    }
    let times = interleaved(engines, effort.rounds, |engine| match engine.whole() {
        true => Ok(vec![engine.list()?]),
        false => Ok(Vec::new()),
    })?;
    table.times(&format!("`ps` with {} running containers", effort.crowd), times);
    let memory: Vec<_> = engines.iter().map(|engine| engine.whole().then(|| memory::of(engine))).collect();
    table.memory(&format!("memory (PSS) beside {} idle containers: monitors", effort.crowd), memory.clone());
    table.daemons(memory);
    engines.iter().filter(|engine| engine.whole()).try_for_each(Engine::remove_all)
}
