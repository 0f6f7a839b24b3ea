//! Tests of the grammars and of the list that follows from them.

use super::*;
use records::rusqlite::Connection;

fn with_lookup<T>(work: impl FnOnce(&Lookup<'_>) -> T) -> T {
    let connection = Connection::open_in_memory().unwrap();
    for migration in table::SCHEMA.migrations {
        connection.execute_batch(migration).unwrap();
    }
    let paths = Paths { root: "/r".into(), state: "/s".into() };
    work(&Lookup { paths: &paths, connection: &connection })
}

fn with_binds(binds: &[&str]) -> Result<Resolved> {
    let binds = binds.iter().map(|bind| (*bind).to_owned()).collect();
    let host = HostConfig { binds: Some(binds), ..HostConfig::default() };
    with_lookup(|lookup| resolve(lookup, &Config::default(), &host))
}

#[test]
fn binds_and_volumes_of_v() {
    let resolved = with_binds(&["/etc:/mnt/etc:ro,rslave", "data:/data", "/anon"]).unwrap();
    let bind = resolved.mounts.iter().find(|mount| mount.point.kind == "bind").unwrap();
    assert_eq!(bind.options, ["rbind", "rslave", "rro"]);
    assert!(!bind.point.rw);
    assert_eq!(resolved.new_volumes.len(), 2);
    assert_eq!(resolved.mounts.last().unwrap().point.destination, "/mnt/etc", "parents and shallow ones first");
    let data = resolved.mounts.iter().find(|mount| mount.point.name == "data").unwrap();
    assert_eq!(data.point.source, "/r/volumes/data/_data");
    assert!(resolved.copy_up.contains("/data"));
}

#[test]
fn hostile_and_malformed_specifications() {
    for bad in
        ["a:b:c:d", ":/x", "./rel:/x", "/a:rel", "/a:/", "/a:/b:foo", "/a:/b:ro,rw", "/a:/b:nocopy", "x:/b:rshared"]
    {
        assert!(with_binds(&[bad]).is_err(), "{bad}");
    }
    assert_eq!(with_binds(&["/etc:/x", "/usr:/x/"]).unwrap_err().message, "Duplicate mount point: /x");
}

#[test]
fn typed_mounts() {
    let one = |mount: Mount| {
        let host = HostConfig { mounts: vec![mount], ..HostConfig::default() };
        with_lookup(|lookup| resolve(lookup, &Config::default(), &host))
    };
    let mount = |kind: &str, source: &str| Mount {
        kind: kind.to_owned(),
        source: source.to_owned(),
        target: "/t".to_owned(),
        ..Mount::default()
    };
    let error = one(mount("bind", "/does/not/exist")).unwrap_err();
    assert_eq!(
        error.message,
        "invalid mount config for type \"bind\": bind source path does not exist: /does/not/exist"
    );
    assert!(one(mount("npipe", "x")).is_err());
    assert!(one(Mount { volume_options: Some(Default::default()), ..mount("bind", "/etc") }).is_err());
    let tmpfs = one(mount("tmpfs", "")).unwrap();
    assert_eq!(tmpfs.mounts[0].options, ["noexec", "nosuid", "nodev"]);
    assert!(one(mount("tmpfs", "x")).is_err());
}

#[test]
fn image_volumes_yield_to_explicit_mounts() {
    let config = Config { volumes: Some([("/data".to_owned(), Default::default())].into()), ..Config::default() };
    let host = HostConfig { binds: Some(vec!["/etc:/data".to_owned()]), ..HostConfig::default() };
    let resolved = with_lookup(|lookup| resolve(lookup, &config, &host)).unwrap();
    assert!(resolved.new_volumes.is_empty() && resolved.mounts.len() == 1);
    let resolved = with_lookup(|lookup| resolve(lookup, &config, &HostConfig::default())).unwrap();
    assert!(resolved.mounts[0].anonymous && resolved.copy_up.contains("/data"));
}

#[test]
fn tmpfs_options_override_defaults() {
    assert_eq!(tmpfs("/t", "exec,size=1m").unwrap().options, ["nosuid", "nodev", "exec", "size=1m"]);
    assert!(tmpfs("/t", "bogus").is_err());
    assert_eq!(clean("/a//b/../c/"), "/a/c");
    assert!(check_subpath("../x").is_err() && check_subpath("/x").is_err());
}
