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
    assert!(answer.status == 400 && answer.text().contains("Error processing tar file"), "{}", answer.text());
}
