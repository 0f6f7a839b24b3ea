//! What to do about a run that nobody looks after: adopt its process, record its end, or start it again. Every command
//! that names a container comes by here first, so a killed monitor or a power cut is put right by whatever is typed
//! next. Also the record of every end, which a living monitor writes in the same way.

use std::fs;
use std::path::PathBuf;

use records::Durability;

use crate::model::{HostConfig, Map, Status};
use crate::monitor::protocol::{self, Answer, Request};
use crate::news::{self, News};
use crate::spawn::Monitor;
use crate::status::{self, RunLock, RunStatus};
use crate::table::{self, Container, Ended, Intent};
use crate::verbs::{StartOptions, read_plan};
use crate::{Engine, Error, ErrorKind, Result, clock, disk, events, failpoint, shared_memory, tree};

/// Exit code of a run whose end nobody saw, as with Docker.
const UNKNOWN: i32 = 255;
/// Exit code of a run that SIGKILL ended.
const KILLED: i32 = 137;

impl Engine {
    /// Finds a container that callers may reach, and makes its record true.
    pub(crate) fn look_up(&self, name: &str) -> Result<Container> {
        let container = self.read(|connection| table::find(connection, name))?;
        self.check_reach(&container, name)?;
        self.settle(container)
    }

    /// The same for one that is only to be looked at.
    pub(crate) fn look_at(&self, name: &str) -> Result<Container> {
        let container = self.read(|connection| table::find(connection, name))?;
        self.check_seen(&container, name)?;
        self.settle(container)
    }

    /// Makes the record of a container true: a run without a monitor is adopted or ended.
    pub(crate) fn settle(&self, container: Container) -> Result<Container> {
        if container.state != Intent::Running || status::is_held(self.paths(), &container.id) {
            return Ok(container);
        }
        // Whoever else has the lock by now settles it.
        let existed = self.paths().container_state(&container.id).exists();
        let Some(lock) = RunLock::try_take(self.paths(), &container.id)? else { return Ok(container) };
        let container = self.read(|connection| table::find(connection, &container.id))?;
        if container.state == Intent::Running {
            self.settle_locked(&container, lock, existed)?;
        }
        self.read(|connection| table::find(connection, &container.id))
    }

    fn settle_locked(&self, container: &Container, lock: RunLock, existed: bool) -> Result<()> {
        let name = &container.name;
        let status = status::read(self.paths(), &container.id);
        if let Some(status) =
            status.filter(|status| status.pid > 0 || status.finished_at > 0 || !status.error.is_empty())
        {
            if status.process_alive() {
                match self.adopt(container, &lock) {
                    // It was just ending.
                    Err(_) if !status.process_alive() => return self.end_unwatched(container, status, lock),
                    adopted => return adopted,
                }
            }
            return self.end_unwatched(container, status, lock);
        }
        self.remove_run(&container.id);
        if existed {
            let error = "the start was interrupted: the command or the monitor was killed";
            self.note(format!("the start of {name} was interrupted; it can be started again"));
            return self.record_start_error(container, 128, error);
        }
        // The state directory is gone: the machine was rebooted, or somebody removed it under a running container.
        let exit_code = if self.kill_lost(container) { KILLED } else { UNKNOWN };
        let status = RunStatus { exit_code, finished_at: clock::now(), ..RunStatus::default() };
        self.record_end_now(container, &status)
    }

    /// Kills what runs of a container about which nothing is known any more: nobody could manage it, and a new start
    /// would run beside it. Whether there was anything.
    fn kill_lost(&self, container: &Container) -> bool {
        let path = crate::spec::cgroup_path(&container.host.cgroup_parent, &container.id);
        let Ok(cgroup) = sandbox::cgroup::Cgroup::open(&path) else { return false };
        let lives = cgroup.processes().is_ok_and(|processes| !processes.is_empty());
        if lives {
            let directory = self.paths().container_state(&container.id);
            let name = &container.name;
            self.note(format!("{} was removed while container {name} ran: it was killed", directory.display()));
        }
        drop(cgroup.remove());
        lives
    }

    /// Gives a process whose monitor is gone a new one.
    fn adopt(&self, container: &Container, lock: &RunLock) -> Result<()> {
        let begin = Request::Begin { adopt: true, attach: None, console: None };
        let apart = read_plan(self.paths(), &container.id).is_ok_and(|plan| plan.is_apart());
        let socket = Monitor::spawn(self.paths(), &container.id, apart)?.begin(lock, &begin)?;
        match protocol::answer(&socket)? {
            Some((Answer::Done { .. }, _)) => {
                self.note(format!("the monitor of {} was gone; its process was adopted", container.name));
                Ok(())
            }
            Some((Answer::Failed(error), _)) => Err(error),
            _ => Err(Error::internal(format!("the new monitor of container {} died", container.name))),
        }
    }

    /// The process ended while nobody watched, or its monitor died while it wound the run up.
    fn end_unwatched(&self, container: &Container, mut status: RunStatus, lock: RunLock) -> Result<()> {
        if status.finished_at == 0 && status.error.is_empty() {
            // Not reaped yet, its code can still be read.
            let code = status::zombie_status(status.pid, status.pid_start).map_or(UNKNOWN, linux::pidfd::exit_code);
            status.exit_code = code;
            status.finished_at = clock::now();
            self.tell_with(container, "die", &[("exitCode", code.to_string())]);
            let plan = read_plan(self.paths(), &container.id).ok();
            let attachment = plan.as_ref().and_then(|plan| plan.network.as_ref());
            events::tell_networks(self.paths(), &container.id, attachment, "disconnect");
        }
        if self.restarts(container, &status) {
            let plan = read_plan(self.paths(), &container.id)?;
            self.remove_run(&container.id);
            self.note(format!("the monitor of {} was gone; started it again by its restart policy", container.name));
            return self.start_recorded(&plan, lock, &StartOptions::default()).map(drop);
        }
        self.note(format!("the monitor of {} was gone, and so was its process", container.name));
        if !status.error.is_empty() && status.started_at == 0 {
            self.remove_run(&container.id);
            return self.record_start_error(container, status.exit_code, &status.error);
        }
        self.record_end_now(container, &status)
    }

