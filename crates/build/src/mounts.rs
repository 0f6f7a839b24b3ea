//! The mounts of a RUN: what stands for them in the step's key, and, when the step is made, the files, caches, secrets and
//! sockets behind them, which live as long as the step.

use std::any::Any;
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use engine::model::{ImageOptions, Mount as EngineMount, TmpfsOptions};
use sha2::{Digest as _, Sha256};

use crate::agent::Forwarded;
use crate::caches;
use crate::copying::{Layer, Options, hex};
use crate::dockerfile::{Mount, MountKind};
use crate::files::Tree;
use crate::scratch::Scratch;
use crate::stage::Stage;
use crate::stages::Origin;
use crate::{Error, Result};

/// A here-document that is run as a program: name and content.
pub(crate) type Script = (String, String);

/// Mounts that are ready, with what must live as long as they do.
#[derive(Default)]
pub(crate) struct Mounts {
    pub(crate) list: Vec<EngineMount>,
    /// Secrets, and where the agent is.
    pub(crate) environment: Vec<String>,
    private: Option<Private>,
    kept: Vec<Box<dyn Any>>,
}

/// A directory in memory that goes with this.
struct Private(PathBuf);

impl Private {
    fn new() -> Result<Self> {
        let path = PathBuf::from(format!("/dev/shm/kiste-build-{}-{}", std::process::id(), unique()));
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Error::new(format!("make {}: {error}", path.display())))?;
        Ok(Private(path))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Where the files of a bind mount are.
enum Bound {
    /// A tree, and its directory on this machine.
    Files(Tree, PathBuf),
    /// An image of the store.
    Image(String),
}

impl Stage<'_, '_> {
    /// What stands for mounts in the step's key. Contents of caches and secrets never count.
    pub(crate) fn mount_keys(&self, mounts: &[Mount], script: Option<&Script>) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        for mount in mounts {
            let head = format!("{:?} {} {}", mount.kind, self.target(mount), mount.read_only);
            keys.push(match mount.kind {
                MountKind::Bind => match self.bound(mount)? {
                    Bound::Files(tree, _) => format!("{head} {}", self.digest(&tree, &mount.source)?),
                    Bound::Image(image) => format!("{head} {image} {}", mount.source),
                },
                MountKind::Tmpfs => format!("{head} {}", mount.size),
                MountKind::Cache => head,
                MountKind::Secret | MountKind::Ssh => format!("{head} {} {:?}", mount.id, mount.env),
            });
        }
        let script = script.map(|(name, content)| format!("script {name} {}", hex(&Sha256::digest(content))));
        keys.extend(script);
        Ok(keys)
    }

    /// Makes everything that the mounts need.
    pub(crate) fn prepare(&self, mounts: &[Mount], script: Option<&Script>) -> Result<Mounts> {
        let mut made = Mounts::default();
        for mount in mounts {
            match mount.kind {
                MountKind::Bind => self.bind(&mut made, mount)?,
                MountKind::Cache => {}
                MountKind::Tmpfs => tmpfs(&mut made, mount, self.target(mount)),
                MountKind::Secret => self.secret(&mut made, mount)?,
                MountKind::Ssh => self.agent(&mut made, mount)?,
            }
        }
        // Caches that several steps lock are taken in one order, so that no two wait for each other.
        let mut wanted: Vec<&Mount> = mounts.iter().filter(|mount| mount.kind == MountKind::Cache).collect();
        wanted.sort_by_key(|mount| self.cache_id(mount));
        wanted.iter().try_for_each(|mount| self.cache(&mut made, mount))?;
        if let Some((name, content)) = script {
            let file = made.file(content.as_bytes(), 0o755, None, None)?;
            made.list.push(engine_mount("bind", file, format!("/dev/pipes/{name}"), true));
        }
        Ok(made)
    }

    /// Absolute, without a slash at its end.
    fn target(&self, mount: &Mount) -> String {
        let target = self.outcome.state.absolute(&mount.target);
        if target == "/" { target } else { target.trim_end_matches('/').to_owned() }
    }

    fn bound(&self, mount: &Mount) -> Result<Bound> {
        if mount.from.is_empty() {
            let files = self.build.common.context()?;
            let files = files.ok_or_else(|| Error::new("RUN --mount: the build has no context"))?;
            return Ok(Bound::Files(files.tree(self.build.common.ignore)?, files.directory.clone()));
        }
        if let Origin::Named(name) = self.build.origin(&mount.from)?
            && let Some(files) = self.build.common.named_files(&name)?
        {
            return Ok(Bound::Files(files.tree(&[])?, files.directory.clone()));
        }
        self.image_of(&mount.from).map(Bound::Image)
    }

