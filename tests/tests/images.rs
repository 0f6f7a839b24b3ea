//! Images: archives in both formats and every compression, a real registry, names, and what refuses to be an image.

use kiste_tests::archive::{self, Image, Layer};
use kiste_tests::{Env, Registry};
use serde_json::{Value, json};

fn tiny(name: &str, text: &str) -> Image {
    Image::new(name, vec![Layer::new().file("text", 0o644, text.as_bytes()).finish()], json!({"Cmd": ["x"]}))
}

#[test]
fn both_formats_from_a_file_and_from_standard_input() {
    let env = Env::new();
    let image = archive::busybox();
    let file = env.write("image.tar", image.docker());
    assert_eq!(env.ok(&["load", "-i", file.to_str().unwrap()]), "Loaded image: busybox:latest");
    assert_eq!(env.sh(&[], "echo works"), "works");
    env.ok(&["rmi", "busybox"]);
    assert_eq!(env.kiste_with_input(&["load"], &image.oci()).ok(), "Loaded image: busybox:latest");
    assert_eq!(env.sh(&[], "echo works"), "works");
    let id = env.ok(&["images", "-q", "--no-trunc"]);
    assert_eq!(id, archive::digest(&image.configuration()), "the id is the configuration's digest");
}

#[test]
fn every_compression() {
    let env = Env::new();
    for (name, program, arguments) in
        [("gz", "gzip", &["-nc1"][..]), ("xz", "xz", &["-0c"]), ("zst", "zstd", &["-qc"]), ("bz2", "bzip2", &["-1c"])]
    {
        let image = tiny(&format!("tiny:{name}"), name);
        let packed = archive::filter(program, arguments, &image.docker());
        assert_eq!(env.kiste_with_input(&["load"], &packed).ok(), format!("Loaded image: tiny:{name}"));
    }
    assert_eq!(env.ok(&["images", "-q"]).lines().count(), 4);
}

#[test]
fn layers_hide_and_replace_what_is_below() {
    let env = Env::new();
    let mut layers = archive::busybox().layers;
    layers.push(
        Layer::new()
            .directory("dd", 0o755)
            .file("d/a", 0o644, b"a")
            .file("d/b", 0o644, b"b")
            .directory("o", 0o755)
            .file("o/old", 0o644, b"")
            .file("f", 0o600, b"old")
            .finish(),
    );
    layers.push(
        Layer::new()
            .file("d/.wh.a", 0o644, b"")
            .file("o/.wh..wh..opq", 0o644, b"")
            .file("o/new", 0o644, b"")
            .file("f", 0o640, b"new")
            .hardlink("g", "f")
            .finish(),
    );
    env.load(&Image::new("layers:1", layers, json!({"Cmd": ["sh"]})).docker());
    let line = "ls d; ls o; cat f; stat -c ' %a %h' f; [ f -ef g ] && echo linked";
    assert_eq!(env.ok(&["run", "--rm", "layers:1", "sh", "-c", line]), "b\nnew\nnew 640 2\nlinked");
}

#[test]
fn names_tags_and_removal() {
    let env = Env::with_busybox();
    env.ok(&["tag", "busybox", "example.org/other:1"]);
    assert_eq!(env.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).lines().count(), 2);
    assert!(env.ok(&["rmi", "example.org/other:1"]).contains("Untagged: example.org/other:1"));
    env.detached(&["--name", "cc"], "sleep 60");
    env.kiste(&["rmi", "busybox"]).fails(1, &["conflict", "container"]);
    env.ok(&["rm", "-f", "cc"]);
    let removed = env.ok(&["rmi", "busybox"]);
    assert!(removed.contains("Untagged: busybox:latest") && removed.contains("Deleted: sha256:"), "{removed}");
    env.kiste(&["rmi", "busybox"]).fails(1, &["No such image: busybox"]);
    let layers = env.root().join("layers/sha256");
    let left = std::fs::read_dir(&layers).map_or(0, Iterator::count);
    assert_eq!(left, 0, "the layer goes with its last image");
    env.kiste(&["tag", "nosuch", "x"]).fails(1, &["No such image: nosuch"]);
    env.kiste(&["run", "--pull", "never", "--rm", "b@d", "true"]).fails(125, &["invalid reference format"]);
}

