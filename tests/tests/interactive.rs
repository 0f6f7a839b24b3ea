//! Interactive work through a real pseudo terminal: `-it`, window size, `^C`, `^Z`, detach keys, `exec -it`, signals,
//! half-closed and broken streams, and what happens when the terminal goes away.

use std::process::Command;
use std::time::Duration;

use kiste_tests::{Env, Terminal, wait_until};

/// What busybox's shell shows when it waits for a line.
const PROMPT: &str = "# ";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_Z: &str = "\x1a";
const DETACH: &str = "\x10\x11";
const SHORT: Duration = Duration::from_secs(10);

/// A shell of the host on a terminal, in which the product is typed as `kiste`.
fn host_shell(env: &Env) -> Terminal {
    let rc = format!("PS1='host> '\nkiste() {{ {:?} \"$@\"; }}\n", kiste_tests::fixtures::kiste());
    let rc = env.write("rc", rc);
    let mut bash = Command::new("bash");
    bash.arg("--rcfile").arg(rc).arg("-i");
    env.prepare(&mut bash);
    let mut terminal = Terminal::start(&bash);
    terminal.expect("host> ");
    terminal
}

/// `kiste run` as a line for the host's shell.
fn run_line(env: &Env, words: &[&str]) -> String {
    format!("kiste {}\n", env.arguments(words).join(" "))
}

#[test]
fn a_shell_has_a_terminal_of_the_right_size_and_its_exit_code_is_ours() {
    let env = Env::with_busybox();
    let mut terminal = Terminal::start(&env.command(&["run", "-it", "--rm", "busybox", "sh"]));
    terminal.expect(PROMPT);
    terminal.send("stty size; test -t 0 && test -t 1 && test -t 2 && echo all$((1+2)); echo $TERM\n");
    terminal.expect("24 80");
    terminal.expect("all3");
    terminal.expect("xterm");
    terminal.send("exit 7\n");
    assert_eq!(terminal.wait().code(), Some(7));
}

#[test]
fn the_window_size_follows() {
    let env = Env::with_busybox();
    let line = "trap 'echo now $(stty size); exit 6' WINCH; echo first $(stty size); while :; do sleep 0.05; done";
    let mut terminal = Terminal::start(&env.command(&["run", "-it", "--rm", "busybox", "sh", "-c", line]));
    terminal.expect("first 24 80");
    terminal.resize(40, 100);
    terminal.expect("now 40 100");
    assert_eq!(terminal.wait().code(), Some(6));
}

#[test]
fn control_c_and_control_z_go_to_the_job_inside() {
    let env = Env::with_busybox();
    let mut terminal = Terminal::start(&env.command(&["run", "-it", "--rm", "busybox", "sh"]));
    terminal.expect(PROMPT);
    terminal.send("sh -c 'echo begin$((1+1)); exec sleep 1000'\n");
    terminal.expect("begin2");
    terminal.send(CTRL_C);
    terminal.expect(PROMPT);
    terminal.send("echo status=$?\n");
    terminal.expect("status=130");
    terminal.send("sh -c 'echo again$((1+1)); exec sleep 1000'\n");
    terminal.expect("again2");
    terminal.send(CTRL_Z);
    terminal.expect("Stopped");
    terminal.expect(PROMPT);
    terminal.send("jobs\n");
    terminal.expect("sleep 1000");
    terminal.send("kill -9 %1; wait; echo gone$((1+1))\n");
    terminal.expect("gone2");
    // Once to be told about jobs that the shell believes to be stopped still, once to go.
    terminal.send("exit 0\nexit 0\n");
    assert_eq!(terminal.wait().code(), Some(0));
}

#[test]
fn detach_keys_leave_the_container_running_and_attach_comes_back() {
    let env = Env::with_busybox();
    let mut terminal = Terminal::start(&env.command(&["run", "-it", "--name", "box", "busybox", "sh"]));
    terminal.expect(PROMPT);
    terminal.send(DETACH);
    terminal.expect("read escape sequence");
    assert_eq!(terminal.wait().code(), Some(0));
    assert_eq!(env.status("box"), "running");

    let mut terminal = Terminal::start(&env.command(&["attach", "--detach-keys", "ctrl-x,x", "box"]));
    terminal.send("echo back$((1+1))\n");
    terminal.expect("back2");
    // The default keys are ordinary ones now: ^P and ^Q reach the shell, which makes nothing of them.
    terminal.send("\x18y\x15");
    terminal.send("\x18x");
    terminal.expect("read escape sequence");
    terminal.wait();
    assert_eq!(env.status("box"), "running");
    env.ok(&["rm", "-f", "box"]);
}

