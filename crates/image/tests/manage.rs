//! Names, removal, inspection and import over a real store.

mod common;

use common::*;
use image::{Error, Removed, Store, Usage};
use records::rusqlite;
use serde_json::json;

fn unused(_: &rusqlite::Transaction<'_>, _: &str) -> Result<Usage, Error> {
    Ok(Usage::default())
}

fn used(running: bool) -> impl FnOnce(&rusqlite::Transaction<'_>, &str) -> Result<Usage, Error> {
    let id = Some("0123456789abcdef".to_owned());
    move |_, _| Ok(if running { Usage { running: id, stopped: None } } else { Usage { running: None, stopped: id } })
}

fn root_with(name: &str) -> Root {
    let mut root = Root::new();
    root.load(&docker_archive(Some(name), &[Tar::new().file("f", b"1").finish()])).unwrap();
    root
}

fn tag(root: &mut Root, name: &str, reference: &str) -> Result<(), Error> {
    let store = Store::new(root.directory.path());
    root.records.write(|transaction| store.tag(transaction, name, reference))
}

fn remove(root: &mut Root, name: &str, force: bool) -> Result<Vec<Removed>, Error> {
    root.store.remove(&mut root.records, name, force, unused)
}

#[test]
fn tags_move_and_the_last_one_takes_the_image_along() {
    let mut root = root_with("a:1");
    let id = root.store.resolve(root.records.read(), "a:1").unwrap().id;
    tag(&mut root, "a:1", "reg.example:5000/b").unwrap();
    assert!(tag(&mut root, "a:1", &format!("b@{id}")).unwrap_err().to_string().contains("digest reference"));
    assert!(tag(&mut root, "nothing", "b").unwrap_err().to_string().contains("No such image: nothing:latest"));
    assert_eq!(root.store.resolve(root.records.read(), "a:1").unwrap().repo_tags, ["a:1", "reg.example:5000/b:latest"]);
    assert_eq!(remove(&mut root, "a:1", false).unwrap(), [Removed::Untagged("a:1".into())]);
    let error = remove(&mut root, "a:1", false).unwrap_err();
    assert_eq!(error.to_string(), "No such image: a:1");
    let removed = remove(&mut root, "reg.example:5000/b", false).unwrap();
    assert_eq!(removed[..2], [Removed::Untagged("reg.example:5000/b:latest".into()), Removed::Deleted(id)]);
    assert_eq!(removed.len(), 3);
    assert!(root.store.list(root.records.read()).unwrap().is_empty());
    assert_eq!(std::fs::read_dir(root.directory.path().join("layers/sha256")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(root.directory.path().join("content/blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn conflicts_in_dockers_words() {
    let mut root = root_with("a:1");
    let id = root.store.resolve(root.records.read(), "a:1").unwrap().id;
    let short = &id[7..19];
    let error = root.store.remove(&mut root.records, "a:1", false, used(false)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to remove repository reference \"a:1\" (must force) - container 0123456789ab is using its referenced image {short}"
        )
    );
    let error = root.store.remove(&mut root.records, short, true, used(true)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container 0123456789ab"
        )
    );
    tag(&mut root, "a:1", "b").unwrap();
    let error = remove(&mut root, short, false).unwrap_err();
    assert!(error.to_string().contains("image is referenced in multiple repositories"), "{error}");
    // Forced while in use: the names go, the image stays until nothing needs it.
    let removed = root.store.remove(&mut root.records, short, true, used(false)).unwrap();
    assert!(removed.iter().all(|one| matches!(one, Removed::Untagged(_))) && removed.len() == 2);
    assert!(root.top(&id).is_dir());
    assert!(matches!(remove(&mut root, &id, false).unwrap()[0], Removed::Deleted(_)));
}

#[test]
fn layers_stay_while_another_image_has_them() {
    let mut root = root_with("a");
    let shared = Tar::new().file("f", b"1").finish();
    root.load(&docker_archive(Some("b"), &[shared, Tar::new().file("g", b"2").finish()])).unwrap();
    remove(&mut root, "b", false).unwrap();
    assert!(root.top("a").join("f").exists());
    assert_eq!(std::fs::read_dir(root.directory.path().join("layers/sha256")).unwrap().count(), 1);
}

#[test]
fn ambiguous_prefixes() {
    let mut root = Root::new();
    for n in 0..40 {
        root.load(&docker_archive(None, &[Tar::new().file("n", &[n]).finish()])).unwrap();
    }
    let mut first: Vec<String> =
        root.store.list(root.records.read()).unwrap().iter().map(|image| image.id[7..8].to_owned()).collect();
    first.sort();
    let twice = first.windows(2).find(|pair| pair[0] == pair[1]).unwrap()[0].clone();
    let error = root.store.resolve(root.records.read(), &format!("sha256:{twice}")).unwrap_err();
    assert!(error.to_string().contains("ambiguous"), "{error}");
}

#[test]
fn import_with_changes_and_inspect() {
    let mut root = Root::new();
    let archive = gzip(&Tar::new().file("bin/sh", b"#!").finish());
    let changes = ["CMD [\"/bin/sh\"]".to_owned(), "ENV A=b".to_owned(), "EXPOSE 80".to_owned()];
    let id = root
        .store
        .import(&mut root.records, &mut &archive[..], Some("made:1"), &changes, "by hand", Some("linux/arm64/v8"))
        .unwrap();
    let document = root.store.inspect(root.records.read(), "made:1").unwrap();
    assert_eq!(document["Id"], json!(id));
    assert_eq!(document["RepoTags"], json!(["made:1"]));
    let config = &document["Config"];
    assert_eq!((&config["Cmd"], &config["Env"]), (&json!(["/bin/sh"]), &json!(["A=b"])));
    assert_eq!((&config["ExposedPorts"], config.get("Entrypoint")), (&json!({"80/tcp": {}}), Some(&json!(null))));
    assert_eq!((&document["Architecture"], &document["Comment"]), (&json!("arm64"), &json!("by hand")));
    assert_eq!(document["Size"], json!(2));
    let bad = root.store.import(&mut root.records, &mut &archive[..], None, &["RUN x".to_owned()], "", None);
    assert!(bad.unwrap_err().to_string().contains("RUN is not a valid change command"));
    let bad = root.store.import(&mut root.records, &mut &b"no tar at all"[..], None, &[], "", None);
    assert!(matches!(bad, Err(Error::Untrusted(_))));
    // The same tree again: another image (it was made later), the same layer.
    root.store.import(&mut root.records, &mut &archive[..], None, &[], "", None).unwrap();
    assert_eq!(std::fs::read_dir(root.directory.path().join("layers/sha256")).unwrap().count(), 1);
    assert!(!root.store.has_leftovers());
}

#[test]
fn a_damaged_store_says_so_and_can_be_cleaned() {
    let mut root = root_with("a");
    let id = root.store.resolve(root.records.read(), "a").unwrap().id;
    let blob = root.directory.path().join("content/blobs/sha256").join(&id[7..]);
    std::fs::write(&blob, b"{}").unwrap();
    let error = root.store.resolve(root.records.read(), "a").unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
    remove(&mut root, "a", false).unwrap();
    assert!(!blob.exists());
}

#[test]
fn names_that_look_like_the_machines_tree() {
    let mut root = root_with("host:5000/img");
    assert!(root.store.resolve(root.records.read(), "host:/").unwrap().directory.is_some());
    assert!(root.store.resolve(root.records.read(), "host:5000/img").unwrap().directory.is_none());
    for bad in ["host:", "host:./x", "host:/no/such/directory"] {
        let error = root.store.resolve(root.records.read(), bad).unwrap_err();
        assert!(error.to_string().contains("absolute directory"), "{error}");
    }
    assert!(matches!(remove(&mut root, "host:/", true), Err(Error::Invalid(_))));
    assert!(matches!(tag(&mut root, "host:/", "x"), Err(Error::Invalid(_))));
}

#[test]
fn images_of_other_systems() {
    let mut root = Root::new();
    let layer = Tar::new().file("f", b"1").finish();
    let config = String::from_utf8(configuration(&[image::Digest::of(&layer)], json!({}))).unwrap();
    let config = config.replace("linux", "windows");
    let error = root.load(&docker_archive_of(Some("w"), config.as_bytes(), &[layer])).unwrap_err();
    assert!(matches!(error, Error::Platform(_)) && error.to_string().contains("only Linux images"), "{error}");
    root.assert_empty();
}
