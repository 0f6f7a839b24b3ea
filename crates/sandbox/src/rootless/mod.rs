//! Root for an ordinary user: a user and a mount namespace in which they are root, as `newuidmap` and `newgidmap` allow, or
//! with their own id alone. There is one for each state directory. No process waits to keep it: whoever is in it is on its
//! list, and the next one joins the first of them that lives. Only when nobody is left, a new one is made, which has
//! the same ids, so that files on disk do not notice.

mod helpers;
mod ids;
mod list;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use linux::namespace::{Kinds, join, unshare};
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

pub use ids::{find, needs};
pub use linux::namespace::is_rootless;

use ids::Ranges;
pub use list::List;

/// The list's file in the state directory.
const MEMBERS: &str = "namespace";

/// Why there is no such namespace for the user.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {cause}")]
pub struct Error {
    /// What failed.
    pub step: String,
    /// Why.
    pub cause: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Error {
    fn new(step: impl Into<String>, cause: impl ToString) -> Self {
        Error { step: step.into(), cause: cause.to_string(), hint: None }
    }

    fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Makes an ordinary user root in the namespaces that belong to the state directory. Nothing happens to who is root
/// already. The process must have one thread; its working directory stays.
///
/// # Errors
/// Where the kernel or the administrator forbids it; the hint says how to allow it.
pub fn enter(state: &Path) -> Result<(), Error> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    own(state)?;
    let here = std::env::current_dir();
    let mut list = List::lock(&state.join(MEMBERS))?;
    if !list.living().any(|pidfd| join(pidfd.as_fd(), Kinds::USER.with(Kinds::MOUNT)).is_ok()) {
        list.clear()?;
        make()?;
    }
    become_root().map_err(|error| Error::new("become root of the user namespace", error))?;
    list.add_myself()?;
    // Joining a mount namespace leads to its root. A directory that cannot be entered any more was none before.
    let _ = here.and_then(std::env::set_current_dir);
    Ok(())
}

/// Makes an ordinary user root in the user namespace that the process `pid`, of one of their containers, was started from.
/// Nothing happens to who is root already.
///
/// # Errors
/// If the process has ended, or belongs to somebody else.
pub fn enter_that_of(pid: i32) -> Result<(), Error> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let step = || format!("enter the user namespace from which process {pid} was started");
    let open = |path: &str| fs::File::open(path).map_err(|error| Error::new(step(), error));
    let (containers, own) = (open(&format!("/proc/{pid}/ns/user"))?, open("/proc/self/ns/user")?);
    let parent = linux::namespace::parent_of(containers.as_fd()).map_err(|error| Error::new(step(), error))?;
    let is_own = same(&parent, &own).map_err(|error| Error::new(step(), error))?;
    // A container without a user namespace of its own is in the one that we are looking for.
    let wanted = if is_own { containers.as_fd() } else { parent.as_fd() };
    join(wanted, Kinds::USER).map_err(|error| Error::new(step(), error))?;
    become_root().map_err(|error| Error::new("become root of the user namespace", error))
}

fn same(one: impl AsFd, other: impl AsFd) -> io::Result<bool> {
    let (one, other) = (rustix::fs::fstat(one)?, rustix::fs::fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// The ordinary user behind root of the user namespace that this process is in: whom its 0 stands for outside.
pub fn user() -> u32 {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().nth(1).and_then(|id| id.parse().ok()).unwrap_or(0)
}

/// Puts this process, which a member has started, on the list of those that keep the namespaces. Nothing happens for
/// root of the host.
pub fn stay(state: &Path) -> Result<(), Error> {
    match is_rootless() {
        true => List::lock(&state.join(MEMBERS))?.add_myself(),
        false => Ok(()),
    }
}

/// The state directory must be the user's own: whoever can write there says which namespaces we join.
fn own(state: &Path) -> Result<(), Error> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let step = || format!("prepare the state directory {}", state.display());
    match fs::DirBuilder::new().recursive(true).mode(0o711).create(state) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Error::new(step(), error)
                .hinted("run as root, or choose directories of your own: XDG_RUNTIME_DIR (logind sets it) or --state, and --root"));
        }
        made => made.map_err(|error| Error::new(step(), error))?,
    }
    let data = fs::metadata(state).map_err(|error| Error::new(step(), error))?;
    let user = rustix::process::geteuid().as_raw();
    if data.uid() != user || data.mode() & 0o022 != 0 {
        let cause = format!("it belongs to user {} with mode {:o}", data.uid(), data.mode() & 0o7777);
        return Err(Error::new(step(), cause).hinted("choose a directory that only you can write to with --state"));
    }
    Ok(())
}

/// New namespaces for this process.
fn make() -> Result<(), Error> {
    let user = rustix::process::getuid().as_raw();
    let group = rustix::process::getgid().as_raw();
    let ranges = Ranges::of(user);
    // `newuidmap` must come from outside, so its caller is made before the process goes inside.
    let helper = match &ranges {
        Some(_) => Some(helpers::Helper::start().map_err(|error| Error::new("start a helper", error))?),
        None => None,
    };
    unshare(Kinds::USER).map_err(forbidden)?;
    match (helper, &ranges) {
        (Some(helper), Some(ranges)) => helper.map(ranges, user, group)?,
        _ => map_alone(user, group).map_err(|error| Error::new("map the own id", error))?,
    }
    unshare(Kinds::MOUNT).map_err(forbidden)
}

/// The only map that a user may write without help: their own id. Groups cannot be dropped then, or somebody could get
/// rid of one that keeps them out (user_namespaces(7)).
fn map_alone(user: u32, group: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1\n"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1\n"))
}

fn become_root() -> rustix::io::Result<()> {
    // Not allowed in a namespace with one id; groups that stay give no more than the user has anyway.
    let _ = set_thread_groups(&[Gid::ROOT]);
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
}

/// What keeps users from making namespaces, by what the kernel tells of it.
fn forbidden(error: io::Error) -> Error {
    let made = Error::new("make a user namespace", &error);
    let setting = |name: &str| fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
    match () {
        () if setting("kernel/unprivileged_userns_clone").trim() == "0" => {
            made.hinted("as root: sysctl -w kernel.unprivileged_userns_clone=1")
        }
        () if setting("kernel/apparmor_restrict_unprivileged_userns").trim() == "1" => made.hinted(
            "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with `userns,` for this program",
        ),
        () if setting("user/max_user_namespaces").trim() == "0" => {
            made.hinted("as root: sysctl -w user.max_user_namespaces=10000")
        }
        () => made.hinted("user namespaces may be forbidden here (a container without the right to nest?); run as root"),
    }
}
