//! `cargo xtask test`: everything that says whether the product works, on this machine and on a cgroup v2 kernel.

use std::path::Path;
use std::time::Instant;

use crate::{Result, build, images, packages, process, repository, vm};

/// Passed and failed tests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub passed: usize,
    pub failed: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs the tests whose names contain the filter; all without one.
pub(crate) fn run(arguments: &[String]) -> Result {
    let (options, filter): (Vec<String>, Vec<String>) = arguments.iter().cloned().partition(|a| a.starts_with("--"));
    let has = |name: &str| options.iter().any(|option| option == name);
    if let Some(unknown) =
        options.iter().find(|option| !["--no-vm", "--only-vm", "--all-vm"].contains(&option.as_str()))
    {
        return Err(format!("test: unknown option {unknown}"));
    }
    if !rustix::process::geteuid().is_root() {
        return Err("tests make containers and cgroups: run them as root".to_owned());
    }
    let root = repository();
    packages::ensure(packages::TESTS)?;
    let images = images::prepare(&root)?;
    let built = build::everything(&root)?;
    let mut tally = Tally::default();
    if !has("--only-vm") {
        report("on this machine", &mut tally, || on_this_machine(&root, &built, &images, &filter, None))?;
        report("with layers as directories", &mut tally, || {
            on_this_machine(&root, &built, &images, &filter, Some("directory"))
        })?;
    }
    if !has("--no-vm") {
        report("in the cgroup v2 virtual machine", &mut tally, || {
            vm::test(&root, &built, &images, &filter, has("--all-vm"))
        })?;
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    match tally {
        Tally { failed: 0, passed: 1.. } => Ok(()),
        Tally { passed: 0, failed: 0 } => Err(format!("no test is called like {}", filter.join(" "))),
        _ => Err("tests failed".to_owned()),
    }
}

fn report(place: &str, total: &mut Tally, run: impl FnOnce() -> Result<Tally>) -> Result {
    let start = Instant::now();
    let tally = run()?;
    println!("{place}: {} passed, {} failed in {:.0} s", tally.passed, tally.failed, start.elapsed().as_secs_f64());
    total.add(tally);
    Ok(())
}

/// Test programs that say what layers are like, whichever storage driver is used.
const ABOUT_LAYERS: [&str; 5] =
    ["image::load", "image::manage", "image::properties", "tests::images", "tests::run_basic"];

/// All tests, or with a storage driver those that are about layers.
fn on_this_machine(
    root: &Path,
    built: &build::Built,
    images: &Path,
    filter: &[String],
    driver: Option<&str>,
) -> Result<Tally> {
    let mut tally = Tally::default();
    if process::find("cargo-nextest").is_none() {
        for program in &built.tests {
            if driver.is_some() && !ABOUT_LAYERS.contains(&&*program.name) {
                continue;
            }
            let mut command = process::command(&program.path, filter);
            command.current_dir(&program.directory).env("KISTE_TEST_BINARY", &built.kiste);
            command.envs(driver.map(|driver| ("KISTE_STORAGE_DRIVER", driver)));
            let output =
                command.env("KISTE_TEST_IMAGES", images).output().map_err(|e| format!("{}: {e}", program.name))?;
            let text = String::from_utf8_lossy(&output.stdout);
            println!("== {}\n{text}{}", program.name, String::from_utf8_lossy(&output.stderr));
            let result = parse_libtest(&text);
            tally.add(result);
            // A program that died before its summary must not count as one without failures.
            tally.failed += usize::from(!output.status.success() && result.failed == 0);
        }
        return Ok(tally);
    }
    let mut command = build::test_command(root, filter);
    command.env("KISTE_TEST_BINARY", &built.kiste).env("KISTE_TEST_IMAGES", images);
    if let Some(driver) = driver {
        let binaries = ABOUT_LAYERS.map(|name| format!("binary({})", name.rsplit("::").next().unwrap_or(name)));
        command.env("KISTE_STORAGE_DRIVER", driver).args(["-E", &binaries.join("|")]);
    }
    let status = process::watched(&mut command, |line| {
        if let Some(summary) = parse_nextest(line) {
            tally = summary;
        }
    })?;
    if !status.success() && tally.failed == 0 {
        return Err(format!("cargo nextest: {status}"));
    }
    Ok(tally)
}

/// `Summary [ 1.2s] 12 tests run: 10 passed (1 slow), 1 failed, 1 timed out, 3 skipped`
fn parse_nextest(line: &str) -> Option<Tally> {
    let (_, counts) = line.trim_start().strip_prefix("Summary [")?.split_once("run: ")?;
    let count = |word: &str| counts.split(", ").filter(|part| part.contains(word)).filter_map(leading_number).sum();
    Some(Tally { passed: count("passed"), failed: count(" failed") + count("timed out") })
}

/// The sum of all lines `test result: ok. 10 passed; 1 failed; …`.
pub(crate) fn parse_libtest(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines().filter_map(|line| line.split_once("test result: ")).map(|(_, rest)| rest) {
        let counts = line.split_once(". ").map_or(line, |(_, counts)| counts);
        let count = |word: &str| {
            counts.split("; ").filter(|part| part.ends_with(word)).filter_map(leading_number).sum::<usize>()
        };
        tally.add(Tally { passed: count(" passed"), failed: count(" failed") });
    }
    tally
}

fn leading_number(text: &str) -> Option<usize> {
    text.trim_start().split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_understood() {
        let line = "     Summary [   1.203s] 12 tests run: 9 passed (1 slow), 2 failed, 1 timed out, 3 skipped";
        assert_eq!(parse_nextest(line), Some(Tally { passed: 9, failed: 3 }));
        assert_eq!(
            parse_nextest("     Summary [   0.1s] 2 tests run: 2 passed, 0 skipped"),
            Some(Tally { passed: 2, failed: 0 })
        );
        let text =
            "test result: ok. 3 passed; 0 failed; 1 ignored\nx\ntest result: FAILED. 1 passed; 2 failed; 0 ignored";
        assert_eq!(parse_libtest(text), Tally { passed: 4, failed: 2 });
    }
}
