//! `checkpoint`: saves the processes of a running container to disk.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;

use lexopt::{Arg, Parser};

use super::Call;
use crate::arguments::{bad, required, take_id, unexpected};
use crate::container::{Container, Status};
use crate::criu::mounts;
use crate::criu::options::{Command, Options};
use crate::criu::rpc::{Features, Kind, Notice, Request};
use crate::criu::{self, swrk};
use crate::error::Step;
use crate::record::Store;
use crate::{Error, Result};

pub(super) const HELP: &str = "\
  --image-path DIR        where to save; ./checkpoint if not given
  --work-path DIR         where CRIU's log goes; the image path if not given
  --parent-path DIR       images of an earlier --pre-dump, relative to the image path
  --pre-dump              save memory only, and leave the container running
  --leave-running         leave the container running
  --lazy-pages            let the restore fetch memory later
  --status-fd N           gets a zero byte once the server for --lazy-pages is ready
  --page-server ADDR:PORT send memory there
  --manage-cgroups-mode M soft, full, strict or ignore
  --network-lock M        iptables, nftables or skip
  --tcp-established --tcp-skip-in-flight --ext-unix-sk --file-locks
  --link-remap --shell-job --auto-dedup --empty-ns network
";

/// Where the streams of the container's first process lead, for the restore.
pub(super) const STREAMS: &str = "descriptors.json";

pub(super) fn run(call: Call<'_>) -> Result<u8> {
    let mut parser = Parser::from_args(call.words);
    let (mut options, mut id) = (Options::default(), None);
    while let Some(argument) = parser.next().map_err(bad)? {
        match argument {
            Arg::Value(value) => take_id(&mut id, value, "checkpoint")?,
            Arg::Long(name) => {
                let name = name.to_owned();
                if let Some(other) = options.take(Arg::Long(&name), &mut parser, Command::Checkpoint)? {
                    return Err(unexpected(other));
                }
            }
            other => return Err(unexpected(other)),
        }
    }
    let container = Container::open(&Store::new(&call.globals.root), &required(id, "checkpoint")?)?;
    match container.status() {
        Status::Running | Status::Paused => {}
        other => return Err(Error::new(format!("Container cannot be checkpointed in {} state", other.name()))),
    }
    require(&options)?;
    save(&container, &options)?;
    if !options.leave_running && !options.pre_dump {
        container.destroy()?.iter().for_each(|warning| call.log.warn(warning));
    }
    Ok(0)
}

fn require(options: &Options) -> Result<()> {
    if let Some(fd) = options.status_fd.filter(|fd| !linux::process::survives_exec(*fd)) {
        return Err(Error::new(format!("invalid --status-fd argument {fd}: not an open descriptor")));
    }
    if !options.pre_dump && !options.lazy_pages {
        return Ok(());
    }
    let wanted = |wanted: bool| wanted.then_some(true);
    criu::require(Features { mem_track: wanted(options.pre_dump), lazy_pages: wanted(options.lazy_pages) })
}

fn save(container: &Container, options: &Options) -> Result<()> {
    let (pid, spec) = (container.record.pid, container.spec()?);
    let (mut rpc, directories) = options.request(Command::Checkpoint)?;
    rpc.pid = Some(pid);
    rpc.root = Some(container.record.rootfs.to_string_lossy().into_owned());
    rpc.leave_running = Some(options.leave_running);
    rpc.parent_img = options.parent()?;
    rpc.track_mem = rpc.parent_img.is_some().then_some(true);
    rpc.external = mounts::shared_namespaces(&spec)?;
    let cgroup = container.cgroup().step(|| "open the container's cgroup".into())?;
    let freezer = cgroup.and_then(|cgroup| cgroup.freezer_directory());
    rpc.freeze_cgroup = freezer.map(|directory| directory.to_string_lossy().into_owned());
    if !options.pre_dump {
        rpc.ext_mnt = mounts::outside(pid, &spec)?;
        keep_streams(pid, options)?;
    }
    let kind = if options.pre_dump { Kind::PreDump } else { Kind::Dump };
    let request = Request { kind: kind.into(), options: Some(rpc), ..Request::default() };
    let mut notice = |notice: &Notice, _: Vec<OwnedFd>| match (notice.script.as_deref(), options.status_fd) {
        (Some("status-ready"), Some(fd)) => tell(fd),
        _ => Ok(()),
    };
    let answer = swrk::ask(&request, &directories.numbers(), || Ok(()), &mut notice);
    answer.map(drop).map_err(|error| directories.explain(error))
}

/// Somebody waits for it at the other end.
fn tell(fd: i32) -> Result<()> {
    let path = format!("/proc/self/fd/{fd}");
    let file = fs::File::options().write(true).open(path);
    file.and_then(|mut file| file.write_all(&[0])).step(|| format!("write to --status-fd {fd}"))
}

/// As `pipe:[1234]`: the restore puts its own streams in the place of pipes.
fn keep_streams(pid: i32, options: &Options) -> Result<()> {
    let link = |number: i32| {
        let link = fs::read_link(format!("/proc/{pid}/fd/{number}"));
        link.map_or(String::new(), |link| link.to_string_lossy().into_owned())
    };
    let streams = [0, 1, 2].map(link);
    let file = options.images().join(STREAMS);
    let json = serde_json::to_vec(&streams).step(|| "encode the streams".into())?;
    fs::write(&file, json).step(|| format!("write {}", file.display()))
}
