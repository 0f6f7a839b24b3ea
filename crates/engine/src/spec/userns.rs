//! `--userns`: whose user namespace a container lives in, and how ids are mapped in one of its own.

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};

use crate::model::{Config, HostConfig};
use crate::{Context as _, Error, Result};

/// Ids in a container's own range.
pub(crate) const RANGE: u32 = 65536;

/// What `--userns` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing: an own range, unless the other namespaces asked for exclude it.
    Default,
    /// The host's.
    Host,
    /// An own range, whatever else is asked for.
    Auto(Auto),
    /// An own range in which one id is the calling user.
    KeepId {
        /// The calling user's id in the container; absent: the same as on the host.
        uid: Option<u32>,
        /// The calling user's group in the container; absent: the same as on the host.
        gid: Option<u32>,
    },
    /// That container's.
    Container(String),
}

/// Options of `auto`, which are Podman's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Auto {
    /// How many ids, from 0 on; absent: all of the range.
    size: Option<u32>,
    /// Ids that are mapped elsewhere: in the container, on the host, count.
    users: Vec<Hole>,
    /// The same for groups.
    groups: Vec<Hole>,
}

/// Ids of the container that are mapped outside of its range: first id in the container, first on the host, count.
type Hole = (u32, u32, u32);

impl Mode {
    /// Reads a `--userns` value.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!("invalid user namespace mode: {text}")).hinted(
                "it is host, auto[:size=N,uidmapping=C:H:N,gidmapping=C:H:N], keep-id[:uid=N,gid=N] or container:NAME",
            )
        };
        match text {
            "" => Ok(Mode::Default),
            "host" => Ok(Mode::Host),
            "auto" | "private" => Ok(Mode::Auto(Auto::default())),
            "keep-id" => Ok(Mode::KeepId { uid: None, gid: None }),
            _ => {
                if let Some(name) = text.strip_prefix("container:").filter(|name| !name.is_empty()) {
                    return Ok(Mode::Container(name.to_owned()));
                }
                if let Some(options) = text.strip_prefix("auto:") {
                    return Auto::parse(options).map_err(|cause| Error::invalid(format!("{}: {cause}", bad().message)));
                }
                keep_id(text.strip_prefix("keep-id:").ok_or_else(bad)?).ok_or_else(bad)
            }
        }
    }

    /// Whether it asks for an own range, expressly.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Mode::Auto(_) | Mode::KeepId { .. })
    }
}

impl Auto {
    fn parse(options: &str) -> Result<Mode, String> {
        let mut auto = Auto::default();
        for option in options.split(',') {
            let (key, value) = option.split_once('=').ok_or_else(|| format!("option {option:?} has no value"))?;
            match key {
                "size" => auto.size = Some(size(value)?),
                "uidmapping" => auto.users.push(hole(value)?),
                "gidmapping" => auto.groups.push(hole(value)?),
                _ => return Err(format!("unknown option {key:?}")),
            }
        }
        auto.users.sort_unstable();
        auto.groups.sort_unstable();
        auto.mappings(0).map_err(|error| error.message)?;
        Ok(Mode::Auto(auto))
    }

    /// Users and groups for a range that begins at `base`.
    fn mappings(&self, base: u32) -> Result<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>)> {
        let size = self.size.unwrap_or(RANGE);
        Ok((with_holes(base, size, &self.users)?, with_holes(base, size, &self.groups)?))
    }
}

fn size(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(size @ 1..=RANGE) => Ok(size),
        _ => Err(format!("size={text}: a container has 1 to {RANGE} ids")),
    }
}

/// `CONTAINER:HOST:SIZE`; a `@` before the host's id, by which Podman tells ids of the host, is what is meant anyway.
fn hole(text: &str) -> Result<Hole, String> {
    let bad = || format!("mapping {text:?} is not CONTAINER:HOST:SIZE");
    let mut numbers = text.splitn(3, ':').map(|word| word.trim_start_matches('@').parse::<u32>().ok());
    let mut next = || numbers.next().flatten();
    let (Some(inside), Some(outside), Some(count @ 1..)) = (next(), next(), next()) else { return Err(bad()) };
    let fits = inside.checked_add(count).is_some_and(|end| end <= RANGE) && outside.checked_add(count).is_some();
    if fits { Ok((inside, outside, count)) } else { Err(format!("mapping {text:?}: ids beyond {RANGE}")) }
}

fn keep_id(options: &str) -> Option<Mode> {
    let (mut uid, mut gid) = (None, None);
    for option in options.split(',') {
        let (key, value) = option.split_once('=')?;
        let number = value.parse().ok().filter(|number| *number < RANGE)?;
        match key {
            "uid" => uid = Some(number),
            "gid" => gid = Some(number),
            _ => return None,
        }
    }
    Some(Mode::KeepId { uid, gid })
}

