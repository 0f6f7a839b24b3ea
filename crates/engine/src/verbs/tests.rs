//! Tests of the verbs over records: a root of their own, the image is a directory of the host (`host:`).

use std::fs;
use std::path::PathBuf;

use crate::model::{CreateRequest, Map};
use crate::{Engine, ErrorKind, ListRequest, Paths, RemoveOptions};

/// An engine over a directory of its own, with a small tree as image.
struct World {
    engine: Engine,
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("data/sub")).unwrap();
        fs::write(tree.join("data/sub/file"), "content").unwrap();
        let paths = Paths { root: directory.path().join("root"), state: directory.path().join("state") };
        World { engine: Engine::new(paths), directory }
    }

    fn request(&self, name: &str) -> CreateRequest {
        let mut request = CreateRequest { name: Some(name.to_owned()), ..CreateRequest::default() };
        request.config.image = format!("host:{}", self.directory.path().join("tree").display());
        request.config.cmd = Some(vec!["true".to_owned()]);
        request
    }

    fn names(&self, filters: &[(&str, &str)]) -> Vec<String> {
        let mut map: Map<Vec<String>> = Map::new();
        for (key, value) in filters {
            map.entry((*key).to_owned()).or_default().push((*value).to_owned());
        }
        let rows = self.engine.list(&ListRequest { all: true, filters: map, ..ListRequest::default() }).unwrap();
        rows.into_iter().map(|row| row.name).collect()
    }

    fn entries(&self, directory: &str) -> usize {
        fs::read_dir(self.directory.path().join("root").join(directory)).map_or(0, |entries| entries.count())
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.engine.paths().volume(name).join("_data")
    }
}

#[test]
fn created_listed_inspected_renamed_removed() {
    let world = World::new();
    let created = world.engine.create(&world.request("web")).unwrap();
    assert_eq!(world.names(&[]), ["web"]);
    let shown = world.engine.inspect_container("web", true).unwrap();
    assert_eq!(shown["Id"], created.id.as_str());
    assert_eq!(shown["State"]["Status"], "created");
    assert_eq!(shown["State"]["StartedAt"], "0001-01-01T00:00:00Z");
    assert_eq!(shown["HostConfig"]["RestartPolicy"]["Name"], "no");
    assert_eq!(shown["Path"], "true");
    assert!(fs::read_to_string(shown["HostsPath"].as_str().unwrap()).unwrap().contains(&created.id[..12]));
    world.engine.rename("web", "other").unwrap();
    assert_eq!(world.names(&[("name", "^/other$")]), ["other"]);
    assert_eq!(world.engine.inspect_container(&created.id[..8], false).unwrap()["Name"], "/other");
    world.engine.remove("other", RemoveOptions::default()).unwrap();
    assert!(world.names(&[]).is_empty());
    assert_eq!(world.entries("containers"), 0);
    let error = world.engine.remove("other", RemoveOptions::default()).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::NotFound, "No such container: other"));
}

#[test]
fn a_taken_name_is_dockers_conflict_and_leaves_nothing() {
    let world = World::new();
    let first = world.engine.create(&world.request("web")).unwrap();
    let mut second = world.request("web");
    second.host.binds = Some(vec!["fresh:/v".to_owned()]);
    let error = world.engine.create(&second).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert_eq!(
        error.message,
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{}\". You have to remove (or rename) \
             that container to be able to reuse that name.",
            first.id
        )
    );
    assert_eq!((world.entries("containers"), world.entries("volumes")), (1, 0));
    assert!(world.engine.list_volumes(&Map::new()).unwrap().is_empty());
}

#[test]
fn volumes_are_filled_once_and_live_as_long_as_they_are_used() {
    let world = World::new();
    let mut request = world.request("web");
    request.host.binds = Some(vec!["data:/data".to_owned()]);
    request.config.volumes = Some([("/data/sub".to_owned(), Default::default())].into());
    world.engine.create(&request).unwrap();
    assert_eq!(fs::read_to_string(world.volume("data").join("sub/file")).unwrap(), "content");
    fs::write(world.volume("data").join("sub/file"), "changed").unwrap();
    request.name = Some("two".to_owned());
    world.engine.create(&request).unwrap();
    assert_eq!(fs::read_to_string(world.volume("data").join("sub/file")).unwrap(), "changed");
    assert_eq!(world.entries("volumes"), 3, "one named, two anonymous");

    let error = world.engine.remove_volume("data", false).unwrap_err();
    assert!(error.message.starts_with("remove data: volume is in use - ["), "{error}");
    world.engine.remove("web", RemoveOptions { volumes: true, ..RemoveOptions::default() }).unwrap();
    world.engine.remove("two", RemoveOptions::default()).unwrap();
    assert_eq!(world.entries("volumes"), 2, "the anonymous volume of the first is gone");
    let pruned = world.engine.prune_volumes(&Map::new()).unwrap();
    assert_eq!((pruned.removed.len(), pruned.reclaimed), (1, 7));
    world.engine.remove_volume("data", false).unwrap();
    assert_eq!(world.entries("volumes"), 0);
    assert_eq!(world.engine.remove_volume("data", false).unwrap_err().message, "get data: no such volume");
    world.engine.remove_volume("data", true).unwrap();
}

