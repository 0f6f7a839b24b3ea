//! RUN: a container of the engine's, made of the layers so far and gone when it has ended; what it changed is the layer.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use engine::model::{Config, CreateRequest, ImageOptions, LogConfig, Map, Mount as EngineMount, TmpfsOptions};
use engine::{Attach, RemoveOptions, Session, StartOptions};
use rustix::event::{PollFd, PollFlags, poll};
use sha2::{Digest as _, Sha256};

use crate::caches::{self, Cache};
use crate::copying::hex;
use crate::dockerfile::{CommandLine, Heredoc, Mount, MountKind, Run};
use crate::request::{Context, Event};
use crate::stage::{Stage, failed};
use crate::stages::Origin;
use crate::{Error, Result};

/// Says of a container that a build made it.
const LABEL: &str = "io.kiste.build";

/// Mounts of a RUN, with what must live as long as they do.
#[derive(Default)]
struct Mounts {
    list: Vec<EngineMount>,
    environment: Vec<String>,
    /// Words that stand for them in the step's key.
    key: Vec<String>,
    files: Option<Private>,
    caches: Vec<Cache>,
}

/// A directory in memory that goes with this.
struct Private(PathBuf);

impl Private {
    fn new() -> Result<Self> {
        let path = PathBuf::from(format!("/dev/shm/kiste-build-{}-{}", std::process::id(), unique()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| Error::new(format!("make {}: {error}", path.display())))?;
        Ok(Private(path))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

impl Stage<'_, '_> {
    pub(crate) fn run(&mut self, run: &Run, code: &str) -> Result<()> {
        let (command, script) = command(&run.command)?;
        let words = self.outcome.state.command_words(&command);
        let text = self.outcome.state.run_text(&words);
        let title = self.title(code);
        let (key, made) = {
            let stage = &*self;
            stage.build.teller.step(title, |number| {
                let mut mounts = stage.mounts(run)?;
                if let Some((name, content)) = &script {
                    stage.script(&mut mounts, name, content)?;
                }
                let key = stage.run_key(run, &words, &mounts);
                if let Some(found) = stage.cached(&key)? {
                    return Ok(((key, Err(found)), true));
                }
                Ok(((key, Ok(stage.execute(run, &words, mounts, number)?)), false))
            })?
        };
        match made {
            Ok(made) => self.made(&key, made, &text),
            Err((found, made_at)) => self.take(found, made_at, &text),
        }
    }

    fn run_key(&self, run: &Run, words: &[String], mounts: &Mounts) -> String {
        let state = &self.outcome.state;
        let parts = [
            words.to_vec(),
            vec!["environment".to_owned()],
            state.scope.environment(),
            vec![state.user(), state.directory(), self.network(run), run.security.clone().unwrap_or_default()],
            mounts.key.clone(),
        ];
        self.key("run", &parts.concat())
    }

    fn network(&self, run: &Run) -> String {
        run.network.clone().unwrap_or_else(|| self.build.request.network.clone())
    }

    /// Runs the process; the image of what it changed.
    fn execute(&self, run: &Run, words: &[String], mut mounts: Mounts, number: usize) -> Result<String> {
        let carrier = self.outcome.carrier.clone().ok_or_else(|| {
            Error::new(format!("process {:?} cannot run: the stage has no files yet", words.join(" ")))
        })?;
        let request = self.container(run, words, carrier, &mut mounts)?;
        let attach = Attach { stdin: false, stdout: true, stderr: true };
        let options = StartOptions { attach: Some(attach), console_size: None };
        // Also one that could not be started leaves a container behind.
        let container = Container { stage: self, name: request.name.clone().unwrap_or_default() };
        let (_, session) = self
            .engine
            .run(&request, &options)
            .map_err(|error| Error::new(format!("process {:?} could not be started: {error}", words.join(" "))))?;
        let mut session = session.ok_or_else(|| Error::new("the container has no streams"))?;
        self.relay(&mut session, number)?;
        let code = session.wait().map_err(failed)?;
        if code != 0 {
            let process = words.join(" ");
            return Err(Error::new(format!("process {process:?} did not complete successfully: exit code: {code}")));
        }
        let places: Vec<&str> = request.host.mounts.iter().map(|mount| mount.target.trim_matches('/')).collect();
        let document = |layer: Option<&str>| self.outcome.state.bare_document(layer);
        self.engine.derive_from_container(&container.name, &places, &document).map_err(failed)
    }

    fn container(&self, run: &Run, words: &[String], carrier: String, mounts: &mut Mounts) -> Result<CreateRequest> {
        let state = &self.outcome.state;
        let mut host = self.build.request.host.clone();
        let network = self.network(run);
        self.check_allowed("network.host", network == "host")?;
        if network != "default" {
            host.network_mode = network;
        }
        let insecure = run.security.as_deref() == Some("insecure");
        self.check_allowed("security.insecure", insecure)?;
        if !run.devices.is_empty() {
            return Err(Error::new("RUN --device: devices are not supported yet"));
        }
        host.privileged = insecure;
        host.log_config = LogConfig { driver: "none".to_owned(), config: Map::new() };
        host.mounts.append(&mut mounts.list);
        let mut env = state.scope.environment();
        env.extend(self.build.request.arguments.proxies().map(|(name, value)| format!("{name}={value}")));
        env.append(&mut mounts.environment);
        let config = Config {
            image: carrier,
            user: state.user(),
            env,
            entrypoint: Some(words.to_vec()),
            cmd: Some(Vec::new()),
            working_dir: state.directory(),
            hostname: "buildkitsandbox".to_owned(),
            attach_stdout: true,
            attach_stderr: true,
            labels: Map::from([(LABEL.to_owned(), std::process::id().to_string())]),
            ..Config::default()
        };
        let name = format!("build-{}-{:x}", std::process::id(), jiff::Timestamp::now().as_nanosecond());
        Ok(CreateRequest { name: Some(name), config, host, ..CreateRequest::default() })
    }

    fn check_allowed(&self, entitlement: &str, wanted: bool) -> Result<()> {
        if wanted && !self.build.request.allowed.iter().any(|known| known == entitlement) {
            return Err(Error::new(format!("{entitlement} is not allowed: give --allow {entitlement}")));
        }
        Ok(())
    }

    /// Tells what the process writes until it has ended.
    fn relay(&self, session: &mut Session, step: usize) -> Result<()> {
        let mut streams: Vec<File> =
            [session.stdout.take(), session.stderr.take()].into_iter().flatten().map(File::from).collect();
        let mut buffer = vec![0; 32 << 10];
        while !streams.is_empty() {
            let mut polled: Vec<PollFd<'_>> = streams.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
            match poll(&mut polled, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::new(format!("wait for a step's output: {error}"))),
            }
            let ready: Vec<bool> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
            let mut ready = ready.into_iter();
            streams.retain_mut(|stream| {
                if !ready.next().unwrap_or(false) {
                    return true;
                }
                match stream.read(&mut buffer) {
                    Ok(0) => false,
                    Ok(got) => {
                        self.build.teller.tell(Event::Output { step, bytes: buffer[..got].to_vec() });
                        true
                    }
                    Err(error) => {
                        matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted)
                    }
                }
            });
        }
        Ok(())
    }

    fn mounts(&self, run: &Run) -> Result<Mounts> {
        let expand = |text: &str| self.word(text);
        let mut mounts = Mounts::default();
        for mount in run.mounts(&expand)? {
            match mount.kind {
                MountKind::Bind => self.bind(&mut mounts, &mount)?,
                MountKind::Cache => self.cache(&mut mounts, &mount)?,
                MountKind::Tmpfs => tmpfs(&mut mounts, &mount),
                MountKind::Secret => self.secret(&mut mounts, &mount)?,
                MountKind::Ssh => self.agent(&mut mounts, &mount)?,
            }
        }
        Ok(mounts)
    }

    fn bind(&self, mounts: &mut Mounts, mount: &Mount) -> Result<()> {
        if !mount.read_only {
            return Err(Error::new("RUN --mount=type=bind,rw: writable binds are not supported yet; copy the files"));
        }
        let target = self.outcome.state.absolute(&mount.target);
        let directory = match self.build.request.contexts.iter().find(|(name, _)| *name == mount.from) {
            Some((_, Context::Directory(directory))) => Some(directory.clone()),
            _ if mount.from.is_empty() => self.build.request.context.clone(),
            _ => None,
        };
        let source = crate::ignore::clean(&format!("/{}", mount.source));
        if mount.from.is_empty() || directory.is_some() {
            let directory = directory.ok_or_else(|| Error::new("RUN --mount: the build has no context"))?;
            mounts.key.push(format!("bind {} {target} {}", source, digest_of(&directory, &source)?));
            mounts.list.push(engine_mount("bind", inside(&directory, &source)?, target, true));
            return Ok(());
        }
        let image = match self.build.origin(&mount.from) {
            Origin::Stage(index) => self.build.stage(index)?.carrier.clone(),
            Origin::Scratch => None,
            Origin::Image(name) => Some(self.image(&name, &self.build.request.platform)?.id),
        };
        let image = image.ok_or_else(|| Error::new(format!("stage {:?} has no files", mount.from)))?;
        mounts.key.push(format!("bind {image} {source} {target}"));
        let subpath = source.trim_start_matches('/').to_owned();
        let image_options = (!subpath.is_empty()).then_some(ImageOptions { subpath });
        mounts.list.push(EngineMount { image_options, ..engine_mount("image", image, target, true) });
        Ok(())
    }

    /// A directory below the root that outlives builds. What is in it never counts.
    fn cache(&self, mounts: &mut Mounts, mount: &Mount) -> Result<()> {
        if !mount.from.is_empty() || !mount.source.is_empty() {
            return Err(Error::new("RUN --mount=type=cache: from and source are not supported yet"));
        }
        let target = self.outcome.state.absolute(&mount.target);
        let target = target.trim_end_matches('/').to_owned();
        let id = if mount.id.is_empty() { target.clone() } else { mount.id.clone() };
        let cache = caches::take(self.engine.paths(), &id, mount)?;
        mounts.list.push(engine_mount("bind", cache.data.to_string_lossy().into_owned(), target, mount.read_only));
        mounts.caches.push(cache);
        Ok(())
    }

    fn secret(&self, mounts: &mut Mounts, mount: &Mount) -> Result<()> {
        let named = [&mount.id, &mount.source].into_iter().find(|id| !id.is_empty());
        let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let id = named.cloned().unwrap_or_else(|| base(&mount.target));
        if mount.env.is_some() {
            return Err(Error::new(format!(
                "secret {id}: secrets in the environment are not supported yet; use a file"
            )));
        }
        let Some((_, path)) = self.build.request.secrets.iter().find(|(known, _)| *known == id) else {
            return if mount.required { Err(Error::new(format!("secret {id}: not found"))) } else { Ok(()) };
        };
        let content =
            fs::read(path).map_err(|error| Error::new(format!("secret {id}: read {}: {error}", path.display())))?;
        let target = match mount.target.as_str() {
            "" => format!("/run/secrets/{}", base(&id)),
            target => self.outcome.state.absolute(target),
        };
        let file = mounts.file(&content, mount.mode.unwrap_or(0o400), mount.uid, mount.gid)?;
        mounts.list.push(engine_mount("bind", file, target, true));
        Ok(())
    }

    fn agent(&self, mounts: &mut Mounts, mount: &Mount) -> Result<()> {
        let id = if mount.id.is_empty() { "default" } else { &mount.id };
        let Some((_, socket)) = self.build.request.agents.iter().find(|(known, _)| known == id) else {
            return if mount.required { Err(Error::new(format!("unset ssh forward key {id}"))) } else { Ok(()) };
        };
        let number = mounts.environment.len();
        let target = match mount.target.as_str() {
            "" => format!("/run/buildkit/ssh_agent.{number}"),
            target => self.outcome.state.absolute(target),
        };
        if number == 0 {
            mounts.environment.push(format!("SSH_AUTH_SOCK={target}"));
        }
        mounts.list.push(engine_mount("bind", socket.to_string_lossy().into_owned(), target, false));
        Ok(())
    }

    /// A here-document that is a program of its own.
    fn script(&self, mounts: &mut Mounts, name: &str, content: &str) -> Result<()> {
        mounts.key.push(format!("script {name} {}", hex(&Sha256::digest(content))));
        let file = mounts.file(content.as_bytes(), 0o755, None, None)?;
        mounts.list.push(engine_mount("bind", file, format!("/dev/pipes/{name}"), true));
        Ok(())
    }
}

impl Mounts {
    /// A file in memory.
    fn file(&mut self, content: &[u8], mode: u32, uid: Option<u32>, gid: Option<u32>) -> Result<String> {
        if self.files.is_none() {
            self.files = Some(Private::new()?);
        }
        let Some(Private(directory)) = &self.files else { return Err(Error::new("no directory for files")) };
        let path = directory.join(unique().to_string());
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

/// A container that goes with this.
struct Container<'s, 'b, 'a> {
    stage: &'s Stage<'b, 'a>,
    name: String,
}

impl Drop for Container<'_, '_, '_> {
    fn drop(&mut self) {
        // What stays carries the build's label and is removed by hand or by a prune.
        let _ = self.stage.engine.remove(&self.name, RemoveOptions { force: true, volumes: true });
    }
}

/// The command, and a here-document that is to be run as a program.
fn command(command: &CommandLine) -> Result<(CommandLine, Option<(String, String)>)> {
    let Some(first) = command.files.first() else { return Ok((command.clone(), None)) };
    let [line] = command.words.as_slice() else { return Err(Error::new("RUN: a here-document needs a shell")) };
    let shell = |line: String| CommandLine { words: vec![line], shell: true, files: Vec::new() };
    let alone = command.files.len() == 1 && is_only_a_document(line);
    let content = Heredoc { content: first.data.clone(), chomp: first.chomp, ..Heredoc::default() }.text();
    if alone && content.starts_with("#!") {
        return Ok((shell(format!("/dev/pipes/{}", first.name)), Some((first.name.clone(), content))));
    }
    if alone {
        return Ok((shell(content), None));
    }
    let bodies: String = command.files.iter().map(|file| format!("\n{}{}", file.data, file.name)).collect();
    Ok((shell(format!("{line}{bodies}")), None))
}

/// Whether a line is nothing but `<<WORD`.
fn is_only_a_document(line: &str) -> bool {
    let rest = line.trim_start_matches(|letter: char| letter.is_ascii_digit()).strip_prefix("<<");
    rest.is_some_and(|rest| !rest.contains('<') && rest.trim_start_matches('-').split_whitespace().count() == 1)
}

fn engine_mount(kind: &str, source: String, target: String, read_only: bool) -> EngineMount {
    EngineMount { kind: kind.to_owned(), source, target, read_only, ..EngineMount::default() }
}

fn tmpfs(mounts: &mut Mounts, mount: &Mount) {
    let size_bytes = i64::try_from(mount.size).unwrap_or(i64::MAX);
    let options = TmpfsOptions { size_bytes, ..TmpfsOptions::default() };
    mounts.key.push(format!("tmpfs {} {size_bytes}", mount.target));
    let mounted = engine_mount("tmpfs", String::new(), mount.target.clone(), false);
    mounts.list.push(EngineMount { tmpfs_options: Some(options), ..mounted });
}

/// A path of the context on the machine, links resolved inside the context.
fn inside(directory: &Path, source: &str) -> Result<String> {
    let tree = crate::files::Tree::context(directory, crate::ignore::Matcher::default())?;
    let found = tree.find(source)?.ok_or_else(|| Error::new(format!("{source:?}: not found")))?;
    let real = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let real = fs::canonicalize(&real).unwrap_or(real);
    let inner = String::from_utf8(found.real).map_err(|_| Error::new(format!("{source:?}: its name is no text")))?;
    Ok(if inner.is_empty() { real } else { real.join(inner) }.to_string_lossy().into_owned())
}

/// What a bound part of the context holds.
fn digest_of(directory: &Path, source: &str) -> Result<String> {
    let tree = crate::files::Tree::context(directory, crate::ignore::Matcher::default())?;
    let mut layer = crate::copying::Layer::new(None, 0);
    layer.copy(&tree, source, "/x/", &crate::copying::Options::default())?;
    layer.digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::InlineFile;

    fn with(line: &str, data: &str) -> CommandLine {
        let files = vec![InlineFile { name: "EOF".into(), data: data.into(), chomp: false }];
        CommandLine { words: vec![line.into()], shell: true, files }
    }

    #[test]
    fn here_documents_become_commands() {
        let (plain, script) = command(&with("<<EOF", "a\nb\n")).unwrap();
        assert_eq!((plain.words, script), (vec!["a\nb\n".to_owned()], None));
        let (program, script) = command(&with("<<EOF", "#!/bin/x\na\n")).unwrap();
        assert_eq!(program.words, ["/dev/pipes/EOF"]);
        assert_eq!(script, Some(("EOF".into(), "#!/bin/x\na\n".into())));
        let (piped, _) = command(&with("cat <<EOF | wc", "a\n")).unwrap();
        assert_eq!(piped.words, ["cat <<EOF | wc\na\nEOF"]);
    }
}
