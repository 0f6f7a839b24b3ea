//! Builds through the API, by the real clients: the docker command's classic builder, and archives sent byte by byte.

use std::fs;
use std::path::PathBuf;

use kiste_tests::archive::Layer;
use kiste_tests::{Api, Env, Output, finish};

/// A context with this Dockerfile and these files.
fn context(env: &Env, name: &str, dockerfile: &str, files: &[(&str, &str)]) -> PathBuf {
    let directory = env.path(name);
    for (path, content) in [("Dockerfile", dockerfile)].iter().chain(files) {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    directory
}

/// Builds with the docker command's classic builder, without a network.
fn classic(api: &Api<'_>, directory: &std::path::Path, options: &[&str]) -> Output {
    let directory = directory.to_string_lossy();
    let arguments = [&["build", "--network", "none"], options, &[&directory]].concat();
    let mut command = api.docker_command(&arguments);
    command.env("DOCKER_BUILDKIT", "0");
    finish(&mut command, None, std::time::Duration::from_secs(90))
}

const STAGES: &str = "FROM busybox AS one\nARG WHO=world\nENV GREETING=\"hello $WHO\"\nRUN echo \"$GREETING\" >/out.txt\n\
    FROM busybox\nLABEL a=b\nCOPY --from=one /out.txt /data/\nCOPY . /files/\nCMD [\"cat\", \"/data/out.txt\"]\n";

#[test]
fn the_classic_builder_tells_its_steps() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let files = [("a.txt", "a"), ("x.log", "x"), (".dockerignore", "*.log\nDockerfile\n")];
    let directory = context(&env, "c", STAGES, &files);
    let first = classic(&api, &directory, &["-t", "made:1", "--build-arg", "WHO=you", "--label", "c=d"]);
    assert_eq!(first.code(), 0, "{first:#?}");
    let steps: Vec<&str> = first.stdout.lines().filter(|line| line.starts_with("Step ")).collect();
    assert_eq!(steps.first(), Some(&"Step 1/9 : FROM busybox AS one"), "{first:#?}");
    assert_eq!(steps.last(), Some(&"Step 9/9 : CMD [\"cat\", \"/data/out.txt\"]"), "{first:#?}");
    assert_eq!(steps.len(), 9, "{first:#?}");
    let id = api.ok(&["images", "-q", "made:1"]);
    assert!(first.stdout.ends_with(&format!("Successfully built {id}\nSuccessfully tagged made:1\n")), "{first:#?}");
    assert_eq!(api.ok(&["run", "--rm", "--network", "none", "made:1"]), "hello you");
    assert_eq!(api.ok(&["run", "--rm", "--network", "none", "made:1", "ls", "/files"]), "a.txt");
    assert_eq!(api.ok(&["image", "inspect", "-f", "{{.Config.Labels}}", "made:1"]), "map[a:b c:d]");
    let second = classic(&api, &directory, &["--build-arg", "WHO=you", "-t", "made:2"]);
    assert_eq!(second.stdout.matches(" ---> Using cache").count(), 3, "{second:#?}");
    let quiet = classic(&api, &directory, &["-q", "--build-arg", "WHO=you", "--label", "c=d"]);
    assert_eq!(quiet.ok(), api.ok(&["images", "-q", "--no-trunc", "made:1"]));
    assert_eq!(fs::read_dir(env.root().join("build/contexts")).unwrap().count(), 1, "only the lock stays");
}

