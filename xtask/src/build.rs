//! Builds the product and every test once, in the profile `ci` (or that of `KISTE_TEST_PROFILE`), and says where the results are.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Result;
use crate::process::{self, output};

/// What was built.
pub(crate) struct Built {
    /// The `kiste` binary.
    pub kiste: PathBuf,
    /// The test programs, in a stable order.
    pub tests: Vec<TestProgram>,
    /// Other programs that tests run, besides the product.
    pub helpers: Vec<PathBuf>,
}

/// One test program: a crate's unit tests, or one file of integration tests.
pub(crate) struct TestProgram {
    /// Directory of the package, with the target unless that is the library: `engine`, `tests::lifecycle`.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// Directory of the package: where its tests expect to run.
    pub directory: PathBuf,
}

/// Builds both. The product keeps its own panic strategy, which tests cannot have: hence two calls.
pub(crate) fn everything(root: &Path) -> Result<Built> {
    let kiste = kiste(root)?;
    let artifacts = artifacts(root, &["test", "--workspace", "--no-run"], &profile())?;
    let (tests, others): (Vec<_>, Vec<_>) = artifacts.iter().partition(|artifact| artifact["profile"]["test"] == true);
    let mut tests: Vec<TestProgram> = tests.into_iter().filter_map(test_program).collect();
    tests.sort_by(|a, b| a.name.cmp(&b.name));
    let helpers = others.into_iter().filter_map(executable).filter(|path| !path.ends_with("kiste")).collect();
    Ok(Built { kiste, tests, helpers })
}

/// Builds the product alone, unless `KISTE_TEST_BINARY` names another build of it.
pub(crate) fn kiste(root: &Path) -> Result<PathBuf> {
    product(root, &profile())
}

/// Builds the product as it is released.
pub(crate) fn released(root: &Path) -> Result<PathBuf> {
    product(root, "release")
}

/// The profile that is tested: `ci`, or another by `KISTE_TEST_PROFILE`.
fn profile() -> String {
    std::env::var("KISTE_TEST_PROFILE").unwrap_or_else(|_| "ci".to_owned())
}

fn product(root: &Path, profile: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("KISTE_TEST_BINARY") {
        return Ok(PathBuf::from(path));
    }
    let artifacts = artifacts(root, &["build", "--package", "cli"], profile)?;
    let binary = artifacts.iter().filter(|artifact| artifact["target"]["name"] == "kiste").find_map(executable);
    binary.ok_or_else(|| "cargo build --package cli made no binary `kiste`".to_owned())
}

fn artifacts(root: &Path, arguments: &[&str], profile: &str) -> Result<Vec<Value>> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root).args(arguments).args(["--profile", profile, "--message-format", "json-render-diagnostics"]);
    let messages = output(&mut cargo)?;
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(messages.filter(|message| message["reason"] == "compiler-artifact").collect())
}

fn executable(artifact: &Value) -> Option<PathBuf> {
    artifact["executable"].as_str().map(PathBuf::from)
}

fn test_program(artifact: &Value) -> Option<TestProgram> {
    let path = executable(artifact)?;
    let directory = Path::new(artifact["manifest_path"].as_str()?).parent()?.to_owned();
    let package = directory.file_name()?.to_str()?.to_owned();
    let target = artifact["target"]["name"].as_str()?;
    let kind = artifact["target"]["kind"][0].as_str()?;
    let name = if kind == "lib" { package } else { format!("{package}::{target}") };
    Some(TestProgram { name, path, directory })
}

/// A `cargo` command for the tests of the whole workspace, in the same profile.
pub(crate) fn test_command(root: &Path, filter: &[String]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root);
    if process::find("cargo-nextest").is_some() {
        cargo.args(["nextest", "run", "--workspace", "--cargo-profile", &profile(), "--no-fail-fast"]);
        // A filter that fits nothing on this machine may fit the virtual machine's run.
        cargo.args(["--no-tests", "pass"]).args(filter);
    } else {
        cargo.args(["test", "--workspace", "--profile", &profile(), "--no-fail-fast"]).args(filter);
    }
    cargo
}
