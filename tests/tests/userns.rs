//! User namespaces: nobody in a container is somebody on the host, and yet files keep their owners.

use std::os::unix::fs::MetadataExt;

use kiste_tests::Env;

/// First host id of the container whose first process this is.
fn range(pid: u32) -> (u32, u32) {
    let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    let words: Vec<u32> = map.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!(words[0], 0, "{map}");
    (words[1], words[2])
}

#[test]
fn root_inside_is_nobody_outside() {
    let env = Env::with_busybox();
    env.detached(&["--name", "aa"], "sleep 60");
    env.detached(&["--name", "bb"], "sleep 60");
    let (a, b) = (range(env.pid("aa")), range(env.pid("bb")));
    assert!(a.0 >= 65536 && a.1 == 65536, "{a:?}");
    assert!(a.0.abs_diff(b.0) >= 65536, "two containers share ids: {a:?} {b:?}");
    let owner = std::fs::metadata(format!("/proc/{}/ns", env.pid("aa"))).unwrap().uid();
    assert!(owner == a.0 || owner == 0, "{owner}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", env.pid("aa"))).unwrap();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:\t")).unwrap();
    assert_eq!(uid.split('\t').next(), Some(a.0.to_string().as_str()));
}

#[test]
fn layers_and_own_files_have_the_right_owners() {
    let env = Env::with_busybox();
    let line = "stat -c %u:%g / /bin/busybox /tmp; touch /mine; chown app:staff /mine; stat -c %u:%g /mine; chown 0:0 /etc/passwd && echo x >>/etc/passwd";
    env.ok(&["run", "--name", "cc", "busybox", "sh", "-c", line]);
    assert_eq!(env.ok(&["logs", "cc"]), "0:0\n0:0\n0:0\n1000:50");
    // What the container wrote is kept with the container's own ids: any later id range fits.
    let id = env.inspect("cc")["Id"].as_str().unwrap().to_owned();
    let mine = env.root().join("containers").join(id).join("upper/mine");
    let metadata = std::fs::metadata(&mine).unwrap_or_else(|e| panic!("{}: {e}", mine.display()));
    assert_eq!((metadata.uid(), metadata.gid()), (1000, 50));
}

#[test]
fn the_files_survive_a_restart() {
    let env = Env::with_busybox();
    env.ok(&[
        "run",
        "--name",
        "cc",
        "busybox",
        "sh",
        "-c",
        "echo $(cat /n 2>/dev/null)x >/n; chown app /n; cat /n; stat -c %u /n",
    ]);
    env.ok(&["start", "-a", "cc"]);
    assert_eq!(env.ok(&["logs", "cc"]), "x\n1000\nxx\n1000");
}

#[test]
fn bind_mounts_keep_the_hosts_owners() {
    let env = Env::with_busybox();
    let directory = env.path("data");
    std::fs::create_dir(&directory).unwrap();
    std::os::unix::fs::chown(&directory, Some(1000), Some(1000)).unwrap();
    std::fs::write(directory.join("roots"), "r").unwrap();
    let volume = format!("{}:/data", directory.display());
    let line = "stat -c %u:%g /data /data/roots; touch /data/by-root; su app -s /bin/sh -c 'touch /data/by-app'";
    let output = env.sh(&["-v", &volume, "--security-opt", "no-new-privileges=false"], line);
    assert_eq!(output, "1000:1000\n0:0");
    let owner = |name: &str| std::fs::metadata(directory.join(name)).unwrap().uid();
    assert_eq!((owner("by-root"), owner("by-app")), (0, 1000));
}

#[test]
fn host_namespace_on_request_and_when_privileged() {
    let env = Env::with_busybox();
    for option in ["--userns=host", "--privileged"] {
        let map = env.sh(&[option], "cat /proc/self/uid_map");
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "0", "4294967295"], "{option}");
    }
    assert_eq!(
        env.sh(&["--userns", "host", "-u", "1234"], "id -u; stat -c %u /bin/busybox; touch /tmp/x; stat -c %u /tmp/x"),
        "1234\n0\n1234"
    );
}

#[test]
fn an_automatic_range_is_the_default() {
    let env = Env::with_busybox();
    let map = env.sh(&["--userns", "auto", "--network", "host"], "cat /proc/self/uid_map");
    let words: Vec<&str> = map.split_whitespace().collect();
    assert_eq!((words[0], words[2]), ("0", "65536"), "{map}");
    let file = env.path("file");
    std::fs::write(&file, "").unwrap();
    std::os::unix::fs::chown(&file, Some(4321), Some(4321)).unwrap();
    let (mode, bind) = ("auto:size=2048,uidmapping=1000:4321:1", format!("{}:/file", file.display()));
    let line =
        "cat /proc/self/uid_map | tr -s ' ' | cut -d' ' -f2,4; stat -c %u /file; touch /tmp/x; stat -c %u /tmp/x";
    let options = ["--userns", mode, "-u", "1000", "-v", &bind];
    assert_eq!(env.sh(&options, line), "0 1000\n1000 1\n1001 1047\n65534\n1000");
    for bad in ["auto:size=70000", "auto:size=x", "auto:colour=1", "auto:uidmapping=1:2"] {
        env.kiste(&["run", "--rm", "--userns", bad, "busybox", "true"]).fails(125, &[bad]);
    }
    env.kiste(&["run", "--rm", "--userns", "nonsense", "busybox", "true"]).fails(125, &["nonsense"]);
}

#[test]
fn keeping_ones_own_id() {
    let env = Env::with_busybox();
    let home = env.path("home");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(1000), Some(1000)).unwrap();
    let volume = format!("{}:/h", home.display());
    let line = "touch /h/x; stat -c %u /h/x; id -u";
    let mut command = env.command(&["run", "--rm", "--userns", "keep-id", "-v", &volume, "busybox", "sh", "-c", line]);
    command.env("SUDO_UID", "1000").env("SUDO_GID", "1000");
    let output = kiste_tests::finish(&mut command, None, std::time::Duration::from_secs(30));
    assert_eq!(output.ok(), "1000\n1000");
    assert_eq!(std::fs::metadata(home.join("x")).unwrap().uid(), 1000, "on the host they are the caller's");
    env.kiste_with_env(&["run", "--rm", "--userns", "keep-id", "busybox", "true"], "SUDO_UID", "")
        .fails(125, &["keep-id", "root"]);
}

#[test]
fn devices_and_setuid_programs_of_an_image_have_no_power_over_the_host() {
    let env = Env::with_busybox();
    env.ok(&[
        "run",
        "--name",
        "cc",
        "busybox",
        "sh",
        "-c",
        "cp /bin/busybox /tmp/su && chmod 4755 /tmp/su && ls -l /tmp/su | cut -c4",
    ]);
    assert_eq!(env.ok(&["logs", "cc"]), "s");
    env.kiste(&["run", "--rm", "busybox", "mknod", "/dev/sda", "bb", "8", "0"]).fails(1, &["not permitted"]);
}
