//! Where the input of `kiste build` comes from and where its result goes: archives, git, HTTP, named contexts, secrets and
//! agents in; directories, archives and OCI layouts out; and several builds of the same at once.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use kiste_tests::archive::{Layer, digest, gzip};
use kiste_tests::{Env, Output, Registry};

const QUIET: &[&str] = &["build", "--network", "none"];

fn build(env: &Env, options: &[&str]) -> Output {
    env.kiste(&[QUIET, options].concat())
}

fn shown(env: &Env, image: &str, line: &str) -> String {
    env.ok(&["run", "--rm", "--network", "none", image, "sh", "-c", line])
}

/// A context with these files.
fn context(env: &Env, name: &str, files: &[(&str, &str)]) -> String {
    let directory = env.path(name);
    for (path, content) in files {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    directory.to_string_lossy().into_owned()
}

/// Serves the files of a directory over HTTP until the test ends.
fn serve(directory: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let directory = directory.clone();
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let first = lines.next().unwrap_or_default();
                let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let path = first.split(' ').nth(1).unwrap_or("/").split('?').next().unwrap_or_default().to_owned();
                let allowed = !path.starts_with("/private/")
                    || headers.iter().any(|line| line.eq_ignore_ascii_case("authorization: Bearer sesame"));
                let body = fs::read(directory.join(path.trim_start_matches('/'))).ok().filter(|_| allowed);
                let (status, body) = body.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
                let modified = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
                let head = format!(
                    "HTTP/1.1 {status}\r\n{modified}Content-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            });
        }
    });
    address
}

fn git(directory: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.current_dir(directory).args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]);
    let output = command.args(arguments).output().expect("git");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn archives_on_standard_input_are_contexts() {
    let env = Env::with_busybox();
    let dockerfile = b"FROM busybox\nCOPY . /in/\n";
    let archive = Layer::new()
        .file("Dockerfile", 0o644, dockerfile)
        .file("other", 0o644, b"FROM busybox\nRUN echo other >/which\n")
        .file(".dockerignore", 0o644, b"*.log\n")
        .file("a.log", 0o644, b"left out")
        .file("d/b", 0o644, b"b")
        .symlink("link", "/etc/passwd")
        .finish();
    for bytes in [archive.clone(), gzip(&archive)] {
        env.kiste_with_input(&[QUIET, &["-t", "m", "-"]].concat(), &bytes).ok();
        let files = shown(&env, "m", "cd /in; find . | sort; readlink link");
        assert_eq!(files, ".\n./.dockerignore\n./Dockerfile\n./d\n./d/b\n./link\n./other\n/etc/passwd");
    }
    env.kiste_with_input(&[QUIET, &["-t", "o", "-f", "other", "-"]].concat(), &archive).ok();
    assert_eq!(shown(&env, "o", "cat /which"), "other");
    let hostile = Layer::new().file("../escaped", 0o644, b"x").file("Dockerfile", 0o644, dockerfile).finish();
    env.kiste_with_input(&[QUIET, &["-"]].concat(), &hostile).fails(1, &["leads out"]);
    env.kiste_with_input(&[QUIET, &["-"]].concat(), &archive[..700]).fails(1, &["unpack the context"]);
    assert_eq!(fs::read_dir(env.root().join("build/tmp")).unwrap().count(), 0, "nothing is left of contexts");
}