#[test]
fn ownerless_directories_are_swept_and_owned_ones_are_not() {
    let world = World::new();
    world.engine.create(&world.request("web")).unwrap();
    world.engine.create_volume(Some("kept"), "", &Map::new(), &Map::new()).unwrap();
    let root = world.directory.path().join("root");
    fs::create_dir_all(root.join("containers").join("f".repeat(64)).join("upper")).unwrap();
    fs::create_dir_all(root.join("volumes/stray/_data")).unwrap();
    let making = world.engine.making().unwrap();
    world.names(&[]);
    assert_eq!((world.entries("containers"), world.entries("volumes")), (2, 2), "somebody may be making them");
    drop(making);
    world.names(&[]);
    assert_eq!((world.entries("containers"), world.entries("volumes")), (1, 1));
}

#[test]
fn a_removal_that_was_interrupted_is_finished() {
    let world = World::new();
    let id = world.engine.create(&world.request("web")).unwrap().id;
    world
        .engine
        .write(records::Durability::Process, |transaction| crate::table::set_removing(transaction, &id, false))
        .unwrap();
    assert!(world.names(&[]).is_empty());
    assert_eq!(world.entries("containers"), 0);
}

#[test]
fn id_ranges_never_overlap_however_many_create_at_once() {
    let world = World::new();
    world.engine.create(&world.request("first")).unwrap();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (world, engine) = (&world, Engine::new(world.engine.paths().clone()));
            scope.spawn(move || engine.create(&world.request(&format!("c{number}"))).unwrap());
        }
    });
    let bases = world.engine.read(crate::table::uid_bases).unwrap();
    assert_eq!(bases.len(), 9);
    assert!(bases.windows(2).all(|pair| pair[1] - pair[0] >= 65536));
}

#[test]
fn filters_of_the_list() {
    let world = World::new();
    let mut request = world.request("a1");
    request.config.labels.insert("tier".to_owned(), "front".to_owned());
    request.config.exposed_ports = Some([("80/tcp".to_owned(), Default::default())].into());
    world.engine.create(&request).unwrap();
    world.engine.create(&world.request("b2")).unwrap();
    assert_eq!(world.names(&[]), ["b2", "a1"], "newest first");
    assert_eq!(world.names(&[("label", "tier=front")]), ["a1"]);
    assert_eq!(world.names(&[("expose", "80")]), ["a1"]);
    assert_eq!(world.names(&[("since", "a1")]), ["b2"]);
    assert_eq!(world.names(&[("before", "b2")]), ["a1"]);
    assert_eq!(world.names(&[("status", "created"), ("name", "b")]), ["b2"]);
    assert!(world.names(&[("status", "running")]).is_empty());
    assert!(world.names(&[("network", "host")]).is_empty());
    assert_eq!(world.names(&[("network", "bridge")]).len(), 2);
    let request =
        ListRequest { filters: Map::from([("foo".to_owned(), vec!["x".to_owned()])]), ..ListRequest::default() };
    assert_eq!(world.engine.list(&request).unwrap_err().message, "invalid filter 'foo'");
    assert_eq!(world.engine.list(&ListRequest { last: Some(1), ..ListRequest::default() }).unwrap()[0].name, "b2");
}

#[test]
fn update_changes_the_record() {
    let world = World::new();
    world.engine.create(&world.request("web")).unwrap();
    let request = crate::UpdateRequest { memory: Some(64 << 20), pids_limit: Some(7), ..Default::default() };
    world.engine.update("web", &request).unwrap();
    let host = &world.engine.inspect_container("web", false).unwrap()["HostConfig"];
    assert_eq!(
        (host["Memory"].as_i64(), host["MemorySwap"].as_i64(), host["PidsLimit"].as_i64()),
        (Some(64 << 20), Some(128 << 20), Some(7))
    );
    let low = crate::UpdateRequest { memory: Some(1 << 20), ..Default::default() };
    assert_eq!(world.engine.update("web", &low).unwrap_err().message, "Minimum memory limit allowed is 6MB");
}

#[test]
fn unknown_images_and_containers_are_named() {
    let world = World::new();
    let mut request = world.request("web");
    request.config.image = "nope".to_owned();
    let error = world.engine.create(&request).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::NotFound, "No such image: nope:latest"));
    let mut request = world.request("web");
    request.host.network_mode = "container:nope".to_owned();
    assert_eq!(world.engine.create(&request).unwrap_err().message, "No such container: nope");
    assert_eq!(world.entries("containers"), 0);
}
