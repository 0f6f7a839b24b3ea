//! From words to the request, through the real parser: every flag of `run` in a table, and the errors in Docker's words.

use std::ffi::OsString;

use engine::model::CreateRequest;
use serde_json::{Value, json};

use super::Options;
use crate::commands::find;
use crate::failure::Failure;

fn parse(words: &[&str]) -> Result<CreateRequest, Failure> {
    let words: Vec<OsString> = ["create"].iter().chain(words).map(OsString::from).collect();
    let (path, entry, rest) = find(&words).unwrap().unwrap();
    let mut command = entry.command(&path);
    let matches =
        command.try_get_matches_from_mut(rest).map_err(|error| crate::usage::failure(&path, &command, &error))?;
    let options: Options = clap::FromArgMatches::from_arg_matches(&matches).unwrap();
    options.request()
}

/// The request as JSON, config and host part in one.
fn request(words: &[&str]) -> Value {
    let request =
        parse(&[words, &["image"]].concat()).unwrap_or_else(|failure| panic!("{words:?}: {}", failure.message));
    let mut all = serde_json::to_value(&request.host).unwrap();
    let object = all.as_object_mut().unwrap();
    object.extend(serde_json::to_value(&request.config).unwrap().as_object().unwrap().clone());
    object.insert("name".into(), json!(request.name));
    object.insert("platform".into(), json!(request.platform));
    object.insert("endpoints".into(), json!(request.endpoints));
    all
}