#[test]
fn what_fails_is_told_as_docker_tells_it() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let failing = context(&env, "f", "FROM busybox\nRUN echo before && exit 3\n", &[]);
    let output = classic(&api, &failing, &[]);
    let expected = "The command '/bin/sh -c echo before && exit 3' returned a non-zero code: 3";
    assert!(output.code() != 0 && output.stderr.contains(expected), "{output:#?}");
    assert!(output.stdout.contains("\nbefore\n"), "{output:#?}");
    let wrong = context(&env, "w", "FROM busybox\nFOO x\n", &[]);
    let output = classic(&api, &wrong, &[]);
    assert!(output.stderr.contains("dockerfile parse error on line 2: unknown instruction: FOO"), "{output:#?}");
    let missing = context(&env, "m", "FROM busybox\nCOPY none /\n", &[]);
    let output = classic(&api, &missing, &[]);
    assert!(output.code() != 0 && output.stderr.contains("none"), "{output:#?}");
    // A Dockerfile beside the context, as the docker command sends it.
    let other = env.write("other.Dockerfile", "FROM busybox\nRUN true\n");
    let output = classic(&api, &missing, &["-f", &other.to_string_lossy()]);
    assert_eq!(output.code(), 0, "{output:#?}");
    for (query, expected) in [
        ("squash=1", "squash is only supported with experimental mode"),
        ("version=3", "invalid version"),
        ("buildargs=x", "error reading buildargs"),
        ("dockerfile=none", "Cannot locate specified Dockerfile: none"),
        ("target=none", "could not be found"),
    ] {
        let body = Layer::new().file("Dockerfile", 0o644, b"FROM busybox\n").finish();
        let answer = api.request("POST", &format!("/build?{query}"), &[], &body);
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
        assert!(answer.text().contains(expected), "{query}: {}", answer.text());
    }
}

#[test]
fn a_hostile_context_gets_nowhere() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let outside = env.path("outside");
    fs::create_dir(&outside).unwrap();
    let target = outside.to_string_lossy().into_owned();
    let dockerfile = "FROM busybox\nCOPY . /all/\n";
    let plain = || Layer::new().file("Dockerfile", 0o644, dockerfile.as_bytes());
    for archive in [
        plain().file("../outside/up", 0o644, b"x"),
        plain().symlink("way", &target).file("way/through", 0o644, b"x"),
        plain().symlink("link", &target).hardlink("hard", "link/none"),
    ] {
        let answer = api.request("POST", "/build?networkmode=none", &[], &archive.finish());
        assert!(answer.status >= 400, "{}", answer.text());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
    let absolute = plain().file("/etc/x", 0o644, b"inside").symlink("passwd", "/etc/passwd");
    let answer = api.request("POST", "/build?networkmode=none&t=made:1", &[], &absolute.finish());
    assert!(answer.text().contains("Successfully tagged made:1"), "{}", answer.text());
    assert_eq!(env.ok(&["run", "--rm", "--network", "none", "made:1", "readlink", "/all/passwd"]), "/etc/passwd");
    let half = &plain().file("big", 0o644, &[b'x'; 5000]).finish()[..3000];
    let answer = api.request("POST", "/build", &[], half);
    assert!(answer.status >= 400 && answer.text().contains("Error processing tar file"), "{}", answer.text());
}

/// A server, and the real docker command with buildx and compose.
struct Clients<'e> {
    api: Api<'e>,
    env: &'e Env,
}

impl<'e> Clients<'e> {
    fn start(env: &'e Env) -> Self {
        let plugins = env.path("docker-config/cli-plugins");
        fs::create_dir_all(&plugins).unwrap();
        for plugin in ["docker-buildx", "docker-compose"] {
            let file = kiste_tests::fixtures::client(&format!("usr/libexec/docker/cli-plugins/{plugin}"));
            std::os::unix::fs::symlink(file, plugins.join(plugin)).unwrap();
        }
        Clients { api: Api::start(env), env }
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.api.docker_command(arguments);
        command.env("DOCKER_CLI_HINTS", "false").env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1");
        command
    }

    fn docker(&self, arguments: &[&str]) -> Output {
        finish(&mut self.command(arguments), None, std::time::Duration::from_secs(90))
    }

    /// `docker build`, without a network and with plain progress.
    fn build(&self, directory: &std::path::Path, options: &[&str]) -> Output {
        let directory = directory.to_string_lossy();
        let fixed = ["build", "--network", "none", "--progress", "plain"];
        self.docker(&[&fixed[..], options, &[&directory]].concat())
    }

    #[track_caller]
    fn built(&self, directory: &std::path::Path, options: &[&str]) -> String {
        let output = self.build(directory, options);
        assert_eq!(output.code(), 0, "{}", output.stderr);
        output.stderr
    }

