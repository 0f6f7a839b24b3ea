//! Many commands at once on the same containers, names and images.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use kiste_tests::{Env, Output, fixtures};

/// A command under contention may say no, but it must not die, hang, or blame the database.
fn sane(output: &Output) {
    assert!(matches!(output.code(), 0 | 1 | 125 | 126 | 137 | 143), "{output:#?}");
    for word in ["panicked", "database is locked", "internal error"] {
        assert!(!output.stderr.contains(word), "{output:#?}");
    }
}

/// Counts one less when it goes, also when its thread panics.
struct Countdown<'a>(&'a AtomicUsize);

impl Drop for Countdown<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn fifty_commands_on_three_containers() {
    let env = Env::with_busybox();
    for name in ["aa", "bb", "cc"] {
        env.detached(&["--name", name], "sleep 60");
    }
    let verbs: [&[&str]; 10] = [
        &["stop", "-t", "0"],
        &["start"],
        &["restart", "-t", "0"],
        &["kill"],
        &["inspect"],
        &["pause"],
        &["unpause"],
        &["logs"],
        &["rename"],
        &["update", "-m", "64m", "--memory-swap", "64m"],
    ];
    let left = AtomicUsize::new(50);
    thread::scope(|scope| {
        // A process that enters a container just before it is paused waits, as with Docker, until somebody thaws it.
        scope.spawn(|| {
            while left.load(Ordering::Relaxed) > 0 {
                for name in ["aa", "bb", "cc"] {
                    sane(&env.kiste(&["unpause", name]));
                }
                thread::sleep(Duration::from_millis(200));
            }
        });
        for index in 0..50 {
            let left = &left;
            let name = ["aa", "bb", "cc"][index % 3];
            let verb = verbs[index % verbs.len()];
            let env = &env;
            scope.spawn(move || {
                let _done = Countdown(left);
                match verb[0] {
                    "rename" => {
                        sane(&env.kiste(&["exec", name, "true"]));
                        sane(&env.kiste(&["ps", "-a"]));
                    }
                    _ => sane(&env.kiste(&[verb, &[name]].concat())),
                }
            });
        }
    });
    let mut names: Vec<String> = env.ok(&["ps", "-a", "--format", "{{.Names}}"]).lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["aa", "bb", "cc"], "every acknowledged container is still there");
    for name in ["aa", "bb", "cc"] {
        env.kiste(&["unpause", name]);
        env.ok(&["restart", "-t", "0", name]);
        assert_eq!(env.status(name), "running");
        assert_eq!(env.ok(&["exec", name, "echo", "alive"]), "alive");
    }
    assert_eq!(env.monitors().len(), 3, "one monitor for each");
}

#[test]
fn twenty_containers_at_once() {
    let env = Env::with_busybox();
    thread::scope(|scope| {
        for index in 0..20 {
            let env = &env;
            scope.spawn(move || env.detached(&["--name", &format!("c{index}")], "sleep 60"));
        }
    });
    assert_eq!(env.ok(&["ps", "-q"]).lines().count(), 20);
    let mut ranges: Vec<String> = (0..20)
        .map(|index| std::fs::read_to_string(format!("/proc/{}/uid_map", env.pid(&format!("c{index}")))).unwrap())
        .collect();
    ranges.sort();
    ranges.dedup();
    assert_eq!(ranges.len(), 20, "everyone has ids of its own");
    thread::scope(|scope| {
        for index in 0..20 {
            let env = &env;
            scope.spawn(move || env.ok(&["rm", "-f", &format!("c{index}")]));
        }
    });
    assert_eq!(env.ok(&["ps", "-aq"]), "");
}

#[test]
fn one_name_goes_to_one() {
    let env = Env::with_busybox();
    let codes: Vec<i32> = thread::scope(|scope| {
        let threads: Vec<_> = (0..10)
            .map(|_| {
                let env = &env;
                scope.spawn(move || env.kiste(&["run", "-d", "--name", "one", "busybox", "sleep", "60"]).code())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert!(codes.iter().all(|code| matches!(code, 0 | 125)), "{codes:?}");
    assert_eq!(env.ok(&["ps", "-aq"]).lines().count(), 1);
}

#[test]
fn removing_the_same_container_ten_times() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc", "-v", "/data"], "sleep 60");
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| sane(&env.kiste(&["rm", "-f", "-v", "cc"])));
        }
    });
    assert_eq!(env.ok(&["ps", "-aq"]), "");
    assert_eq!(env.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn the_same_image_loaded_ten_times() {
    let env = Env::new();
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| env.load(fixtures::busybox()));
        }
    });
    assert_eq!(env.ok(&["images", "-q"]).lines().count(), 1);
    assert_eq!(env.sh(&[], "echo works"), "works");
    assert_eq!(std::fs::read_dir(env.root().join("tmp")).map_or(0, Iterator::count), 0, "nothing temporary is left");
}

#[test]
fn a_volume_filled_once() {
    let env = Env::with_busybox();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(env.sh(&["-v", "vol:/etc"], "grep -c . /etc/passwd"), "4"));
        }
    });
    assert_eq!(env.ok(&["volume", "ls", "-q"]), "vol");
}
