//! `host:/`: the machine's own tree as an image that costs nothing and cannot be harmed.

use kiste_tests::Env;

#[test]
fn the_machine_as_a_read_only_base() {
    let env = Env::new();
    let name = format!("/kiste-test-{}", std::process::id());
    let line =
        format!("cat /etc/os-release >/dev/null && echo x >{name} && cat {name} && rm -rf /etc/apt && echo harmless");
    assert_eq!(env.ok(&["run", "--rm", "host:/", "sh", "-c", &line]), "x\nharmless");
    assert!(!std::path::Path::new(&name).exists());
    assert!(std::path::Path::new("/etc/apt").exists());
}

#[test]
fn the_engines_own_directories_are_hidden() {
    let env = Env::new();
    let line = format!("ls -A {} 2>/dev/null | head -3", env.root().display());
    assert_eq!(env.ok(&["run", "--rm", "host:/", "sh", "-c", &line]), "");
}

#[test]
fn any_directory() {
    let env = Env::new();
    let tree = env.path("tree");
    std::fs::create_dir_all(tree.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
    let image = format!("host:{}", tree.display());
    assert_eq!(env.ok(&["run", "--rm", &image, "/bin/busybox", "ls", "/bin"]), "busybox");
    env.kiste(&["run", "--rm", "host:/no/such/directory", "true"]).fails(125, &["/no/such/directory"]);
    env.kiste(&["run", "--rm", "host:relative", "true"]).fails(125, &["host:relative"]);
}
