//! Compiled seccomp profiles on the real kernel. A filter holds for the thread that loads it and for what that thread
//! starts, so every test uses threads of its own.

use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};
use sandbox::seccomp::{Program, compile, default_profile, default_profile_all_abis, from_docker_json};

/// Runs `what` in a thread under the filter.
fn under<T: Send + 'static>(program: Program, what: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        program.load().unwrap();
        what()
    });
    thread.join().unwrap()
}

fn shell(script: &str) -> (String, Option<i32>, Option<i32>) {
    let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
    (text, output.status.code(), output.status.signal())
}

#[test]
fn ordinary_programs_run_under_the_default_profile() {
    let (text, code, _) = under(default_profile(&[]), || {
        UdpSocket::bind("127.0.0.1:0").unwrap();
        std::thread::spawn(|| ()).join().unwrap();
        shell(
            "set -e; ls -l / | sort | tail -n 1 > /dev/null; (sleep 0.01; date) & wait; grep Seccomp: /proc/self/status",
        )
    });
    assert_eq!(code, Some(0), "{text}");
    assert!(text.ends_with("2"), "filter mode: {text}");
}

#[test]
fn blocked_calls_fail_with_the_promised_errors() {
    let family = AddressFamily::from_raw;
    let results = under(default_profile(&[]), move || {
        let open = |number| socket(family(number), SocketType::STREAM, None).err();
        let name = rustix::system::uname().nodename().to_bytes().to_vec();
        [
            ("AF_UNIX", open(1), None),
            ("AF_ALG", open(38), Some(Errno::PERM)),
            ("AF_VSOCK", open(40), Some(Errno::PERM)),
            ("sethostname", rustix::system::sethostname(&name).err(), Some(Errno::PERM)),
            ("umount", rustix::mount::unmount("/none", rustix::mount::UnmountFlags::empty()).err(), Some(Errno::PERM)),
            ("chroot", rustix::process::chroot("/").err(), Some(Errno::PERM)),
        ]
    });
    for (name, result, expected) in results {
        assert_eq!(result, expected, "{name}");
    }
    let allowed = under(default_profile(&["CAP_SYS_ADMIN"]), || {
        rustix::mount::unmount("/none", rustix::mount::UnmountFlags::empty()).err()
    });
    assert_eq!(allowed, Some(Errno::NOENT), "with the capability the kernel itself answers");
}

#[test]
fn no_user_namespace_is_made_under_the_default_profile() {
    let (text, code, _) = under(default_profile(&[]), || shell("unshare -U true"));
    assert!(code != Some(0) && text.contains("Operation not permitted"), "{text}");
    assert_eq!(shell("unshare -U true").1, Some(0), "without the filter it can be made");
}

#[test]
fn a_profile_of_ones_own_is_enforced() {
    let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122},
        {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 18, "op": "SCMP_CMP_EQ"}]},
        {"names": ["sync"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#;
    let program = compile(&from_docker_json(json, &[]).unwrap()).unwrap();
    let mkdir = under(program.clone(), || std::fs::create_dir("/tmp/never").unwrap_err().raw_os_error());
    assert_eq!(mkdir, Some(122));
    let me = rustix::process::getpid();
    let kills = under(program.clone(), move || {
        [rustix::process::Signal::CONT, rustix::process::Signal::URG]
            .map(|signal| rustix::process::kill_process(me, signal).err())
    });
    assert_eq!(kills, [Some(Errno::PERM), None]);
    let (_, _, signal) = under(program, || shell("exec sync"));
    assert_eq!(signal, Some(libc::SIGSYS));
}

/// The smallest 32-bit program: `exit(42)` by `int 0x80`.
#[cfg(target_arch = "x86_64")]
fn i386_program() -> Vec<u8> {
    let mut elf = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (base, header) = (0x0804_8000u32, 52 + 32);
    let half = |value: u16| value.to_le_bytes().to_vec();
    let word = |value: u32| value.to_le_bytes().to_vec();
    elf.extend([half(2), half(3), word(1), word(base + header), word(52), word(0), word(0)].concat());
    elf.extend([half(52), half(32), half(1), half(0), half(0), half(0)].concat());
    let size = header + 12;
    elf.extend([word(1), word(0), word(base), word(base), word(size), word(size), word(5), word(0x1000)].concat());
    // mov eax, 1; mov ebx, 42; int 0x80
    elf.extend([0xb8, 1, 0, 0, 0, 0xbb, 42, 0, 0, 0, 0xcd, 0x80]);
    elf
}

#[cfg(target_arch = "x86_64")]
#[test]
fn programs_of_the_32_bit_abi_are_killed_unless_it_is_let_in() {
    use std::os::unix::fs::PermissionsExt;
    let directory = std::env::temp_dir().join(format!("kiste-test-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("exit42");
    std::fs::write(&path, i386_program()).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let run =
        move |path: std::path::PathBuf| Command::new(path).status().map(|status| (status.code(), status.signal()));
    let (bare, all, native) = (path.clone(), path.clone(), path);
    let free = run(bare);
    let all = under(default_profile_all_abis(&[]), move || run(all));
    let native = under(default_profile(&[]), move || run(native));
    std::fs::remove_dir_all(directory).unwrap();
    match free {
        Ok(exit) => {
            assert_eq!(exit, (Some(42), None));
            assert_eq!(all.unwrap(), (Some(42), None));
            assert_eq!(native.unwrap(), (None, Some(libc::SIGSYS)));
        }
        // A kernel that cannot execute such programs at all.
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOEXEC)),
    }
}

#[test]
fn loading_twice_stacks() {
    let deny_sync = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 61}]}"#;
    let program = compile(&from_docker_json(deny_sync, &[]).unwrap()).unwrap();
    let result = under(default_profile(&["CAP_SYS_CHROOT"]), move || {
        program.load().unwrap();
        rustix::process::chroot("/none").err()
    });
    assert_eq!(result, Some(Errno::from_raw_os_error(61)));
}