/// Words, the field that they set, and its value.
#[test]
fn every_flag_lands_in_its_field() {
    let table: Vec<(&[&str], &str, Value)> = vec![
        (&["--add-host", "a:1.2.3.4"], "ExtraHosts", json!(["a:1.2.3.4"])),
        (&["--annotation", "k=v"], "Annotations", json!({"k": "v"})),
        (&["-a", "STDOUT"], "AttachStderr", json!(false)),
        (&["-a", "stdout", "-a", "stderr"], "AttachStdin", json!(false)),
        (&["--blkio-weight", "300"], "BlkioWeight", json!(300)),
        (&["--blkio-weight-device", "/dev/sda:300"], "BlkioWeightDevice", json!([{"Path": "/dev/sda", "Weight": 300}])),
        (&["--cap-add", "NET_ADMIN", "--cap-add=ALL"], "CapAdd", json!(["NET_ADMIN", "ALL"])),
        (&["--cap-drop", "ALL"], "CapDrop", json!(["ALL"])),
        (&["--cgroup-parent", "/x"], "CgroupParent", json!("/x")),
        (&["--cgroupns", "host"], "CgroupnsMode", json!("host")),
        (&["--cidfile", "/x"], "ContainerIDFile", json!("/x")),
        (&["--cpu-period", "1000"], "CpuPeriod", json!(1000)),
        (&["--cpu-quota", "-1"], "CpuQuota", json!(-1)),
        (&["--cpu-rt-period", "1"], "CpuRealtimePeriod", json!(1)),
        (&["--cpu-rt-runtime", "1"], "CpuRealtimeRuntime", json!(1)),
        (&["-c", "512"], "CpuShares", json!(512)),
        (&["--cpus", "1.5"], "NanoCpus", json!(1_500_000_000)),
        (&["--cpuset-cpus", "0-1"], "CpusetCpus", json!("0-1")),
        (&["--cpuset-mems", "0"], "CpusetMems", json!("0")),
        (
            &["--device", "/dev/fuse:r"],
            "Devices",
            json!([{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "r"}]),
        ),
        (&["--device-cgroup-rule", "c 1:3 r"], "DeviceCgroupRules", json!(["c 1:3 r"])),
        (&["--device-read-bps", "/dev/sda:1mb"], "BlkioDeviceReadBps", json!([{"Path": "/dev/sda", "Rate": 1 << 20}])),
        (&["--device-read-iops", "/dev/sda:10"], "BlkioDeviceReadIOps", json!([{"Path": "/dev/sda", "Rate": 10}])),
        (&["--device-write-bps", "/dev/sda:10"], "BlkioDeviceWriteBps", json!([{"Path": "/dev/sda", "Rate": 10}])),
        (&["--device-write-iops", "/dev/sda:10"], "BlkioDeviceWriteIOps", json!([{"Path": "/dev/sda", "Rate": 10}])),
        (&["--dns", "8.8.8.8"], "Dns", json!(["8.8.8.8"])),
        (&["--dns-opt", "ndots:1"], "DnsOptions", json!(["ndots:1"])),
        (&["--dns-option", "ndots:1"], "DnsOptions", json!(["ndots:1"])),
        (&["--dns-search", "example.com"], "DnsSearch", json!(["example.com"])),
        (&["--domainname", "x"], "Domainname", json!("x")),
        (&["--entrypoint", ""], "Entrypoint", json!([""])),
        (&["--entrypoint", "/bin/sh"], "Entrypoint", json!(["/bin/sh"])),
        (&["-eA=1", "--env", "B=2 3"], "Env", json!(["A=1", "B=2 3"])),
        (&["--expose", "80-81"], "ExposedPorts", json!({"80/tcp": {}, "81/tcp": {}})),
        (
            &["--gpus", "all"],
            "DeviceRequests",
            json!([{"Driver": "", "Count": -1, "DeviceIDs": [], "Capabilities": [["gpu"]], "Options": {}}]),
        ),
        (&["--group-add", "audio"], "GroupAdd", json!(["audio"])),
        (&["--health-cmd", "true"], "Healthcheck", json!({"Test": ["CMD-SHELL", "true"]})),
        (
            &["--health-interval", "5s", "--health-retries=2"],
            "Healthcheck",
            json!({"Interval": 5_000_000_000i64, "Retries": 2}),
        ),
        (&["--health-start-interval", "1s"], "Healthcheck", json!({"StartInterval": 1_000_000_000})),
        (&["--health-start-period", "1s"], "Healthcheck", json!({"StartPeriod": 1_000_000_000})),
        (&["--health-timeout", "1m"], "Healthcheck", json!({"Timeout": 60_000_000_000i64})),
        (&["--no-healthcheck"], "Healthcheck", json!({"Test": ["NONE"]})),
        (&["-h", "host"], "Hostname", json!("host")),
        (&["--init"], "Init", json!(true)),
        (&["-i"], "OpenStdin", json!(true)),
        (&["-i"], "StdinOnce", json!(true)),
        (&["-it"], "Tty", json!(true)),
        (&["-ti"], "OpenStdin", json!(true)),
        (&["--ip", "10.0.0.2", "--network", "n"], "endpoints", endpoint(json!({"IPv4Address": "10.0.0.2"}))),
        (&["--ip6", "fd00::2", "--network", "n"], "endpoints", endpoint(json!({"IPv6Address": "fd00::2"}))),
        (
            &["--link-local-ip", "169.254.1.1", "--net", "n"],
            "endpoints",
            endpoint(json!({"LinkLocalIPs": ["169.254.1.1"]})),
        ),
        (&["--ipc", "container:x"], "IpcMode", json!("container:x")),
        (&["--isolation", "default"], "Isolation", json!("default")),
        (&["-l", "a=b", "--label", "c"], "Labels", json!({"a": "b", "c": ""})),
        (&["--link", "x:y"], "Links", json!(["x:y"])),
        (
            &["--log-driver", "local", "--log-opt", "max-size=1m"],
            "LogConfig",
            json!({"Type": "local", "Config": {"max-size": "1m"}}),
        ),
        (&["-m", "512m"], "Memory", json!(512 << 20)),
        (&["--memory-reservation", "1g"], "MemoryReservation", json!(1 << 30)),
        (&["--memory-swap", "-1"], "MemorySwap", json!(-1)),
        (&["--memory-swappiness", "0"], "MemorySwappiness", json!(0)),
        (&["--mount", "type=tmpfs,dst=/t"], "Mounts", json!([{"Type": "tmpfs", "Target": "/t"}])),
        (&["--name", "n"], "name", json!("n")),
        (&["--network", "host"], "NetworkMode", json!("host")),
        (&[], "NetworkMode", json!("default")),
        (&["--oom-kill-disable"], "OomKillDisable", json!(true)),
        (&["--oom-score-adj", "-500"], "OomScoreAdj", json!(-500)),
        (&["--pid", "host"], "PidMode", json!("host")),
        (&["--pids-limit", "-1"], "PidsLimit", json!(-1)),
        (&["--platform", "linux/arm64"], "platform", json!("linux/arm64")),
        (&["--privileged"], "Privileged", json!(true)),
        (&["--privileged=false"], "Privileged", json!(false)),
        (&["-p", "8080:80"], "PortBindings", json!({"80/tcp": [{"HostIp": "", "HostPort": "8080"}]})),
        (&["-p", "8080:80"], "ExposedPorts", json!({"80/tcp": {}})),
        (&["-P"], "PublishAllPorts", json!(true)),
        (&["--read-only"], "ReadonlyRootfs", json!(true)),
        (&["--restart", "on-failure:3"], "RestartPolicy", json!({"Name": "on-failure", "MaximumRetryCount": 3})),
        (&[], "RestartPolicy", json!({"Name": "no", "MaximumRetryCount": 0})),
        (&["--rm"], "AutoRemove", json!(true)),
        (&["--rm", "--rm=false"], "AutoRemove", json!(false)),
        (&["--runtime", "x"], "Runtime", json!("x")),
        (&["--security-opt", "no-new-privileges"], "SecurityOpt", json!(["no-new-privileges"])),
        (&["--security-opt", "apparmor:unconfined"], "SecurityOpt", json!(["apparmor=unconfined"])),
        (&["--security-opt", "systempaths=unconfined"], "MaskedPaths", json!([])),
        (&["--shm-size", "1g"], "ShmSize", json!(1 << 30)),
        (&["--stop-signal", "SIGINT"], "StopSignal", json!("SIGINT")),
        (&["--stop-timeout", "-1"], "StopTimeout", json!(-1)),
        (&["--storage-opt", "size=1G"], "StorageOpt", json!({"size": "1G"})),
        (&["--sysctl", "net.ipv4.ip_forward=1"], "Sysctls", json!({"net.ipv4.ip_forward": "1"})),
        (&["--tmpfs", "/t:size=1m,mode=700"], "Tmpfs", json!({"/t": "size=1m,mode=700"})),
        (&["--ulimit", "nofile=5:10"], "Ulimits", json!([{"Name": "nofile", "Soft": 5, "Hard": 10}])),
        (&["-u", "1:2"], "User", json!("1:2")),
        (&["--userns", "keep-id:uid=1"], "UsernsMode", json!("keep-id:uid=1")),
        (&["--uts", "host"], "UTSMode", json!("host")),
        (&["-v", "/a:/b:ro"], "Binds", json!(["/a:/b:ro"])),
        (&["-v", "/anonymous"], "Volumes", json!({"/anonymous": {}})),
        (&["--volume-driver", "local"], "VolumeDriver", json!("local")),
        (&["--volumes-from", "x:ro"], "VolumesFrom", json!(["x:ro"])),
        (&["-w", "/w"], "WorkingDir", json!("/w")),
        (&["--name", "a", "--name", "b"], "name", json!("b")),
    ];
    for (words, field, value) in table {
        assert_eq!(request(words)[field], value, "{words:?}");
    }
}

