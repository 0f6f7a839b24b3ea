//! The corpus of builds: everything that comes out must be what docker made of the same Dockerfile and context. What that
//! was is written beside each case by `cargo xtask compare builds --record`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiste_tests::corpus::Case;
use kiste_tests::{Env, fixtures, told};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("builds")
}

/// The layers of the images that the cases stand upon.
fn bases(env: &Env) -> Vec<String> {
    let busybox = env.path("busybox.tar");
    fs::write(&busybox, fixtures::busybox()).unwrap();
    [busybox, fixtures::debian()].iter().flat_map(|archive| told::layers(archive)).collect()
}

/// Builds a case; what came out.
fn made(env: &Env, case: &Case, bases: &[String]) -> String {
    let directory = env.path(&case.name);
    case.lay_out(&directory);
    let build = |tag: &str, context: &str, options: &[String]| {
        let context = directory.join(context).display().to_string();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        env.kiste(&[&["build", "-q", "--network", "none", "-t", tag], &options[..], &[&context]].concat())
    };
    if let Some((before, tag)) = &case.before {
        assert_eq!(build(tag, before, &[]).code(), 0);
    }
    let tag = format!("corpus:{}", case.name);
    let output = build(&tag, "@context", &case.options(&directory));
    assert_eq!(output.code(), 0, "{}: {}", case.name, output.stderr);
    let archive = directory.join("made.tar");
    env.ok(&["save", "-o", &archive.display().to_string(), &tag]);
    let told = told::tell(&archive, bases);
    fs::remove_file(archive).unwrap();
    told
}

#[test]
fn builds_make_what_docker_makes_of_them() {
    let env = Env::with_busybox();
    env.ok(&["load", "-q", "-i", &fixtures::debian().display().to_string()]);
    let (cases, bases) = (Case::all(&corpus()), bases(&env));
    assert!(cases.len() >= 50);
    let (next, different) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let expected = fs::read_to_string(corpus().join(format!("{}.made", case.name))).unwrap();
                    let ours = made(&env, case, &bases);
                    if ours != expected {
                        different.lock().unwrap().push(format!("{}:\n{ours}--- docker:\n{expected}", case.name));
                    }
                }
            });
        }
    });
    let different = different.into_inner().unwrap();
    assert!(different.is_empty(), "{}", different.join("\n"));
}
