//! A small virtual machine with a kernel that has all controllers in cgroup v2: Debian trixie's cloud kernel and a minimal
//! root file system over virtiofs, emulated without KVM. It boots, runs one script and powers off.
//!
//! Cached in `target/vm`: `rootfs/` (made by mmdebstrap; delete it to make it anew). Everything else is made per run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::build::{Built, TestProgram};
use crate::process::{self, at};
use crate::test::{Tally, parse_libtest};
use crate::{Result, build, images, packages};

const PACKAGES: &str = "linux-image-cloud-amd64,kmod,iproute2,procps,busybox-static,e2fsprogs";

/// Longest run of the machine; emulation is about ten times slower than the real thing.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// The same for all tests.
const ALL_LIMIT: Duration = Duration::from_secs(90 * 60);

/// What is tested in the machine unless everything is asked for: what differs between the two versions of cgroups, and
/// the main job from the start of a container to its end. Test programs, and of each the tests whose names contain one of
/// the words; without words all.
const SELECTION: &[(&str, &[&str])] = &[
    ("sandbox::cgroup", &[]),
    ("linux", &[]),
    ("sandbox::isolation", &[]),
    ("sandbox::rootfs", &[]),
    ("tests::limits", &[]),
    ("tests::exec", &["it_joins", "memory_limits", "it_ends"]),
    ("tests::userns", &["root_inside", "automatic_range", "host_namespace"]),
    ("tests::lifecycle", &["create_start", "stopping", "restart"]),
    ("tests::isolation", &["every_namespace", "default_privileges", "devices_are"]),
    ("tests::run_basic", &["without_rm", "read_only"]),
    ("tests::runtime_lifecycle", &["created_started", "exec_in", "paused"]),
];

/// All test programs that concern the kernel: crates by name, behaviour tests by topic. The rest (grammars, archives,
/// registries, health checks and restarts with their clocks) would only be slow here.
const CONCERNED: &[&str] = &[
    "tests::limits",
    "tests::userns",
    "tests::isolation",
    "tests::exec",
    "tests::volumes",
    "tests::lifecycle",
    "tests::run_basic",
    "tests::takeover",
    "tests::runtime_lifecycle",
    "linux",
    "sandbox*",
    "engine::*",
];

/// One test program and the words that choose among its tests.
struct Part<'a> {
    program: &'a TestProgram,
    words: Vec<String>,
}

/// First process of the machine. What it must have: the mounts that a booted system has, and a real disk for TMPDIR,
/// because overlayfs takes no upper directory on virtiofs.
const INIT: &str = r#"#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts; mount -t tmpfs tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run; mount -t tmpfs tmpfs /tmp
for module in virtio_blk overlay erofs veth bridge nf_tables; do modprobe $module || echo "no module $module"; done
mkdir -p /disk; mount /dev/vda /disk; mkdir -p /disk/tmp /disk/lib; chmod 1777 /disk/tmp
mkdir -p /var/lib/kiste; mount --bind /disk/lib /var/lib/kiste
ip link set lo up; hostname kiste-vm
export TMPDIR=/disk/tmp KISTE_TEST_BINARY=/tests/kiste KISTE_TEST_IMAGES=/tests/images KISTE_TEST_PATIENCE=10 RUST_BACKTRACE=1
ln -sf /tests/kiste /usr/local/bin/kiste
cd /tests; sh /tests/script; echo $? >/tests/results/script.code
sync; busybox poweroff -f
"#;

/// virtiofsd(1): in Debian 12 part of QEMU, later a package of its own.
pub(crate) fn virtiofsd() -> Option<PathBuf> {
    ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"].map(PathBuf::from).into_iter().find(|path| path.is_file())
}

/// `cargo xtask vm [COMMAND]`: the tests, or one shell command with `kiste` on its PATH.
pub(crate) fn command(root: &Path, words: &[String]) -> Result {
    if words.is_empty() {
        return crate::test::run(&["--only-vm".to_owned(), "--all-vm".to_owned()]);
    }
    let machine = Machine::prepare(root)?;
    machine.install(&build::kiste(root)?, "kiste")?;
    machine.install_images(&images::prepare(root)?)?;
    machine.boot(&words.join(" "), LIMIT)?;
    match machine.result("script.code").trim() {
        "0" => Ok(()),
        code => Err(format!("the command in the virtual machine ended with code {code:?}")),
    }
}

