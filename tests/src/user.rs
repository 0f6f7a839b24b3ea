//! An ordinary user who does not exist on the machine: commands run in a mount namespace of their own, in which
//! `/etc/passwd`, `/etc/subuid` and `/etc/subgid` know them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::fixtures;

/// The user's number and group, which no Debian package hands out.
const ID: u32 = 54321;
/// The first of their subordinate ids.
const SUBORDINATE: u32 = 1_400_000_000;

/// What is mounted, and who goes on.
const SCRIPT: &str = "for name in passwd group subuid subgid; do mount --bind \"$0/$name\" /etc/$name || exit 99; done
    mount --bind \"$0/tun\" /dev/net/tun || exit 99
    if [ -e \"$0/no-pasta\" ]; then mount --bind /dev/null \"$(command -v pasta)\" || exit 99; fi
    exec setpriv --reuid 54321 --regid 54321 --clear-groups --inh-caps=-all -- \"$@\"";

/// The user's files.
pub(crate) struct User {
    directory: PathBuf,
    program: PathBuf,
}

impl User {
    /// Prepares them below `directory`, which becomes the user's. `count` subordinate ids.
    pub(crate) fn new(directory: &Path, count: u32) -> Self {
        let files = directory.join("user");
        fs::create_dir_all(files.join("home")).expect("a directory for the user's files");
        fs::create_dir_all(files.join("run")).expect("a directory for the user's files");
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let range = if count > 0 { format!("tester:{SUBORDINATE}:{count}\n") } else { String::new() };
        for (name, text) in [
            (
                "passwd",
                read("/etc/passwd") + &format!("tester:x:{ID}:{ID}::{}:/bin/sh\n", files.join("home").display()),
            ),
            ("group", read("/etc/group") + &format!("tester:x:{ID}:\n")),
            ("subuid", range.clone()),
            ("subgid", range),
        ] {
            fs::write(files.join(name), text).expect("a file for the user");
        }
        // Distributions let everybody open it.
        let tun = files.join("tun");
        let (mode, number) = (Mode::from_raw_mode(0o666), makedev(10, 200));
        mknodat(CWD, &tun, FileType::CharacterDevice, mode, number).expect("the tests run as root");
        fs::set_permissions(&tun, fs::Permissions::from_mode(0o666)).expect("the user's directory");
        // The build directory may be closed to others.
        let program = files.join("kiste");
        fs::copy(fixtures::kiste(), &program).expect("the product's program");
        for path in [directory, &files, &files.join("home"), &files.join("run"), &program] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the user's directory");
            chown(path, Some(ID), Some(ID)).expect("the tests run as root");
        }
        User { directory: files, program }
    }

    /// The product's command, as the user.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT])
            .arg(&self.directory)
            .arg(&self.program);
        command.env("HOME", self.directory.join("home")).env("XDG_RUNTIME_DIR", self.directory.join("run"));
        command.env_remove("XDG_DATA_HOME").current_dir(self.directory.join("home"));
        command
    }
}
