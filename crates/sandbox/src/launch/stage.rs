//! Kernels before 6.15 take overlay layers only from mounts that are attached somewhere in the maker's mount namespace.
//! There the overlay is made by a short-lived process with a mount namespace of its own, in which the layers are
//! attached to a scratch directory; newer kernels take detached mounts.

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use linux::clone::Clone;
use linux::mount::{Attributes, set_attributes};
use linux::namespace::Kinds;
use rustix::fs::{Mode, OFlags, mkdirat, openat};

use super::Error;
use super::binds::filesystem;
use super::channel::{self, Report};
use super::child::{guarded, protect};
use super::options::Options;
use super::parent::{ended, kill_and_reap};
use super::place::attach;
use super::root::DIRECTORY_MODE;
use super::step::Step;

/// Where layers are kept while the overlay is made.
pub(super) struct Stage {
    scratch: Option<OwnedFd>,
    count: Cell<u32>,
}

impl Stage {
    /// Attaches a detached mount, where the kernel wants that. Its descriptor stays good.
    pub(super) fn hold(&self, tree: &OwnedFd) -> Result<(), Error> {
        let Some(scratch) = &self.scratch else { return Ok(()) };
        let name = self.count.replace(self.count.get() + 1).to_string();
        let what = || format!("attach layer {name} for overlay");
        mkdirat(scratch, &name, DIRECTORY_MODE).step(what)?;
        let target = openat(scratch, &name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(what)?;
        attach(tree, target).step(what)
    }
}

/// Makes a detached overlay in the way that the kernel needs. `empty`: an empty directory.
pub(super) fn with(empty: &Path, make: impl FnOnce(&Stage) -> Result<OwnedFd, Error>) -> Result<OwnedFd, Error> {
    match takes_detached_layers() {
        true => make(&Stage { scratch: None, count: Cell::default() }),
        false => in_own_namespace(empty, make),
    }
}

fn takes_detached_layers() -> bool {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

/// Likewise, but attached in any case.
pub(super) fn in_own_namespace(
    empty: &Path,
    make: impl FnOnce(&Stage) -> Result<OwnedFd, Error>,
) -> Result<OwnedFd, Error> {
    let (control, childs) = linux::socket::pair().step(|| "make a pair of sockets".into())?;
    let child = Clone { namespaces: Kinds::MOUNT, ..Clone::default() }
        .spawn(|| {
            protect();
            guarded(&childs, || channel::made(&childs, make(&scratch(empty)?)?.as_fd()))
        })
        .step(|| "make a mount namespace for overlay".into())?;
    drop(childs);
    let made = match channel::receive(&control) {
        Ok(Report::Made(tree)) => Ok(tree),
        Ok(_) => Err(ended(&child)),
        Err(error) => Err(error),
    };
    kill_and_reap(&child.pidfd);
    made
}

/// A scratch file system over the empty directory, in a mount namespace that tells nobody of it.
fn scratch(empty: &Path) -> Result<Stage, Error> {
    let what = || format!("mount a scratch file system on {}", empty.display());
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).step(what)
    };
    let private = Attributes { propagation: libc::MS_PRIVATE, ..Attributes::default() };
    set_attributes(open(Path::new("/"))?, true, &private).step(what)?;
    let scratch = filesystem("tmpfs", Path::new("tmpfs"), &Options::default())?;
    attach(&scratch, open(empty)?).step(what)?;
    Ok(Stage { scratch: Some(scratch), count: Cell::default() })
}
