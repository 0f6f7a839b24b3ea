//! `cargo xtask dist`: what is given away, below `target/dist`: the static binary, systemd units, completions, manual
//! pages, and a Debian package of all that, which with `--check` is installed and used in a root of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::process::{at, command, output, run};
use crate::{Result, build, images, packages};

/// The units of `packaging/`.
const UNITS: [&str; 3] = ["kiste.socket", "kiste.service", "kiste-restart.service"];
/// What dpkg calls at an installation.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// Shells, and where Debian looks for their completions.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/kiste"),
    ("zsh", "usr/share/zsh/vendor-completions/_kiste"),
    ("fish", "usr/share/fish/vendor_completions.d/kiste.fish"),
];

/// Builds the release and packs it.
pub(crate) fn run_command(root: &Path, arguments: &[String]) -> Result {
    let check = match arguments {
        [] => false,
        [option] if option == "--check" => true,
        _ => return Err(format!("dist: unknown arguments {}", arguments.join(" "))),
    };
    let kiste = build::released(root)?;
    let directory = root.join("target/dist");
    let tree = directory.join("tree");
    if directory.exists() {
        at("remove", &directory, fs::remove_dir_all(&directory))?;
    }
    is_static(&kiste)?;
    fill(root, &kiste, &tree)?;
    let package = pack(root, &kiste, &tree)?;
    println!("{}", package.display());
    if check { try_out(&package, &directory.join("root")) } else { Ok(()) }
}

fn is_static(kiste: &Path) -> Result {
    match output(&mut command("file", ["--brief".as_ref(), kiste.as_os_str()]))? {
        text if text.contains("statically linked") || text.contains("static-pie linked") => Ok(()),
        text => Err(format!("{} is not static: {text}", kiste.display())),
    }
}

/// Lays out the files as they are installed.
fn fill(root: &Path, kiste: &Path, tree: &Path) -> Result {
    place(kiste, &tree.join("usr/bin/kiste"), 0o755)?;
    for unit in UNITS {
        place(&root.join("packaging").join(unit), &tree.join("usr/lib/systemd/system").join(unit), 0o644)?;
    }
    for (shell, path) in COMPLETIONS {
        let script = output(&mut command(kiste, ["completion", shell]))?;
        write(&tree.join(path), script.as_bytes())?;
    }
    let pages = tree.join("usr/share/man/man1");
    at("create", &pages, fs::create_dir_all(&pages))?;
    run(command(kiste, ["man".as_ref(), pages.as_os_str()]).stdout(Stdio::null()))?;
    run(&mut command("gzip", ["-9nr".as_ref(), pages.as_os_str()]))?;
    let documents = tree.join("usr/share/doc/kiste");
    place(&root.join("packaging/copyright"), &documents.join("copyright"), 0o644)?;
    place(&root.join("CHANGELOG.md"), &documents.join("changelog"), 0o644)?;
    run(&mut command("gzip", ["-9n".as_ref(), documents.join("changelog").as_os_str()]))
}

/// Makes the package.
fn pack(root: &Path, kiste: &Path, tree: &Path) -> Result<PathBuf> {
    let version = output(&mut command(kiste, ["version", "--format", "{{.Client.Version}}"]))?;
    let version = version.trim();
    let size = directory_size(tree)? / 1024;
    let control = format!(
        "Package: kiste\nVersion: {version}-1\nArchitecture: amd64\nMaintainer: The authors of Kiste <kiste@localhost>\n\
         Installed-Size: {size}\nSection: admin\nPriority: optional\nDepends: passwd\nRecommends: init-system-helpers\n\
         Suggests: docker-cli, docker-compose, uidmap, passt\nDescription: container engine without a daemon\n \
         Kiste runs container images as isolated processes, builds images, and serves\n the Docker Engine API, with one \
         static binary and no daemon. Containers get\n a user namespace of their own by default.\n"
    );
    write(&tree.join("DEBIAN/control"), control.as_bytes())?;
    for script in SCRIPTS {
        place(&root.join("packaging").join(script), &tree.join("DEBIAN").join(script), 0o755)?;
    }
    let package = tree.with_file_name(format!("kiste_{version}-1_amd64.deb"));
    let words = ["--root-owner-group", "--build", "-Zxz"];
    run(command("dpkg-deb", words).arg(tree).arg(&package).stdout(Stdio::null()))?;
    Ok(package)
}

fn directory_size(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in at("list", directory, fs::read_dir(directory))? {
        let entry = at("list", directory, entry)?;
        let data = at("read", &entry.path(), entry.metadata())?;
        bytes += if data.is_dir() { directory_size(&entry.path())? } else { data.len() };
    }
    Ok(bytes)
}

fn place(from: &Path, to: &Path, mode: u32) -> Result {
    write(to, &at("read", from, fs::read(from))?)?;
    at("chmod", to, fs::set_permissions(to, fs::Permissions::from_mode(mode)))
}

fn write(file: &Path, content: &[u8]) -> Result {
    if let Some(parent) = file.parent() {
        at("create", parent, fs::create_dir_all(parent))?;
    }
    at("write", file, fs::write(file, content))?;
    at("chmod", file, fs::set_permissions(file, fs::Permissions::from_mode(0o644)))
}

/// What is done inside of the fresh root: installed, used, and taken away again.
const TRIAL: &str = "set -e
rm -f etc/dpkg/dpkg.cfg.d/*mmdebstrap # which leaves manual pages out
mount --bind . .; cd \"$PWD\" # a chroot would be none for user namespaces
mount -t proc proc proc; mount --rbind /sys sys; mount --rbind /dev dev; mount -t tmpfs tmpfs run
pivot_root . mnt; cd /; umount --lazy mnt
exec sh -exc '
dpkg --install kiste.deb
getent group kiste
test -s /usr/share/man/man1/kiste-run.1.gz -a -s /usr/share/bash-completion/completions/kiste
bash -n /usr/share/bash-completion/completions/kiste
zsh -n /usr/share/zsh/vendor-completions/_kiste
fish --no-execute /usr/share/fish/vendor_completions.d/kiste.fish
systemd-analyze verify --man=no /usr/lib/systemd/system/kiste*
systemctl is-enabled kiste.socket kiste-restart.service
kiste version
test \"$(kiste run --rm --network none host:/ echo it runs)\" = \"it runs\"
kiste serve & server=$!
for try in 1 2 3 4 5 6 7 8 9 10; do test -S /run/kiste/docker.sock && break; sleep 0.2; done
test \"$(stat -c %a /run/kiste/docker.sock)\" = 660
kill $server
dpkg --purge kiste
test ! -e /usr/bin/kiste
'";

/// Installs the package in a root of its own, and runs a container there.
fn try_out(package: &Path, root: &Path) -> Result {
    packages::ensure(packages::TESTS)?;
    images::bootstrap("minbase", "init-system-helpers,systemd,zsh,fish", root)?;
    let copy = root.join("kiste.deb");
    at("copy", package, fs::copy(package, &copy).map(drop))?;
    let mut trial = command("unshare", ["--mount", "--net", "--propagation", "private", "sh", "-c", TRIAL]);
    run(trial.current_dir(root).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))?;
    at("remove", root, fs::remove_dir_all(root))
}