    fn run(&self, image: &str, line: &str) -> String {
        self.env.ok(&["run", "--rm", "--network", "none", image, "sh", "-c", line])
    }
}

#[test]
fn buildx_builds_and_sends_only_what_changed() {
    let env = Env::with_busybox();
    let clients = Clients::start(&env);
    let files = [("a.txt", "a"), ("d/ö x", "q"), ("x.log", "x"), (".dockerignore", "*.log\nDockerfile\n")];
    let directory = context(&env, "c", STAGES, &files);
    std::os::unix::fs::symlink("a.txt", directory.join("link")).unwrap();
    fs::hard_link(directory.join("a.txt"), directory.join("hard")).unwrap();
    let big = "0123456789abcdef".repeat(20_000);
    fs::write(directory.join("big"), &big).unwrap();
    let options = ["-t", "made:1", "--build-arg", "WHO=you", "--label", "c=d"];
    let first = clients.built(&directory, &options);
    assert!(first.contains("RUN echo") && first.contains("transferring context: 320"), "{first}");
    assert_eq!(
        clients.run("made:1", "cat /data/out.txt; cd /files; ls; cat d/*; readlink link; cat hard"),
        "hello you\na.txt\nbig\nd\nhard\nlink\nqa.txt\na"
    );
    let labels = clients.api.ok(&["image", "inspect", "-f", "{{.Config.Labels}}", "made:1"]);
    assert_eq!(labels, "map[a:b c:d]");
    let second = clients.built(&directory, &options);
    assert!(second.matches(" CACHED").count() >= 3 && !second.contains("context: 320"), "{second}");
    fs::write(directory.join("a.txt"), "b").unwrap();
    fs::remove_file(directory.join("link")).unwrap();
    let third = clients.built(&directory, &options);
    assert!(!third.contains("context: 320"), "{third}");
    assert_eq!(clients.run("made:1", "cd /files; cat a.txt hard; ls"), "bba.txt\nbig\nd\nhard");
}

#[test]
fn buildx_shows_where_it_failed() {
    let env = Env::with_busybox();
    let clients = Clients::start(&env);
    let failing = context(&env, "f", "FROM busybox\nRUN echo before && exit 3\n", &[]);
    let output = clients.build(&failing, &[]);
    assert_ne!(output.code(), 0);
    for expected in ["before\n", "Dockerfile:2\n", "   2 | >>> RUN echo before && exit 3", "exit code: 3"] {
        assert!(output.stderr.contains(expected), "{expected}: {}", output.stderr);
    }
    let wrong = context(&env, "w", "FROM busybox\nFOO x\n", &[]);
    let output = clients.build(&wrong, &[]);
    for expected in ["   2 | >>> FOO x", "dockerfile parse error on line 2: unknown instruction: FOO"] {
        assert!(output.stderr.contains(expected), "{expected}: {}", output.stderr);
    }
    let missing = context(&env, "m", "FROM busybox\nCOPY nope /x\n", &[]);
    let output = clients.build(&missing, &[]);
    assert!(output.stderr.contains("   2 | >>> COPY nope /x") && output.stderr.contains("not found"), "{output:#?}");
}

#[test]
fn secrets_and_agents_come_over_the_session() {
    let env = Env::with_busybox();
    let clients = Clients::start(&env);
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=key --mount=type=ssh \
        test -S $SSH_AUTH_SOCK && wc -c </run/secrets/key >/size\n";
    let directory = context(&env, "c", dockerfile, &[]);
    let secret = env.write("secret", "not for everybody");
    let agent = env.path("agent");
    let _listener = std::os::unix::net::UnixListener::bind(&agent).unwrap();
    let secret = format!("id=key,src={}", secret.display());
    let agent = format!("default={}", agent.display());
    clients.built(&directory, &["-t", "made:1", "--secret", &secret, "--ssh", &agent]);
    assert_eq!(clients.run("made:1", "cat /size; ls /run/secrets 2>/dev/null || true"), "17");
    let required = "FROM busybox\nRUN --mount=type=secret,id=none,required=true true\n";
    let output = clients.build(&context(&env, "r", required, &[]), &[]);
    assert!(output.code() != 0 && output.stderr.contains("none: not found"), "{output:#?}");
}

