//! Registries as the user has them: push and pull, credentials and their helpers, mirrors, proxies, policies, manifest lists,
//! pulls that were killed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kiste_tests::archive::{self, Image, Layer};
use kiste_tests::{Env, Registry};
use serde_json::{Value, json};

fn tiny(name: &str, text: &str) -> Image {
    Image::new(name, vec![Layer::new().file("text", 0o644, text.as_bytes()).finish()], json!({"Cmd": ["x"]}))
}

/// Runs with several environment variables.
#[track_caller]
fn with(env: &Env, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let mut command = env.command(arguments);
    let output = command.envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

#[test]
fn there_and_back_again() {
    let env = Env::with_busybox();
    let registry = Registry::start();
    let name = format!("{}/team/box", registry.address());
    for tag in ["1", "2"] {
        env.ok(&["tag", "busybox", &format!("{name}:{tag}")]);
    }
    let output = env.ok(&["push", &format!("{name}:1")]);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], format!("The push refers to repository [{name}]"));
    assert!(lines[1].ends_with(": Preparing") && lines[2].ends_with(": Pushed"), "{output}");
    assert!(lines.last().unwrap().starts_with("1: digest: sha256:"), "{output}");
    let again = env.ok(&["push", "-a", &name]);
    assert_eq!(again.matches("Layer already exists").count(), 2, "{again}");
    assert_eq!(env.ok(&["push", "-q", &format!("{name}:2")]), format!("{name}:2"));
    let id = env.ok(&["images", "-q", "--no-trunc", "busybox"]);
    env.ok(&["rmi", "-f", "busybox", &format!("{name}:1"), &format!("{name}:2")]);
    assert_eq!(env.ok(&["run", "--rm", "-q", &format!("{name}:1"), "echo", "works"]), "works");
    let all = env.ok(&["pull", "-a", &name]);
    assert!(all.ends_with(&name) && all.contains("Status: Image is up to date for "), "{all}");
    assert_eq!(env.ok(&["images", "-q", "--no-trunc", &format!("{name}:2")]), id, "the same image");
    let digests = env.ok(&["images", "--digests", "--format", "{{.Digest}}"]);
    assert!(digests.lines().all(|line| line.starts_with("sha256:")), "{digests}");
    env.kiste(&["push", &format!("{name}:none")]).fails(1, &["tag does not exist"]);
    env.kiste(&["push", "nothing"]).fails(1, &["An image does not exist locally with the tag: nothing"]);
    env.kiste(&["push", "-a", &format!("{name}:1")]).fails(1, &["tag can't be used with --all-tags/-a"]);
    env.kiste(&["push", "--platform", "linux/s390x", &format!("{name}:1")]).fails(1, &["linux/s390x"]);
    let found = env.ok(&["search", "--format", "{{.Name}}", &format!("{}/team", registry.address())]);
    assert_eq!(found, name);
}

#[test]
fn credentials_are_kept_and_used() {
    let env = Env::with_busybox();
    let registry = Registry::with_password();
    let (host, config) = (registry.address(), env.path("config"));
    let config = config.to_str().unwrap();
    let name = format!("{host}/x:1");
    env.ok(&["tag", "busybox", &name]);
    env.kiste(&["--config", config, "push", &name]).fails(1, &["no basic auth credentials"]);
    env.kiste(&["--config", config, "login", "-u", "u", "-p", "wrong", &host])
        .fails(1, &["/v2/ failed with status: 401 unauthorized"]);
    assert!(!env.path("config/config.json").exists());
    env.kiste(&["--config", config, "login", "-u", "u", &host]).fails(1, &["non TTY device"]);
    env.kiste(&["--config", config, "login", "--password-stdin", &host]).fails(1, &["requires --username"]);
    let login = env.kiste_with_input(&["--config", config, "login", "-u", "u", "--password-stdin", &host], b"secret\n");
    assert_eq!(login.ok(), "Login Succeeded");
    assert!(login.stderr.contains("stored unencrypted"), "{login:#?}");
    let kept = env.path("config/config.json");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    let document: Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
    assert_eq!(document, json!({"auths": {&host: {"auth": "dTpzZWNyZXQ="}}}));
    env.ok(&["--config", config, "push", &name]);
    env.ok(&["rmi", "-f", &name, "busybox"]);
    env.ok(&["--config", config, "pull", &name]);
    assert_eq!(env.ok(&["--config", config, "run", "--rm", &name, "echo", "in"]), "in");
    assert!(env.ok(&["--config", config, "login", &host]).contains("existing credentials"));
    assert_eq!(env.ok(&["--config", config, "logout", &host]), format!("Removing login credentials for {host}"));
    env.kiste(&["--config", config, "push", &name]).fails(1, &["no basic auth credentials"]);
}

