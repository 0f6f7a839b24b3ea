//! `kiste serve`: the Docker Engine API on sockets.

use std::path::PathBuf;

use crate::commands::Verb;
use crate::context::{Context, say};
use crate::failure::{Failure, Result};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Socket to listen on (default: unix://STATE/docker.sock)
    #[arg(short = 'H', long, value_name = "list")]
    host: Vec<String>,
    /// Group that may use the socket
    #[arg(short = 'G', long, value_name = "string")]
    group: Option<String>,
    /// Permission bits of the socket
    #[arg(long, value_name = "mode", default_value = "660", value_parser = mode)]
    mode: u32,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Serve the Docker Engine API";

    fn run(self, context: &Context) -> Result<u8> {
        let paths = context.engine.paths().clone();
        let access = api::Access { mode: self.mode, group: self.group.as_deref().map(group).transpose()? };
        let mut hosts = self.host;
        if hosts.is_empty() {
            hosts.push(format!("unix://{}", paths.state.join("docker.sock").display()));
        }
        let mut listeners = Vec::new();
        for host in &hosts {
            let path = unix_path(host)?;
            let listener = api::bind(&path, access);
            listeners.push(listener.map_err(|error| Failure::new(format!("listen on {}: {error}", path.display())))?);
            context.debug(|| format!("listening on {host}"));
        }
        api::serve(paths, listeners, |line| say(&format!("{line}\n")))
            .map_err(|error| Failure::new(format!("serve: {error}")))?;
        Ok(0)
    }
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| mode & !0o777 == 0);
    mode.ok_or_else(|| format!("{text:?} are no permission bits: for example 660"))
}

fn unix_path(host: &str) -> Result<PathBuf> {
    match host.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
        Some(path) => Ok(path.into()),
        None => Err(Failure::new(format!("cannot listen on {host}: only unix:///PATH is supported"))),
    }
}

/// A group by number, or by name in the host's group(5).
fn group(name: &str) -> Result<u32> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let line = groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name);
    let id = line.and_then(|fields| fields.get(2)?.parse().ok());
    id.ok_or_else(|| Failure::new(format!("unable to find group {name}: no matching entries in group file")))
}
