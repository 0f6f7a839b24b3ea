//! What survives: loads killed at any moment, full disks, and archives with random damage. After each, the store is
//! whole and nothing unowned is left.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::server::Server;
use common::*;
use image::Store;

const ROOT: &str = "IMAGE_TEST_ROOT";
const ARCHIVE: &str = "IMAGE_TEST_ARCHIVE";
const REMOVE: &str = "IMAGE_TEST_REMOVE";
/// Before a name that is to be pulled, where else the path of an archive stands.
const PULL: &str = "pull:";

/// Not a test of its own: what the other tests run in a child process.
#[test]
fn child() {
    let (Some(root), Some(archive)) = (std::env::var_os(ROOT), std::env::var_os(ARCHIVE)) else { return };
    let mut records = open(Path::new(&root));
    let store = Store::new(Path::new(&root));
    let mut outcome = match archive.to_str().and_then(|name| name.strip_prefix(PULL)) {
        Some(name) => store
            .pull(&mut records, &request(name), &mut |_, _, _, _| {})
            .map(|pulled| pulled.into_iter().map(|image| image.name).collect()),
        None => store.load(&mut records, &mut std::fs::File::open(archive).unwrap(), None),
    };
    if std::env::var_os(REMOVE).is_some() {
        outcome = store
            .remove(&mut records, "a:b", false, |_, _| Ok::<_, image::Error>(image::Usage::default()))
            .map(|_| vec!["removed".into()]);
    }
    let text = match outcome {
        Ok(names) => format!("acknowledged {}\n", names.join(" ")),
        Err(error) => format!("refused {error} | {}\n", error.hint().unwrap_or("no hint")),
    };
    // The test harness keeps printed text back; a killed child could not show it any more.
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

fn child_command(root: &Path, archive: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(ROOT, root).env(ARCHIVE, archive);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn many_files(tar: Tar, count: u32) -> Vec<u8> {
    (0..count).fold(tar, |tar, n| tar.file(&format!("d{}/f{n}", n % 20), &vec![n as u8; 3000])).finish()
}

/// Every image is complete, and what is on the disk is exactly what the images need.
fn assert_whole(root: &Path) {
    let mut records = open(root);
    let store = Store::new(root);
    store.sweep(&mut records).unwrap();
    let images = store.list(records.read()).unwrap();
    let mut layers: Vec<_> = images.iter().flat_map(|image| store.mount(image).unwrap()).collect();
    layers.sort();
    layers.dedup();
    for layer in &layers {
        assert_eq!(std::fs::read_dir(layer.join("d7")).unwrap().count(), 15, "{}", layer.display());
    }
    let count = |place: &str| std::fs::read_dir(root.join(place)).into_iter().flatten().count();
    assert_eq!(count("layers/sha256"), layers.len());
    let documents = "SELECT count(DISTINCT id) + count(DISTINCT manifest) FROM images";
    let documents: usize = records.read().query_row(documents, [], |row| row.get::<_, i64>(0)).unwrap() as usize;
    assert_eq!(count("content/blobs/sha256"), documents);
    assert_eq!(count("tmp"), 0);
    store.unmount_all().unwrap();
}

#[test]
fn killed_at_any_moment() {
    let directory = in_memory();
    let archive = directory.path().join("archive.tar");
    let layers = [many_files(Tar::new(), 300), many_files(Tar::new().file("x", b"x"), 300)];
    std::fs::write(&archive, docker_archive(Some("a:b"), &layers)).unwrap();
    let mut acknowledged = 0;
    for step in 0..20u64 {
        let root = directory.path().join(step.to_string());
        let mut child = child_command(&root, &archive).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(4 * step));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).contains("acknowledged a:b");
        acknowledged += u32::from(said);
        assert_whole(&root);
        let mut records = open(&root);
        let store = Store::new(&root);
        let there = store.resolve(records.read(), "a:b").is_ok();
        assert!(there || !said, "an acknowledged image is lost");
        // Repeating the command succeeds without repair.
        store.load(&mut records, &mut std::fs::File::open(&archive).unwrap(), None).unwrap();
        assert_whole(&root);
    }
    assert!(acknowledged < 20, "nothing was killed in time");
}

#[test]
fn a_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("archive.tar");
    let layer = (0..12).fold(Tar::new(), |tar, n| tar.file(&format!("f{n}"), &vec![n; 8 << 20])).finish();
    std::fs::write(&archive, docker_archive(Some("big"), &[layer])).unwrap();
    let mount = directory.path().join("small");
    std::fs::create_dir(&mount).unwrap();
    // The mount lives in a namespace of its own and dies with it.
    let child = child_command(&mount, &archive);
    let program = child.get_program().to_owned();
    let script = "mount -t tmpfs -o size=80M small \"$0\" && \"$@\" && find \"$0/tmp\" \"$0/layers\" -mindepth 2 >&2";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(&mount)
        .arg(program)
        .args(child.get_args())
        .env(ROOT, &mount)
        .env(ARCHIVE, &archive)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.starts_with("refused ")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("space") && line.contains("| free some disk space"), "{line}");
    assert!(!text.contains("image-"), "left behind: {text}");
}