#[test]
fn files_come_from_the_web() {
    let env = Env::with_busybox();
    let tar = gzip(&Layer::new().file("packed", 0o640, b"packed").finish());
    let site = env.path("site");
    fs::create_dir_all(site.join("private")).unwrap();
    fs::write(site.join("a.tar.gz"), &tar).unwrap();
    fs::write(site.join("private/key"), "private").unwrap();
    let whole = Layer::new().file("Dockerfile", 0o644, b"FROM busybox\nCOPY x /x\n").file("x", 0o644, b"web").finish();
    fs::write(site.join("context.tar"), whole).unwrap();
    fs::write(site.join("alone"), "FROM busybox\nRUN echo alone >/x\n").unwrap();
    let address = serve(site);
    let sum = digest(&tar);
    let source = format!(
        "FROM busybox\nADD --checksum={sum} {address}/a.tar.gz /kept/\nADD --unpack=true {address}/a.tar.gz /open/\n\
         ADD --chmod=u+x,go=r {address}/private/key /key\n"
    );
    let c = context(&env, "c", &[("Dockerfile", &source), ("token", "sesame")]);
    let host = address.strip_prefix("http://").unwrap();
    let secret = format!("id=HTTP_AUTH_TOKEN_{host},src={c}/token");
    build(&env, &["-t", "m", "--secret", &secret, &c]).ok();
    let line = "stat -c '%n %a %u %Y' /kept/a.tar.gz /open/packed /key; cat /open/packed /key";
    let expected = "/kept/a.tar.gz 600 0 784111777\n/open/packed 640 0 1700000000\n/key 744 0 784111777\npackedprivate";
    assert_eq!(shown(&env, "m", line), expected);
    build(&env, &[&c]).fails(1, &["line 4", "404"]);
    let wrong = format!("FROM busybox\nADD --checksum=sha256:{} {address}/a.tar.gz /x/\n", "0".repeat(64));
    let w = context(&env, "w", &[("Dockerfile", &wrong)]);
    build(&env, &[&w]).fails(1, &["line 2", "digest mismatch"]);
    build(&env, &["-t", "m", &format!("{address}/context.tar")]).ok();
    assert_eq!(shown(&env, "m", "cat /x"), "web");
    build(&env, &["-t", "m", &format!("{address}/alone")]).ok();
    assert_eq!(shown(&env, "m", "cat /x"), "alone");
}

#[test]
fn repositories_are_contexts_and_sources_and_run_nothing() {
    let env = Env::with_busybox();
    let work = PathBuf::from(context(
        &env,
        "work",
        &[
            ("Dockerfile", "FROM busybox\nCOPY . /r/\n"),
            ("sub/Dockerfile", "FROM busybox\nCOPY f /f\n"),
            ("sub/f", "sub"),
        ],
    ));
    std::os::unix::fs::symlink("/etc", work.join("out")).unwrap();
    git(&work, &["init", "-q"]);
    fs::create_dir_all(work.join(".hooks")).unwrap();
    git(&work, &["add", "."]);
    git(&work, &["commit", "-qm", "one"]);
    git(&work, &["tag", "v1"]);
    fs::write(work.join("sub/f"), "second").unwrap();
    git(&work, &["commit", "-qam", "two"]);
    let site = env.path("site");
    git(&env.path(""), &["clone", "-q", "--bare", "work", "site/r.git"]);
    git(&site.join("r.git"), &["update-server-info"]);
    let address = format!("{}/r.git", serve(site));

    build(&env, &["-t", "m", &format!("{address}#v1:sub")]).ok();
    assert_eq!(shown(&env, "m", "cat /f"), "sub");
    build(&env, &["-t", "m", &format!("{address}?branch=main&subdir=sub")]).ok();
    assert_eq!(shown(&env, "m", "cat /f"), "second");
    build(&env, &["-t", "m", &address]).ok();
    assert_eq!(shown(&env, "m", "ls -A /r | tr '\\n' ' '"), "Dockerfile out sub ");
    let source = format!("FROM busybox\nADD {address}#v1 /a\nADD --keep-git-dir=true {address} /b\n");
    let c = context(&env, "c", &[("Dockerfile", &source)]);
    build(&env, &["-t", "m", &c]).ok();
    assert_eq!(shown(&env, "m", "cat /a/sub/f /b/sub/f; ls -d /a/.git /b/.git 2>/dev/null; true"), "subsecond/b/.git");
    build(&env, &[&format!("{address}#none")]).fails(1, &["git fetch"]);
    build(&env, &[&format!("{address}#v1:none")]).fails(1, &["no such directory in the repository"]);
    // A link in a repository leads nowhere outside of it.
    build(&env, &[&format!("{address}#main:out")]).fails(1, &["no such directory in the repository"]);
    build(&env, &[&format!("{address}#--upload-pack=touch")]).fails(1, &["is no name in git"]);
}

