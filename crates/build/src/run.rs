//! RUN: a container of the engine's, made of the layers so far and gone when it has ended; what it changed is the layer.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use engine::model::{Config, CreateRequest, DeviceRequest, LogConfig, Map};
use engine::{Attach, Engine, RemoveOptions, Session, StartOptions};
use rustix::event::{PollFd, PollFlags, poll};

use crate::cancel::Hook;
use crate::dockerfile::{CommandLine, Heredoc, Mount, Run};
use crate::event::Event;
use crate::mounts::{Mounts, Script};
use crate::scope::Platform;
use crate::stage::{Stage, failed};
use crate::{Error, Result, leftovers};

impl Stage<'_, '_> {
    pub(crate) fn run(&mut self, run: &Run, code: &str) -> Result<()> {
        let (command, script) = command(&run.command)?;
        let words = self.outcome.state.command_words(&command);
        let text = self.outcome.state.run_text(&words);
        let mounts = run.mounts(&|text| self.word(text))?;
        let title = self.title(code);
        let keyed = |stage: &Self| Ok((stage.run_key(run, &words, &mounts, script.as_ref())?, ()));
        self.step(title, &text, keyed, |stage, number, ()| {
            let prepared = stage.prepare(&mounts, script.as_ref())?;
            stage.execute(run, &words, prepared, number)
        })
    }

    fn run_key(&self, run: &Run, words: &[String], mounts: &[Mount], script: Option<&Script>) -> Result<String> {
        let state = &self.outcome.state;
        let parts = [
            words.to_vec(),
            vec!["environment".to_owned()],
            state.scope.environment(),
            vec![state.user(), state.directory(), self.network(run), run.security.clone().unwrap_or_default()],
            run.devices.clone(),
            self.mount_keys(mounts, script)?,
        ];
        Ok(self.key("run", &parts.concat()))
    }

    fn network(&self, run: &Run) -> String {
        let network = run.network.clone().unwrap_or_else(|| self.build.request.network.clone());
        if network.is_empty() { "default".to_owned() } else { network }
    }

    /// Runs the process; the image of what it changed.
    fn execute(&self, run: &Run, words: &[String], mut mounts: Mounts, number: usize) -> Result<String> {
        runnable(&self.outcome.state.platform())?;
        let carrier = match &self.outcome.carrier {
            Some(carrier) => carrier.clone(),
            None => self.carry()?,
        };
        let process = words.join(" ");
        let request = self.container(run, words, carrier, &mut mounts)?;
        let attach = Attach { stdin: false, stdout: true, stderr: true };
        let environment = std::mem::take(&mut mounts.environment);
        let options = StartOptions { attach: Some(attach), environment, ..StartOptions::default() };
        // Also one that could not be started leaves a container behind.
        let container = Container { stage: self, name: request.name.clone().unwrap_or_default() };
        let (_, session) = self
            .engine
            .run(&request, &options)
            .map_err(|error| Error::new(format!("process {process:?} could not be started: {error}")))?;
        let mut session = session.ok_or_else(|| Error::new("the container has no streams"))?;
        let hook = self.kill_on_cancel(&container.name);
        self.relay(&mut session, number)?;
        let code = session.wait().map_err(failed)?;
        drop(hook);
        self.build.common.cancel.check()?;
        let places: Vec<&str> = request.host.mounts.iter().map(|mount| mount.target.trim_matches('/')).collect();
        let document = |layer: Option<&str>| self.outcome.state.bare_document(layer);
        let derive = || self.engine.derive_from_container(&container.name, &places, &document).map_err(failed);
        if code != 0 {
            if let Some(on_error) = &self.build.request.on_error {
                on_error.failed(&request, &derive()?);
            }
            let message = format!("process {process:?} did not complete successfully: exit code: {code}");
            return Err(Error { exit_code: Some(code), ..Error::new(message) });
        }
        derive()
    }

    /// What runs when the build is stopped is killed.
    fn kill_on_cancel(&self, name: &str) -> Hook {
        let (engine, name) = (Arc::new(Engine::new(self.build.paths().clone())), name.to_owned());
        self.build.common.cancel.on_cancel(move || drop(engine.kill(&name, None)))
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
        self.check_allowed("device", !run.devices.is_empty())?;
        for device in &run.devices {
            // `NAME[,required]`
            let device_ids = vec![device.split(',').next().unwrap_or_default().to_owned()];
            let request = DeviceRequest { driver: "cdi".to_owned(), device_ids, ..DeviceRequest::default() };
            host.device_requests.get_or_insert_default().push(request);
        }
        host.privileged = insecure;
        host.log_config = LogConfig { driver: "none".to_owned(), config: Map::new() };
        host.mounts.append(&mut mounts.list);
        let mut env = state.scope.environment();
        // Some programs look for one form of the name, some for the other.
        let both = |(name, value): &(String, String)| {
            [name.to_uppercase(), name.to_lowercase()].map(|name| format!("{name}={value}"))
        };
        env.extend(self.build.request.arguments.proxies().flat_map(both));
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
            labels: Map::from([(leftovers::LABEL.to_owned(), leftovers::owner())]),
            ..Config::default()
        };
        let name = leftovers::name();
        Ok(CreateRequest { name: Some(name), config, host, ..CreateRequest::default() })
    }

    fn check_allowed(&self, entitlement: &str, wanted: bool) -> Result<()> {
        if wanted && !self.build.request.allowed.iter().any(|known| known == entitlement) {
            let text = format!("granting entitlement {entitlement} is not allowed by build daemon configuration");
            return Err(Error::new(format!("{entitlement} is not allowed: {text}: give --allow {entitlement}")));
        }
        Ok(())
    }

    /// Tells what the process writes until it has ended.
    fn relay(&self, session: &mut Session, step: usize) -> Result<()> {
        let streams = [(1, session.stdout.take()), (2, session.stderr.take())];
        let mut streams: Vec<(u8, File)> =
            streams.into_iter().filter_map(|(number, stream)| Some((number, File::from(stream?)))).collect();
        let mut buffer = vec![0; 32 << 10];
        while !streams.is_empty() {
            let mut polled: Vec<PollFd<'_>> = streams.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)).collect();
            match poll(&mut polled, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::new(format!("wait for a step's output: {error}"))),
            }
            let ready: Vec<bool> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
            let mut ready = ready.into_iter();
            streams.retain_mut(|(number, stream)| {
                if !ready.next().unwrap_or(false) {
                    return true;
                }
                match stream.read(&mut buffer) {
                    Ok(0) => false,
                    Ok(got) => {
                        let bytes = buffer[..got].to_vec();
                        self.build.teller().tell(Event::Output { step, stream: *number, bytes });
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
fn command(command: &CommandLine) -> Result<(CommandLine, Option<Script>)> {
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

/// Whether this machine runs programs of a platform: by itself, or through a registered emulator.
fn runnable(platform: &Platform) -> Result<()> {
    let host = Platform::host();
    let own = platform.architecture == host.architecture
        || matches!((host.architecture.as_str(), platform.architecture.as_str()), ("amd64", "386") | ("arm64", "arm"));
    let emulator = match platform.architecture.as_str() {
        "arm64" => "aarch64",
        "amd64" => "x86_64",
        "386" => "i386",
        "mips64le" => "mips64el",
        other => other,
    };
    let registered = std::path::Path::new("/proc/sys/fs/binfmt_misc").join(format!("qemu-{emulator}")).exists();
    if own || registered {
        return Ok(());
    }
    let shown = platform.shown();
    Err(Error::new(format!(
        "this machine runs no programs for {shown}: no emulator qemu-{emulator} is registered with binfmt_misc"
    )))
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