/// Random damage: never a panic, an endless loop or a leak, whatever the answer is.
#[test]
fn random_damage() {
    let layer = Tar::new()
        .directory("d/")
        .file("d/f", b"content")
        .symlink("l", "d")
        .hard_link("h", "d/f")
        .pax(&[("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"b")])
        .file("p", b"pax")
        .file("d/.wh.gone", b"")
        .finish();
    let archives = [docker_archive(Some("x"), std::slice::from_ref(&layer)), {
        let config = configuration(&[image::Digest::of(&layer)], serde_json::json!({}));
        let packed = gzip(&layer);
        let manifest = oci_manifest(&config, std::slice::from_ref(&packed));
        let top = descriptor(MANIFEST, &manifest);
        oci_archive(&[packed, config, manifest], vec![top])
    }];
    let mut root = Root::in_memory();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..400 {
        let mut archive = archives[round % 2].clone();
        for _ in 0..=random(3) {
            let at = random(archive.len());
            match random(4) {
                0 => archive[at] = random(256) as u8,
                1 => archive.truncate(at.max(1)),
                2 => archive[at] ^= 1 << random(8),
                _ => drop(archive.drain(at..(at + 1 + random(600)).min(archive.len()))),
            }
            if archive.is_empty() {
                break;
            }
        }
        // The checksums of all headers are made right again, so that damage gets beyond them.
        fix_checksums(&mut archive);
        let _ = root.load(&archive);
    }
    assert!(!root.store.has_leftovers());
}

fn fix_checksums(archive: &mut [u8]) {
    for block in archive.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            let sum: u32 = (0..512).map(|at| if (148..156).contains(&at) { 32 } else { u32::from(block[at]) }).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

/// Loads and removals of images that share layers, all at once.
#[test]
fn everybody_at_once() {
    let directory = in_memory();
    let root = directory.path();
    let shared = many_files(Tar::new(), 300);
    drop(open(root));
    std::thread::scope(|scope| {
        for n in 0..6u8 {
            let own = many_files(Tar::new().file("own", &[n]), 300);
            let archive = docker_archive(Some(&format!("image-{n}")), &[shared.clone(), own]);
            scope.spawn(move || {
                let (store, mut records) = (Store::new(root), open(root));
                for round in 0..8 {
                    let name = format!("image-{n}");
                    store.load(&mut records, &mut &archive[..], None).unwrap();
                    assert_eq!(store.resolve(records.read(), &name).unwrap().layers.len(), 2);
                    if round % 2 == 0 || n % 2 == 0 {
                        store
                            .remove(&mut records, &name, false, |_, _| Ok::<_, image::Error>(image::Usage::default()))
                            .unwrap();
                    }
                }
            });
        }
    });
    let mut records = open(root);
    Store::new(root).sweep_leftovers(&mut records).unwrap();
    let count = |place: &str| std::fs::read_dir(root.join(place)).into_iter().flatten().count();
    assert_eq!((count("layers/sha256"), count("content/blobs/sha256"), count("tmp")), (4, 3, 0));
    assert_whole(root);
}

/// Loads, and what a removal sweeps, killed at every step; what comes next finishes or undoes it.
#[test]
fn killed_at_every_step() {
    let directory = tempfile::tempdir().unwrap();
    let archive = two_layers(directory.path());
    for name in image::FAILPOINTS {
        let root = directory.path().join(name);
        let removing = name.starts_with("sweep-");
        let (killed, said) = run_until(&root, &archive, Some(name), removing);
        assert!(killed, "{name} was not reached");
        assert_whole(&root);
        let mut records = open(&root);
        let store = Store::new(&root);
        if removing {
            assert!(store.resolve(records.read(), "a:b").is_err(), "{name}: its removal was committed");
        }
        assert!(!said || store.resolve(records.read(), "a:b").is_ok(), "{name}: an acknowledged image is lost");
        store.load(&mut records, &mut std::fs::File::open(&archive).unwrap(), None).unwrap();
        assert_whole(&root);
    }
}

/// The same with a pull, whose layers arrive side by side.
#[test]
fn pulls_killed_at_every_step() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start();
    let layers = [many_files(Tar::new(), 300), many_files(Tar::new().file("x", b"x"), 300)];
    let name = format!("{}/x:latest", server.host);
    server.image_of(&layers);
    let source = format!("{PULL}{name}");
    for failpoint in image::FAILPOINTS.iter().filter(|name| !name.starts_with("sweep-")) {
        let root = directory.path().join(failpoint);
        let (killed, said) = run_until(&root, Path::new(&source), Some(failpoint), false);
        assert!(killed && !said, "{failpoint} was not reached");
        assert_whole(&root);
        let (_, said) = run_until(&root, Path::new(&source), None, false);
        assert!(!said, "it is called by its name here");
        assert!(Store::new(&root).resolve(open(&root).read(), &name).is_ok(), "{failpoint}");
        assert_whole(&root);
        assert_eq!(Store::new(&root).interrupted_downloads(), 0, "{failpoint}");
    }
}

/// Not a test of its own: what the next one runs in a mount namespace of its own, on a small disk. It is filled by
/// somebody else while the load has stopped at a place; the load goes on and says what is wrong, or is through.
#[test]
fn filled_disk_inside() {
    let Some(place) = std::env::var_os(FILLED).map(std::path::PathBuf::from) else { return };
    let archive = two_layers(&place);
    let mut refused = 0;
    for name in image::FAILPOINTS.iter().filter(|name| !name.starts_with("sweep-")) {
        let (root, filling) = (place.join("disk").join(name), place.join("disk/filling"));
        let mut child = child_command(&root, &archive).env("KISTE_FAILPOINT", format!("{name}:stop")).spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED).unwrap();
        let mut file = std::fs::File::create(&filling).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        drop(file);
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut text).unwrap();
        child.wait().unwrap();
        let said = text.contains("acknowledged a:b");
        assert!(said || (text.contains("refused ") && text.contains("free some")), "{name}: {text}");
        refused += u32::from(!said);
        // A full disk can be read, and what is there can be removed.
        assert_eq!(Store::new(&root).resolve(open(&root).read(), "a:b").is_ok(), said, "{name}: {text}");
        std::fs::remove_file(&filling).unwrap();
        assert_whole(&root);
        assert!(run_until(&root, &archive, None, false).1, "{name}: the next one");
        assert_whole(&root);
        std::fs::remove_dir_all(&root).unwrap();
    }
    assert!(refused > 3, "the disk was hardly ever full");
    std::io::stderr().write_all(b"went through\n").unwrap();
}

#[test]
fn a_disk_that_is_filled_at_every_step() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(160 << 20).unwrap();
    run("mkfs.ext4", &["-q", "-F", "-b", "4096", "-m", "0", image.to_str().unwrap()]);
    on_the_disk("loop", "filled_disk_inside", (FILLED, directory.path()));
}