/// One endpoint `n` with these addresses.
fn endpoint(given: Value) -> Value {
    let mut ipam = json!({"IPv4Address": "", "IPv6Address": "", "LinkLocalIPs": []});
    ipam.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
    json!({"n": {"IPAMConfig": ipam, "Links": null, "Aliases": null, "MacAddress": "", "DriverOpts": null, "GwPriority": 0}})
}

#[test]
fn what_follows_the_image_belongs_to_its_program() {
    for (words, command) in [
        (&["image", "ls", "-l", "--rm"][..], json!(["ls", "-l", "--rm"])),
        (&["--rm", "image", "--help"], json!(["--help"])),
        (&["image", "--", "x"], json!(["--", "x"])),
        (&["--", "image", "-x"], json!(["-x"])),
        (&["image", "-"], json!(["-"])),
        (&["image", ""], json!([""])),
        (&["image"], Value::Null),
    ] {
        let request = parse(words).unwrap();
        assert_eq!(request.config.image, "image", "{words:?}");
        assert_eq!(json!(request.config.cmd), command, "{words:?}");
    }
}

#[test]
fn a_directory_of_ours_is_made_absolute() {
    let here = std::env::current_dir().unwrap();
    let binds = parse(&["-v", "./x/../y:/t", "-v", ".:/u", "image"]).unwrap().host.binds.unwrap();
    assert_eq!(binds, [format!("{}/y:/t", here.display()), format!("{}:/u", here.display())]);
}