/// Whose user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A range of its own.
    Own,
    /// The host's.
    Host,
    /// That of the container of this name or id.
    Container(String),
}

/// Decides whose user namespace a container lives in: what `--userns` says, else that of the container whose other
/// namespaces it joins (they belong to it), else the host's where it shares the host's namespaces, else its own.
pub(crate) fn owner(host: &HostConfig) -> Result<Owner> {
    Ok(match Mode::parse(&host.userns_mode)? {
        Mode::Host => Owner::Host,
        Mode::Auto(_) | Mode::KeepId { .. } => Owner::Own,
        Mode::Container(name) => Owner::Container(name),
        Mode::Default => default_owner(host),
    })
}

fn default_owner(host: &HostConfig) -> Owner {
    let modes = [&host.pid_mode, &host.network_mode, &host.ipc_mode];
    if host.privileged {
        return Owner::Host;
    }
    if let Some(name) = modes.iter().find_map(|mode| mode.strip_prefix("container:")) {
        return Owner::Container(name.to_owned());
    }
    if modes.iter().any(|mode| mode.as_str() == "host") { Owner::Host } else { Owner::Own }
}

/// User and group who called: behind sudo the one who called sudo. None if that is root, whom nothing maps.
pub(crate) fn caller() -> Option<(u32, u32)> {
    let id = |variable: &str| std::env::var(variable).ok()?.parse::<u32>().ok();
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let found = if uid == 0 { (id("SUDO_UID")?, id("SUDO_GID")?) } else { (uid, gid) };
    (found.0 != 0).then_some(found)
}

/// Turns `keep-id` into `keep-id:uid=…,gid=…` with the caller's ids, so that the record does not depend on who starts
/// it later. The host's ids are kept with it: `container-id` and `host-id` are the same unless they were given. Programs
/// run as that user where neither image nor user says otherwise (as with Podman).
pub(crate) fn fix_caller(host: &mut HostConfig, config: &mut Config) -> Result<()> {
    let Mode::KeepId { uid, gid } = Mode::parse(&host.userns_mode)? else { return Ok(()) };
    if sandbox::rootless::is_rootless() {
        return Err(Error::invalid("--userns=keep-id: only root can map a container's ids in an order of its own")
            .hinted(
                "without root, root of the container is the calling user already: files that it makes are theirs",
            ));
    }
    let (caller, group) = caller().ok_or_else(|| {
        Error::invalid("--userns=keep-id: the caller is root, who cannot be kept")
            .hinted("call it with sudo from the user whose id is to be kept, or use --userns=auto or host")
    })?;
    let (uid, gid) = (uid.unwrap_or(caller), gid.unwrap_or(group));
    if uid >= RANGE || gid >= RANGE {
        return Err(Error::invalid(format!("--userns=keep-id: the ids {caller}:{group} are beyond {RANGE}"))
            .hinted("give ids inside the container with keep-id:uid=N,gid=N"));
    }
    host.userns_mode = format!("keep-id:uid={uid},gid={gid}");
    if config.user.is_empty() {
        config.user = format!("{uid}:{gid}");
    }
    host.annotations.insert(KEPT.to_owned(), format!("{caller}:{group}"));
    Ok(())
}

/// Annotation that remembers who called `--userns=keep-id`.
const KEPT: &str = "io.kiste.keep-id";

/// Mappings of users and of groups for a range that begins at `base`.
pub(crate) fn mappings(host: &HostConfig, base: u32) -> Result<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>)> {
    let kept = host.annotations.get(KEPT).and_then(|kept| kept.split_once(':'));
    if let (Mode::KeepId { uid: Some(uid), gid: Some(gid) }, Some((user, group))) =
        (Mode::parse(&host.userns_mode)?, kept)
        && let (Ok(user), Ok(group)) = (user.parse(), group.parse())
    {
        return Ok((with_holes(base, RANGE, &[(uid, user, 1)])?, with_holes(base, RANGE, &[(gid, group, 1)])?));
    }
    match Mode::parse(&host.userns_mode)? {
        Mode::Auto(auto) => auto.mappings(base),
        _ => Auto::default().mappings(base),
    }
}

/// The first `size` ids of the range, with some ids of the container (sorted) mapped elsewhere.
fn with_holes(base: u32, size: u32, holes: &[Hole]) -> Result<Vec<LinuxIdMapping>> {
    let mut parts = Vec::new();
    let mut next = 0;
    for &(inside, outside, count) in holes {
        if inside < next {
            return Err(Error::invalid(format!("id {inside} of the container is mapped twice")));
        }
        parts.push((next, base + next, inside.min(size).saturating_sub(next)));
        parts.push((inside, outside, count));
        next = inside + count;
    }
    parts.push((next, base + next, size.saturating_sub(next)));
    let real = parts.into_iter().filter(|(_, _, count)| *count > 0);
    real.map(|(inside, outside, count)| mapping(inside, outside, count)).collect()
}

