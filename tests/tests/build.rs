//! `kiste build`: Dockerfiles become images, unchanged steps come from the cache, errors point at their lines, and nothing
//! is left of a build but its image and its cache.

use std::fs;
use std::path::{Path, PathBuf};

use kiste_tests::archive::Layer;
use kiste_tests::{Env, Output};

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

/// Builds without a network.
fn build(env: &Env, directory: &Path, options: &[&str]) -> Output {
    let directory = directory.to_string_lossy();
    env.kiste(&[&["build", "--network", "none"], options, &[&directory]].concat())
}

fn built(env: &Env, directory: &Path, options: &[&str]) -> String {
    let output = build(env, directory, options);
    assert_eq!(output.code(), 0, "{}", output.stderr);
    output.stderr
}

/// How many steps came from the cache.
fn cached(progress: &str) -> usize {
    progress.lines().filter(|line| line.ends_with(" CACHED")).count()
}

const STAGES: &str = "ARG BASE=busybox\nFROM ${BASE} AS build\nARG WHO=world\nENV GREETING=\"hello $WHO\"\nWORKDIR /work\nCOPY . .\n\
    RUN echo \"$GREETING\" >out.txt; ls >list.txt\nRUN <<SH\necho multi >multi.txt\nrm a.txt\nSH\n\
    FROM busybox\nLABEL a=b\nCOPY --from=build --chown=1000:1001 --chmod=750 /work/*.txt /data/\nUSER 1000\nEXPOSE 80\n\
    CMD [\"cat\", \"/data/out.txt\"]\n";

#[test]
fn stages_make_an_image_and_come_from_the_cache() {
    let env = Env::with_busybox();
    let files = [("a.txt", "a"), ("sub/b.txt", "b"), ("x.log", "x"), (".dockerignore", "*.log\nDockerfile\n")];
    let directory = context(&env, "c", STAGES, &files);
    let first = built(&env, &directory, &["-t", "made:1", "--label", "c=d"]);
    // Two bases count as found.
    assert_eq!(cached(&first), 2, "{first}");
    assert_eq!(env.ok(&["run", "--rm", "--network", "none", "made:1"]), "hello world");
    let listed = env.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "made:1",
        "sh",
        "-c",
        "cd /data; stat -c '%n %a %u %g' *; cat list.txt",
    ]);
    let expected =
        "list.txt 750 1000 1001\nmulti.txt 750 1000 1001\nout.txt 750 1000 1001\na.txt\nlist.txt\nout.txt\nsub";
    assert_eq!(listed, expected);
    let config = &env.inspect("made:1")["Config"];
    assert_eq!(config["Labels"], serde_json::json!({"a": "b", "c": "d"}));
    assert_eq!((&config["User"], &config["ExposedPorts"]["80/tcp"]), (&"1000".into(), &serde_json::json!({})));

    let id = env.inspect("made:1")["Id"].clone();
    let second = built(&env, &directory, &["-t", "made:2", "--label", "c=d"]);
    assert_eq!(cached(&second), 7, "{second}");
    assert_eq!(env.inspect("made:2")["Id"], id, "the same input makes the same image");
    fs::write(directory.join("x.log"), "what is left out may change").unwrap();
    assert_eq!(cached(&built(&env, &directory, &[])), 7);
    fs::write(directory.join("a.txt"), "changed").unwrap();
    // The copy and what follows is done again; its outcome is the same, so the second stage is not.
    assert_eq!(cached(&built(&env, &directory, &[])), 3 + 1);
    assert_eq!(cached(&built(&env, &directory, &["--no-cache"])), 2);
    assert!(built(&env, &directory, &["--build-arg", "WHO=you", "-t", "you"]).contains("DONE"));
    assert_eq!(env.ok(&["run", "--rm", "--network", "none", "you"]), "hello you");
    assert_eq!(env.ok(&["ps", "-aq"]), "");
    // Steps are no images that anybody asked for; a prune takes them and leaves what has a name.
    let unnamed =
        |all: &[&str]| env.ok(&[&["images", "--filter", "dangling=true", "-q"], all].concat()).lines().count();
    assert!(unnamed(&["-a"]) > unnamed(&[]));
    env.ok(&["builder", "prune", "-f"]);
    assert_eq!(env.ok(&["run", "--rm", "--network", "none", "made:1"]), "hello world");
    assert_eq!(cached(&built(&env, &directory, &[])), 2);
}

#[test]
fn a_target_needs_only_its_own_stages() {
    let env = Env::with_busybox();
    let source = "FROM busybox AS a\nRUN echo a >/a\nFROM busybox AS broken\nRUN false\nFROM busybox AS b\nRUN --mount=from=a,target=/x cat /x/a >/b\nFROM broken\n";
    let directory = context(&env, "c", source, &[]);
    let progress = built(&env, &directory, &["--target", "b", "-t", "b"]);
    assert!(!progress.contains("RUN false"), "{progress}");
    assert_eq!(env.ok(&["run", "--rm", "--network", "none", "b", "cat", "/b"]), "a");
    build(&env, &directory, &[])
        .fails(1, &["Dockerfile:4", ">>> RUN false", "did not complete successfully: exit code: 1"]);
    build(&env, &directory, &["--target", "c"]).fails(1, &["target stage \"c\" could not be found"]);
}

