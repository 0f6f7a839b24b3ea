//! Volumes that are file systems of their own (`volume create -o type=nfs -o o=addr=… -o device=:/dir`): mounted below
//! the state directory from the first start of a container that uses them to the end of the last one, as with Docker.

use std::ffi::CString;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use linux::mount::is_mount_point;
use rustix::fs::{FlockOperation, flock};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::model::Map;
use crate::table::{self, Container, Intent};
use crate::volume_table::{self, VolumeRow};
use crate::{Context as _, Engine, Error, Paths, Result, status};

/// What `type`, `device` and `o` say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileSystem {
    kind: String,
    device: String,
    flags: MountFlags,
    /// Options that the file system itself reads.
    data: String,
}

impl FileSystem {
    /// Reads a volume's options; none if its data is in a directory: its own or, by `o=bind`, another one of the host's.
    pub(crate) fn of(options: &Map<String>) -> Option<Self> {
        let get = |key: &str| options.get(key).map_or("", String::as_str);
        let words = || get("o").split(',').filter(|word| !word.is_empty());
        let is_directory = words().any(|word| matches!(word, "bind" | "rbind"))
            && words().all(|word| matches!(word, "bind" | "rbind" | "rw"));
        if options.get("device").is_none() || is_directory {
            return None;
        }
        let mut system = FileSystem {
            kind: get("type").to_owned(),
            device: get("device").to_owned(),
            flags: MountFlags::empty(),
            data: String::new(),
        };
        let mut data = Vec::new();
        for word in words() {
            match flag(word) {
                Some((flag, true)) => system.flags |= flag,
                Some((flag, false)) => system.flags -= flag,
                None => data.push(word),
            }
        }
        system.data = data.join(",");
        Some(system)
    }

    fn mount(&self, point: &Path) -> Result<()> {
        let data = self.data_with_address()?;
        let step = || {
            let Self { device, flags, .. } = self;
            let shown = shown(&data);
            let flags = flags.bits();
            format!(
                "error while mounting volume '{0}': failed to mount local volume: mount {device}:{0}, flags: {flags:#x}, \
                 data: {shown}",
                point.display()
            )
        };
        let text = CString::new(data.as_str()).step(step)?;
        let bind = self.flags.contains(MountFlags::BIND);
        let first = if bind { self.flags & (MountFlags::BIND | MountFlags::REC) } else { self.flags };
        mount(self.device.as_str(), point, self.kind.as_str(), first, &*text).step(step)?;
        if bind && self.flags != first {
            // The kernel takes only these two with a bind mount, and the rest in a second call.
            mount_remount(point, self.flags - MountFlags::REC, c"").step(step).inspect_err(|_| {
                let _ = unmount(point, UnmountFlags::DETACH);
            })?;
        }
        Ok(())
    }

    /// The options with `addr=NAME` as an address: mount(8) looks names up, the kernel does not.
    fn data_with_address(&self) -> Result<String> {
        let name = self.data.split(',').find_map(|word| word.strip_prefix("addr=")).unwrap_or_default();
        if !matches!(self.kind.as_str(), "nfs" | "nfs4" | "cifs") || name.is_empty() || name.parse::<IpAddr>().is_ok() {
            return Ok(self.data.clone());
        }
        let step = || format!("error resolving passed in network volume address {name:?}");
        let found = image::addresses(name).step(step)?;
        let address = found.first().ok_or_else(|| Error::invalid(format!("{}: no such host", step())))?;
        Ok(self.data.replacen(&format!("addr={name}"), &format!("addr={address}"), 1))
    }
}

/// Options as an error shows them: without passwords.
fn shown(data: &str) -> String {
    let hide =
        |word: &str| if word.starts_with("password=") { "password=********".to_owned() } else { word.to_owned() };
    data.split(',').map(hide).collect::<Vec<_>>().join(",")
}

/// A word of mount(8) that is a flag of mount(2), and whether it sets or clears it.
fn flag(word: &str) -> Option<(MountFlags, bool)> {
    Some(match word {
        "defaults" => (MountFlags::empty(), true),
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "nostrictatime" => (MountFlags::STRICTATIME, false),
        "bind" => (MountFlags::BIND, true),
        "rbind" => (MountFlags::BIND | MountFlags::REC, true),
        _ => return None,
    })
}