/// Runs another test of this program in a mount namespace of its own, in which the image in `directory` is mounted on
/// `disk`; the variable tells it where that is.
fn on_the_disk(options: &str, test: &str, (variable, directory): (&str, &Path)) {
    std::fs::create_dir(directory.join("disk")).unwrap();
    let script = format!("mount -o {options} \"$0/image\" \"$0/disk\" && exec \"$1\" --exact {test} --nocapture");
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .args([directory, &std::env::current_exe().unwrap()])
        .env(variable, directory)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("went through"), "{} {text}", output.status);
}

fn two_layers(directory: &Path) -> std::path::PathBuf {
    let archive = directory.join("archive.tar");
    let layers = [many_files(Tar::new(), 300), many_files(Tar::new().file("x", b"x"), 300)];
    std::fs::write(&archive, docker_archive(Some("a:b"), &layers)).unwrap();
    archive
}

/// Loads in a child process (and removes again); whether it was killed, and whether it acknowledged the image.
fn run_until(root: &Path, archive: &Path, failpoint: Option<&str>, removing: bool) -> (bool, bool) {
    let mut command = child_command(root, archive);
    command.envs(failpoint.map(|name| ("KISTE_FAILPOINT", name)));
    command.envs(removing.then_some((REMOVE, "1")));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(failpoint.is_some() || text.contains("acknowledged "), "{text}");
    let killed = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(9);
    (killed, text.contains("acknowledged a:b"))
}

const PLACE: &str = "IMAGE_TEST_PLACE";
const FILLED: &str = "IMAGE_TEST_FILLED";

/// Not a test of its own: what the next one runs in a mount namespace of its own. What the block device has when a
/// process dies is all that a power loss would leave: a copy of it is mounted and looked at.
#[test]
fn power_loss_inside() {
    let Some(place) = std::env::var_os(PLACE).map(std::path::PathBuf::from) else { return };
    let archive = two_layers(&place);
    let (disk, copy) = (place.join("disk"), place.join("copy"));
    let failpoints = image::FAILPOINTS.iter().filter(|name| !name.starts_with("sweep-"));
    for name in failpoints.map(|name| Some(*name)).chain([None]) {
        let root = name.unwrap_or("complete");
        let (_, said) = run_until(&disk.join(root), &archive, name, false);
        run(
            "cp",
            &["--sparse=always", place.join("image").to_str().unwrap(), place.join("image.copy").to_str().unwrap()],
        );
        run("mount", &["-o", "loop", place.join("image.copy").to_str().unwrap(), copy.to_str().unwrap()]);
        let root = copy.join(root);
        assert_whole(&root);
        let there = Store::new(&root).resolve(open(&root).read(), "a:b").is_ok();
        assert!(there || (name.is_some() && !said), "{name:?}: an acknowledged image is lost");
        run("umount", &[copy.to_str().unwrap()]);
    }
    std::io::stderr().write_all(b"went through\n").unwrap();
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn power_loss() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(192 << 20).unwrap();
    run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]);
    std::fs::create_dir(directory.path().join("copy")).unwrap();
    // Nothing is written by itself: only what somebody waited for is on the device.
    on_the_disk("loop,commit=600", "power_loss_inside", (PLACE, directory.path()));
}