#[test]
fn names_stand_for_contexts() {
    let env = Env::with_busybox();
    let other = context(&env, "other", &[("file", "other"), (".dockerignore", "left\n"), ("left", "x")]);
    let layout = env.path("layout");
    let first = context(&env, "first", &[("Dockerfile", "FROM busybox\nRUN echo layout >/made\n")]);
    let archive = env.path("l.tar");
    build(&env, &["-o", &format!("type=oci,dest={}", archive.display()), &first]).ok();
    fs::create_dir(&layout).unwrap();
    assert!(Command::new("tar").arg("xf").arg(&archive).arg("-C").arg(&layout).status().unwrap().success());
    let source = "FROM busybox AS own\nRUN echo own >/which\nFROM nowhere:1 AS base\n\
        COPY --from=other / /o/\nCOPY --from=lay /made /made\nCOPY --from=again /which /which\n\
        RUN --mount=from=other,target=/m cat /m/file >/bound\n";
    let c = context(&env, "c", &[("Dockerfile", source)]);
    let contexts = [
        "nowhere:1=docker-image://busybox".to_owned(),
        format!("other={other}"),
        format!("lay=oci-layout://{}", layout.display()),
        "again=target:own".to_owned(),
    ];
    let flags: Vec<&str> = contexts.iter().flat_map(|context| ["--build-context", context]).collect();
    build(&env, &[&flags[..], &["-t", "m", &c]].concat()).ok();
    assert_eq!(shown(&env, "m", "ls -A /o; cat /made /which /bound"), ".dockerignore\nfile\nlayout\nown\nother");
    let stage = format!("own={other}");
    build(&env, &["--target", "own", "--build-context", &stage, "-t", "s", &c]).ok();
    let listed = env.path("listed.tar");
    build(
        &env,
        &["--target", "own", "--build-context", &stage, "-o", &format!("type=tar,dest={}", listed.display()), &c],
    )
    .ok();
    let names = Command::new("tar").arg("tf").arg(&listed).output().unwrap();
    assert!(String::from_utf8_lossy(&names.stdout).contains("file"), "the stage is the context");
    assert!(!String::from_utf8_lossy(&names.stdout).contains("which"), "and its steps do not run");
}

#[test]
fn mounts_of_every_kind() {
    let env = Env::with_busybox();
    let agent = UnixListener::bind(env.path("agent")).unwrap();
    std::thread::spawn(move || {
        for mut stream in agent.incoming().flatten() {
            let mut asked = [0; 4];
            let _ = stream.read_exact(&mut asked);
            let _ = stream.write_all(b"pong");
        }
    });
    let source = "FROM busybox AS data\nRUN mkdir /d && echo seed >/d/seed\nFROM busybox\n\
        RUN --mount=target=/ctx,rw echo changed >/ctx/file && cat /ctx/file >/written; ls /ctx/left && exit 1; true\n\
        RUN --mount=target=/ctx cat /ctx/file >/unchanged\n\
        RUN --mount=from=data,source=/d,target=/d,rw echo more >>/d/seed && cat /d/seed >/copied\n\
        RUN --mount=type=cache,from=data,source=/d,target=/c,id=filled cat /c/seed >/filled; echo x >>/c/seed\n\
        RUN --mount=type=cache,target=/c,id=mode,mode=0700,uid=5,gid=6,sharing=private stat -c '%a %u %g' /c >/mode\n\
        RUN --mount=type=secret,id=k,env=KEY --mount=type=secret,id=k,target=/k,mode=0444,uid=7 echo $KEY | wc -c >/length; stat -c '%a %u' /k >/owner\n\
        RUN --mount=type=ssh,mode=0666 printf ping | nc local:$SSH_AUTH_SOCK >/answer; stat -c '%a %u' $SSH_AUTH_SOCK >/socket\n\
        RUN --mount=type=tmpfs,target=/t,size=1m df /t | grep -c 1024 >/tmpfs\n";
    let c =
        context(&env, "c", &[("Dockerfile", source), ("file", "plain\n"), ("left", "x"), (".dockerignore", "left\n")]);
    let key = env.write("key", "sesame");
    let (secret, ssh) = (format!("id=k,src={}", key.display()), format!("default={}", env.path("agent").display()));
    let output = build(&env, &["-t", "m", "--secret", &secret, "--ssh", &ssh, "--progress", "plain", &c]);
    // busybox may lack nc's local sockets; everything else must be as it is.
    output.ok();
    let line = "cat /written /unchanged /copied /filled /mode /length /owner /socket /tmpfs; ls /";
    let text = shown(&env, "m", line);
    assert!(text.starts_with("changed\nplain\nseed\nmore\nseed\n700 5 6\n7\n444 7\n666 0\n1\n"), "{text}");
    assert_eq!(fs::read_to_string(env.path("c").join("file")).unwrap(), "plain\n", "the context is not written to");
    let everything = Command::new("grep").args(["-rl", "sesame"]).arg(env.root()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&everything.stdout), "", "a secret is nowhere on the disk");
    let device = context(&env, "device", &[("Dockerfile", "FROM busybox\nRUN --device=a.b/c=d true\n")]);
    build(&env, &[&device]).fails(1, &["line 2", "device is not allowed"]);
}