/// Runs tests in the machine: the selection, or (`all`, or with a filter of the caller's) every program that concerns
/// the kernel.
pub(crate) fn test(root: &Path, built: &Built, images: &Path, filter: &[String], all: bool) -> Result<Tally> {
    let machine = Machine::prepare(root)?;
    machine.install(&built.kiste, "kiste")?;
    machine.install_images(images)?;
    for helper in &built.helpers {
        machine.install(helper, &helper.file_name().unwrap_or_default().to_string_lossy())?;
    }
    let parts = if all || !filter.is_empty() { concerned(built, filter) } else { selected(built)? };
    let mut script = String::new();
    for Part { program, words } in &parts {
        let name = file_name(&program.name);
        machine.install(&program.path, &name)?;
        let words: String = words.iter().map(|word| format!(" '{word}'")).collect();
        script += &format!(
            "echo \"== {name} at $(cut -d. -f1 /proc/uptime) s\"; \
             ./{name} --test-threads 4{words} >results/{name}.log 2>&1; echo $? >results/{name}.code; \
             grep -E '^test result|FAILED|panicked' results/{name}.log\n"
        );
    }
    machine.boot(&script, if all { ALL_LIMIT } else { LIMIT })?;
    let mut tally = Tally::default();
    for part in &parts {
        tally.add(machine.judge(&file_name(&part.program.name)));
    }
    Ok(tally)
}

/// The selection, whole: a program or a word that chooses nothing any more is an error, not a test less.
fn selected(built: &Built) -> Result<Vec<Part<'_>>> {
    let part = |(name, words): &(&str, &[&str])| {
        let program = built.tests.iter().find(|program| program.name == *name);
        let program = program.ok_or_else(|| format!("the selection for the machine names no test program: {name}"))?;
        let tests = process::output(&mut process::command(&program.path, ["--list"]))?;
        match words.iter().find(|word| !tests.lines().any(|test| test.contains(**word))) {
            Some(word) => Err(format!("the selection for the machine names no test of {name}: {word}")),
            None => Ok(Part { program, words: words.iter().map(|word| (*word).to_owned()).collect() }),
        }
    };
    SELECTION.iter().map(part).collect()
}

fn concerned<'a>(built: &'a Built, filter: &[String]) -> Vec<Part<'a>> {
    let mut programs: Vec<_> = built.tests.iter().filter(|program| rank(&program.name).is_some()).collect();
    programs.sort_by_key(|program| rank(&program.name));
    programs.into_iter().map(|program| Part { program, words: filter.to_vec() }).collect()
}

/// Place of a test program in the order; none if it does not concern the kernel.
fn rank(program: &str) -> Option<usize> {
    CONCERNED.iter().position(|name| match name.strip_suffix('*') {
        Some(start) => program.starts_with(start),
        None => program == *name,
    })
}

fn file_name(program: &str) -> String {
    program.replace("::", "-")
}

struct Machine {
    directory: PathBuf,
}

