//! The flags of `checkpoint` and `restore`: runc's, and crun's that callers pass to either.

use std::fs::{DirBuilder, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use lexopt::{Arg, Parser};
use linux::namespace::Kinds;

use super::rpc::{self, CgroupMode, NetworkLock, PageServer};
use crate::arguments::{number, path, switch, text};
use crate::error::Step;
use crate::{Error, Result};

/// Where CRIU looks for settings of the host's administrator, as with runc.
const SETTINGS: &str = "/etc/criu/runc.conf";

/// What both commands are told.
#[derive(Default)]
pub(crate) struct Options {
    images: Option<PathBuf>,
    work: Option<PathBuf>,
    parent: Option<PathBuf>,
    pub(crate) leave_running: bool,
    pub(crate) pre_dump: bool,
    pub(crate) lazy_pages: bool,
    pub(crate) status_fd: Option<i32>,
    /// What goes to CRIU as it is.
    pub(crate) rpc: rpc::Options,
}

/// Which command's flags.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Checkpoint,
    Restore,
}

impl Options {
    /// Takes a flag of the command; gives back what is none.
    pub(crate) fn take<'a>(&mut self, flag: Arg<'a>, parser: &mut Parser, command: Command) -> Result<Option<Arg<'a>>> {
        use Command::{Checkpoint, Restore};
        let Arg::Long(name) = flag else { return Ok(Some(flag)) };
        let name = name.to_owned();
        match (name.as_str(), command) {
            ("image-path", _) => self.images = Some(path(parser)?),
            ("work-path", _) => self.work = Some(path(parser)?),
            ("parent-path", Checkpoint) => {
                self.parent = Some(path(parser)?).filter(|path| !path.as_os_str().is_empty())
            }
            ("leave-running", Checkpoint) => self.leave_running = switch(parser)?,
            ("pre-dump", Checkpoint) => self.pre_dump = switch(parser)?,
            ("lazy-pages", _) => self.lazy_pages = switch(parser)?,
            ("status-fd", Checkpoint) => {
                self.status_fd = Some(number(parser, "status-fd")?).filter(|fd: &i32| *fd >= 0);
            }
            ("tcp-skip-in-flight", Checkpoint) => self.rpc.tcp_skip_in_flight = Some(switch(parser)?),
            ("link-remap", Checkpoint) => self.rpc.link_remap = Some(switch(parser)?),
            ("page-server", Checkpoint) => self.rpc.page_server = page_server(&text(parser)?)?,
            ("tcp-established", _) => self.rpc.tcp_established = Some(switch(parser)?),
            ("tcp-close", Restore) => self.rpc.tcp_close = Some(switch(parser)?),
            ("ext-unix-sk", _) => self.rpc.ext_unix_sk = Some(switch(parser)?),
            ("shell-job", _) => self.rpc.shell_job = Some(switch(parser)?),
            ("file-locks", _) => self.rpc.file_locks = Some(switch(parser)?),
            ("auto-dedup", _) => self.rpc.auto_dedup = Some(switch(parser)?),
            ("manage-cgroups-mode", _) => self.rpc.manage_cgroups_mode = Some(cgroup_mode(&text(parser)?)?),
            ("network-lock", _) => self.rpc.network_lock = Some(network_lock(&text(parser)?)?),
            ("empty-ns", _) => empty_namespace(&text(parser)?)?,
            ("lsm-profile", Restore) => self.rpc.lsm_profile = Some(text(parser)?).filter(|text| !text.is_empty()),
            ("lsm-mount-context", Restore) => {
                self.rpc.lsm_mount_context = Some(text(parser)?).filter(|text| !text.is_empty());
            }
            _ => return Ok(Some(flag)),
        }
        Ok(None)
    }

    /// The directories, opened and made if need be, and everything that always holds, for CRIU.
    pub(crate) fn request(&self, command: Command) -> Result<(rpc::Options, Directories)> {
        let images = self.images();
        let log = match command {
            Command::Checkpoint => "dump.log",
            Command::Restore => "restore.log",
        };
        if command == Command::Checkpoint {
            make(&images)?;
        }
        let work = self.work.as_deref().filter(|work| !work.as_os_str().is_empty());
        let directories = Directories {
            images: open(&images)?,
            work: work.map(|work| make(work).and_then(|()| open(work))).transpose()?,
            log: work.unwrap_or(&images).join(log),
        };
        let rpc = rpc::Options {
            images_dir_fd: directories.images.as_raw_fd(),
            work_dir_fd: directories.work.as_ref().map(AsRawFd::as_raw_fd),
            log_level: Some(4),
            log_file: Some(log.to_owned()),
            notify_scripts: Some(true),
            manage_cgroups: Some(true),
            manage_cgroups_mode: Some(self.rpc.manage_cgroups_mode.unwrap_or(CgroupMode::Soft.into())),
            // The caller has charge of the network: its devices are not ours to restore.
            empty_ns: Some(Kinds::NETWORK.bits() as u32),
            orphan_pts_master: Some(true),
            lazy_pages: Some(self.lazy_pages),
            config_file: Path::new(SETTINGS).exists().then(|| SETTINGS.to_owned()),
            ..self.rpc.clone()
        };
        Ok((rpc, directories))
    }

    /// Images of an earlier `--pre-dump`, relative to these.
    pub(crate) fn parent(&self) -> Result<Option<String>> {
        let Some(parent) = &self.parent else { return Ok(None) };
        if parent.is_absolute() {
            return Err(Error::new("--parent-path must be relative"));
        }
        let place = self.images().join(parent);
        match place.is_dir() {
            true => Ok(Some(parent.to_string_lossy().into_owned())),
            false => Err(Error::new(format!("invalid --parent-path: {} is no directory", place.display()))),
        }
    }

    /// Where the images are, or are to be.
    pub(crate) fn images(&self) -> PathBuf {
        self.images.clone().unwrap_or_else(|| "checkpoint".into())
    }
}

