//! `cp`: between the host and containers, running or not, by Docker's rules, and nothing that leads out of them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kiste_tests::archive::Layer;
use kiste_tests::{Env, finish};
use tar::EntryType;

const LINE: &str = "mkdir -p /t/sub; echo f >/t/f; ln -s /t /link; ln -s f /t/lf; ln -s nowhere /t/broken; ln -s /etc/passwd /t/abs; \
    chown -R 5:6 /t; chmod 4751 /t/f; echo ready";

fn running(env: &Env, options: &[&str]) {
    env.detached(&[&["--name", "cc"], options].concat(), &format!("{LINE}; sleep 600"));
    kiste_tests::wait_until("the files are there", Duration::from_secs(20), || {
        (env.ok(&["logs", "cc"]) == "ready").then_some(())
    });
}

/// Runs a shell line in the test's directory; what it printed.
fn shell(env: &Env, line: &str) -> String {
    finish(Command::new("sh").args(["-c", line]).current_dir(env.path("")), None, Duration::from_secs(20))
        .ok()
        .to_owned()
}

fn path(env: &Env, name: &str) -> String {
    env.path(name).to_str().unwrap().to_owned()
}

fn out_of_a_container(env: &Env) {
    let names = |name: &str| shell(env, &format!("cd {name} && find . | sort"));
    let tree = ".\n./abs\n./broken\n./f\n./lf\n./sub";
    env.ok(&["cp", "cc:/t", &path(env, "new")]);
    assert_eq!(names("new"), tree, "a destination that does not exist takes the directory's place");
    env.ok(&["cp", "cc:/t", &path(env, "new")]);
    assert_eq!(names("new/t"), tree, "one that exists takes it in");
    env.ok(&["cp", "cc:/t/.", &path(env, "content/")]);
    assert_eq!(names("content"), tree);
    env.ok(&["cp", "cc:/t/f", &path(env, "name")]);
    let data = fs::metadata(env.path("name")).unwrap();
    assert_eq!((data.mode() & 0o7777, data.uid()), (0o4751, 0));
    env.ok(&["cp", "cc:/link", &path(env, "as-link")]);
    assert_eq!(fs::read_link(env.path("as-link")).unwrap(), Path::new("/t"));
    env.ok(&["cp", "-L", "cc:/link", &path(env, "as-directory")]);
    env.ok(&["cp", "cc:/link/", &path(env, "by-slash")]);
    assert_eq!((names("as-directory"), names("by-slash")), (tree.to_owned(), tree.to_owned()));
    for (arguments, message) in [
        (&["cc:/t/f", "none/"][..], "no such directory"),
        (&["cc:/t/f", "none/x"], "invalid output path: directory"),
        (&["cc:/t", "name"], "cannot copy directory"),
        (&["cc:/t/f/", "x"], "lstat /t/f/: not a directory"),
        (&["cc:/t/nosuch", "x"], "Could not find the file /t/nosuch in container cc"),
        (&["-L", "cc:/t/broken", "x"], "Could not find the file /t/nowhere in container cc"),
        (&["nobody:/x", "x"], "No such container: nobody"),
        (&["cc:/t", "cc:/x"], "copying between containers is not supported"),
        (&["x", "y"], "must specify at least one container source"),
    ] {
        let mut arguments: Vec<String> = [&["cp"], arguments].concat().iter().map(|word| (*word).to_owned()).collect();
        if let Some(last) = arguments.last_mut().filter(|last| !last.contains(':')) {
            *last = path(env, last);
        }
        env.kiste(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).fails(1, &[message]);
    }
}

fn into_a_container(env: &Env, ls: &dyn Fn(&str) -> String) {
    shell(
        env,
        "mkdir -p src/sub; echo a >src/a; chown 77:88 src/a; echo one >one; chown 99:98 one; chmod 4755 one; ln -s one lone; ln -s src lsrc",
    );
    let put = |source: &str, target: &str| env.ok(&["cp", &path(env, source), &format!("cc:{target}")]);
    put("one", "/tmp");
    put("one", "/tmp/two");
    put("src", "/tmp");
    put("src/.", "/tmp/new");
    put("src", "/tmp/new");
    put("lone", "/tmp/");
    put("lsrc/", "/tmp/through");
    assert_eq!(ls("/tmp"), "755 0:0 lone new one src through two".replace("755 0:0 ", ""));
    assert_eq!(ls("/tmp/new"), "a src sub");
    assert_eq!(ls("/tmp/through"), "a sub");
    put("one", "/link/");
    put("one", "/t/lf");
    put("one", "/t/broken");
    assert_eq!(ls("/t"), "abs broken f lf nowhere one sub", "what a link points to is written, and not the link");
    for (source, target, message) in [
        ("src", "/tmp/one", "cannot copy directory"),
        ("one", "/tmp/nodir/", "no such directory"),
        ("one", "/tmp/nodir/x", "Could not find the file /tmp/nodir in container cc"),
        ("nosuch", "/tmp", "no such file or directory"),
        ("one", "", "no such directory"),
    ] {
        env.kiste(&["cp", &path(env, source), &format!("cc:{target}")]).fails(1, &[message]);
    }
}