#[test]
fn importing_a_file_tree() {
    let env = Env::new();
    let tree = archive::busybox().layers.remove(0);
    let arguments =
        ["import", "-c", "CMD [\"echo\", \"imported\"]", "-c", "ENV PATH=/bin X=1", "-m", "by hand", "-", "tree:1"];
    let id = env.kiste_with_input(&arguments, &tree).ok().to_owned();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(env.ok(&["run", "--rm", "tree:1"]), "imported");
    assert_eq!(env.inspect("tree:1")["Config"]["Env"], json!(["PATH=/bin", "X=1"]));
}

#[test]
fn pulling_from_a_real_registry() {
    let env = Env::new();
    let registry = Registry::start();
    let name = registry.push("team/busybox", "v1", &archive::busybox());
    let output = env.kiste(&["pull", &name]);
    let digest = archive::digest(&archive::busybox().parts().manifest);
    assert!(output.ok().contains(&format!("Digest: {digest}")), "{output:#?}");
    assert!(output.stdout.contains(&format!("Status: Downloaded newer image for {name}")), "{output:#?}");
    assert_eq!(env.ok(&["run", "--rm", &name, "echo", "pulled"]), "pulled");
    assert!(env.kiste(&["pull", &name]).ok().contains("Image is up to date"));
    let by_digest = format!("{}/team/busybox@{digest}", registry.address());
    assert_eq!(env.ok(&["run", "--rm", "--pull", "always", &by_digest, "echo", "same"]), "same");
    assert_eq!(env.inspect(&name)["RepoDigests"], json!([by_digest]));
    env.kiste(&["pull", &format!("{}/team/busybox:v2", registry.address())]).fails(1, &["manifest unknown"]);
    env.kiste(&["pull", "127.0.0.1:1/nobody/listens"]).fails(1, &["127.0.0.1:1"]);
}

#[test]
fn running_pulls_what_is_missing() {
    let env = Env::new();
    let registry = Registry::start();
    let name = registry.push("busybox", "latest", &archive::busybox());
    let name = name.trim_end_matches(":latest");
    let output = env.kiste(&["run", "--rm", name, "echo", "pulled"]);
    assert_eq!(output.ok(), "pulled");
    assert!(output.stderr.contains(&format!("Unable to find image '{name}:latest' locally")), "{output:#?}");
    env.kiste(&["run", "--rm", "--pull", "never", &format!("{name}:no"), "true"]).fails(125, &[name]);
}

#[test]
fn a_registry_that_lies_is_found_out() {
    let env = Env::new();
    let registry = Registry::start();
    let image = archive::busybox();
    let name = registry.push("busybox", "bad", &image);
    let file = registry.blob_file(&image.parts().blobs[1]);
    let mut blob = std::fs::read(&file).unwrap();
    let middle = blob.len() / 2;
    blob[middle] ^= 1;
    std::fs::write(&file, blob).unwrap();
    let output = env.kiste(&["pull", &name]);
    assert_eq!(output.code(), 1, "{output:#?}");
    assert_eq!(env.ok(&["images", "-q"]), "");
    let layers = std::fs::read_dir(env.root().join("layers/sha256")).map_or(0, Iterator::count);
    let temporary = std::fs::read_dir(env.root().join("tmp")).map_or(0, Iterator::count);
    assert_eq!((layers, temporary), (0, 0), "nothing is left of it");
}

#[test]
fn the_document_of_an_image() {
    let env = Env::with_busybox();
    let document = env.inspect("busybox");
    for key in [
        "/Id",
        "/RepoTags",
        "/RepoDigests",
        "/Created",
        "/Architecture",
        "/Os",
        "/Size",
        "/Config/Cmd",
        "/Config/Env",
        "/RootFS/Layers/0",
        "/GraphDriver",
    ] {
        assert!(document.pointer(key).is_some(), "{key} is missing in {document:#}");
    }
    let table = env.ok(&["images"]);
    assert!(table.starts_with("REPOSITORY   TAG       IMAGE ID       CREATED"), "{table}");
    let _: Value = serde_json::from_str(&env.ok(&["images", "--format", "json"])).unwrap();
}

