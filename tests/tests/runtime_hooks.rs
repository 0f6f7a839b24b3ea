//! Hooks under `kiste runtime`: order, what they are told, where they run, and what follows when one fails
//! (runtime-spec, config.md "POSIX-platform Hooks", runtime.md "Lifecycle").

use std::fs;
use std::time::Duration;

use kiste_tests::{Bundle, wait_until};
use serde_json::{Value, json};

/// A hook that appends the name of its list and what it is told to `FILE`.
fn note(kind: &str, file: &str) -> Value {
    let line = format!("echo \"{kind} $(cat)\" >> {file}");
    json!([{"path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/usr/bin:/bin"]}])
}

fn noted(bundle: &Bundle) -> Vec<(String, Value)> {
    let text = fs::read_to_string(bundle.path("notes")).unwrap_or_default();
    let entry = |line: &str| {
        let (kind, state) = line.split_once(' ').expect("name and state");
        (kind.to_owned(), serde_json::from_str(state).expect("the state in JSON"))
    };
    text.lines().map(entry).collect()
}

#[test]
fn all_six_run_in_order_with_the_containers_state() {
    let mut bundle = Bundle::new("cat /notes-inside; echo program >> /notes-inside");
    let notes = bundle.path("notes").to_string_lossy().into_owned();
    bundle.config["annotations"] = json!({"org.example": "x"});
    bundle.config["hooks"] = json!({
        "prestart": note("prestart", &notes),
        "createRuntime": note("createRuntime", &notes),
        "createContainer": note("createContainer", &notes),
        "startContainer": note("startContainer", "/notes-inside"),
        "poststart": note("poststart", &notes),
        "poststop": note("poststop", &notes),
    });
    bundle.create("c", &[]).ok();
    let pid = bundle.state("c")["pid"].clone();
    let before: Vec<String> = noted(&bundle).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(before, ["prestart", "createRuntime", "createContainer"]);
    bundle.runtime(&["start", "c"]).ok();
    let program = || bundle.output("c").contains("startContainer").then_some(());
    wait_until("the program sees what the hook has written", Duration::from_secs(10), program);
    bundle.runtime(&["delete", "--force", "c"]).ok();
    let all = noted(&bundle);
    let shown: Vec<(&str, &str)> =
        all.iter().map(|(kind, state)| (kind.as_str(), state["status"].as_str().unwrap())).collect();
    let wanted = [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    assert_eq!(shown, wanted);
    for (kind, state) in &all {
        assert_eq!((&state["id"], &state["ociVersion"]), (&json!("c"), &json!("1.3.0")), "{kind}");
        assert_eq!(state["annotations"]["org.example"], "x");
        assert_eq!(state["bundle"], bundle.path("").canonicalize().unwrap().to_string_lossy().as_ref());
    }
    assert_eq!((&all[0].1["pid"], &all[1].1["pid"], &all[3].1["pid"]), (&pid, &pid, &pid));
    assert_eq!(all[2].1["pid"], 1, "inside, as the container counts");
    let inside = fs::read_to_string(bundle.path("rootfs/notes-inside")).unwrap();
    assert!(inside.starts_with("startContainer {") && inside.contains("\"status\":\"created\""), "{inside}");
}

#[test]
fn hooks_before_the_change_of_root_find_it_complete_at_its_path() {
    let mut bundle = Bundle::new("cat /proc/mounts | grep -c rootfs; ls /");
    let rootfs = bundle.path("rootfs").to_string_lossy().into_owned();
    let outside = format!("test ! -e {rootfs}/proc/1 && touch {rootfs}/from-runtime");
    let inside = format!("test -d {rootfs}/proc/1 && touch {rootfs}/from-container && hostname > {rootfs}/name");
    bundle.config["hostname"] = "inside".into();
    let hook = |line: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", line]}]);
    bundle.config["hooks"] = json!({"createRuntime": hook(&outside), "createContainer": hook(&inside)});
    let output = bundle.run("c");
    output.ok();
    assert!(output.stdout.contains("from-runtime") && output.stdout.contains("from-container"), "{output:?}");
    assert_eq!(fs::read_to_string(bundle.path("rootfs/name")).unwrap(), "inside\n");
}

#[test]
fn one_that_fails_ends_the_container_and_is_quoted() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let mut bundle = Bundle::new("echo ran");
        let notes = bundle.path("notes").to_string_lossy().into_owned();
        bundle.config["hooks"] = json!({
            kind: [{"path": "/bin/sh", "args": ["sh", "-c", "echo because >&2; exit 3"]}],
            "poststop": note("poststop", &notes),
        });
        bundle.run("c").fails(1, &[kind, "hook #0", "exit status: 3", "because"]);
        bundle.runtime(&["state", "c"]).fails(1, &["does not exist"]);
        assert_eq!(noted(&bundle).len(), 1, "{kind}: what it has done, poststop undoes");
    }
    for kind in ["startContainer", "poststart"] {
        let mut bundle = Bundle::new("sleep 100");
        bundle.config["hooks"] = json!({kind: [{"path": "/bin/false"}]});
        bundle.create("c", &[]).ok();
        bundle.runtime(&["start", "c"]).fails(1, &[kind, "hook #0"]);
        bundle.runtime(&["state", "c"]).fails(1, &["does not exist"]);
    }
}

