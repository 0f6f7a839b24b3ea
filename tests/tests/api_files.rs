//! Files through the API: `docker cp` in all its ways, and the archive endpoint request by request.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiste_tests::{Api, Env, wait_until};
use serde_json::{Value, json};

fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o640);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Waits until the container `web` has made a file or link.
fn wait_for_file(api: &Api, path: &str) {
    wait_until("the container is ready", Duration::from_secs(20), || {
        Some(()).filter(|()| api.docker(&["exec", "web", "test", "-L", path]).code() == 0)
    });
}

#[test]
fn files_are_copied_both_ways() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    std::fs::create_dir(env.path("source")).unwrap();
    let source = env.write("source/file", b"content");
    let directory = source.parent().unwrap().to_str().unwrap().to_owned();
    // A container that was never started has its files, too.
    api.ok(&["create", "--name", "web", "-v", "/data", "busybox", "sleep", "1000"]);
    for phase in ["stopped", "running"] {
        let within = format!("web:/{phase}");
        api.ok(&["cp", "-q", source.to_str().unwrap(), &within]);
        api.ok(&["cp", "-q", &directory, &format!("web:/data/{phase}")]);
        let back = env.path(&format!("back-{phase}"));
        api.ok(&["cp", "-q", &within, back.to_str().unwrap()]);
        assert_eq!(std::fs::read(&back).unwrap(), b"content");
        let tree = env.path(&format!("tree-{phase}"));
        api.ok(&["cp", "-q", &format!("web:/data/{phase}/."), tree.to_str().unwrap()]);
        assert_eq!(std::fs::read(tree.join("file")).unwrap(), b"content");
        if phase == "stopped" {
            api.ok(&["start", "web"]);
        }
    }
    let stream = api.docker(&["cp", "web:/data/running/file", "-"]);
    assert!(stream.ok().contains("content"), "{stream:#?}");
    let new = archive(&[("streamed", b"x")]);
    api.docker_with_input(&["cp", "-", "web:/data"], &new).ok();
    assert_eq!(api.ok(&["exec", "web", "cat", "/data/streamed", "/running", "/stopped"]), "xcontentcontent");
    api.docker(&["cp", "web:/nope", "-"]).fails(1, &["Could not find the file /nope in container web"]);
    api.docker(&["cp", source.to_str().unwrap(), "nope:/x"]).fails(1, &["No such container: nope"]);
    api.docker(&["cp", source.to_str().unwrap(), "web:/nope/x"]).fails(1, &["Could not find the file /nope"]);
}

#[test]
fn the_header_says_what_is_at_a_path() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    api.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "busybox",
        "sh",
        "-c",
        "mkdir -p /tmp; chmod 1777 /tmp; ln -s /etc/x /link; sleep 1000",
    ]);
    wait_for_file(&api, "/link");
    let look = |path: &str| -> (u16, Value) {
        let answer = api.request("HEAD", &format!("/containers/web/archive?path={path}"), &[], b"");
        let stat = STANDARD.decode(answer.header("x-docker-container-path-stat")).unwrap();
        (answer.status, serde_json::from_slice(&stat).unwrap_or_default())
    };
    let (status, stat) = look("/link");
    assert_eq!((status, &stat["name"], &stat["linkTarget"]), (200, &json!("link"), &json!("/etc/x")));
    assert_eq!(stat["mode"].as_u64().unwrap() >> 27 & 1, 1, "Go's bit of symbolic links: {stat}");
    let (_, tmp) = look("/tmp/");
    assert_eq!((tmp["name"].clone(), tmp["mode"].as_u64().unwrap()), (json!("tmp"), 1 << 31 | 1 << 20 | 0o777));
    assert_eq!(look("/nope").0, 404);
    let answer = api.get("/containers/web/archive?path=/tmp");
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-tar"));
    assert!(!answer.header("x-docker-container-path-stat").is_empty());
    let mut names = tar::Archive::new(answer.body.as_slice());
    let first = names.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(first.path().unwrap().to_str().unwrap().trim_end_matches('/'), "tmp");
    for path in ["", "?path="] {
        assert_eq!(api.get(&format!("/containers/web/archive{path}")).status, 400, "{path:?}");
    }
    assert_eq!(api.get("/containers/nope/archive?path=/").status, 404);
}

#[test]
fn an_archive_cannot_reach_out_of_its_container() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let outside = env.path("outside");
    std::fs::create_dir(&outside).unwrap();
    let shown = outside.display();
    api.ok(&["run", "-d", "--name", "web", "busybox", "sh", "-c", &format!("ln -s {shown} /way; sleep 1000")]);
    wait_for_file(&api, "/way");
    let put = |path: &str, body: &[u8]| {
        api.request(
            "PUT",
            &format!("/containers/web/archive?path={path}"),
            &[("Content-Type", "application/x-tar")],
            body,
        )
    };
    let hostile = archive(&[("../../../../../../../../tmp/kiste-escape", b"x"), ("/kiste-absolute", b"x")]);
    put("/etc", &hostile);
    put("/way", &archive(&[("x", b"x")]));
    put("/../../../..", &archive(&[("kiste-up", b"x")]));
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    for escaped in ["/tmp/kiste-escape", "/kiste-absolute", "/kiste-up"] {
        assert!(!std::path::Path::new(escaped).exists(), "{escaped}");
    }
    assert_eq!(put("/etc/nope", &archive(&[])).status, 404);
    assert_eq!(put("/bin/busybox", &archive(&[])).status, 400);
    // What is no archive is an error, and so is one that is cut off; the next one works all the same.
    assert!(put("/tmp", b"no archive, but longer than nothing at all").status >= 400);
    let whole = archive(&[("whole", &[b'x'; 4096])]);
    assert!(put("/tmp", &whole[..1500]).status >= 400);
    assert_eq!(put("/tmp", &whole).status, 200);
    let window = api.get("/containers/web/archive?path=/proc/1/environ");
    assert_eq!(window.status, 404, "{}", window.text());
}

#[test]
fn what_is_read_only_stays_so() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    api.ok(&["run", "-d", "--name", "ro", "--read-only", "-v", "/data", "busybox", "sleep", "1000"]);
    let body = archive(&[("x", b"x")]);
    let put = |path: &str| api.request("PUT", &format!("/containers/ro/archive?path={path}"), &[], &body);
    assert!(put("/").text().contains("container rootfs is marked read-only"));
    assert_eq!(put("/data").status, 200);
}