    fn restarts(&self, container: &Container, status: &RunStatus) -> bool {
        let HostConfig { restart_policy, .. } = &container.host;
        let limit = restart_policy.maximum_retry_count;
        // `exited`: its monitor had decided already, and died while it wound the run up.
        status.status != Status::Exited
            && !status.manually_stopped
            && status.started_at > 0
            && match restart_policy.name.as_str() {
                "always" | "unless-stopped" => true,
                "on-failure" => status.exit_code != 0 && (limit <= 0 || i64::from(status.restart_count) < limit),
                _ => false,
            }
    }

    /// Records the end of a run whose cgroup is gone and, with `--rm`, removes the container: the answer is what is then
    /// left to delete. The caller holds the run lock.
    pub(crate) fn record_end(&self, id: &str, status: &RunStatus, auto_remove: bool) -> Result<Vec<PathBuf>> {
        let ended = News::Ended(status.exit_code);
        if auto_remove {
            // Before the file goes that tells it.
            news::tell(self.paths(), id, ended);
            return match self.erase(id, true) {
                Err(error) if error.kind == ErrorKind::NotFound => Ok(Vec::new()),
                erased => erased,
            };
        }
        let row = Ended {
            exit_code: i64::from(status.exit_code),
            oom: status.oom_killed,
            started_at: status.started_at,
            finished_at: status.finished_at,
            restart_count: i64::from(status.restart_count),
            stopped_by_user: status.manually_stopped,
        };
        self.write(Durability::Power, |transaction| table::set_exited(transaction, id, &row))?;
        failpoint::hit("exit-recorded");
        news::tell(self.paths(), id, ended);
        self.remove_run_files(id);
        failpoint::hit("exit-state-removed");
        Ok(Vec::new())
    }

    /// Records the end of a run that nobody looked after.
    fn record_end_now(&self, container: &Container, status: &RunStatus) -> Result<()> {
        self.remove_cgroup(&container.id);
        self.disconnect(&container.id);
        let trash = self.record_end(&container.id, status, container.host.auto_remove)?;
        trash.iter().try_for_each(|path| tree::remove(path))
    }

    /// Records that a start failed; with `--rm` the container goes at once. The caller holds the run lock.
    pub(crate) fn record_failed_start(&self, id: &str, error: &Error) -> Result<()> {
        self.remove_run(id);
        let container = self.read(|connection| table::find(connection, id))?;
        self.record_start_error(&container, failure_code(error), &error.message)
    }

    fn record_start_error(&self, container: &Container, code: i32, error: &str) -> Result<()> {
        if container.host.auto_remove {
            return self.remove_locked(&container.id, true);
        }
        self.write(Durability::Process, |transaction| {
            table::set_error(transaction, &container.id, i64::from(code), error)
        })
    }

    /// Removes what a run leaves: its cgroup and its files.
    pub(crate) fn remove_run(&self, id: &str) {
        self.remove_cgroup(id);
        self.disconnect(id);
        self.remove_run_files(id);
    }

    fn remove_cgroup(&self, id: &str) {
        let Ok(plan) = read_plan(self.paths(), id) else { return };
        let path = crate::monitor::run::cgroup_path(&plan.spec);
        if let Ok(cgroup) = sandbox::cgroup::Cgroup::open(&path) {
            // What cannot be removed now is removed with the container.
            drop(cgroup.remove());
        }
    }

    /// Files of the run; the lock stays, because someone holds it.
    fn remove_run_files(&self, id: &str) {
        let directory = self.paths().container_state(id);
        for name in ["monitor.sock", "status.json", "plan.json", status::CONFIGURATION] {
            // What stays is overwritten by the next run.
            drop(fs::remove_file(directory.join(name)));
        }
        drop(fs::remove_dir(directory.join(status::ROOTFS)));
        shared_memory::remove(&shared_memory::path(self.paths(), id));
        disk::release(&directory);
        self.release_volumes(id);
    }

    /// Appends an event of a container.
    pub(crate) fn tell(&self, container: &Container, action: &str) {
        self.tell_with(container, action, &[]);
    }

    pub(crate) fn tell_with(&self, container: &Container, action: &str, more: &[(&str, String)]) {
        let labels: &Map<String> = &container.config.labels;
        let event = events::container_event(&container.id, &container.name, &container.image, labels, action, more);
        // What happened has happened, on a full disk too.
        drop(events::append(self.paths(), &event));
    }

    /// Makes the records of all containers true.
    pub(crate) fn settle_all(&self, containers: Vec<Container>) -> Vec<Container> {
        let mut settled = Vec::with_capacity(containers.len());
        for container in containers {
            if container.state != Intent::Running || status::is_held(self.paths(), &container.id) {
                settled.push(container);
                continue;
            }
            match self.settle(container.clone()) {
                Ok(container) => settled.push(container),
                // Removed meanwhile, or by its own `--rm`.
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => {
                    self.note(format!("container {}: {error}", container.name));
                    settled.push(container);
                }
            }
        }
        settled
    }
}

/// The exit code that a failed start leaves on record: the shell's, as with Docker.
pub(crate) fn failure_code(error: &Error) -> i32 {
    match error.kind {
        ErrorKind::NotExecutable => 126,
        ErrorKind::CommandNotFound => 127,
        _ => 128,
    }
}
