//! Logs: Docker's file format, bounds, following, time ranges, and that a full disk or a slow reader stops nobody.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use kiste_tests::Env;
use serde_json::Value;

#[test]
fn both_streams_are_kept_apart() {
    let env = Env::with_busybox();
    env.ok(&["run", "--name", "cc", "busybox", "sh", "-c", "echo out; echo err >&2; printf unfinished"]);
    let output = env.kiste(&["logs", "cc"]);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\nunfinished", "err\n"));
}

#[test]
fn the_file_has_dockers_format() {
    let env = Env::with_busybox();
    env.ok(&[
        "run",
        "--name",
        "cc",
        "--label",
        "a=1",
        "--log-opt",
        "labels=a",
        "busybox",
        "sh",
        "-c",
        "printf 'tab\\t<&>\\377\\n'; echo err >&2",
    ]);
    let path = env.ok(&["inspect", "-f", "{{.LogPath}}", "cc"]);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    let out = lines.iter().find(|line| line["stream"] == "stdout").unwrap();
    assert_eq!(out["log"], "tab\t<&>\u{fffd}\n");
    assert_eq!(out["attrs"]["a"], "1", "{text}");
    assert!(out["time"].as_str().unwrap().ends_with('Z'), "{text}");
    assert!(text.starts_with(r#"{"log":"#), "keys in Docker's order: {text}");
}

#[test]
fn tail_times_and_time_ranges() {
    let env = Env::with_busybox();
    env.ok(&["run", "--name", "cc", "busybox", "sh", "-c", "seq 1 5; sleep 1.2; echo late"]);
    assert_eq!(env.ok(&["logs", "--tail", "2", "cc"]), "5\nlate");
    assert_eq!(env.ok(&["logs", "-n", "0", "cc"]), "");
    let stamped = env.ok(&["logs", "-t", "cc"]);
    let (time, line) = stamped.lines().last().unwrap().split_once(' ').unwrap();
    assert_eq!(line, "late");
    assert!(time.len() >= 20 && time.ends_with('Z') && time.contains('T'), "{time}");
    assert_eq!(env.ok(&["logs", "--since", time, "cc"]), "late");
    assert_eq!(env.ok(&["logs", "--until", time, "--tail", "1", "cc"]).lines().count(), 1);
    assert_eq!(env.ok(&["logs", "--since", "1h", "cc"]).lines().count(), 6);
    env.kiste(&["logs", "--since", "nonsense", "cc"]).fails(1, &["nonsense"]);
    env.kiste(&["logs", "nosuch"]).fails(1, &["no such container: nosuch"]);
}

#[test]
fn following_ends_with_the_container() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "for i in 1 2 3; do echo $i; sleep 0.3; done");
    assert_eq!(env.ok(&["logs", "-f", "cc"]), "1\n2\n3");
    env.detached(&["--name", "dd"], "while :; do echo x; sleep 0.1; done");
    let mut follower = env.command(&["logs", "-f", "dd"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(follower.stdout.take().unwrap()).lines().take(3).count();
    assert_eq!(lines, 3);
    env.ok(&["rm", "-f", "dd"]);
    assert!(follower.wait().unwrap().code().is_some());
}

#[test]
fn rotation_keeps_the_newest_within_bounds() {
    let env = Env::with_busybox();
    let options = ["run", "--name", "cc", "--log-opt", "max-size=20k", "--log-opt", "max-file=3"];
    env.kiste(&[&options[..], &["busybox", "seq", "1", "3000"]].concat()).ok();
    let lines = env.ok(&["logs", "cc"]);
    let numbers: Vec<u32> = lines.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers.last(), Some(&3000));
    assert!(numbers.len() < 3000 && numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{} lines", numbers.len());
    let path = std::path::PathBuf::from(env.ok(&["inspect", "-f", "{{.LogPath}}", "cc"]));
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let files: Vec<_> = std::fs::read_dir(path.parent().unwrap())
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_str().unwrap().starts_with(&name))
        .collect();
    assert_eq!(files.len(), 3, "{files:?}");
    assert!(files.iter().all(|file| file.metadata().unwrap().len() <= 21_000));
}

#[test]
fn other_drivers() {
    let env = Env::with_busybox();
    env.ok(&["run", "--name", "ll", "--log-driver", "local", "busybox", "sh", "-c", "echo a; echo b >&2"]);
    let output = env.kiste(&["logs", "ll"]);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("a\n", "b\n"));
    env.ok(&["run", "--name", "nn", "--log-driver", "none", "busybox", "echo", "aa"]);
    env.kiste(&["logs", "nn"]).fails(1, &["does not support reading"]);
    env.kiste(&["run", "--log-driver", "nosuch", "busybox", "true"]).fails(125, &["nosuch"]);
    env.kiste(&["run", "--log-opt", "nosuch=1", "busybox", "true"]).fails(125, &["nosuch"]);
}

#[test]
fn damage_does_not_stop_the_reader() {
    let env = Env::with_busybox();
    env.ok(&["run", "--name", "cc", "busybox", "sh", "-c", "echo one; echo two; echo three"]);
    let path = env.ok(&["inspect", "-f", "{{.LogPath}}", "cc"]);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines = text.lines();
    let (one, two, three) = (lines.next().unwrap(), lines.next().unwrap(), lines.next().unwrap());
    let zeros = "\0".repeat(500);
    std::fs::write(&path, format!("{one}\n{zeros}\n{}\n{three}\n", &two[..20])).unwrap();
    let output = env.kiste(&["logs", "cc"]);
    assert!(output.stdout.starts_with("one\n") && output.stdout.ends_with("three\n"), "{output:#?}");
}

#[test]
fn a_reader_that_does_not_read_stops_nobody() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "seq 1 300000; echo done >/done; sleep 60");
    let mut lazy = env.command(&["logs", "-f", "cc"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut attached = env.command(&["attach", "--no-stdin", "cc"]).stdout(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    kiste_tests::wait_until("the workload goes on", Duration::from_secs(30), || {
        (env.kiste(&["exec", "cc", "test", "-e", "/done"]).code() == 0).then_some(())
    });
    assert!(start.elapsed() < Duration::from_secs(30));
    for child in [&mut lazy, &mut attached] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_full_disk_stops_nobody_and_is_told() {
    let env = Env::with_busybox();
    // A root directory on a tiny file system of its own, in a mount namespace of its own.
    let small = env.path("small");
    std::fs::create_dir(&small).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=100m t {0} && export KISTE_ROOT={0}/root && $KISTE load <$IMAGE >/dev/null && \
         $KISTE run --cgroup-parent={1} --name cc --log-opt max-size=500m busybox sh -c 'yes 0123456789012345678901234567890123456789 | head -c 80000000 >&2; echo done' 2>/dev/null; \
         code=$?; $KISTE ps -a --format '{{{{.Names}}}} {{{{.Status}}}}'; $KISTE rm -f cc >/dev/null; exit $code",
        small.display(),
        env.cgroup()
    );
    let image = env.write("busybox.tar", kiste_tests::fixtures::busybox());
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    env.prepare(&mut command);
    command.env("KISTE", kiste_tests::fixtures::kiste()).env("IMAGE", image);
    let output = kiste_tests::finish(&mut command, None, Duration::from_secs(60));
    assert!(output.ok().starts_with("done\ncc Exited (0)"), "{output:#?}");
}
