//! `kiste runtime checkpoint` and `restore` with the real CRIU where it works on this kernel; and what is said where it
//! does not, or is not installed. Nothing of a container that could not be saved is lost.

use std::fs;
use std::process::Command;
use std::time::Duration;

use kiste_tests::{Bundle, wait_until};

/// A program that counts into a file; pipes as streams, because files of the host cannot be saved.
const COUNTS: &str = "i=0; while true; do i=$((i+1)); echo $i > /count; sleep 0.1; done";

/// Whether CRIU is installed and says that it works with this kernel.
fn criu_works() -> bool {
    Command::new("criu").arg("check").output().is_ok_and(|output| output.status.success())
}

fn count(bundle: &Bundle) -> u64 {
    fs::read_to_string(bundle.path("rootfs/count")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn counts_beyond(bundle: &Bundle, least: u64) {
    wait_until("the program counts", Duration::from_secs(20), || (count(bundle) > least).then_some(()));
}

fn counting() -> Bundle {
    let bundle = Bundle::new(COUNTS);
    bundle.write("c");
    let mut run = bundle.command(&["run", "--detach", "c"]);
    let streams = || std::process::Stdio::null();
    assert!(run.stdin(streams()).stdout(streams()).stderr(streams()).status().expect("the runtime runs").success());
    counts_beyond(&bundle, 2);
    bundle
}

#[test]
fn a_container_goes_on_where_it_was_saved() {
    let bundle = counting();
    let images = bundle.path("images").to_string_lossy().into_owned();
    let saved = bundle.runtime(&["checkpoint", "--image-path", &images, "c"]);
    if !criu_works() {
        // Its own log says why; the container has not noticed.
        assert_eq!(saved.code(), 1);
        assert!(saved.stderr.to_lowercase().contains("criu"), "{}", saved.stderr);
        counts_beyond(&bundle, count(&bundle));
        return;
    }
    saved.ok();
    assert_eq!(bundle.runtime(&["list", "-q"]).ok(), "");
    let before = count(&bundle);
    let mut restore = bundle.command(&["restore", "--detach", "--image-path", &images, "c"]);
    bundle.detached(&mut restore, "c").ok();
    assert_eq!(bundle.status("c"), "running");
    counts_beyond(&bundle, before);
    assert_eq!(bundle.runtime(&["exec", "c", "cat", "/proc/1/comm"]).ok(), "sh");
    // It stays if it is left running.
    bundle.runtime(&["checkpoint", "--leave-running", "--image-path", &images, "c"]).ok();
    counts_beyond(&bundle, count(&bundle));
}

#[test]
fn without_criu_the_error_names_it() {
    let bundle = counting();
    let images = bundle.path("images").to_string_lossy().into_owned();
    for words in [["checkpoint", "--image-path", &images, "c"], ["restore", "--image-path", &images, "d"]] {
        bundle.write(words[3]);
        fs::create_dir_all(&images).expect("the bundle is writable");
        fs::write(bundle.path("images/descriptors.json"), "[\"\", \"\", \"\"]").expect("the bundle is writable");
        let mut command = bundle.command(&words);
        let output = bundle.detached(command.env("PATH", "/nonexistent"), "log");
        assert_eq!(output.code(), 1);
        assert!(output.stderr.contains("criu on PATH"), "{}", output.stderr);
    }
    assert_eq!(bundle.runtime(&["list", "-q"]).ok(), "c");
    counts_beyond(&bundle, count(&bundle));
}

#[test]
fn what_cannot_be_saved_is_refused_before_criu() {
    let bundle = Bundle::new("true");
    bundle.create("c", &[]).ok();
    let created = bundle.runtime(&["checkpoint", "c"]);
    assert!(created.stderr.contains("cannot be checkpointed in created state"), "{}", created.stderr);
    let bad = bundle.runtime(&["checkpoint", "--manage-cgroups-mode", "hard", "c"]);
    assert!(bad.stderr.contains("manage-cgroups-mode"), "{}", bad.stderr);
    let missing = bundle.runtime(&["restore", "--image-path", "/nonexistent/images", "d"]);
    assert_eq!((missing.code(), bundle.runtime(&["list", "-q"]).ok()), (1, "c"));
    assert!(!bundle.path("checkpoint").exists());
}