#[test]
fn results_go_to_the_client() {
    let env = Env::with_busybox();
    let clients = Clients::start(&env);
    let dockerfile = "FROM scratch\nCOPY a.txt /d/\nCOPY l /d/\n";
    let directory = context(&env, "c", dockerfile, &[("a.txt", "content")]);
    std::os::unix::fs::symlink("a.txt", directory.join("l")).unwrap();
    let out = env.path("out");
    clients.built(&directory, &["-o", &format!("type=local,dest={}", out.display())]);
    assert_eq!(fs::read_to_string(out.join("d/l")).unwrap(), "content");
    let tar = env.path("out.tar");
    clients.built(&directory, &["-o", &format!("type=tar,dest={}", tar.display())]);
    assert!(fs::read(&tar).unwrap().windows(7).any(|part| part == b"content"));
    let (id, metadata) = (env.path("id"), env.path("metadata"));
    let options = ["-t", "made:1", "--iidfile", &id.to_string_lossy(), "--metadata-file", &metadata.to_string_lossy()];
    clients.built(&directory, &options);
    let id = fs::read_to_string(id).unwrap();
    assert_eq!(id, clients.api.ok(&["images", "-q", "--no-trunc", "made:1"]));
    let metadata: serde_json::Value = serde_json::from_slice(&fs::read(metadata).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.config.digest"], serde_json::json!(id));
    assert_eq!(metadata["image.name"], "docker.io/library/made:1");
}

#[test]
fn contexts_come_from_everywhere_and_bake_links_targets() {
    let env = Env::with_busybox();
    let clients = Clients::start(&env);
    let other =
        context(&env, "other", "FROM busybox\nRUN echo base >/base\nENV FROM_BASE=yes\n", &[("o.txt", "other")]);
    let directory = context(&env, "c", "FROM busybox\nCOPY --from=other o.txt /\n", &[]);
    clients.built(&directory, &["-t", "made:1", "--build-context", &format!("other={}", other.display())]);
    assert_eq!(clients.run("made:1", "cat /o.txt"), "other");
    let archive =
        Layer::new().file("Dockerfile", 0o644, b"FROM busybox\nCOPY p.txt /\n").file("p.txt", 0o644, b"poured");
    let mut command = clients.command(&["build", "--network", "none", "-t", "made:2", "-"]);
    let output = finish(&mut command, Some(&archive.finish()), std::time::Duration::from_secs(90));
    assert_eq!(output.code(), 0, "{}", output.stderr);
    assert_eq!(clients.run("made:2", "cat /p.txt"), "poured");
    fs::write(directory.join("Dockerfile"), "FROM busybox\nRUN cat /base >/copy && echo $FROM_BASE >>/copy\n").unwrap();
    let bake = format!(
        "target \"a\" {{\n context = \"{}\"\n network = \"none\"\n}}\ntarget \"b\" {{\n context = \"{}\"\n network = \"none\"\n \
         contexts = {{ busybox = \"target:a\" }}\n tags = [\"made:3\"]\n}}\n",
        other.display(),
        directory.display()
    );
    let bake = env.write("bake.hcl", bake);
    let output = clients.docker(&["buildx", "bake", "--allow", "fs=*", "-f", &bake.to_string_lossy(), "b"]);
    assert_eq!(output.code(), 0, "{}", output.stderr);
    assert_eq!(clients.run("made:3", "cat /copy"), "base\nyes");
}

#[test]
fn caches_of_clients_are_used_or_refused() {
    let env = Env::with_busybox();
    let clients = Clients::start(&env);
    let registry = kiste_tests::Registry::start();
    let files = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/id\n";
    let directory = context(&env, "c", files, &[]);
    let app = format!("{}/app:1", registry.address());
    clients.built(&directory, &["-t", &app, "--cache-to", "type=inline"]);
    clients.api.ok(&["push", &app]);
    let other = Env::with_busybox();
    let elsewhere = Clients::start(&other);
    let progress = elsewhere.built(&context(&other, "c", files, &[]), &["-t", "made:1", "--cache-from", &app]);
    assert!(progress.contains("importing cache manifest from"), "{progress}");
    assert_eq!(clients.run(&app, "cat /id"), elsewhere.run("made:1", "cat /id"));
    for (option, value, expected) in [
        ("--output", "type=image,rewrite-timestamp=true", "rewrite-timestamp=true"),
        ("--output", "type=image,compression=zstd", "compression=zstd"),
    ] {
        let output = clients.build(&directory, &[option, value]);
        assert!(output.code() != 0 && output.stderr.contains(expected), "{option} {value}: {output:#?}");
    }
}

#[test]
fn compose_builds() {
    let env = Env::with_busybox();
    let clients = Clients::start(&env);
    let directory = context(&env, "project/app", "FROM busybox\nARG A\nRUN echo $A >/a\n", &[]);
    let file = "services:\n  app:\n    image: made:1\n    build:\n      context: app\n      network: none\n      args: { A: composed }\n";
    fs::write(directory.with_file_name("compose.yaml"), file).unwrap();
    let file = directory.with_file_name("compose.yaml");
    let output = clients.docker(&["compose", "-f", &file.to_string_lossy(), "build"]);
    assert_eq!(output.code(), 0, "{}", output.stderr);
    assert_eq!(clients.run("made:1", "cat /a"), "composed");
}

#[test]
fn a_client_that_goes_stops_its_build_and_others_go_on() {
    let env = Env::with_busybox();
    let clients = Clients::start(&env);
    let endless = context(&env, "endless", "FROM busybox\nRUN touch /began; sleep 1000\n", &[]);
    let path = endless.to_string_lossy().into_owned();
    let mut command = clients.command(&["build", "--network", "none", "--progress", "plain", &path]);
    let mut client = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let limit = std::time::Duration::from_secs(30);
    kiste_tests::wait_until("the step runs", limit, || Some(()).filter(|()| !env.monitors().is_empty()));
    std::thread::scope(|scope| {
        for name in ["one", "two"] {
            let (clients, env) = (&clients, &env);
            scope.spawn(move || {
                let dockerfile = format!("FROM busybox\nRUN echo {name} >/name\n");
                let directory = context(env, name, &dockerfile, &[]);
                clients.built(&directory, &["-t", &format!("made:{name}")]);
            });
        }
    });
    assert_eq!(clients.run("made:one", "cat /name") + &clients.run("made:two", "cat /name"), "onetwo");
    client.kill().unwrap();
    client.wait().unwrap();
    kiste_tests::wait_until("the step is gone", limit, || Some(()).filter(|()| env.monitors().is_empty()));
}

#[test]
fn buildx_looks_at_the_builder() {
    let env = Env::with_busybox();
    let clients = Clients::start(&env);
    let directory = context(&env, "c", "FROM busybox\nRUN echo x >/x\n", &[]);
    clients.built(&directory, &[]);
    assert!(clients.docker(&["buildx", "ls"]).ok().contains("running"));
    assert!(clients.docker(&["buildx", "inspect"]).ok().contains("linux/"));
    assert!(clients.docker(&["buildx", "du"]).ok().contains("Total:"));
    assert!(clients.docker(&["buildx", "history", "ls"]).ok().contains("Completed"));
    let filtered = clients.docker(&["buildx", "du", "--filter", "type=regular"]);
    assert!(filtered.code() != 0 && filtered.stderr.contains("filters are not supported"), "{filtered:#?}");
    assert!(clients.docker(&["builder", "prune", "-f"]).ok().contains("Total:"));
    let again = clients.built(&directory, &[]);
    assert!(!again.contains("RUN echo x >/x\n#5 CACHED"), "{again}");
    let wrong = context(&env, "w", "FROM busybox AS x\nfrom busybox\n", &[]);
    let check = clients.docker(&["build", "--check", &wrong.to_string_lossy()]);
    assert!(check.code() != 0 && check.stdout.contains("ConsistentInstructionCasing"), "{check:#?}");
    let check = clients.docker(&["build", "--call", "outline", &directory.to_string_lossy()]);
    assert!(check.code() != 0 && check.stderr.contains("unsupported request"), "{check:#?}");
}