#[test]
fn helper_programs_keep_credentials() {
    let env = Env::with_busybox();
    let registry = Registry::with_password();
    let host = registry.address();
    let (store, helper) = (env.path("kept"), env.write("docker-credential-test", ""));
    let script = format!(
        "#!/bin/sh\nread -r input\ncase $1 in\nstore) echo \"$input\" >{0} ;;\nget) [ -e {0} ] && cat {0} || {{ echo credentials not found in native keychain; exit 1; }} ;;\nerase) rm -f {0} ;;\nesac\n",
        store.display()
    );
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(env.path("config")).unwrap();
    env.write("config/config.json", json!({"credHelpers": {&host: "test"}}).to_string());
    let path = format!("{}:{}", env.path("").display(), std::env::var("PATH").unwrap());
    let config = env.path("config");
    let variables = [("PATH", path.as_str()), ("DOCKER_CONFIG", config.to_str().unwrap())];
    let name = format!("{host}/x:1");
    env.ok(&["tag", "busybox", &name]);
    assert_eq!(with(&env, &["push", &name], &variables).0, 1);
    let (code, said) = with(&env, &["login", "-u", "u", "-p", "secret", &host], &variables);
    assert!(code == 0 && !said.contains("unencrypted"), "{said}");
    assert!(std::fs::read_to_string(&store).unwrap().contains("\"Secret\":\"secret\""));
    assert!(!std::fs::read_to_string(env.path("config/config.json")).unwrap().contains("dTpz"));
    assert_eq!(with(&env, &["push", &name], &variables).0, 0);
    assert_eq!(with(&env, &["logout", &host], &variables).0, 0);
    assert!(!store.exists());
    assert_eq!(with(&env, &["push", &name], &variables).0, 1);
}

#[test]
fn mirrors_and_blocked_registries() {
    let env = Env::new();
    let (mirror, other) = (Registry::start(), Registry::start());
    mirror.push("hub/library/tiny", "1", &tiny("tiny:1", "from the mirror"));
    other.push("moved/tiny", "1", &tiny("tiny:1", "from elsewhere"));
    let conf = format!(
        "[[registry]]\nprefix = \"docker.io\"\n[[registry.mirror]]\nlocation = \"127.0.0.1:1/dead\"\n[[registry.mirror]]\nlocation = \"{}/hub\"\n\
         [[registry]]\nprefix = \"registry.example/team\"\nlocation = \"{}/moved\"\n\
         [[registry]]\nprefix = \"evil.example\"\nblocked = true\n",
        mirror.address(),
        other.address()
    );
    let conf = env.write("registries.conf", conf);
    let pull = |name: &str| env.kiste_with_env(&["pull", name], "CONTAINERS_REGISTRIES_CONF", conf.to_str().unwrap());
    let said = pull("tiny:1");
    assert!(said.ok().ends_with("docker.io/library/tiny:1"), "{said:#?}");
    pull("registry.example/team/tiny:1").ok();
    assert_eq!(env.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).lines().count(), 2, "named as asked for");
    pull("evil.example/x").fails(1, &["blocked"]);
    let broken = env.write("broken.conf", "[[registry]]\nlocation = 1\n");
    env.kiste_with_env(&["pull", "tiny"], "CONTAINERS_REGISTRIES_CONF", broken.to_str().unwrap())
        .fails(1, &["broken.conf"]);
}