    fn digest(&self, tree: &Tree, source: &str) -> Result<String> {
        let mut layer = Layer::new(None, 0);
        layer.copy(tree, source, "/x/", &Options::default())?;
        layer.digest(self.build.home())
    }

    fn bind(&self, made: &mut Mounts, mount: &Mount) -> Result<()> {
        let target = self.target(mount);
        match self.bound(mount)? {
            Bound::Image(image) if mount.read_only => {
                let subpath = crate::ignore::clean(&format!("/{}", mount.source)).trim_start_matches('/').to_owned();
                let image_options = (!subpath.is_empty()).then_some(ImageOptions { subpath });
                made.list.push(EngineMount { image_options, ..engine_mount("image", image, target, true) });
            }
            Bound::Files(tree, directory) if mount.read_only && (!mount.from.is_empty() || self.nothing_left_out()) => {
                made.list.push(engine_mount("bind", inside(&tree, &directory, &mount.source)?, target, true));
            }
            // What the step writes there is lost with the copy; what is left out must not be seen.
            Bound::Files(tree, _) => self.bind_copy(made, mount, &tree, target)?,
            Bound::Image(_) => self.bind_copy(made, mount, &*self.files_of(&mount.from)?, target)?,
        }
        Ok(())
    }

    fn nothing_left_out(&self) -> bool {
        self.build.common.ignore.is_empty()
    }

    fn bind_copy(&self, made: &mut Mounts, mount: &Mount, tree: &Tree, target: String) -> Result<()> {
        let scratch = Scratch::new(self.build.paths())?;
        copy_out(tree, &mount.source, &scratch.path)?;
        let found = tree.find(&mount.source)?;
        let is_directory = found.as_ref().is_some_and(|found| found.kind == image::TarKind::Directory);
        let name = found.map(|found| String::from_utf8_lossy(&found.real).into_owned()).unwrap_or_default();
        let source = match is_directory {
            true => scratch.path.clone(),
            false => scratch.path.join(name.rsplit('/').next().unwrap_or_default()),
        };
        made.list.push(engine_mount("bind", source.to_string_lossy().into_owned(), target, mount.read_only));
        made.kept.push(Box::new(scratch));
        Ok(())
    }

    fn cache_id(&self, mount: &Mount) -> String {
        let id = if mount.id.is_empty() { self.target(mount) } else { mount.id.clone() };
        let namespace = self.build.request.arguments.get("BUILDKIT_CACHE_MOUNT_NS").unwrap_or_default();
        let from = if mount.from.is_empty() { String::new() } else { format!("\0{}\0{}", mount.from, mount.source) };
        format!("{namespace}{}{id}{from}", if namespace.is_empty() { "" } else { "/" })
    }

    /// A directory below the root that outlives builds.
    fn cache(&self, made: &mut Mounts, mount: &Mount) -> Result<()> {
        let fill = |directory: &Path| -> Result<()> {
            if mount.from.is_empty() {
                return Ok(());
            }
            copy_out(&*self.files_of(&mount.from)?, &mount.source, directory)
        };
        let cancel = &self.build.common.cancel;
        let cache = caches::take(self.build.paths(), &self.cache_id(mount), mount, cancel, &fill)?;
        let source = cache.data.to_string_lossy().into_owned();
        made.list.push(engine_mount("bind", source, self.target(mount), mount.read_only));
        made.kept.push(Box::new(cache));
        Ok(())
    }

    fn secret(&self, made: &mut Mounts, mount: &Mount) -> Result<()> {
        let named = [&mount.id, &mount.source].into_iter().find(|id| !id.is_empty());
        let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let id = named.cloned().unwrap_or_else(|| base(&mount.target));
        let failed = |cause: String| Error::new(format!("secret {id}: {cause}"));
        let secrets = self.build.request.secrets.as_deref();
        let content = secrets.map(|secrets| secrets.secret(&id)).transpose().map_err(failed)?.flatten();
        let Some(content) = content else {
            return if mount.required { Err(failed("not found".to_owned())) } else { Ok(()) };
        };
        if let Some(name) = &mount.env {
            let name = if name.is_empty() { base(&id) } else { name.clone() };
            let value = std::str::from_utf8(&content).ok().filter(|text| !text.contains('\0'));
            let value = value.ok_or_else(|| failed("it cannot be a variable: it is no text".to_owned()))?;
            made.environment.push(format!("{name}={value}"));
            if mount.target.is_empty() {
                return Ok(());
            }
        }
        let target = match mount.target.as_str() {
            "" => format!("/run/secrets/{}", base(&id)),
            _ => self.target(mount),
        };
        let file = made.file(&content, mount.mode.unwrap_or(0o400), mount.uid, mount.gid)?;
        made.list.push(engine_mount("bind", file, target, true));
        Ok(())
    }

