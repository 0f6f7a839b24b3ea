//! `diff`, `commit`, `export`, `history`: what a container has changed, as a list, as an image and as an archive.

use std::process::Command;
use std::time::Duration;

use kiste_tests::{Env, finish, wait_until};

/// Changes of every sort: new, changed, deleted, touched, a directory replaced by an empty one, one that changed only in
/// its mode, a link, a pipe, two names of a file, a set-id program.
const CHANGES: &str = "echo hi >/etc/new; mkdir -p /d/e; touch /d/e/f; rm /bin/ls; chmod 700 /tmp; rm -rf /usr; mkdir /usr; \
    touch -r /etc/group /etc/passwd; mkfifo /fifo; echo a >>/etc/group; ln /etc/new /d/hard; ln -s x /d/link; cp /bin/busybox /d/su; \
    chown 12:34 /d/su; chmod 4755 /d/su";

fn list(env: &Env, container: &str) -> Vec<String> {
    env.ok(&["diff", container]).lines().map(str::to_owned).collect()
}

#[test]
fn changes_are_told() {
    let env = Env::with_busybox();
    env.ok(&["run", "--name", "cc", "busybox", "sh", "-c", CHANGES]);
    let expected = [
        "C /bin",
        "D /bin/ls",
        "A /d",
        "A /d/e",
        "A /d/e/f",
        "A /d/hard",
        "A /d/link",
        "A /d/su",
        "C /etc",
        "C /etc/group",
        "A /etc/new",
        "A /fifo",
        "C /tmp",
        "C /usr",
        "D /usr/bin",
    ];
    assert_eq!(list(&env, "cc"), expected);
    env.ok(&["run", "--name", "quiet", "busybox", "true"]);
    assert_eq!(list(&env, "quiet"), Vec::<String>::new(), "what is mounted over an image is no change of it");
    env.ok(&["run", "--name", "mounts", "-v", "/made", "busybox", "true"]);
    assert_eq!(list(&env, "mounts"), ["A /made"]);
    env.kiste(&["diff", "nobody"]).fails(1, &["No such container: nobody"]);
}

/// What the overlay module's defaults are on this machine does not matter.
#[test]
fn overlays_keep_no_notes_that_a_diff_cannot_read() {
    let env = Env::with_busybox();
    let line = "grep ' / overlay ' /proc/mounts; mv /usr /moved 2>&1; chmod 600 /etc/group";
    let output = env.ok(&["run", "--name", "cc", "busybox", "sh", "-c", line]);
    assert!(output.contains("redirect_dir=nofollow"), "{output}");
    let changed = list(&env, "cc");
    assert!(
        changed.contains(&"C /etc/group".to_owned()) && changed.contains(&"A /moved/bin".to_owned()),
        "{changed:?}"
    );
    env.ok(&["commit", "cc", "changed:1"]);
    let line = "wc -c </etc/group; stat -c %a /etc/group; ls /usr 2>&1 | wc -l";
    let size = env.sh(&[], "wc -c </etc/group");
    assert_eq!(env.ok(&["run", "--rm", "changed:1", "sh", "-c", line]), format!("{size}\n600\n1"));
}

