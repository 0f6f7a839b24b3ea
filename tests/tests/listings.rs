//! What `ps`, `images`, `volume ls`, `stats`, `events` and `completion` print: tables as Docker's, `--format`, `-q`,
//! times in the local time zone, and a reader that goes away.

use std::process::{Command, Stdio};
use std::time::Duration;

use kiste_tests::Env;
use kiste_tests::Terminal;
use serde_json::Value;

/// The column at which each title of a table's head begins.
fn columns(head: &str, titles: &[&str]) -> Vec<usize> {
    titles.iter().map(|title| head.find(title).unwrap_or_else(|| panic!("{title} is not in {head:?}"))).collect()
}

#[test]
fn tables_align_their_columns() {
    let env = Env::with_busybox();
    env.ok(&["create", "--name", "a-rather-long-name", "busybox", "sh", "-c", "echo hello to a long command line"]);
    env.ok(&["create", "--name", "bb", "busybox", "true"]);
    let text = env.ok(&["ps", "-a"]);
    let lines: Vec<&str> = text.lines().collect();
    let at = columns(lines[0], &["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    assert_eq!(at[0], 0);
    for (line, name) in lines[1..].iter().zip(["bb", "a-rather-long-name"]) {
        // Columns are counted in characters: a cut command ends with an ellipsis.
        let tail = |column: usize| line.chars().skip(column).collect::<String>();
        assert!(tail(at[1]).starts_with("busybox "), "{text}");
        assert!(tail(at[2]).starts_with('"'), "{text}");
        assert!(tail(at[4]).starts_with("Created"), "{text}");
        assert_eq!(tail(at[6]), name, "{text}");
    }
    assert!(lines[2].contains('…'), "{text}");
    assert!(!env.ok(&["ps", "-a", "--no-trunc"]).contains('…'));
    assert_eq!(env.ok(&["ps", "-a", "--format", "{{.Names}}"]), "bb\na-rather-long-name");
    assert_eq!(env.ok(&["ps", "-l", "--format", "{{.Names}}"]), "bb");
    assert_eq!(env.ok(&["ps", "-n", "1", "--format", "{{.Names}}"]), "bb");
    assert_eq!(env.ok(&["ps", "-q"]), "");
    assert!(env.ok(&["ps", "-aq", "--no-trunc"]).lines().all(|id| id.len() == 64));
}

#[test]
fn sizes_count_what_a_container_wrote() {
    let env = Env::with_busybox();
    env.ok(&["run", "--name", "cc", "busybox", "dd", "if=/dev/zero", "of=/file", "bs=1000", "count=5000"]);
    let size = env.ok(&["ps", "-as", "--format", "{{.Size}}"]);
    assert!(size.starts_with("5MB (virtual "), "{size}");
    assert!(env.ok(&["ps", "-as"]).contains("5MB (virtual "));
}

#[test]
fn images_by_name_and_digest() {
    let env = Env::with_busybox();
    env.ok(&["tag", "busybox", "localhost:5000/a/b:v1"]);
    assert_eq!(
        env.ok(&["images", "--format", "table {{.Repository}}\t{{.Tag}}", "localhost:5000/a/b"]),
        "REPOSITORY           TAG\nlocalhost:5000/a/b   v1"
    );
    let rows: Vec<Value> =
        env.ok(&["images", "--format", "json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["ID"], rows[1]["ID"]);
    let whole = env.ok(&["images", "-q", "--no-trunc", "busybox"]);
    assert!(whole.starts_with("sha256:") && whole.len() == 71, "{whole}");
    assert!(whole[7..].starts_with(env.ok(&["images", "-q", "busybox"]).as_str()));
}

#[test]
fn volumes_with_labels() {
    let env = Env::new();
    env.ok(&["volume", "create", "--label", "a=b", "vv"]);
    assert_eq!(
        env.ok(&["volume", "ls", "--format", r#"table {{.Name}}\t{{.Label "a"}}\t{{.Driver}}"#]),
        "VOLUME NAME   a         DRIVER\nvv            b         local"
    );
    assert_eq!(env.ok(&["volume", "inspect", "-f", "{{.Labels.a}} {{.Labels.nope}}", "vv"]), "b <no value>");
    env.kiste(&["volume", "prune"]).fails(1, &["confirmation"]);
    assert!(
        env.ok(&["volume", "prune", "--all", "--force"]).starts_with("Deleted Volumes:\nvv\n\nTotal reclaimed space:")
    );
}

#[test]
fn templates_that_fail_say_where() {
    let env = Env::with_busybox();
    env.ok(&["create", "--name", "cc", "busybox"]);
    let where_ = r#"failed to execute template: template: :1:2: executing "" at <.Nope>: can't evaluate field Nope"#;
    env.kiste(&["ps", "-a", "--format", "{{.Nope}}"]).fails(1, &[where_]);
    env.kiste(&["images", "--format", "{{nope}}"]).fails(1, &[r#"function "nope" not defined"#]);
    assert_eq!(env.kiste(&["info", "--format", "{{.Nope}}"]).fails(1, &["template: :1:2"]).stdout, "\n");
    assert_eq!(env.kiste(&["inspect", "--format", "{{.Nope}}", "cc"]).fails(1, &["template: :1:2"]).stdout, "\n");
    env.ok(&["create", "--name", "html", "-l", "a=<b>&", "busybox"]);
    assert!(env.ok(&["ps", "-a", "--format", "json"]).contains(r#""Labels":"a=\u003cb\u003e\u0026""#));
    assert_eq!(env.ok(&["ps", "-a", "-f", "name=html", "--format", "{{json .Labels}}"]), r#""a=<b>&""#);
    env.kiste(&["info", "--format", "{{.ID"]).fails(64, &["unclosed action"]);
    env.kiste(&["events", "--since", "1h", "--until", "0s", "--format", "{{.Nope}}"])
        .fails(64, &["Error parsing format"]);
}

#[test]
fn stats_once_and_as_a_live_screen() {
    let env = Env::with_busybox();
    env.detached(&["--name", "busy", "-m", "64m"], "while :; do :; done");
    let row: Value = serde_json::from_str(&env.ok(&["stats", "--no-stream", "--format", "json"])).unwrap();
    assert_eq!(row["Name"], "busy");
    assert!(row["MemUsage"].as_str().unwrap().ends_with(" / 64MiB"), "{row}");
    let cpu: f64 = row["CPUPerc"].as_str().unwrap().trim_end_matches('%').parse().unwrap();
    assert!(cpu > 5.0, "an endless loop uses {cpu} %");
    env.kiste(&["stats", "--no-stream", "nosuch"]).fails(1, &["No such container: nosuch"]);
    let mut terminal = Terminal::start(&env.command(&["stats", "busy"]));
    terminal.expect("CPU %");
    terminal.expect("\x1b[H");
    terminal.send("\x03");
}

#[test]
fn times_are_local() {
    let env = Env::with_busybox();
    env.ok(&["create", "--name", "cc", "busybox"]);
    let created = env.kiste_with_env(&["ps", "-a", "--format", "{{.CreatedAt}}"], "TZ", "<-03>3").ok().to_owned();
    assert!(created.ends_with("-0300 -03"), "{created}");
    let line = env.kiste_with_env(&["events", "--since", "1h", "--until", "0s"], "TZ", "<+02>-2").ok().to_owned();
    assert!(line.lines().all(|line| line.split(' ').next().is_some_and(|time| time.ends_with("+02:00"))), "{line}");
    let created = env.kiste_with_env(&["ps", "-a", "--format", "{{.CreatedAt}}"], "TZ", "../../../etc/passwd");
    assert!(created.ok().ends_with("+0000 UTC"), "{}", created.ok());
}

#[test]
fn a_reader_that_goes_away_ends_the_writer() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "while sleep 0.05; do echo line; done");
    let mut child = env.command(&["logs", "-f", "cc"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = kiste_tests::wait_until("logs -f ends", Duration::from_secs(10), || child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(141), "{ended}");
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn completion_scripts_are_valid() {
    let env = Env::new();
    let script = env.write("kiste.bash", env.ok(&["completion", "bash"]));
    assert!(Command::new("bash").arg("-n").arg(&script).status().unwrap().success());
    assert!(env.ok(&["completion", "zsh"]).starts_with("#compdef kiste"));
    assert!(env.ok(&["completion", "fish"]).contains("complete -c kiste"));
    env.kiste(&["completion", "tcsh"]).fails(1, &["unknown shell"]);
}