#[test]
fn an_archive_from_the_web() {
    let env = Env::new();
    let layer = Layer::new().file("text", 0o644, b"from the web").finish();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/root.tar", listener.local_addr().unwrap());
    let served = layer.clone();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for status in ["200 OK", "404 Not Found"] {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", served.len());
            stream.write_all(&[head.as_bytes(), &served].concat()).unwrap();
        }
    });
    let printed = env.ok(&["import", &url, "web:1"]);
    assert!(printed.starts_with(&format!("Downloading from {url}\nsha256:")), "{printed}");
    assert_eq!(env.ok(&["inspect", "-f", "{{.Comment}}", "web:1"]), format!("Imported from {url}"));
    env.kiste(&["import", &url, "web:2"]).fails(1, &["404"]);
    assert_eq!(env.ok(&["images", "-q"]).lines().count(), 1);
}

#[test]
fn platforms_are_asked_for_by_name() {
    let env = Env::new();
    env.load(&Image { architecture: "arm64".to_owned(), ..tiny("arm:1", "x") }.docker());
    let said = ["does not provide the specified platform (linux/amd64)"];
    env.kiste(&["image", "inspect", "--platform", "linux/amd64", "arm:1"]).fails(1, &said);
    env.kiste(&["history", "--platform", "linux/amd64", "arm:1"]).fails(1, &said);
    env.kiste(&["save", "--platform", "linux/amd64", "-o", &env.path("x.tar").display().to_string(), "arm:1"])
        .fails(1, &said);
    env.kiste(&["rmi", "--platform", "linux/amd64", "arm:1"]).fails(1, &said);
    env.kiste(&["rmi", "--platform", "nonsense/x/y/z", "arm:1"]).fails(1, &["invalid platform"]);
    let shown = env.ok(&["image", "inspect", "--platform", "linux/arm64", "-f", "{{.Architecture}}", "arm:1"]);
    assert_eq!(shown, "arm64");
    env.ok(&["rmi", "--platform", "linux/amd64,linux/arm64", "arm:1"]);
    assert_eq!(env.ok(&["images", "-q"]), "");
}

#[test]
fn lists_are_filtered() {
    let env = Env::new();
    let labelled = |name: &str, year: u32, labels: Value| {
        let layer = Layer::new().file("text", 0o644, name.as_bytes()).finish();
        let image = Image::new(name, vec![layer], json!({"Labels": labels}));
        let document = String::from_utf8(image.configuration()).unwrap();
        let config = document.replace("2024-01-02", &format!("{year}-01-02")).into_bytes();
        env.load(&image.docker_with(&config));
    };
    labelled("old/app:1", 2020, json!({"team": "a"}));
    labelled("app:2", 2022, json!({"team": "b"}));
    labelled("registry.example/app:3", 2024, json!({}));
    let all = |filters: &[&str]| {
        let filters: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", filter]).collect();
        let list = env.ok(&[&["images", "--format", "{{.Repository}}:{{.Tag}}"], &filters[..]].concat());
        list.lines().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(all(&[]), "registry.example/app:3 app:2 old/app:1", "newest first");
    for (filter, found) in [
        ("before=app:2", "old/app:1"),
        ("since=app:2", "registry.example/app:3"),
        ("label=team", "app:2 old/app:1"),
        ("label=team=b", "app:2"),
        ("label!=team", "registry.example/app:3"),
        ("reference=app", "app:2"),
        ("reference=*/app:*", "registry.example/app:3 old/app:1"),
        ("reference=*:3", ""),
        ("until=2021-01-01", "old/app:1"),
        ("dangling=true", ""),
    ] {
        assert_eq!(all(&[filter]), found, "{filter}");
    }
    assert_eq!(all(&["since=old/app:1", "label=team"]), "app:2");
    env.kiste(&["images", "--filter", "nonsense=1"]).fails(1, &["invalid filter 'nonsense'"]);
    env.kiste(&["images", "--filter", "before=nobody"]).fails(1, &["No such image: nobody"]);
}

#[test]
fn artefacts_are_no_images() {
    let env = Env::new();
    let registry = Registry::start();
    let image = tiny("chart:1", "not an image");
    let manifest = String::from_utf8(image.parts().manifest).unwrap();
    let manifest =
        manifest.replace("application/vnd.oci.image.config.v1+json", "application/vnd.cncf.helm.config.v1+json");
    let name = registry.push_parts("chart", "1", &archive::Parts { manifest: manifest.into_bytes(), ..image.parts() });
    env.kiste(&["pull", &name]).fails(1, &["not a container image but an artifact", "helm"]);
    assert_eq!(env.ok(&["images", "-q"]), "");
}