#[test]
fn a_running_container() {
    let env = Env::with_busybox();
    running(&env, &["-v", "vv:/v", "--tmpfs", "/memory"]);
    out_of_a_container(&env);
    into_a_container(&env, &|directory| env.ok(&["exec", "cc", "ls", directory]).replace('\n', " "));
    let owners = env.ok(&["exec", "cc", "stat", "-c", "%a %u:%g", "/tmp/one", "/tmp/src/a", "/t/f"]);
    assert_eq!(owners, "4755 99:98\n644 77:88\n4755 99:98", "ids are the container's");
    env.ok(&["cp", &path(&env, "one"), "cc:/v"]);
    env.ok(&["cp", &path(&env, "one"), "cc:/memory"]);
    assert_eq!(env.ok(&["exec", "cc", "cat", "/v/one", "/memory/one"]), "one\none");
    env.kiste(&["cp", &path(&env, "one"), "cc:/proc/x"]).fails(1, &["Could not find the file /proc in container cc"]);
    let archive = fs::File::create(env.path("all.tar")).unwrap();
    assert!(env.command(&["cp", "cc:/", "-"]).stdout(archive).status().unwrap().success());
    let names = shell(&env, "tar tPf all.tar");
    let has = |name: &str| names.lines().any(|line| line == name);
    assert!(has("/memory/one") && has("/proc/") && has("/dev/null") && !names.contains("cmdline"), "{names}");
    env.ok(&["pause", "cc"]);
    env.ok(&["cp", &path(&env, "one"), "cc:/tmp/frozen"]);
    env.ok(&["unpause", "cc"]);
    assert_eq!(env.ok(&["exec", "cc", "cat", "/tmp/frozen"]), "one");
}

#[test]
fn a_container_that_does_not_run() {
    let env = Env::with_busybox();
    env.ok(&["run", "--name", "cc", "-v", "vv:/v", "busybox", "sh", "-c", LINE]);
    out_of_a_container(&env);
    let list = |directory: &str| {
        let archive = env.path("list.tar");
        let out = fs::File::create(&archive).unwrap();
        assert!(env.command(&["cp", &format!("cc:{directory}/."), "-"]).stdout(out).status().unwrap().success());
        let names = shell(&env, "tar tf list.tar");
        let mut names: Vec<&str> =
            names.lines().filter_map(|name| name.trim_end_matches('/').strip_prefix("./")).collect();
        names.retain(|name| !name.contains('/'));
        names.join(" ")
    };
    into_a_container(&env, &list);
    env.ok(&["cp", &path(&env, "one"), "cc:/v"]);
    assert_eq!(env.sh(&["-v", "vv:/v"], "cat /v/one; stat -c %u:%g /v/one"), "one\n99:98", "volumes are written to");
    assert!(env.ok(&["diff", "cc"]).contains("A /tmp/one"));
    let never = env.ok(&["create", "-v", "/anon", "busybox"]);
    env.ok(&["cp", &path(&env, "one"), &format!("{never}:/anon/x")]);
    env.ok(&["cp", &format!("{never}:/anon/x"), &path(&env, "back")]);
    assert_eq!(fs::read_to_string(env.path("back")).unwrap(), "one\n");
    env.ok(&["start", "-a", "cc"]);
}

