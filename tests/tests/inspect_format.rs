//! `inspect`, `--format` templates and the other answers that scripts read.

use kiste_tests::Env;
use serde_json::Value;

#[test]
fn the_document_has_dockers_fields() {
    let env = Env::with_busybox();
    env.detached(
        &["--name", "cc", "-e", "A=1", "--label", "x=y", "-v", "vol:/data", "--restart", "on-failure:3", "-m", "64m"],
        "sleep 60",
    );
    let document = env.inspect("cc");
    for key in DOCKERS_FIELDS {
        assert!(document.pointer(key).is_some(), "{key} is missing in {document:#}");
    }
    assert_eq!(document["Path"], "sh");
    assert_eq!(document["Args"], serde_json::json!(["-c", "sleep 60"]));
    assert_eq!(document["State"]["Running"], true);
    assert_eq!(document["Config"]["Labels"]["x"], "y");
    assert_eq!(
        document["HostConfig"]["RestartPolicy"],
        serde_json::json!({"Name": "on-failure", "MaximumRetryCount": 3})
    );
    assert_eq!(document["Mounts"][0]["Name"], "vol");
    assert!(document["Image"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(document["Config"]["Image"], "busybox");
}

/// Of `docker inspect`, version 28.5.
const DOCKERS_FIELDS: &[&str] = &[
    "/Id",
    "/Created",
    "/Path",
    "/Args",
    "/State/Status",
    "/State/Running",
    "/State/Paused",
    "/State/Restarting",
    "/State/OOMKilled",
    "/State/Dead",
    "/State/Pid",
    "/State/ExitCode",
    "/State/Error",
    "/State/StartedAt",
    "/State/FinishedAt",
    "/Image",
    "/ResolvConfPath",
    "/HostnamePath",
    "/HostsPath",
    "/LogPath",
    "/Name",
    "/RestartCount",
    "/Driver",
    "/Platform",
    "/MountLabel",
    "/ProcessLabel",
    "/AppArmorProfile",
    "/ExecIDs",
    "/HostConfig/Binds",
    "/HostConfig/ContainerIDFile",
    "/HostConfig/LogConfig/Type",
    "/HostConfig/NetworkMode",
    "/HostConfig/PortBindings",
    "/HostConfig/RestartPolicy",
    "/HostConfig/AutoRemove",
    "/HostConfig/CapAdd",
    "/HostConfig/CgroupnsMode",
    "/HostConfig/IpcMode",
    "/HostConfig/Privileged",
    "/HostConfig/SecurityOpt",
    "/HostConfig/UsernsMode",
    "/HostConfig/ShmSize",
    "/HostConfig/Runtime",
    "/HostConfig/CpuShares",
    "/HostConfig/Memory",
    "/HostConfig/NanoCpus",
    "/HostConfig/CgroupParent",
    "/HostConfig/PidsLimit",
    "/HostConfig/Ulimits",
    "/HostConfig/MaskedPaths",
    "/HostConfig/ReadonlyPaths",
    "/GraphDriver/Name",
    "/GraphDriver/Data/UpperDir",
    "/GraphDriver/Data/LowerDir",
    "/GraphDriver/Data/MergedDir",
    "/Mounts/0/Type",
    "/Mounts/0/Source",
    "/Mounts/0/Destination",
    "/Mounts/0/RW",
    "/Config/Hostname",
    "/Config/User",
    "/Config/Env",
    "/Config/Cmd",
    "/Config/Image",
    "/Config/WorkingDir",
    "/Config/Entrypoint",
    "/Config/Labels",
    "/NetworkSettings/Networks",
];

#[test]
fn templates() {
    let env = Env::with_busybox();
    env.ok(&["create", "--name", "cc", "-e", "A=1", "--label", "x=y", "busybox", "echo", "hi"]);
    let format = |template: &str| env.ok(&["inspect", "-f", template, "cc"]);
    assert_eq!(format("{{.Name}} {{.State.Status}}"), "/cc created");
    assert_eq!(format("{{json .Config.Cmd}}"), r#"["echo","hi"]"#);
    assert_eq!(format("{{range .Config.Env}}{{println .}}{{end}}").lines().next(), Some("A=1"));
    assert_eq!(format("{{index .Config.Labels \"x\"}}"), "y");
    assert_eq!(format("{{if .State.Running}}yes{{else}}no{{end}}"), "no");
    assert_eq!(format("{{.HostConfig.Memory}} {{len .Args}}"), "0 1");
    env.kiste(&["inspect", "-f", "{{.Nope.Deep}}", "cc"]).fails(1, &["template"]);
    env.kiste(&["inspect", "-f", "{{", "cc"]).fails(64, &["template"]);
    let lines: Vec<Value> =
        env.ok(&["ps", "-a", "--format", "json"]).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((lines[0]["Names"].as_str(), lines[0]["State"].as_str()), (Some("cc"), Some("created")));
    let table = env.ok(&["ps", "-a", "--format", "table {{.Names}}\t{{.Image}}"]);
    assert_eq!(table, "NAMES     IMAGE\ncc        busybox");
}

#[test]
fn several_objects_and_missing_ones() {
    let env = Env::with_busybox();
    env.ok(&["create", "--name", "aa", "busybox", "true"]);
    let output = env.kiste(&["inspect", "aa", "nosuch", "busybox"]);
    output.fails(1, &["no such object: nosuch"]);
    let documents: Vec<Value> = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[1]["RepoTags"][0], "busybox:latest");
    let output = env.kiste(&["inspect", "nosuch"]);
    assert_eq!((output.code(), output.stdout.as_str()), (1, "[]\n"));
    env.kiste(&["inspect", "--type", "image", "aa"]).fails(1, &["aa"]);
}

#[test]
fn info_and_version_are_json_too() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "sleep 60");
    let info: Value = serde_json::from_str(&env.ok(&["info", "--format", "json"])).unwrap();
    assert_eq!((&info["ContainersRunning"], &info["Images"]), (&1.into(), &1.into()));
    let version: Value = serde_json::from_str(&env.ok(&["version", "--format", "json"])).unwrap();
    assert!(version["Client"]["Version"].is_string(), "{version}");
}