/// What CRIU reads and writes.
pub(crate) struct Directories {
    images: OwnedFd,
    work: Option<OwnedFd>,
    /// What it writes about what it does.
    log: PathBuf,
}

impl Directories {
    /// For CRIU to inherit.
    pub(crate) fn numbers(&self) -> Vec<i32> {
        [&self.images].into_iter().chain(&self.work).map(AsRawFd::as_raw_fd).collect()
    }

    /// An error of CRIU's with what it has written about it last.
    pub(crate) fn explain(&self, error: Error) -> Error {
        /// Whoever cannot raise it goes on without.
        const HARMLESS: &str = "RLIMIT_NOFILE";
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let said = |line: &&str| line.contains("Error") && !line.contains("FAILED") && !line.contains(HARMLESS);
        let mut lines: Vec<&str> = text.lines().rev().filter(said).take(3).collect();
        lines.reverse();
        let lines: String = lines.iter().map(|line| format!(": {}", line.trim())).collect();
        Error::new(format!("{}{lines} (see {})", error.text, self.log.display()))
    }
}

fn make(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).step(|| format!("make {}", path.display()))
}

fn open(path: &Path) -> Result<OwnedFd> {
    File::open(path).map(OwnedFd::from).step(|| format!("open the directory {}", path.display()))
}

fn cgroup_mode(word: &str) -> Result<i32> {
    Ok(match word {
        "" | "soft" => CgroupMode::Soft,
        "full" => CgroupMode::Full,
        "strict" => CgroupMode::Strict,
        "ignore" => CgroupMode::Ignore,
        _ => return Err(Error::new("invalid manage-cgroups-mode value: one of soft, full, strict, ignore")),
    }
    .into())
}

fn network_lock(word: &str) -> Result<i32> {
    Ok(match word {
        "iptables" => NetworkLock::Iptables,
        "nftables" => NetworkLock::Nftables,
        "skip" => NetworkLock::Skip,
        _ => return Err(Error::new("invalid network-lock value: one of iptables, nftables, skip")),
    }
    .into())
}

/// The network namespace is the only one that can be left empty, and always is.
fn empty_namespace(kind: &str) -> Result<()> {
    match kind {
        "network" => Ok(()),
        other => Err(Error::new(format!("namespace {other:?} is not supported"))),
    }
}

fn page_server(text: &str) -> Result<Option<PageServer>> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || Error::new("Use --page-server ADDRESS:PORT to specify page server");
    let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let port: u16 = port.parse().map_err(|_| Error::new("Invalid port number"))?;
    if address.is_empty() || port == 0 {
        return Err(wrong());
    }
    Ok(Some(PageServer { address: Some(address.to_owned()), port: Some(port.into()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str], command: Command) -> Result<Options> {
        let mut parser = Parser::from_args(words);
        let mut options = Options::default();
        while let Some(flag) = parser.next().map_err(crate::arguments::bad)? {
            // The parser cannot be used while it lends a flag.
            let Arg::Long(name) = flag else { panic!("a flag expected") };
            let name = name.to_owned();
            if options.take(Arg::Long(&name), &mut parser, command)?.is_some() {
                return Err(Error::new(format!("unknown {name}")));
            }
        }
        Ok(options)
    }

    #[test]
    fn flags_belong_to_their_command() {
        let words = ["--image-path=/i", "--page-server", "[::1]:7", "--manage-cgroups-mode", "ignore", "--pre-dump"];
        let options = read(&words, Command::Checkpoint).unwrap();
        let server = options.rpc.page_server.clone().unwrap();
        assert_eq!((server.address.as_deref(), server.port), (Some("::1"), Some(7)));
        assert!(options.pre_dump && options.rpc.manage_cgroups_mode == Some(CgroupMode::Ignore.into()));
        assert!(read(&["--pre-dump"], Command::Restore).is_err());
        assert!(read(&["--lsm-profile", "x"], Command::Checkpoint).is_err());
    }

    #[test]
    fn wrong_values_are_named() {
        for words in [
            ["--page-server", "host"],
            ["--page-server", ":1"],
            ["--page-server", "a:70000"],
            ["--manage-cgroups-mode", "hard"],
            ["--empty-ns", "pid"],
            ["--network-lock", "none"],
        ] {
            assert!(read(&words, Command::Checkpoint).is_err(), "{words:?}");
        }
        let absolute = Options { parent: Some("/p".into()), ..Options::default() };
        assert!(absolute.parent().unwrap_err().text.contains("relative"));
    }
}