/// Passes connections on to a registry; the bytes that came back are counted.
struct Relay {
    address: String,
    back: Arc<AtomicU64>,
}

impl Relay {
    /// `connect`: clients say `CONNECT` first. `stall`: after so many bytes nothing comes back any more.
    fn to(target: String, connect: bool, stall: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay { address: listener.local_addr().unwrap().to_string(), back: Arc::default() };
        let back = Arc::clone(&relay.back);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (target, back) = (target.clone(), Arc::clone(&back));
                std::thread::spawn(move || pass(client, &target, connect, stall, &back));
            }
        });
        relay
    }
}

fn pass(mut client: TcpStream, target: &str, connect: bool, stall: u64, back: &AtomicU64) -> Option<()> {
    if connect {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"CONNECT registry.invalid:5000 HTTP/1.1"), "{}", String::from_utf8_lossy(&head));
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    }
    let mut server = TcpStream::connect(target).ok()?;
    let (mut to, mut from) = (server.try_clone().ok()?, client.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        to.shutdown(std::net::Shutdown::Write)
    });
    let mut buffer = [0; 16384];
    loop {
        let got = server.read(&mut buffer).ok().filter(|got| *got > 0)?;
        if back.fetch_add(got as u64, Ordering::Relaxed) > stall {
            std::thread::sleep(Duration::from_secs(600));
        }
        client.write_all(&buffer[..got]).ok()?;
    }
}

#[test]
fn through_a_proxy() {
    let env = Env::new();
    let registry = Registry::start();
    registry.push("tiny", "1", &tiny("tiny:1", "x"));
    let proxy = Relay::to(registry.address(), true, u64::MAX);
    let conf = env.write("registries.conf", "[[registry]]\nlocation = \"registry.invalid:5000\"\ninsecure = true\n");
    let conf = ("CONTAINERS_REGISTRIES_CONF", conf.to_str().unwrap());
    let address = format!("http://{}", proxy.address);
    let name = "registry.invalid:5000/tiny:1";
    let through = [conf, ("HTTP_PROXY", &address), ("https_proxy", &address)];
    let (code, said) = with(&env, &["pull", name], &through);
    assert_eq!(code, 0, "{said}");
    let (code, said) = with(&env, &["pull", name], &[&through[..], &[("NO_PROXY", "registry.invalid")]].concat());
    assert_eq!(code, 1, "there is no such host: {said}");
}