#[test]
fn results_go_where_they_are_wanted() {
    let env = Env::with_busybox();
    let source = "FROM scratch\nCOPY --chmod=u=rw,go=r a /a\nCOPY --link b /d/b\n";
    let c = context(&env, "c", &[("Dockerfile", source), ("a", "a"), ("b", "b")]);
    let out = env.path("out");
    let place = |name: &str| env.path(name).to_string_lossy().into_owned();
    build(&env, &["-o", &place("out"), &c]).ok();
    assert_eq!(fs::read_to_string(out.join("d/b")).unwrap(), "b");
    let tar = env.kiste(&[QUIET, &["-o", "-", &c]].concat());
    assert_eq!(tar.code(), 0, "{}", tar.stderr);
    let oci = format!("type=oci,dest={}", place("o.tar"));
    let docker = format!("type=docker,dest={}", place("d.tar"));
    let metadata = place("metadata");
    build(&env, &["-t", "n:1", "-o", &oci, "-o", &docker, "--metadata-file", &metadata, &c]).ok();
    env.kiste(&["image", "inspect", "n:1"]).fails(1, &[]);
    env.ok(&["load", "-i", &place("d.tar")]);
    let id = env.inspect("n:1")["Id"].clone();
    let metadata: serde_json::Value = serde_json::from_str(&fs::read_to_string(metadata).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.config.digest"], id);
    assert_eq!(metadata["image.name"], "docker.io/library/n:1");
    let listing = Command::new("tar").args(["tf", &place("o.tar")]).output().unwrap();
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    assert!(
        listing.contains("index.json") && listing.contains("oci-layout") && !listing.contains("manifest.json"),
        "{listing}"
    );
    build(&env, &["-o", "type=cacheonly", &c]).ok();
    for (bad, text) in [
        ("type=what", "unknown output type"),
        ("type=local", "dest is required"),
        ("type=oci,x=y,dest=z", "not supported"),
    ] {
        build(&env, &["-o", bad, &c]).fails(1, &[text]);
    }
    build(&env, &["--push", &c]).fails(1, &["tag is needed when pushing"]);
}

#[test]
fn several_platforms_make_one_index() {
    let env = Env::with_busybox();
    let c = context(
        &env,
        "c",
        &[("Dockerfile", "FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY Dockerfile /\n")],
    );
    let archive = env.path("o.tar").to_string_lossy().into_owned();
    let output = format!("type=oci,dest={archive}");
    build(&env, &["--platform", "linux/amd64,linux/arm64", "-t", "n", "-o", &output, "--annotation", "a=b", &c]).ok();
    let read = |name: &str| {
        let output = Command::new("tar").args(["xOf", &archive, name]).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let top = read("index.json")["manifests"][0].clone();
    assert_eq!(top["annotations"]["io.containerd.image.name"], "docker.io/library/n:latest");
    let blob = |digest: &serde_json::Value| read(&format!("blobs/{}", digest.as_str().unwrap().replace(':', "/")));
    let index = blob(&top["digest"]);
    let architectures: Vec<_> =
        index["manifests"].as_array().unwrap().iter().map(|m| m["platform"]["architecture"].clone()).collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
    let manifest = blob(&index["manifests"][1]["digest"]);
    assert_eq!(manifest["annotations"]["a"], "b");
    assert_eq!(blob(&manifest["config"]["digest"])["config"]["Labels"]["arch"], "arm64");
    let foreign = context(&env, "f", &[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\nRUN [\"/x\"]\n")]);
    build(&env, &["--platform", "linux/s390x", &foreign]).fails(1, &["line 3", "no emulator qemu-s390x"]);
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let source = "FROM scratch\nWORKDIR /made/here\nCOPY a /x/y/\nCOPY <<E /inline\ntext\nE\nENV A=b\n";
    let made = |_: usize| {
        let env = Env::new();
        let c = context(&env, "c", &[("Dockerfile", source), ("a", "a")]);
        let touched = Command::new("touch").args(["-d", "@1000"]).arg(env.path("c").join("a")).status().unwrap();
        assert!(touched.success());
        let archive = env.path("o.tar");
        let output = format!("type=oci,dest={}", archive.display());
        build(&env, &["-t", "n", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "-o", &output, &c]).ok();
        digest(&fs::read(archive).unwrap())
    };
    assert_eq!(made(1), made(2));
}

#[test]
fn two_builds_share_their_work_and_a_stopped_one_leaves_nothing() {
    let env = Env::with_busybox();
    let source = "FROM busybox\nRUN sleep 1; cat /proc/sys/kernel/random/uuid >/id\n";
    let c = context(&env, "c", &[("Dockerfile", source)]);
    let start = |name: &str| {
        let mut command = env.command(&[QUIET, &["-t", name, &c]].concat());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let both = [start("one"), start("two")];
    for mut child in both {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(shown(&env, "one", "cat /id"), shown(&env, "two", "cat /id"));
    let slow = context(&env, "s", &[("Dockerfile", "FROM busybox\nRUN sleep 60\n")]);
    let mut child =
        env.command(&[QUIET, &["-t", "slow", &slow]].concat()).stderr(std::process::Stdio::null()).spawn().unwrap();
    kiste_tests::wait_until("the step runs", std::time::Duration::from_secs(20), || {
        (!env.ok(&["ps", "-q"]).is_empty()).then_some(())
    });
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(env.ok(&["ps", "-aq"]), "");
    // One that is killed leaves a container, which the next build removes.
    let mut child =
        env.command(&[QUIET, &["-t", "slow", &slow]].concat()).stderr(std::process::Stdio::null()).spawn().unwrap();
    kiste_tests::wait_until("the step runs", std::time::Duration::from_secs(20), || {
        (!env.ok(&["ps", "-q"]).is_empty()).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    build(&env, &[&c]).ok();
    assert_eq!(env.ok(&["ps", "-aq"]), "");
}

#[test]
fn dockerfiles_are_checked_without_being_built() {
    let env = Env::with_busybox();
    let source = "FROM busybox as Base\nENV a b\nCMD x\n";
    let c = context(&env, "c", &[("Dockerfile", source)]);
    let found = build(&env, &["--check", &c]);
    let texts = [
        "4 warnings have been found",
        "StageNameCasing",
        "FromAsCasing",
        "LegacyKeyValueFormat",
        "JSONArgsRecommended",
        "Dockerfile:2: ",
    ];
    assert_eq!(found.code(), 1);
    assert!(texts.iter().all(|text| found.stdout.contains(text)), "{}", found.stdout);
    let fine = context(&env, "f", &[("Dockerfile", "FROM busybox\nCMD [\"x\"]\n")]);
    assert!(build(&env, &["--check", &fine]).ok().contains("no warnings found"));
    let strict = context(&env, "s", &[("Dockerfile", "# check=error=true\nFROM busybox\nCMD x\n")]);
    build(&env, &[&strict]).fails(1, &["lint violation found for rules: JSONArgsRecommended", "line 3"]);
    let foreign = context(&env, "x", &[("Dockerfile", "# syntax=example.com/other:1\nFROM busybox\n")]);
    build(&env, &[&foreign]).fails(1, &["only docker/dockerfile is understood"]);
    let json = build(&env, &["--progress", "rawjson", &fine]);
    assert!(json.stderr.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{}", json.stderr);
}

#[test]
fn the_cache_goes_to_another_machine() {
    let (one, other) = (Env::with_busybox(), Env::with_busybox());
    let files = [("Dockerfile", "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/id\nCOPY a /a\n"), ("a", "a")];
    let c = context(&one, "c", &files);
    let cache = one.path("cache").to_string_lossy().into_owned();
    build(&one, &["-t", "m", "--cache-to", &format!("type=local,dest={cache},mode=max"), &c]).ok();
    let output = build(&other, &["-t", "m", "--cache-from", &format!("type=local,src={cache}"), &c]);
    assert_eq!(output.code(), 0, "{}", output.stderr);
    assert_eq!(output.stderr.lines().filter(|line| line.ends_with(" CACHED")).count(), 3, "{}", output.stderr);
    assert_eq!(shown(&one, "m", "cat /id"), shown(&other, "m", "cat /id"));
    build(&other, &["--cache-from", "type=gha", &c]).fails(1, &["caches of type=gha are not supported"]);
    // A cache that cannot be had is missed, no more.
    fs::write(one.path("cache").join("index.json"), "damaged").unwrap();
    let output = build(&other, &["--cache-from", &format!("type=local,src={cache}"), &c]);
    assert!(output.code() == 0 && output.stderr.contains("index.json: "), "{}", output.stderr);
    // What was made long ago goes, what is young stays.
    other.ok(&["builder", "prune", "-f", "--filter", "until=1h"]);
    assert!(build(&other, &[&c]).stderr.contains("CACHED\n"));
    other.ok(&["builder", "prune", "-f", "--max-used-space", "0"]);
    let again = build(&other, &[&c]);
    assert_eq!(again.stderr.lines().filter(|line| line.ends_with(" CACHED")).count(), 1, "{}", again.stderr);
}

#[test]
fn caches_stand_in_registries_and_in_images() {
    let (one, registry) = (Env::with_busybox(), Registry::start());
    let files = [(
        "Dockerfile",
        "FROM busybox AS a\nRUN cat /proc/sys/kernel/random/uuid >/id\nFROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/own\nCOPY --from=a /id /\n",
    )];
    let c = context(&one, "c", &files);
    let cached = |progress: &str| progress.lines().filter(|line| line.ends_with(" CACHED")).count();
    let host = registry.address();
    let (app, cache) = (format!("{host}/app:1"), format!("{host}/app:cache"));
    let to = format!("type=registry,ref={cache},mode=max");
    let first = build(&one, &["-t", &app, "--push", "--cache-to", &to, "--cache-to", "type=inline", &c]);
    assert_eq!(first.code(), 0, "{}", first.stderr);
    assert!(!one.ok(&["images", "-a"]).contains("cache"), "the cache is no image of the user's");
    let other = Env::with_busybox();
    let second = build(&other, &["-t", "m", "--cache-from", &cache, &c]);
    assert_eq!((second.code(), cached(&second.stderr)), (0, 2 + 3), "{}", second.stderr);
    assert_eq!(shown(&one, &app, "cat /id /own"), shown(&other, "m", "cat /id /own"));
    assert!(!other.ok(&["images", "-a", "--digests"]).contains("app"));
    // An image knows the steps that led to it, not those of other stages.
    let third = Env::with_busybox();
    let output = build(&third, &["-t", "m", "--cache-from", &format!("type=registry,ref={app}"), &c]);
    assert_eq!((output.code(), cached(&output.stderr)), (0, 2 + 1), "{}", output.stderr);
    assert_eq!(shown(&one, &app, "cat /own"), shown(&third, "m", "cat /own"));
    let missing = build(&third, &["--cache-from", &format!("{host}/none:1"), &c]);
    assert_eq!(missing.code(), 0, "{}", missing.stderr);
    build(&third, &["--cache-to", "type=registry,ref=127.0.0.1:1/x", &c]).fails(1, &["127.0.0.1:1"]);
}

#[test]
fn statements_stand_beside_images() {
    let env = Env::with_busybox();
    let status = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\n\n";
    let source = "FROM busybox\nARG TOKEN\nCOPY status /var/lib/dpkg/status\nCOPY os-release /etc/os-release\n\
        COPY package.json /app/node_modules/left-pad/\n";
    let module = r#"{"name": "left-pad", "version": "1.3.0"}"#;
    let files = [("Dockerfile", source), ("status", status), ("os-release", "ID=debian\n"), ("package.json", module)];
    let c = context(&env, "c", &files);
    let out = env.path("out").to_string_lossy().into_owned();
    build(&env, &["-o", &out, "--sbom", "--provenance", "--build-arg", "TOKEN=sesame", &c]).ok();
    let sbom = fs::read_to_string(env.path("out/sbom.spdx.json")).unwrap();
    assert!(sbom.contains("pkg:deb/debian/bash@5.2-1?arch=amd64") && sbom.contains("pkg:npm/left-pad@1.3.0"), "{sbom}");
    let provenance = fs::read_to_string(env.path("out/provenance.json")).unwrap();
    assert!(provenance.contains("pkg:docker/busybox") && !provenance.contains("sesame"), "{provenance}");
    let archive = env.path("o.tar").to_string_lossy().into_owned();
    build(&env, &["-o", &format!("type=oci,dest={archive}"), "--attest", "type=sbom", &c]).ok();
    let read = |name: &str| {
        let output = Command::new("tar").args(["xOf", &archive, name]).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let blob = |digest: &serde_json::Value| read(&format!("blobs/{}", digest.as_str().unwrap().replace(':', "/")));
    let index = blob(&read("index.json")["manifests"][0]["digest"]);
    let statement = &index["manifests"][1];
    assert_eq!(statement["annotations"]["vnd.docker.reference.digest"], index["manifests"][0]["digest"]);
    assert_eq!(
        blob(&statement["digest"])["layers"][0]["annotations"]["in-toto.io/predicate-type"],
        "https://spdx.dev/Document"
    );
    build(&env, &["--sbom", &c]).fails(1, &["attestations stand beside images in archives"]);
}