/// Every id that this process has itself, each under its own number: what a container of an ordinary user gets. Its user
/// namespace keeps it from everything outside; only the kernel's root could give each container ids of its own.
pub(crate) fn all_of_mine() -> Result<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>)> {
    let read = |file: &str| {
        let path = format!("/proc/self/{file}");
        let map = std::fs::read_to_string(&path).step(|| format!("read {path}"))?;
        identity(&map)
    };
    Ok((read("uid_map")?, read("gid_map")?))
}

/// The highest group that this process has a number for.
pub(crate) fn last_of_mine() -> u32 {
    let groups = all_of_mine().map(|(_, groups)| groups).unwrap_or_default();
    groups.iter().map(|range| range.container_id() + (range.size() - 1)).max().unwrap_or(0)
}

fn identity(map: &str) -> Result<Vec<LinuxIdMapping>> {
    let ranges = map.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().map(|field| field.parse::<u32>().ok());
        let (first, _, count) = (fields.next()??, fields.next()??, fields.next()??);
        Some((first, count))
    });
    ranges.map(|(first, count)| mapping(first, first, count)).collect()
}

fn mapping(container: u32, host: u32, size: u32) -> Result<LinuxIdMapping> {
    let built = LinuxIdMappingBuilder::default().container_id(container).host_id(host).size(size).build();
    built.step(|| format!("map id {container} to {host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(change: impl FnOnce(&mut HostConfig)) -> HostConfig {
        let mut host = HostConfig::default();
        change(&mut host);
        host
    }

    #[test]
    fn grammar() {
        assert_eq!(Mode::parse("keep-id:uid=5,gid=6").unwrap(), Mode::KeepId { uid: Some(5), gid: Some(6) });
        assert_eq!(Mode::parse("container:x").unwrap(), Mode::Container("x".to_owned()));
        for bad in [
            "x",
            "container:",
            "keep-id:uid=a",
            "keep-id:size=3",
            "keep-id:uid=70000",
            "auto:size=0",
            "auto:size",
            "auto:x=1",
        ] {
            assert!(Mode::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn own_by_default_and_the_hosts_where_host_namespaces_are_shared() {
        assert_eq!(owner(&HostConfig::default()).unwrap(), Owner::Own);
        assert_eq!(owner(&host(|h| h.privileged = true)).unwrap(), Owner::Host);
        assert_eq!(owner(&host(|h| h.pid_mode = "host".to_owned())).unwrap(), Owner::Host);
        assert_eq!(owner(&host(|h| h.network_mode = "none".to_owned())).unwrap(), Owner::Own);
        assert_eq!(owner(&host(|h| h.ipc_mode = "container:a".to_owned())).unwrap(), Owner::Container("a".to_owned()));
        let explicit = host(|h| (h.pid_mode, h.userns_mode) = ("host".to_owned(), "auto".to_owned()));
        assert_eq!(owner(&explicit).unwrap(), Owner::Own);
    }

    #[test]
    fn kept_id_leaves_a_hole_in_the_range() {
        let parts = with_holes(100_000, RANGE, &[(1000, 1001, 1)]).unwrap();
        assert_eq!(flat(&parts), [(0, 100_000, 1000), (1000, 1001, 1), (1001, 101_001, 64535)]);
        assert_eq!(with_holes(5, RANGE, &[(0, 7, 1)]).unwrap().len(), 2);
    }

    fn flat(parts: &[LinuxIdMapping]) -> Vec<(u32, u32, u32)> {
        parts.iter().map(|part| (part.container_id(), part.host_id(), part.size())).collect()
    }

    #[test]
    fn podmans_options_of_auto() {
        let of = |text: &str| match Mode::parse(text).unwrap() {
            Mode::Auto(auto) => auto.mappings(100_000).unwrap(),
            mode => panic!("{mode:?}"),
        };
        let (users, groups) = of("auto:size=2000,uidmapping=1500:7:2,uidmapping=0:1000:1,gidmapping=5000:5:1");
        assert_eq!(flat(&users), [(0, 1000, 1), (1, 100_001, 1499), (1500, 7, 2), (1502, 101_502, 498)]);
        assert_eq!(flat(&groups), [(0, 100_000, 2000), (5000, 5, 1)]);
        for bad in ["size=70000", "uidmapping=1:2", "uidmapping=0:0:0", "uidmapping=1:5:3,uidmapping=2:9:1"] {
            assert!(Mode::parse(&format!("auto:{bad}")).is_err(), "{bad}");
        }
    }
}