#[test]
fn a_killed_pull_goes_on() {
    let env = Env::new();
    let registry = Registry::start();
    let image = archive::busybox();
    registry.push("busybox", "1", &image);
    let whole: u64 = image.parts().blobs.iter().map(|blob| blob.len() as u64).sum();
    let stalls = Relay::to(registry.address(), false, whole / 2);
    let name = format!("{}/busybox:1", stalls.address);
    let mut pull = env.command(&["pull", &name]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let partial = env.root().join("partial");
    let kept = || -> u64 {
        let files = std::fs::read_dir(&partial).into_iter().flatten().flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    };
    while kept() < whole / 4 {
        std::thread::sleep(Duration::from_millis(10));
    }
    pull.kill().unwrap();
    pull.wait().unwrap();
    let there = kept();
    let relay = Relay::to(registry.address(), false, u64::MAX);
    let name = format!("{}/busybox:1", relay.address);
    env.ok(&["pull", &name]);
    let came = relay.back.load(Ordering::Relaxed);
    assert!(came < whole - there + 16384, "{there} of {whole} bytes were there, {came} came once more");
    assert_eq!((kept(), env.ok(&["run", "--rm", &name, "echo", "whole"])), (0, "whole".to_owned()));
}

#[test]
fn lists_of_platforms() {
    let env = Env::new();
    let registry = Registry::start();
    let config = env.path("config");
    let config = config.to_str().unwrap();
    let kiste = |arguments: &[&str]| env.kiste(&[&["--config", config], arguments].concat());
    let (mine, other) = (tiny("tiny:1", "mine"), Image { architecture: "s390x".into(), ..tiny("tiny:1", "other") });
    let (mine, other) = (registry.push("a", "mine", &mine), registry.push("b", "other", &other));
    let list = format!("{}/a:list", registry.address());
    assert_eq!(kiste(&["manifest", "create", &list, &mine]).ok(), format!("Created manifest list {list}"));
    kiste(&["manifest", "create", &list, &mine])
        .fails(1, &["refusing to amend an existing manifest list with no --amend flag"]);
    kiste(&["manifest", "create", "--amend", &list, &other]).ok();
    kiste(&["manifest", "annotate", "--arch", "bogus", &list, &other])
        .fails(1, &["manifest entry for image has unsupported os/arch combination: linux/bogus"]);
    kiste(&["manifest", "annotate", "--os-version", "1", "--os-features", "x,y", &list, &other]).ok();
    kiste(&["manifest", "annotate", &list, "nothing"]).fails(1, &["does not exist in"]);
    let shown: Value = serde_json::from_str(kiste(&["manifest", "inspect", &list]).ok()).unwrap();
    let platform = json!({"architecture": "s390x", "os": "linux", "os.version": "1", "os.features": ["x", "y"]});
    assert_eq!(shown["manifests"][1]["platform"], platform);
    let pushed = kiste(&["manifest", "push", "--purge", &list]);
    assert!(pushed.ok().starts_with(&format!("Pushed ref {}/a@sha256:", registry.address())), "{pushed:#?}");
    kiste(&["manifest", "rm", &list]).fails(1, &["No such manifest"]);
    let remote: Value = serde_json::from_str(kiste(&["manifest", "inspect", &list]).ok()).unwrap();
    assert_eq!(remote, shown);
    let verbose: Value = serde_json::from_str(kiste(&["manifest", "inspect", "-v", &list]).ok()).unwrap();
    assert_eq!((verbose.as_array().unwrap().len(), &verbose[1]["Descriptor"]["platform"]), (2, &platform));
    env.ok(&["pull", "-q", "--platform", "linux/s390x", &list]);
    assert_eq!(env.inspect(&list)["Architecture"], "s390x");
    env.ok(&["pull", "-q", &list]);
    assert_ne!(env.inspect(&list)["Architecture"], "s390x");
    kiste(&["manifest", "inspect", &format!("{}/a:none", registry.address())]).fails(1, &["no such manifest"]);
    kiste(&["manifest", "create", &list, &list]).fails(1, &["is a manifest list"]);
}

#[test]
fn a_policy_decides() {
    let env = Env::new();
    let registry = Registry::start();
    let name = registry.push("tiny", "1", &tiny("tiny:1", "x"));
    let policy = json!({"default": [{"type": "reject"}], "transports": {"docker": {"docker.io": [{"type": "insecureAcceptAnything"}]}}});
    let policy = env.write("policy.json", policy.to_string());
    let policy = policy.to_str().unwrap();
    env.kiste_with_env(&["pull", &name], "KISTE_SIGNATURE_POLICY", policy).fails(1, &["rejected by policy"]);
    env.kiste_with_env(&["run", "--rm", &name], "KISTE_SIGNATURE_POLICY", policy).fails(125, &["rejected by policy"]);
    env.kiste_with_env(&["pull", &name], "KISTE_SIGNATURE_POLICY", "/nonexistent").fails(1, &["/nonexistent"]);
    let archive = env.write("tiny.tar", tiny("tiny:1", "x").docker());
    let load =
        |policy: &str| env.kiste_with_env(&["load", "-i", archive.to_str().unwrap()], "KISTE_SIGNATURE_POLICY", policy);
    load(policy).fails(1, &["docker-archive: rejected by policy"]);
    let signed = json!([{"type": "sigstoreSigned", "keyPath": "/k"}]);
    let signed =
        json!({"default": signed, "transports": {"docker-archive": {"/a/path": [{"type": "insecureAcceptAnything"}]}}});
    load(env.write("signed.json", signed.to_string()).to_str().unwrap()).fails(1, &["signature was required"]);
    assert_eq!(env.ok(&["images", "-q"]), "");
    let open = json!({"default": [{"type": "reject"}], "transports": {"docker-archive": {"": [{"type": "insecureAcceptAnything"}]}}});
    load(env.write("open.json", open.to_string()).to_str().unwrap()).ok();
}

#[test]
fn two_pulls_at_the_same_time() {
    let env = Env::new();
    let registry = Registry::start();
    registry.push("busybox", "1", &archive::busybox());
    let relay = Relay::to(registry.address(), false, u64::MAX);
    let name = format!("{}/busybox:1", relay.address);
    let pull = || -> Command { env.command(&["pull", "-q", &name]) };
    env.ok(&["images"]);
    let mut both = [pull().stdout(Stdio::null()).spawn().unwrap(), pull().stdout(Stdio::null()).spawn().unwrap()];
    assert!(both.iter_mut().all(|pull| pull.wait().unwrap().success()));
    let whole: u64 = archive::busybox().parts().blobs.iter().map(|blob| blob.len() as u64).sum();
    let came = relay.back.load(Ordering::Relaxed);
    assert!(came < whole * 3 / 2, "the layer came once: {came} bytes of {whole}");
}

#[test]
fn short_names_are_what_registries_conf_says() {
    let env = Env::new();
    let (one, other) = (Registry::start(), Registry::start());
    one.push("a/tiny", "1", &tiny("tiny:1", "from the alias"));
    other.push("small", "latest", &tiny("small:latest", "from the second place"));
    let conf = |mode: &str| {
        let text = format!(
            "unqualified-search-registries = [\"{}\", \"{}\"]\nshort-name-mode = \"{mode}\"\n[aliases]\ntiny = \"{}/a/tiny\"\n",
            one.address(),
            other.address(),
            one.address()
        );
        env.write(&format!("{mode}.conf"), text).to_str().unwrap().to_owned()
    };
    let (permissive, enforcing) = (conf("permissive"), conf("enforcing"));
    let run = |conf: &str, arguments: &[&str]| env.kiste_with_env(arguments, "CONTAINERS_REGISTRIES_CONF", conf);
    let said = run(&permissive, &["pull", "tiny:1"]);
    assert!(said.ok().ends_with(&format!("{}/a/tiny:1", one.address())), "{said:#?}");
    run(&permissive, &["image", "inspect", "tiny:1"]).ok();
    let said = run(&permissive, &["pull", "-q", "small"]);
    assert_eq!(said.ok(), format!("{}/small:latest", other.address()));
    run(&permissive, &["pull", "nowhere"]).fails(1, &["nowhere", &one.address(), &other.address()]);
    run(&enforcing, &["pull", "other"]).fails(1, &["may be in", "enforcing"]);
    run(&enforcing, &["pull", "tiny:1"]).ok();
    env.kiste(&["image", "inspect", "tiny:1"]).fails(1, &["No such image: tiny:1"]);
    run(&permissive, &["tag", "tiny:1", "mine:1"]).ok();
    let removed = run(&permissive, &["rmi", "tiny:1"]).ok().to_owned();
    assert!(
        removed.contains(&format!("Untagged: {}/a/tiny:1", one.address())) && !removed.contains("Deleted"),
        "{removed}"
    );
}