#[test]
fn caches_secrets_and_memory_leave_no_trace_in_the_image() {
    let env = Env::with_busybox();
    let source = "FROM busybox\n\
        RUN --mount=type=cache,target=/cache,sharing=locked echo x >>/cache/n\n\
        RUN --mount=type=cache,target=/cache wc -l </cache/n >/count\n\
        RUN --mount=type=secret,id=key --mount=type=tmpfs,target=/mem,size=1m cat /run/secrets/key >/mem/k; wc -c </mem/k >/size\n\
        RUN --mount=target=/ctx cp /ctx/file /copied; touch /ctx/no || echo kept >/kept\n";
    let directory = context(&env, "c", source, &[("file", "from the context")]);
    let key = env.write("key", "sesame");
    let secret = format!("id=key,src={}", key.display());
    built(&env, &directory, &["-t", "m", "--secret", &secret]);
    let line = "cat /count /size /copied /kept; ls / | tr '\\n' ' '; ls /run 2>/dev/null; true";
    let shown = env.ok(&["run", "--rm", "--network", "none", "m", "sh", "-c", line]);
    assert!(shown.starts_with("1\n6\nfrom the contextkept\n"), "{shown}");
    assert!(!shown.contains("cache") && !shown.contains("mem") && !shown.contains("ctx"), "{shown}");
    built(&env, &directory, &["-t", "m", "--secret", &secret, "--no-cache"]);
    assert!(
        env.ok(&["run", "--rm", "--network", "none", "m", "cat", "/count"]).starts_with('2'),
        "the cache outlives builds"
    );
    let everything = std::process::Command::new("grep").args(["-rl", "sesame"]).arg(env.root()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&everything.stdout), "", "a secret is nowhere on the disk");
}

#[test]
fn copies_go_where_docker_puts_them() {
    let env = Env::with_busybox();
    let source = "FROM busybox\nRUN mkdir -p /real/in && ln -s real /link && mkdir /there\n\
        COPY one /there\nCOPY one /new/name\nCOPY one /dir/\nCOPY d /tree\nCOPY d/*.txt /globbed/\nCOPY one /link/in/\n\
        COPY --parents d/sub/deep.txt /p/\nCOPY --exclude=*.txt d /excluded/\nCOPY <<E /inline.txt\nhi $PATH\nE\n\
        COPY to-one /followed\nADD a.tar.gz /added/\nWORKDIR /w/x\nWORKDIR y\nRUN pwd >/pwd\n";
    let files = [("one", "1"), ("d/a.txt", "a"), ("d/b.md", "b"), ("d/sub/deep.txt", "deep")];
    let directory = context(&env, "c", source, &files);
    std::os::unix::fs::symlink("one", directory.join("to-one")).unwrap();
    let archive = Layer::new().directory("in", 0o755).file("in/packed", 0o640, b"packed").finish();
    fs::write(directory.join("a.tar.gz"), kiste_tests::archive::gzip(&archive)).unwrap();
    built(&env, &directory, &["-t", "m"]);
    let line = "find /there /new /dir /tree /globbed /real /p /excluded /inline.txt /followed /added /pwd -type f | sort; cat /inline.txt /pwd; stat -c %a /added/in/packed";
    let expected = "/added/in/packed\n/dir/one\n/excluded/b.md\n/excluded/sub/deep.txt\n/followed\n/globbed/a.txt\n/inline.txt\n/new/name\n/p/d/sub/deep.txt\n/pwd\n\
        /real/in/one\n/there/one\n/tree/a.txt\n/tree/b.md\n/tree/sub/deep.txt\nhi /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n/w/x/y\n640";
    assert_eq!(env.ok(&["run", "--rm", "--network", "none", "m", "sh", "-c", line]), expected);
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let env = Env::with_busybox();
    fs::create_dir(env.path("secret-place")).unwrap();
    fs::write(env.path("secret-place/file"), "secret").unwrap();
    for (source, expected) in [
        ("FROM busybox\nCOPPY a b\nRUN x\nENV y\n", "line 2: unknown instruction: COPPY (did you mean COPY?)"),
        ("FROM busybox\nCOPPY a b\nRUN x\nENV y\n", "line 4: ENV must have two arguments"),
        ("FROM busybox\nCOPY none /x\n", "line 2: \"/none\": not found"),
        ("FROM busybox\nCOPY ../secret-place/file /x\n", "\"/secret-place/file\": not found"),
        ("FROM busybox\nCOPY out /x\nRUN cat /x", "line 2: \"/out\": not found"),
        ("FROM none:1\nRUN x\n", "none:1"),
        ("FROM busybox\nRUN --mount=type=secret,id=k,required true\n", "line 2: secret k: not found"),
        ("FROM busybox\nRUN --security=insecure true\n", "security.insecure is not allowed"),
        ("FROM busybox\nCOPY --chown=nobody:none Dockerfile /x\n", "unable to find"),
        ("FROM busybox\nSHELL [\"/none\"]\nRUN x\n", "line 3: process \"/none x\" could not be started"),
        ("FROM scratch\nRUN x\n", "line 2"),
        ("# nothing\n", "file with no instructions"),
        ("FROM busybox\nENV A=\"${B:?is missing}\"\n", "B: is missing"),
    ] {
        let directory = context(&env, "c", source, &[]);
        let _ = fs::remove_file(directory.join("out"));
        std::os::unix::fs::symlink("../secret-place/file", directory.join("out")).unwrap();
        build(&env, &directory, &[]).fails(1, &[expected]);
    }
    assert_eq!(env.ok(&["ps", "-aq"]), "");
    env.kiste(&["build", "/none"]).fails(1, &["path \"/none\" not found"]);
    env.kiste_with_input(&["build", "--network", "none", "-q", "-"], b"FROM busybox\nRUN true\n");
}
