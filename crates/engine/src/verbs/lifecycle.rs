//! The verbs that end, freeze or await a running container, each by way of its monitor.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify;

use crate::monitor::protocol::{self, Answer, Request};
use crate::request::signal;
use crate::table::{self, Container};
use crate::verbs::StartOptions;
use crate::verbs::start::not_running;
use crate::{Context, Engine, Error, ErrorKind, Result, status};

const SIGKILL: i32 = 9;
/// How many monitors may die over one request before it is given up.
const MONITORS: usize = 3;

/// What `wait` waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// Not running (returns at once for a container that has ended or never ran).
    #[default]
    NotRunning,
    /// The next time that it ends.
    NextExit,
    /// It is gone.
    Removed,
}

impl Engine {
    /// Sends the stop signal, and SIGKILL after `timeout` seconds (absent: the container's; negative: never).
    /// `NotModified` if it does not run.
    pub fn stop(&self, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let container = self.look_up(name)?;
        let signal = signal.map(signal::parse).transpose()?;
        match self.ask(&container, &Request::Stop { signal, timeout })? {
            Some(()) => Ok(()),
            None => Err(Error::new(ErrorKind::NotModified, format!("container {} is already stopped", container.name))),
        }
    }

    /// `stop` and `start`.
    pub fn restart(&self, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        match self.stop(name, signal, timeout) {
            Err(error) if error.kind != ErrorKind::NotModified => return Err(error),
            _ => {}
        }
        match self.start(name, &StartOptions::default()) {
            Err(error) if error.kind != ErrorKind::NotModified => return Err(error),
            _ => {}
        }
        let container = self.look_up(name)?;
        self.tell(&container, "restart");
        Ok(())
    }

    /// Sends a signal (name with or without `SIG`, or number; absent: KILL) to the container's first process.
    pub fn kill(&self, name: &str, signal: Option<&str>) -> Result<()> {
        let send = || {
            let container = self.look_up(name)?;
            let signal = signal.map(signal::parse).transpose()?.unwrap_or(SIGKILL);
            self.ask(&container, &Request::Kill { signal })?.ok_or_else(|| not_running(&container))
        };
        send().map_err(|error| Error { message: format!("cannot kill container: {name}: {error}"), ..error })
    }

    /// Freezes every process of the container.
    pub fn pause(&self, name: &str) -> Result<()> {
        let container = self.look_up(name)?;
        self.ask(&container, &Request::Pause)?.ok_or_else(|| not_running(&container))
    }

    /// Thaws a paused container.
    pub fn unpause(&self, name: &str) -> Result<()> {
        let container = self.look_up(name)?;
        let not_paused = || Error::conflict(format!("Container {} is not paused", container.id));
        self.ask(&container, &Request::Unpause)?.ok_or_else(not_paused)
    }

    /// Sets the size of the container's terminal.
    pub fn resize(&self, name: &str, rows: u16, columns: u16) -> Result<()> {
        let container = self.look_up(name)?;
        self.ask(&container, &Request::Resize { rows, columns })?.ok_or_else(|| not_running(&container))
    }

    /// Waits; the exit code.
    pub fn wait(&self, name: &str, condition: WaitCondition) -> Result<i32> {
        let container = self.look_up(name)?;
        match condition {
            WaitCondition::NotRunning => self.wait_for_end(&container),
            WaitCondition::NextExit => self.wait_for_next_exit(&container),
            WaitCondition::Removed => self.wait_for_removal(&container),
        }
    }

    /// Asks the container's monitor for something; none if the container does not run. A monitor that dies over the
    /// question is replaced, and the next one is asked.
    pub(crate) fn ask(&self, container: &Container, request: &Request) -> Result<Option<()>> {
        for _ in 0..MONITORS {
            let Some(socket) = self.connect_or_settle(container)? else { return Ok(None) };
            match exchange(&socket, request)? {
                Some(Answer::Failed(error)) => return Err(error),
                Some(_) => return Ok(Some(())),
                None => {}
            }
        }
        Err(Error::internal(format!(
            "the monitor of container {} was killed {MONITORS} times over this",
            container.name
        ))
        .hinted("see the kernel's log (dmesg): it may have been killed for want of memory"))
    }

    /// A connection to the container's monitor (a new one if the old one is dead); none if the container does not run.
    fn connect_or_settle(&self, container: &Container) -> Result<Option<OwnedFd>> {
        let directory = self.paths().container_state(&container.id);
        loop {
            match self.look_up(&container.id) {
                // Gone with its run, by `--rm`.
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
                found => drop(found?),
            }
            if !status::is_held(self.paths(), &container.id) {
                return Ok(None);
            }
            if let Some(socket) = protocol::connect(&directory)? {
                return Ok(Some(socket));
            }
            // Starting or being wound up: a matter of milliseconds.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn wait_for_end(&self, container: &Container) -> Result<i32> {
        loop {
            let Some(socket) = self.connect_or_settle(container)? else {
                return self.read(|connection| table::find(connection, &container.id)).map(|row| row.exit_code as i32);
            };
            if let Some(Answer::Ended { code }) = exchange(&socket, &Request::Wait { next: false })? {
                return Ok(code);
            }
        }
    }

    fn wait_for_next_exit(&self, container: &Container) -> Result<i32> {
        let directory = self.paths().container_state(&container.id);
        crate::make_directory(&directory)?;
        loop {
            let watch = watch(&directory, inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO)?;
            if let Some(socket) = self.connect_or_settle(container)? {
                if let Some(Answer::Ended { code }) = exchange(&socket, &Request::Wait { next: true })? {
                    return Ok(code);
                }
            } else {
                next_event(&watch)?;
            }
        }
    }

    fn wait_for_removal(&self, container: &Container) -> Result<i32> {
        let directory = self.paths().container(&container.id);
        let watch = match watch(&directory, inotify::WatchFlags::DELETE_SELF | inotify::WatchFlags::MOVE_SELF) {
            Err(_) if !directory.exists() => return Ok(container.exit_code as i32),
            watch => watch?,
        };
        let code = self.wait_for_end(container).unwrap_or(container.exit_code as i32);
        while self.read(|connection| table::find(connection, &container.id)).is_ok() {
            next_event(&watch)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(code)
    }
}

/// Sends a request and waits for its answer; none if the monitor died.
fn exchange(socket: &OwnedFd, request: &Request) -> Result<Option<Answer>> {
    if protocol::send(socket, request, &[]).is_err() {
        return Ok(None);
    }
    Ok(protocol::answer(socket)?.map(|(answer, _)| answer))
}

fn watch(directory: &Path, flags: inotify::WatchFlags) -> Result<OwnedFd> {
    let step = || format!("watch {}", directory.display());
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).step(step)?;
    inotify::add_watch(&watch, directory, flags).step(step)?;
    Ok(watch)
}

fn next_event(watch: &OwnedFd) -> Result<()> {
    let mut events = [0; 4096];
    rustix::io::retry_on_intr(|| rustix::io::read(watch, &mut events)).map(drop).step(|| "watch a directory".to_owned())
}
