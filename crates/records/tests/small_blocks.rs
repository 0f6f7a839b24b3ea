//! A full file system with blocks of 1 KiB: writing ends with an error, never with SIGBUS. Needs root.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use records::{Durability, Records, Schema};

const SCHEMA: Schema = Schema { room: "one", migrations: &["CREATE TABLE a (x INTEGER, y BLOB)"] };
const PLACE: &str = "RECORDS_TEST_PLACE";

/// Not a test of its own: what the other one runs in a mount namespace of its own.
#[test]
fn child() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    let database = place.join("kiste.db");
    drop(Records::open(&database, Durability::Process, &[SCHEMA]).unwrap());
    fill(&place.join("filling"));
    // The index is made anew by the first one who opens the database; it is written to with every page of the log.
    for round in 0..40 {
        let Ok(mut records) = Records::open(&database, Durability::Process, &[SCHEMA]) else { continue };
        let _ =
            records.write(|transaction| transaction.execute("INSERT INTO a VALUES (?1, randomblob(9000))", [round]));
        drop(records);
        fill(&place.join("filling"));
    }
    std::fs::remove_file(place.join("filling")).unwrap();
    let mut records = Records::open(&database, Durability::Process, &[SCHEMA]).unwrap();
    records.write(|transaction| transaction.execute("INSERT INTO a VALUES (99, NULL)", [])).unwrap();
    std::io::stderr().write_all(b"went through\n").unwrap();
}

/// Takes every byte that is left.
fn fill(path: &Path) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    while file.write(&[7; 1024]).is_ok_and(|written| written > 0) {}
    let _ = file.sync_all();
}

#[test]
fn no_signal_on_a_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(6 << 20).unwrap();
    let place = directory.path().join("place");
    std::fs::create_dir(&place).unwrap();
    let made = Command::new("mkfs.ext4").args(["-q", "-b", "1024", "-m", "0"]).arg(&image).status().unwrap();
    assert!(made.success());
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -o loop \"$0\" \"$1\" && exec \"$2\" --exact child --nocapture"])
        .args([&image, &place, &std::env::current_exe().unwrap()])
        .env(PLACE, &place)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("went through"), "{} {text}", output.status);
}