/// Directory below the state directory that the volume is mounted on.
pub(crate) fn point(paths: &Paths, name: &str) -> PathBuf {
    paths.state.join("volumes").join(name)
}

/// Held while volumes are mounted and unmounted; gone with its process.
fn lock(paths: &Paths) -> Result<File> {
    let path = paths.state.join("volumes.lock");
    let open = || File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = open().step(|| format!("open {}", path.display()))?;
    flock(&file, FlockOperation::LockExclusive).step(|| "lock volumes.lock".to_owned())?;
    Ok(file)
}

impl Engine {
    /// Mounts what a container's volumes are; `new` ones have no record yet. The caller holds its run lock, by which
    /// whoever ends another container sees that they are needed, or releases them.
    pub(crate) fn mount_volumes(&self, container: &Container, new: &[VolumeRow]) -> Result<()> {
        let below = self.paths().state.join("volumes");
        let volumes = container.mounts.iter().filter(|mount| mount.point.kind == "volume");
        let mut wanted = volumes.filter(|mount| Path::new(&mount.point.source).starts_with(&below)).peekable();
        if wanted.peek().is_none() {
            return Ok(());
        }
        crate::make_directory(&below)?;
        let _lock = lock(self.paths())?;
        wanted.try_for_each(|mount| {
            let name = &mount.point.name;
            match new.iter().find(|row| row.name == *name) {
                Some(row) => self.mount_volume(row),
                None => self.mount_volume(&self.read(|connection| volume_table::find(connection, name))?),
            }
        })
    }

    fn mount_volume(&self, row: &VolumeRow) -> Result<()> {
        let Some(system) = FileSystem::of(&row.options) else { return Ok(()) };
        let point = point(self.paths(), &row.name);
        if is_mount_point(&point) {
            return Ok(());
        }
        crate::make_directory(&point)?;
        system.mount(&point).inspect_err(|_| drop(fs::remove_dir(&point)))
    }

    /// Unmounts the volumes that no container uses any more but this one, whose run is over. What cannot be unmounted
    /// now is left to the next end.
    pub(crate) fn release_volumes(&self, id: &str) {
        let mounted = fs::read_dir(self.paths().state.join("volumes"));
        let names: Vec<_> = mounted.into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
        if names.is_empty() {
            return;
        }
        let Ok(_lock) = lock(self.paths()) else { return };
        for name in names.iter().filter_map(|name| name.to_str()) {
            if self.is_volume_running(name, id).is_ok_and(|runs| !runs) {
                release(&point(self.paths(), name));
            }
        }
    }

    fn is_volume_running(&self, name: &str, but: &str) -> Result<bool> {
        self.read(|connection| {
            for id in volume_table::users(connection, name)?.iter().filter(|id| *id != but) {
                if status::is_held(self.paths(), id) || table::find(connection, id)?.state == Intent::Running {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }
}

/// Whoever still uses it (a shell on the host) is not disturbed.
fn release(point: &Path) {
    while is_mount_point(point) && unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
    // Not empty: it is mounted still.
    drop(fs::remove_dir(point));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &str, device: &str, o: &str) -> Option<FileSystem> {
        let pairs = [("type", kind), ("device", device), ("o", o)];
        FileSystem::of(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn options_are_flags_and_data() {
        let system = of("tmpfs", "tmpfs", "size=1m,ro,nosuid,uid=5,suid").unwrap();
        assert_eq!((system.flags, system.data.as_str()), (MountFlags::RDONLY, "size=1m,uid=5"));
        assert_eq!(of("none", "/x", "bind"), None);
        assert_eq!(of("none", "/x", "bind,ro").unwrap().flags, MountFlags::BIND | MountFlags::RDONLY);
        assert_eq!(FileSystem::of(&Map::new()), None);
        assert_eq!(shown("vers=3,password=secret"), "vers=3,password=********");
    }

    #[test]
    fn addresses_are_looked_up_for_network_file_systems_only() {
        let data = |kind: &str, o: &str| of(kind, ":/x", o).unwrap().data_with_address().unwrap();
        assert_eq!(data("nfs", "addr=localhost,nolock"), "addr=127.0.0.1,nolock");
        assert_eq!(data("nfs", "addr=10.0.0.1"), "addr=10.0.0.1");
        assert_eq!(data("tmpfs", "addr=localhost"), "addr=localhost");
    }
}