#[test]
fn an_image_of_the_changes() {
    let env = Env::with_busybox();
    env.ok(&["run", "--name", "cc", "-e", "OLD=1", "busybox", "sh", "-c", CHANGES]);
    let id = env.ok(&[
        "commit",
        "-a",
        "me",
        "-m",
        "why",
        "-c",
        "ENV A=b",
        "-c",
        "CMD [\"cat\",\"/etc/new\"]",
        "cc",
        "img:1",
    ]);
    assert_eq!(
        env.ok(&["inspect", "-f", "{{.Id}} {{.Author}} {{.Comment}} {{.Config.Env}}", "img:1"])
            .split_once(' ')
            .unwrap(),
        (id.as_str(), "me why [OLD=1 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin A=b]")
    );
    assert_eq!(env.ok(&["run", "--rm", "img:1"]), "hi");
    let line = "/bin/busybox ls / /usr /d; stat -c '%n %h %a %u:%g' /etc/new /d/su /tmp; test -p /fifo && readlink /d/link; test -e /bin/ls || echo gone";
    let text = env.ok(&["run", "--rm", "img:1", "sh", "-c", line]);
    let all = "/:\nbin\nd\ndev\netc\nfifo\nhome\nproc\nroot\nsys\ntmp\nusr\nvar\n\n/d:\ne\nhard\nlink\nsu\n\n/usr:\n\
        /etc/new 2 644 0:0\n/d/su 1 4755 12:34\n/tmp 1 700 0:0\nx\ngone";
    assert_eq!(text.replace("/tmp 2 ", "/tmp 1 "), all);
    let history = env.ok(&["history", "--no-trunc", "--format", "{{.ID}} {{.CreatedBy}} {{.Comment}}", "img:1"]);
    assert_eq!(history, format!("{id} sh -c {CHANGES} why"));
    for (arguments, message) in [
        (&["-c", "RUN x", "cc"][..], "RUN is not a valid change command"),
        (&["-c", "ENV", "cc"], "ENV requires at least one argument"),
        (&["nobody"], "No such container: nobody"),
        (&["cc", "BAD"], "must be lowercase"),
    ] {
        env.kiste(&[&["commit"], arguments].concat()).fails(1, &[message]);
    }
    let unchanged = env.ok(&["create", "busybox"]);
    env.ok(&["commit", &unchanged, "same"]);
    let layers = |image: &str| env.ok(&["inspect", "-f", "{{.RootFS.Layers}}", image]);
    assert_eq!(layers("same"), layers("busybox"), "nothing has changed, so there is no new layer");
}

#[test]
fn a_running_container_is_frozen_and_goes_on() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "echo x >/x; while true; do date >/now; done");
    let written = || (env.kiste(&["exec", "cc", "cat", "/x"]).stdout == "x\n").then_some(());
    wait_until("the file is written", Duration::from_secs(20), written);
    env.ok(&["commit", "cc", "one"]);
    assert_eq!(env.status("cc"), "running");
    env.ok(&["commit", "--pause=false", "cc", "two"]);
    env.ok(&["pause", "cc"]);
    env.ok(&["commit", "cc", "three"]);
    assert_eq!(env.status("cc"), "paused", "what was frozen before stays so");
    for image in ["one", "two", "three"] {
        assert_eq!(env.ok(&["run", "--rm", image, "cat", "/x"]), "x");
    }
    let events = env.ok(&[
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--filter",
        "event=commit",
        "--format",
        "{{.Actor.Attributes.imageRef}}",
    ]);
    assert_eq!(events, "one:latest\ntwo:latest\nthree:latest");
}

#[test]
fn all_files_as_an_archive() {
    let env = Env::with_busybox();
    env.ok(&["run", "--name", "cc", "-v", "/made", "busybox", "sh", "-c", &format!("{CHANGES}; touch /made/x")]);
    let file = env.path("all.tar");
    env.ok(&["export", "-o", file.to_str().unwrap(), "cc"]);
    let tar = |arguments: &[&str]| {
        finish(Command::new("tar").args(arguments).arg("-f").arg(&file), None, std::time::Duration::from_secs(20))
            .ok()
            .to_owned()
    };
    let names = tar(&["-t"]);
    for (name, there) in [
        ("bin/busybox", true),
        ("bin/ls", false),
        ("usr/", true),
        ("usr/bin/", false),
        ("d/su", true),
        ("etc/new", true),
        ("made/", true),
        ("made/x", false),
        ("fifo", true),
    ] {
        assert_eq!(names.lines().any(|line| line == name), there, "{name}");
    }
    let long = tar(&["-tv", "--numeric-owner"]);
    assert!(long.contains("-rwsr-xr-x 12/34"), "{long}");
    assert!(long.lines().any(|line| line.contains("etc/new link to d/hard")), "{long}");
    let archive = std::fs::read(&file).unwrap();
    env.kiste_with_input(&["import", "-c", "CMD [\"cat\",\"/etc/new\"]", "-", "again"], &archive).ok();
    assert_eq!(env.ok(&["run", "--rm", "again"]), "hi");
    env.kiste(&["export", "-o", "/nowhere/x", "cc"]).fails(1, &["failed to export container: invalid output path"]);
    env.kiste(&["export", "nobody"]).fails(1, &["No such container: nobody"]);
}
