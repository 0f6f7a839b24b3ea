//! `kiste explain`: what a container really is, as the kernel tells it.

use kiste_tests::Env;
use serde_json::Value;

/// Every text and number in a document.
fn leaves(value: &Value) -> String {
    match value {
        Value::Array(values) => values.iter().map(leaves).collect::<Vec<_>>().join("\n"),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| format!("{key}\n{}", leaves(value))).collect::<Vec<_>>().join("\n")
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[test]
fn it_tells_what_the_kernel_says() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc", "-m", "64m", "--uts", "host", "-v", "vol:/data"], "echo changed >/new; sleep 60");
    let document: Value = serde_json::from_str(&env.ok(&["explain", "--format", "json", "cc"])).unwrap();
    let told = leaves(&document);
    let pid = env.pid("cc");
    for namespace in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts", "time"] {
        let number = |pid: &str| {
            let link = std::fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap().display().to_string();
            link.trim_start_matches(namespace).trim_matches(|c: char| !c.is_ascii_digit()).to_owned()
        };
        assert!(
            told.contains(&number(&pid.to_string())) && told.contains(&number("thread-self")),
            "{namespace}: {document:#}"
        );
    }
    let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    assert!(told.contains(map.split_whitespace().nth(1).unwrap()), "{document:#}");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    for fact in ["67108864", release.trim(), "/data", "new", env.cgroup()] {
        assert!(told.contains(fact), "{fact}: {document:#}");
    }
    assert!(told.to_lowercase().contains("chown"), "capabilities by name: {document:#}");
}

#[test]
fn as_text_for_people() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "sleep 60");
    let text = env.ok(&["explain", "cc"]);
    for word in ["user", "cgroup", "seccomp", "kernel", "layer", "CHOWN"] {
        assert!(text.to_lowercase().contains(&word.to_lowercase()), "{word}: {text}");
    }
    // Only what cannot be broken, a path, may be wider than a terminal.
    let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > 80 && !line.contains('/')).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    env.ok(&["kill", "cc"]);
    env.ok(&["wait", "cc"]);
    assert!(!env.ok(&["explain", "cc"]).is_empty(), "also when it does not run");
    env.kiste(&["explain", "nosuch"]).fails(1, &["no such container: nosuch"]);
}