#[test]
fn failing_poststop_hooks_are_warnings_and_the_others_run() {
    let mut bundle = Bundle::new("true");
    let notes = bundle.path("notes").to_string_lossy().into_owned();
    let mut hooks = json!([{"path": "/bin/false"}]);
    hooks.as_array_mut().unwrap().push(note("poststop", &notes)[0].clone());
    bundle.config["hooks"] = json!({"poststop": hooks});
    let output = bundle.run("c");
    output.ok();
    assert!(output.stderr.contains("level=warning") && output.stderr.contains("poststop hook #0"), "{output:?}");
    assert_eq!(noted(&bundle).len(), 1);
}

#[test]
fn one_that_hangs_is_killed_with_all_that_it_started() {
    let mut bundle = Bundle::new("true");
    let line = "sleep 1000 & sleep 1000";
    bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", line], "timeout": 1}]});
    bundle.run("c").fails(1, &["createRuntime hook #0", "timeout of 1 s"]);
}

#[test]
fn malformed_ones_are_refused_before_anything_is_made() {
    let mut bundle = Bundle::new("true");
    for (hook, words) in [
        (json!({"path": "relative"}), ["hooks.poststop[0].path", "absolute"]),
        (json!({"path": "/bin/true", "timeout": 0}), ["hooks.poststop[0].timeout", "greater than zero"]),
        (json!({"args": ["x"]}), ["path", "missing"]),
    ] {
        bundle.config["hooks"] = json!({"poststop": [hook]});
        bundle.run("c").fails(1, &words);
    }
}

#[test]
fn their_environment_is_their_own() {
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["env"] = json!(["PATH=/bin", "LD_PRELOAD=/evil.so", "SECRET=1"]);
    let file = bundle.path("env").to_string_lossy().into_owned();
    let hook = |env: Value| json!([{"path": "/usr/bin/env", "env": env}]);
    let line = format!("/usr/bin/env > {file}");
    bundle.config["hooks"] = json!({
        "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", line], "env": ["ONLY=this"]}],
        "prestart": hook(json!(["X=1"])),
    });
    bundle.run("c").ok();
    let env = fs::read_to_string(bundle.path("env")).unwrap();
    assert!(env.contains("ONLY=this") && !env.contains("SECRET") && !env.contains("LD_PRELOAD"), "{env}");
}

/// What runs in the program's place without an environment of its own has the program's, as under runc.
#[test]
fn start_container_hooks_have_the_programs_environment() {
    let mut bundle = Bundle::new("cat /env");
    bundle.config["process"]["env"] = json!(["PATH=/bin", "OURS=1"]);
    let hook = |env: Value| json!([{"path": "/bin/sh", "args": ["sh", "-c", "/bin/env > /env"], "env": env}]);
    bundle.config["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "/bin/env > /env"]}]});
    let env = bundle.run("c").ok().to_owned();
    assert!(env.contains("OURS=1") && !env.contains("CARGO"), "{env}");
    bundle.config["hooks"] = json!({"startContainer": hook(json!(["ONLY=this"]))});
    let env = bundle.run("c").ok().to_owned();
    assert!(env.contains("ONLY=this") && !env.contains("OURS"), "{env}");
}