#[test]
fn detach_keys_may_come_from_the_configuration() {
    let env = Env::with_busybox();
    let directory = env.path("docker");
    std::fs::create_dir(&directory).unwrap();
    env.write("docker/config.json", r#"{"detachKeys": "ctrl-a,d"}"#);
    let mut command = env.command(&["run", "-it", "--rm", "--name", "box", "busybox", "sh"]);
    command.env("DOCKER_CONFIG", &directory);
    let mut terminal = Terminal::start(&command);
    terminal.expect(PROMPT);
    terminal.send("\x01d");
    terminal.expect("read escape sequence");
    assert_eq!(terminal.wait().code(), Some(0));
    env.ok(&["rm", "-f", "box"]);
}

#[test]
fn exec_has_a_terminal_of_its_own() {
    let env = Env::with_busybox();
    let id = env.detached(&["--name", "box"], "sleep 1000");
    let mut terminal = Terminal::start(&env.command(&["exec", "-it", "box", "sh"]));
    terminal.expect(PROMPT);
    terminal.send("stty size; echo pid$((1+1))\n");
    terminal.expect("24 80");
    terminal.expect("pid2");
    terminal.resize(30, 90);
    wait_until("the size arrives", SHORT, || {
        terminal.send("stty size\n");
        std::thread::sleep(Duration::from_millis(100));
        terminal.screen().contains("30 90").then_some(())
    });
    terminal.send("sh -c 'echo begin$((1+1)); exec sleep 1000'\n");
    terminal.expect("begin2");
    terminal.send(CTRL_C);
    terminal.expect(PROMPT);
    terminal.send("echo status=$?\n");
    terminal.expect("status=130");
    terminal.send("exit 5\n");
    assert_eq!(terminal.wait().code(), Some(5));
    env.ok(&["rm", "-f", &id]);
}

#[test]
fn our_own_terminal_is_as_before_afterwards() {
    let env = Env::with_busybox();
    let mut shell = host_shell(&env);
    shell.send("stty -g > before\n".replace("before", env.path("before").to_str().unwrap()).as_str());
    shell.expect("host> ");
    shell.send(&run_line(&env, &["run", "-it", "--rm", "busybox", "sh"]));
    shell.expect(PROMPT);
    shell.send("exit 3\n");
    shell.expect("host> ");
    shell.send(&format!("echo code=$?; stty -g > {}; echo done$((1+1))\n", env.path("after").display()));
    shell.expect("code=3");
    shell.expect("done2");
    let read = |name| std::fs::read_to_string(env.path(name)).unwrap();
    assert_eq!(read("before"), read("after"));
    shell.send("exit\n");
    shell.wait();
}

#[test]
fn the_client_without_a_terminal_inside_is_an_ordinary_job() {
    let env = Env::with_busybox();
    let mut shell = host_shell(&env);
    shell.send(&run_line(&env, &["run", "-i", "--rm", "busybox", "sh", "-c", "'echo rea''dy; exec cat'"]));
    shell.expect("ready");
    shell.send("one$\n");
    // Once echoed by the terminal, once by cat.
    shell.expect("one$");
    shell.expect("one$");
    shell.send(CTRL_Z);
    shell.expect("Stopped");
    shell.expect("host> ");
    shell.send("fg\n");
    shell.expect("\"$@\"");
    shell.send("two$\n");
    shell.expect("two$");
    shell.expect("two$");
    shell.send(CTRL_D);
    shell.expect("host> ");
    shell.send("echo code=$?; exit\n");
    shell.expect("code=0");
    shell.wait();
}

#[test]
fn start_attaches_with_input() {
    let env = Env::with_busybox();
    env.ok(&["create", "-it", "--name", "box", "busybox", "sh"]);
    let mut terminal = Terminal::start(&env.command(&["start", "-ai", "box"]));
    terminal.expect(PROMPT);
    terminal.send("exit 4\n");
    assert_eq!(terminal.wait().code(), Some(4));
    env.ok(&["rm", "box"]);
}

#[test]
fn a_terminal_inside_needs_one_outside() {
    let env = Env::with_busybox();
    let output = env.kiste_with_input(&["run", "--rm", "-it", "busybox", "true"], b"");
    output.fails(1, &["kiste: the input device is not a TTY", "hint:"]);
    assert_eq!(env.ok(&["ps", "-aq"]), "");
}

#[test]
fn signals_are_passed_on() {
    let env = Env::with_busybox();
    let line = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let mut terminal = Terminal::start(&env.command(&["run", "--rm", "busybox", "sh", "-c", line]));
    terminal.expect("ready");
    let pid = rustix::process::Pid::from_raw(terminal.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    terminal.expect("got");
    assert_eq!(terminal.wait().code(), Some(9));
}

#[test]
fn the_third_control_c_leaves_a_program_that_ignores_it() {
    let env = Env::with_busybox();
    let line = ["run", "--name", "box", "busybox", "sh", "-c", "echo ready; exec sleep 1000"];
    let mut terminal = Terminal::start(&env.command(&line));
    terminal.expect("ready");
    for _ in 0..3 {
        terminal.send(CTRL_C);
        std::thread::sleep(Duration::from_millis(100));
    }
    terminal.expect("forcefully exiting");
    assert_eq!(terminal.wait().code(), Some(1));
    assert_eq!(env.status("box"), "running");
    env.ok(&["rm", "-f", "box"]);
}

#[test]
fn attach_makes_a_program_draw_again() {
    let env = Env::with_busybox();
    let line = "trap 'echo drawn for $(stty size)' WINCH; while :; do sleep 0.05; done";
    env.ok(&["run", "-dit", "--name", "box", "busybox", "sh", "-c", line]);
    for _ in 0..2 {
        let mut terminal = Terminal::start(&env.command(&["attach", "box"]));
        terminal.expect("drawn for 24 80");
        terminal.send(DETACH);
        terminal.wait();
    }
    env.ok(&["rm", "-f", "box"]);
}

#[test]
fn without_sig_proxy_a_signal_ends_the_client_alone() {
    let env = Env::with_busybox();
    let mut terminal = Terminal::start(&env.command(&[
        "run",
        "--sig-proxy=false",
        "--name",
        "box",
        "busybox",
        "sh",
        "-c",
        "echo ready; sleep 1000",
    ]));
    terminal.expect("ready");
    terminal.send(CTRL_C);
    assert_eq!(terminal.wait().code(), Some(130));
    assert_eq!(env.status("box"), "running");
    env.ok(&["rm", "-f", "box"]);
}

#[test]
fn a_reader_that_goes_ends_the_client_alone() {
    let env = Env::with_busybox();
    let mut shell = Command::new("bash");
    let line = run_line(&env, &["run", "--name", "box", "busybox", "yes"]).replacen(
        "kiste",
        kiste_tests::fixtures::kiste().to_str().unwrap(),
        1,
    );
    shell.arg("-c").arg(format!("{} | head -n 1; exit ${{PIPESTATUS[0]}}", line.trim_end()));
    env.prepare(&mut shell);
    let output = kiste_tests::finish(&mut shell, None, Duration::from_secs(30));
    assert_eq!((output.stdout.as_str(), output.code()), ("y\n", 141), "{}", output.stderr);
    assert_eq!(env.status("box"), "running");
    env.ok(&["rm", "-f", "box"]);
}

#[test]
fn the_end_of_input_closes_one_direction_only() {
    let env = Env::with_busybox();
    let output = env.kiste_with_input(&["run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo end"], b"abc\n");
    assert_eq!(output.ok(), "abc\nend");
    env.detached(&["--name", "box"], "sleep 1000");
    let output = env.kiste_with_input(&["exec", "-i", "box", "sh", "-c", "cat; echo end"], b"abc\n");
    assert_eq!(output.ok(), "abc\nend");
    env.ok(&["rm", "-f", "box"]);
}

#[test]
fn an_exec_does_not_wait_for_what_it_left_behind() {
    let env = Env::with_busybox();
    env.detached(&["--name", "box"], "sleep 1000");
    let begin = std::time::Instant::now();
    assert_eq!(env.ok(&["exec", "box", "sh", "-c", "sleep 60 & echo started"]), "started");
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    env.ok(&["rm", "-f", "box"]);
}

#[test]
fn a_terminal_that_goes_away_changes_nothing_for_a_detached_container() {
    let env = Env::with_busybox();
    env.ok(&["run", "-dit", "--name", "box", "busybox", "sh"]);
    let mut terminal = Terminal::start(&env.command(&["attach", "box"]));
    terminal.send("echo here$((1+1))\n");
    terminal.expect("here2");
    drop(terminal);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(env.status("box"), "running");
    let mut terminal = Terminal::start(&env.command(&["attach", "box"]));
    terminal.send("echo still$((1+1))\n");
    terminal.expect("still2");
    terminal.send("exit\n");
    terminal.wait();
    env.ok(&["rm", "box"]);
}