impl Machine {
    /// Makes the root file system if there is none, and empty directories for this run.
    fn prepare(root: &Path) -> Result<Self> {
        packages::ensure(packages::MACHINE)?;
        if virtiofsd().is_none() {
            packages::ensure(&[("virtiofsd", "virtiofsd")])?;
        }
        let machine = Machine { directory: root.join("target/vm") };
        let rootfs = machine.path("rootfs");
        if !rootfs.exists() {
            at("create", &machine.directory, fs::create_dir_all(&machine.directory))?;
            let new = machine.path("rootfs.new");
            let _ = fs::remove_dir_all(&new);
            println!("making {}", rootfs.display());
            images::bootstrap("minbase", PACKAGES, &new)?;
            at("publish", &rootfs, fs::rename(&new, &rootfs))?;
        }
        let tests = machine.path("rootfs/tests");
        let _ = fs::remove_dir_all(&tests);
        at("create", &tests, fs::create_dir_all(tests.join("results")))?;
        machine.script("rootfs/vm-init", INIT)?;
        Ok(machine)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Gives the machine a file under `/tests`, without a copy where possible.
    fn install(&self, file: &Path, name: &str) -> Result {
        let target = self.path("rootfs/tests").join(name);
        // A copy over a link would change the file that it is linked to.
        let _ = fs::remove_file(&target);
        if fs::hard_link(file, &target).is_err() {
            at("copy", file, fs::copy(file, &target))?;
        }
        Ok(())
    }

    fn install_images(&self, images: &Path) -> Result {
        let target = self.path("rootfs/tests/images");
        at("create", &target, fs::create_dir_all(&target))?;
        for entry in at("list", images, fs::read_dir(images))?.flatten() {
            self.install(&entry.path(), &format!("images/{}", entry.file_name().to_string_lossy()))?;
        }
        Ok(())
    }

    fn script(&self, name: &str, content: &str) -> Result {
        let file = self.path(name);
        at("write", &file, fs::write(&file, content))?;
        at("make executable", &file, fs::set_permissions(&file, fs::Permissions::from_mode(0o755)))
    }

    /// Runs a shell script in the machine, with the console on this terminal.
    fn boot(&self, script: &str, limit: Duration) -> Result {
        self.script("rootfs/tests/script", script)?;
        let disk = self.make_disk()?;
        let socket = self.path("virtiofs.sock");
        let _ = fs::remove_file(&socket);
        let _files = self.serve_files(&socket)?;
        let mut qemu = Running::start(&mut self.qemu(&socket, &disk)?)?;
        qemu.wait(limit)?;
        if self.result("script.code").is_empty() {
            return Err("the virtual machine ended before its script did: see its console above".to_owned());
        }
        Ok(())
    }

    /// A new file system on a sparse file.
    fn make_disk(&self) -> Result<PathBuf> {
        let disk = self.path("disk.img");
        let file = at("create", &disk, fs::File::create(&disk))?;
        at("enlarge", &disk, file.set_len(8 << 30))?;
        process::run(process::command("mkfs.ext4", ["-q", "-F"]).arg(&disk))?;
        Ok(disk)
    }

    fn serve_files(&self, socket: &Path) -> Result<Running> {
        let program = virtiofsd().ok_or("virtiofsd is not installed")?;
        let source = format!("source={}", self.path("rootfs").display());
        let mut daemon = process::command(program, ["-o", &source, "-o", "cache=auto", "-o", "announce_submounts"]);
        let log = self.path("virtiofsd.log");
        let log = at("create", &log, fs::File::create(&log))?;
        daemon.arg(format!("--socket-path={}", socket.display())).stdout(Stdio::null()).stderr(log);
        let running = Running::start(&mut daemon)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while !socket.exists() {
            if Instant::now() > deadline {
                return Err(format!("virtiofsd made no socket {}; its log is beside it", socket.display()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    fn qemu(&self, socket: &Path, disk: &Path) -> Result<Command> {
        let kernel = at("find the kernel", &self.path("rootfs/vmlinuz"), self.path("rootfs/vmlinuz").canonicalize())?;
        let mut qemu = emulator();
        qemu.arg("-kernel").arg(kernel);
        qemu.args(["-append", "root=root rootfstype=virtiofs rw init=/vm-init console=ttyS0 quiet panic=-1"]);
        qemu.arg("-chardev").arg(format!("socket,id=files,path={}", socket.display()));
        qemu.args(["-device", "vhost-user-fs-pci,chardev=files,tag=root"]);
        qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk.display()));
        Ok(qemu)
    }

    fn result(&self, name: &str) -> String {
        fs::read_to_string(self.path("rootfs/tests/results").join(name)).unwrap_or_default()
    }

    /// What one program's log and exit code say; shows the log if it failed.
    fn judge(&self, name: &str) -> Tally {
        let log = self.result(&format!("{name}.log"));
        let mut tally = parse_libtest(&log);
        if self.result(&format!("{name}.code")).trim() != "0" {
            println!("== {name} in the virtual machine\n{log}");
            // A program that died before its summary must not count as one without failures.
            tally.failed = tally.failed.max(1);
        }
        tally
    }
}

/// No KVM: a guest inside a guest often hangs, and what is tested here is not speed.
fn emulator() -> Command {
    let memory = "memory-backend-memfd,id=memory,size=3G,share=on";
    // Without cmpxchg16b, which QEMU 7.2 emulates wrongly now and then: the guest's memory allocator panics over it.
    let processor = ["-accel", "tcg,thread=multi", "-cpu", "max,-cx16", "-smp", "2", "-m", "3G"];
    let mut qemu = process::command("qemu-system-x86_64", processor);
    qemu.args(["-object", memory, "-numa", "node,memdev=memory", "-nodefaults", "-no-user-config", "-no-reboot"]);
    qemu.args(["-display", "none", "-serial", "stdio"]).stdin(Stdio::null());
    qemu
}

/// A child that is killed when its owner goes away.
struct Running(Child, String);

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        Ok(Running(command.spawn().map_err(|e| format!("{name}: {e}"))?, name))
    }

    fn wait(&mut self, limit: Duration) -> Result {
        let deadline = Instant::now() + limit;
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("{}: {status}", self.1)),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
                Ok(None) => return Err(format!("{}: not finished after {} s", self.1, limit.as_secs())),
                Err(error) => return Err(format!("wait for {}: {error}", self.1)),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