#[test]
fn network_flags_join_the_first_network() {
    let words = [
        "--network",
        "name=n,alias=a",
        "--network",
        "m",
        "--ip",
        "10.0.0.2",
        "--mac-address",
        "02:42:ac:11:00:02",
        "image",
    ];
    let request = parse(&words).unwrap();
    let first = &request.endpoints["n"];
    assert_eq!(first.aliases.as_deref(), Some(&["a".to_owned()][..]));
    assert_eq!(first.ipam_config.as_ref().unwrap().ipv4_address, "10.0.0.2");
    assert_eq!(first.mac_address, "02:42:ac:11:00:02");
    assert_eq!(request.endpoints["m"], Default::default());
    assert_eq!(request.host.network_mode, "n");
}

#[test]
fn a_seccomp_profile_travels_as_json() {
    use std::io::Write as _;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"{\n  \"defaultAction\": \"SCMP_ACT_ALLOW\"\n}\n").unwrap();
    let option = format!("seccomp={}", file.path().display());
    assert_eq!(
        request(&["--security-opt", &option])["SecurityOpt"],
        json!(["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"])
    );
}

#[test]
fn errors_are_dockers_with_exit_code_125() {
    for (words, message) in [
        (&["--bogus", "image"][..], "unknown flag: --bogus"),
        (&["--bogus=1", "image"], "unknown flag: --bogus"),
        (&["-Z", "image"], "unknown shorthand flag: 'Z' in -Z"),
        (&["--name"], "flag needs an argument: --name"),
        (&["-m", "x", "image"], "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'"),
        (
            &["--cpus", "x", "image"],
            "invalid argument \"x\" for \"--cpus\" flag: failed to parse x as a rational number",
        ),
        (
            &["--rm=x", "image"],
            "invalid argument \"x\" for \"--rm\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
        ),
        (&["--rm", "--restart", "always", "image"], "conflicting options: cannot specify both --restart and --rm"),
        (&["--no-healthcheck", "--health-cmd", "x", "image"], "--no-healthcheck conflicts with --health-* options"),
        (&["--health-retries", "-1", "image"], "--health-retries cannot be negative"),
        (&["--memory-swappiness", "101", "image"], "invalid value: 101. Valid memory swappiness range is 0-100"),
        (&["--pid", "x", "image"], "invalid argument \"x\" for \"--pid\" flag: invalid PID mode"),
        (&["--security-opt", "x", "image"], "invalid --security-opt: \"x\""),
        (
            &["--network", "name=n,ip=10.0.0.2", "--ip", "10.0.0.3", "image"],
            "conflicting options: cannot specify both --ip and per-network IPv4 address",
        ),
        (&["--cpu-count", "1", "image"], "--cpu-count: there is such a limit on Windows only"),
        (
            &["--ulimit", "nofile=5:4", "image"],
            "invalid argument \"nofile=5:4\" for \"--ulimit\" flag: ulimit soft limit must be less than or equal to hard limit: 5 > 4",
        ),
        (&["--log-driver", "none", "--log-opt", "a=b", "image"], "invalid logging opts for driver none"),
        (
            &["--network", "host", "--network", "n", "image"],
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ),
        (
            &["--network", "name=n,alias=a", "--network-alias", "b", "image"],
            "conflicting options: cannot specify both --network-alias and per-network alias",
        ),
    ] {
        let failure = parse(words).expect_err(message);
        assert_eq!((failure.message.as_str(), failure.code), (message, 125), "{words:?}");
    }
}

#[test]
fn a_missing_image_is_a_matter_of_counting() {
    let failure = parse(&["--rm"]).unwrap_err();
    assert_eq!((failure.message.as_str(), failure.code), ("'kiste create' requires at least 1 argument", 1));
    assert_eq!(failure.footer.as_deref(), Some("See 'kiste create --help'."));
}

#[test]
fn the_help_of_run_is_stable() {
    let words = [OsString::from("run")];
    let (path, entry, _) = find(&words).unwrap().unwrap();
    insta::assert_snapshot!(entry.page(&path));
}