#[test]
fn streams() {
    let env = Env::with_busybox();
    running(&env, &["-u", "app"]);
    shell(&env, "mkdir src; echo a >src/a; tar cf a.tar src; tar czf a.tgz src");
    for name in ["a.tar", "a.tgz"] {
        let archive = fs::read(env.path(name)).unwrap();
        env.kiste_with_input(&["cp", "-", "cc:/tmp"], &archive).ok();
        assert_eq!(env.ok(&["exec", "-u", "0", "cc", "sh", "-c", "cat /tmp/src/a; rm -r /tmp/src"]), "a");
    }
    let archive = fs::read(env.path("a.tar")).unwrap();
    env.kiste_with_input(&["cp", "-a", "-", "cc:/tmp"], &archive).ok();
    assert_eq!(env.ok(&["exec", "cc", "stat", "-c", "%u:%g", "/tmp/src/a"]), "1000:1000", "-a: the container's user");
    env.kiste_with_input(&["cp", "-", "cc:/t/f"], &archive).fails(1, &["destination \"cc:/t/f\" must be a directory"]);
    env.kiste_with_input(&["cp", "-", "cc:/nosuch"], &archive).fails(1, &["must be a directory"]);
    env.kiste_with_input(&["cp", "-", "cc:/tmp"], b"garbage").fails(1, &["archive"]);
    env.kiste_with_input(&["cp", "-", "cc:/tmp"], &archive[..700]).fails(1, &["archive"]);
}

#[test]
fn what_is_read_only_stays_so() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc", "--read-only", "-v", "vv:/v:ro", "-v", "ww:/w"], "sleep 600");
    env.write("one", "one");
    let put = |target: &str| env.kiste(&["cp", &path(&env, "one"), &format!("cc:{target}")]);
    put("/tmp").fails(1, &["container rootfs is marked read-only"]);
    put("/v").fails(1, &["mounted volume is marked read-only"]);
    put("/w").ok();
    env.ok(&["kill", "cc"]);
    put("/tmp").fails(1, &["container rootfs is marked read-only"]);
    put("/v/x").fails(1, &["mounted volume is marked read-only"]);
    put("/w/x").ok();
    assert_eq!(env.sh(&["-v", "ww:/w"], "cat /w/one /w/x"), "oneone");
}

/// Containers and archives that would have the host's files read or written.
#[test]
fn nothing_leads_out() {
    let env = Env::with_busybox();
    let outside = env.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "host's").unwrap();
    let line = format!(
        "mkdir -p {0}; echo inner >{0}/secret; ln -s {0} /way; ln -s ../../../../../..{0} /up; ln -s /proc/1/root /magic; sleep 600",
        outside.display()
    );
    env.detached(&["--name", "cc"], &line);
    kiste_tests::wait_until("links", Duration::from_secs(20), || {
        env.kiste(&["exec", "cc", "test", "-L", "/magic"]).status.success().then_some(())
    });
    for source in ["/way/secret", "/up/secret"] {
        env.ok(&["cp", &format!("cc:{source}"), &path(&env, "got")]);
        assert_eq!(fs::read_to_string(env.path("got")).unwrap(), "inner\n", "{source}");
    }
    env.kiste(&["cp", "cc:/magic/etc/passwd", &path(&env, "x")]).fails(1, &[]);
    env.write("one", "one");
    env.ok(&["cp", &path(&env, "one"), "cc:/way/secret"]);
    env.kiste(&["cp", &path(&env, "one"), "cc:/magic/tmp/x"]).fails(1, &[]);
    // Archives whose entries climb, or go through links that they brought themselves.
    let target = outside.to_str().unwrap();
    for archive in [
        Layer::new().file("../../../../../../../../tmp/kiste-cp-escape", 0o644, b"x").finish(),
        Layer::new().entry("x", EntryType::Link, 0o644, (0, 0), "../../../../../../../etc/passwd", b"").finish(),
    ] {
        env.kiste_with_input(&["cp", "-", "cc:/tmp"], &archive).fails(1, &["outside"]);
    }
    let through = Layer::new().symlink("s", target).file("s/written", 0o644, b"x").finish();
    env.kiste_with_input(&["cp", "-", "cc:/tmp"], &through).ok();
    let mut left: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["secret"], "the host's directory is as it was");
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "host's");
    assert!(!Path::new("/tmp/kiste-cp-escape").exists());
    // A container that swaps a directory for a link while it is copied: what arrives stays below the destination.
    env.ok(&["exec", "-d", "cc", "sh", "-c", "mkdir /race; while :; do mkdir -p /race/d; echo x >/race/d/f; rm -r /race/d; ln -s /way /race/d; rm /race/d; done"]);
    symlink(&outside, env.path("lure")).unwrap();
    for turn in 0..20 {
        env.kiste(&["cp", "cc:/race", &path(&env, &format!("race{turn}"))]);
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}
