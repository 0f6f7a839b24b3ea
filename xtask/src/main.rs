//! `cargo xtask COMMAND`: what this repository does with itself: its house rules, its tests, its benchmark. Nothing here
//! is part of the product.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a developer's tool reports to its terminal")]

mod bench;
mod build;
mod compare;
mod dist;
mod images;
mod packages;
mod process;
mod test;
mod tidy;
mod vm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What every command returns: an error is one line for the developer.
type Result<T = ()> = std::result::Result<T, String>;

const USAGE: &str = "\
usage: cargo xtask COMMAND
  tidy              check the house rules (crate arrows, unsafe, printing, file sizes, …)
  test [FILTER]     build, make test images, run every test here and in a cgroup v2 virtual machine
    --no-vm           leave the virtual machine out
    --only-vm         run in the virtual machine only
    --all-vm          run every test that concerns the kernel there, not a selection: about an hour
  dist [--check]    make target/dist: the release, and a Debian package of it, installed and tried with --check
  images            make the test images only
  vm [COMMAND]      run all its tests, or one shell command, in the cgroup v2 virtual machine
  bench [build|runtime|network|images [pulls|uses]|api] [--quick]
                    measure beside the engines that are on the PATH; prints a Markdown table
  compare builds [--record] [CASE…]
                    build the corpus with docker and with Kiste, and compare; --record keeps what docker made";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result {
    match arguments.split_first().map(|(command, rest)| (command.as_str(), rest)) {
        Some(("tidy", [])) => tidy::run(&repository()),
        Some(("test", rest)) => test::run(rest),
        Some(("dist", rest)) => dist::run_command(&repository(), rest),
        Some(("images", [])) => images::prepare(&repository()).map(drop),
        Some(("vm", rest)) => vm::command(&repository(), rest),
        Some(("bench", rest)) => bench::run(&repository(), rest),
        Some(("compare", [what, rest @ ..])) if what == "builds" => compare::run(&repository(), rest),
        _ => Err(format!("unknown or missing command\n{USAGE}")),
    }
}

/// The root of the repository: where this was built, or, if that is not to be seen from here, the current directory.
fn repository() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).parent().filter(|root| root.join("Cargo.lock").exists());
    built.map(Path::to_owned).or_else(|| std::env::current_dir().ok()).unwrap_or_default()
}