    fn agent(&self, made: &mut Mounts, mount: &Mount) -> Result<()> {
        let id = if mount.id.is_empty() { "default" } else { &mount.id };
        let agents = self.build.request.agents.as_deref();
        let socket = agents.map(|agents| agents.agent(id)).transpose();
        let socket = socket.map_err(|error| Error::new(format!("ssh agent {id}: {error}")))?.flatten();
        let Some(socket) = socket else {
            return if mount.required { Err(Error::new(format!("unset ssh forward key {id}"))) } else { Ok(()) };
        };
        let number = made.environment.iter().filter(|line| line.starts_with("SSH_AUTH_SOCK=")).count();
        let target = match mount.target.as_str() {
            "" => format!("/run/buildkit/ssh_agent.{number}"),
            _ => self.target(mount),
        };
        if number == 0 {
            made.environment.push(format!("SSH_AUTH_SOCK={target}"));
        }
        let path = made.directory()?.join(unique().to_string());
        let owner = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let forwarded = Forwarded::new(&path, socket, mount.mode.unwrap_or(0o600), owner)
            .map_err(|error| Error::new(format!("ssh agent {id}: {error}")))?;
        made.list.push(engine_mount("bind", path.to_string_lossy().into_owned(), target, false));
        made.kept.push(Box::new(forwarded));
        Ok(())
    }
}

impl Mounts {
    /// The directory in memory.
    fn directory(&mut self) -> Result<PathBuf> {
        if self.private.is_none() {
            self.private = Some(Private::new()?);
        }
        Ok(self.private.as_ref().map(|Private(path)| path.clone()).unwrap_or_default())
    }

    /// A file in memory.
    fn file(&mut self, content: &[u8], mode: u32, uid: Option<u32>, gid: Option<u32>) -> Result<String> {
        let path = self.directory()?.join(unique().to_string());
        let make = || -> std::io::Result<()> {
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
            std::io::Write::write_all(&mut file, content)?;
            std::os::unix::fs::fchown(&file, Some(uid.unwrap_or(0)), Some(gid.unwrap_or(0)))?;
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
        };
        make().map_err(|error| Error::new(format!("write {}: {error}", path.display())))?;
        Ok(path.to_string_lossy().into_owned())
    }
}

fn engine_mount(kind: &str, source: String, target: String, read_only: bool) -> EngineMount {
    EngineMount { kind: kind.to_owned(), source, target, read_only, ..EngineMount::default() }
}

fn tmpfs(made: &mut Mounts, mount: &Mount, target: String) {
    let size_bytes = i64::try_from(mount.size).unwrap_or(i64::MAX);
    let options = TmpfsOptions { size_bytes, ..TmpfsOptions::default() };
    made.list.push(EngineMount { tmpfs_options: Some(options), ..engine_mount("tmpfs", String::new(), target, false) });
}

/// Copies what a path of a tree names into an empty directory.
fn copy_out(tree: &Tree, source: &str, directory: &Path) -> Result<()> {
    let mut layer = Layer::new(None, 0);
    layer.copy(tree, source, "/", &Options::default())?;
    let failed = |cause: String| Error::new(format!("copy {source:?}: {cause}"));
    let (reader, mut writer) = std::io::pipe().map_err(|error| failed(error.to_string()))?;
    let (written, read) = std::thread::scope(|scope| {
        let reading = scope.spawn(move || image::unpack_files(reader, directory));
        let written = layer.write(&mut writer);
        drop(writer);
        (written, reading.join())
    });
    match read {
        Ok(Ok(_)) => written.map_err(|error| failed(error.to_string())),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("the reading thread died".to_owned())),
    }
}

/// A path of a directory on the machine, links resolved inside the directory.
fn inside(tree: &Tree, directory: &Path, source: &str) -> Result<String> {
    let found = tree.find(source)?.ok_or_else(|| Error::new(format!("{source:?}: not found")))?;
    let real = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let real = fs::canonicalize(&real).unwrap_or(real);
    let inner = String::from_utf8(found.real).map_err(|_| Error::new(format!("{source:?}: its name is no text")))?;
    Ok(if inner.is_empty() { real } else { real.join(inner) }.to_string_lossy().into_owned())
}
