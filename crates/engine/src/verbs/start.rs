//! `start`: hands a recorded container to a monitor of its own.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use records::Durability;

use crate::model::{CreateRequest, Created, Status};
use crate::monitor::protocol::{self, Answer, Request, Streams};
use crate::plan::Plan;
use crate::request::names;
use crate::spawn::Monitor;
use crate::spec::userns;
use crate::status::{self, Liveness, RunLock};
use crate::table::{self, Container, Intent};
use crate::{Context, Engine, Error, ErrorKind, Paths, Result, Session, failpoint};

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attach {
    /// Connect standard input.
    pub stdin: bool,
    /// Connect standard output.
    pub stdout: bool,
    /// Connect standard error.
    pub stderr: bool,
}

impl From<Attach> for Streams {
    fn from(attach: Attach) -> Self {
        Streams { stdin: attach.stdin, stdout: attach.stdout, stderr: attach.stderr }
    }
}

/// Options of `start`.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// Attach before the process runs, so that nothing is missed.
    pub attach: Option<Attach>,
    /// Initial rows and columns of the terminal.
    pub console_size: Option<(u16, u16)>,
    /// `NAME=value` lines for the process of [`Engine::run`], in this run alone: they are not recorded.
    pub environment: Vec<String>,
}

impl Engine {
    /// Starts a created or exited container; returns once its process has been executed. `NotModified` if it runs.
    pub fn start(&self, name: &str, options: &StartOptions) -> Result<Option<Session>> {
        let container = self.look_up(name)?;
        let lock = self.take_run(&container)?;
        failpoint::hit("start-locked");
        // Only with the lock is the record sure to stay as it is.
        let container = self.read(|connection| table::find(connection, &container.id))?;
        check_startable(&container)?;
        let mut plan = self.plan(&container)?;
        // It gets ready while the start is recorded.
        let monitor = Monitor::spawn(self.paths(), &container.id, plan.is_apart())?;
        let network = self.write(Durability::Process, |transaction| {
            table::set_running(transaction, &container.id)?;
            let network = self.activate_recorded(transaction, &container);
            if network.is_err() {
                network::endpoints::deactivate(transaction, &container.id)?;
            }
            Ok(network)
        })?;
        plan.network = self.connected_or_failed(&container, network)?;
        // What others call it is their affair.
        drop(self.tell_linked(&container));
        plan.questions = self.name_server(&container, plan.network.as_ref())?;
        failpoint::hit("start-recorded");
        self.start_with(monitor, &plan, lock, options)
    }

    /// `create` and `start` with one transaction. If the start fails the container stays, as with Docker (unless
    /// `--rm`), in state `created` with exit code 126, 127 or 128 and the error in its state.
    pub fn run(&self, request: &CreateRequest, options: &StartOptions) -> Result<(Created, Option<Session>)> {
        let id = names::random_id()?;
        // It gets ready while the container is recorded.
        let monitor = Monitor::spawn(self.paths(), &id, userns::owner(&request.host)? == userns::Owner::Own)?;
        let new = self.create_container(request, id, Intent::Running)?;
        let lock = new.run_lock.ok_or_else(|| Error::internal("a new container has no run lock"))?;
        failpoint::hit("run-recorded");
        let network = self.connected_or_failed(&new.container, new.network)?;
        let plan = match self.plan_with(&new.container, &new.image) {
            Ok(plan) => {
                let plan = with_environment(plan, &options.environment);
                Plan { questions: self.name_server(&new.container, network.as_ref())?, network, ..plan }
            }
            Err(error) => {
                self.record_failed_start(&new.container.id, &error)?;
                return Err(error);
            }
        };
        let session = self.start_with(monitor, &plan, lock, options)?;
        Ok((Created { id: new.container.id, warnings: new.warnings }, session))
    }

    /// What a container got in its networks, with its files written; an error is that of a failed start.
    fn connected_or_failed(
        &self,
        container: &Container,
        network: Result<Option<network::Attachment>>,
    ) -> Result<Option<network::Attachment>> {
        let ready = network.and_then(|network| self.write_hosts(container, network.as_ref()).map(|()| network));
        if let Err(error) = &ready {
            self.record_failed_start(&container.id, error)?;
        }
        ready
    }

    /// Connects to the streams of a running container.
    pub fn attach(&self, name: &str, attach: Attach) -> Result<Session> {
        let container = self.look_up(name)?;
        let status = self.running(&container)?;
        if status.status == Status::Paused {
            return Err(Error::conflict(format!(
                "container {} is paused, unpause the container before attach",
                container.id
            )));
        }
        let socket = self.connect(&container)?;
        protocol::send(&socket, &Request::Attach(attach.into()), &[])?;
        self.session(&container.id, socket)
    }

    /// Starts a container whose row says `running` already: the caller holds its run lock.
    pub(crate) fn start_recorded(&self, plan: &Plan, lock: RunLock, options: &StartOptions) -> Result<Option<Session>> {
        match Monitor::spawn(self.paths(), &plan.id, plan.is_apart()) {
            Ok(monitor) => self.start_with(monitor, plan, lock, options),
            Err(error) => {
                self.record_failed_start(&plan.id, &error)?;
                Err(error)
            }
        }
    }

    fn start_with(
        &self,
        monitor: Monitor,
        plan: &Plan,
        lock: RunLock,
        options: &StartOptions,
    ) -> Result<Option<Session>> {
        write_new_plan(self.paths(), plan)?;
        failpoint::hit("start-planned");
        let begin =
            Request::Begin { adopt: false, attach: options.attach.map(Into::into), console: options.console_size };
        let started = monitor.begin(&lock, &begin).and_then(|socket| self.session(&plan.id, socket));
        match started {
            Ok(session) => Ok(options.attach.map(|_| session)),
            Err(error) => {
                self.record_failed_start(&plan.id, &error)?;
                drop(lock);
                Err(error)
            }
        }
    }

    /// The session behind a monitor's answer to `Begin` or `Attach`.
    fn session(&self, id: &str, socket: OwnedFd) -> Result<Session> {
        match protocol::answer(&socket)? {
            Some((Answer::Done { streams }, descriptors)) => {
                Ok(Session::of_container(self.paths(), id, socket, streams, descriptors))
            }
            Some((Answer::Failed(error), _)) => Err(error),
            Some(_) => {
                Err(Error::internal(format!("the monitor of container {id} gave another answer than asked for")))
            }
            None => Err(Error::internal(format!("the monitor of container {id} died"))
                .hinted("see the kernel's log (dmesg): it may have been killed for want of memory")),
        }
    }

    /// Takes responsibility for the container's next run; errors if it runs.
    fn take_run(&self, container: &Container) -> Result<RunLock> {
        loop {
            if let Some(lock) = RunLock::try_take(self.paths(), &container.id)? {
                return Ok(lock);
            }
            match status::read(self.paths(), &container.id).map(|status| status.status) {
                Some(Status::Paused) => {
                    return Err(Error::conflict("cannot start a paused container, try unpause instead"));
                }
                Some(Status::Running | Status::Restarting) => {
                    return Err(Error::new(
                        ErrorKind::NotModified,
                        format!("container {} is already running", container.name),
                    ));
                }
                // Another command is starting it, or its last run is being wound up: a matter of milliseconds.
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// A connection to the monitor of a container that runs.
    pub(crate) fn connect(&self, container: &Container) -> Result<OwnedFd> {
        let directory = self.paths().container_state(&container.id);
        let deadline = Instant::now() + LISTENS_WITHIN;
        while status::is_held(self.paths(), &container.id) {
            if let Some(socket) = protocol::connect(&directory)? {
                return Ok(socket);
            }
            if Instant::now() > deadline {
                return Err(deaf(container, &directory));
            }
            // The monitor is about to listen, or about to go.
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(not_running(container))
    }

    /// The status of a container that runs (or is paused); an error for every other.
    pub(crate) fn running(&self, container: &Container) -> Result<status::RunStatus> {
        match status::liveness(self.paths(), &container.id) {
            Liveness::Monitored(Some(status)) if status.pid > 0 => Ok(status),
            Liveness::Monitored(Some(status)) if status.status == Status::Restarting => Err(Error::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                container.id
            ))),
            _ => Err(not_running(container)),
        }
    }
}

/// A monitor listens within milliseconds, unless somebody removed its socket.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);

fn deaf(container: &Container, directory: &Path) -> Error {
    let socket = directory.join("monitor.sock");
    let message = format!("the monitor of container {} does not listen on {}", container.name, socket.display());
    Error::internal(message).hinted("kill the process 'kiste monitor … ID': the next command starts another one")
}

/// Docker's words for a verb that needs a running container.
pub(crate) fn not_running(container: &Container) -> Error {
    Error::conflict(format!("container {} is not running", container.id))
}

fn check_startable(container: &Container) -> Result<()> {
    match container.state {
        Intent::Created | Intent::Exited => Ok(()),
        // Its monitor went between our look and our lock: the next look puts that right.
        Intent::Running => {
            Err(Error::conflict(format!("the last run of container {} is just being wound up", container.name))
                .hinted("try again"))
        }
        Intent::Removing | Intent::Dead => {
            Err(Error::conflict("container is marked for removal and cannot be started"))
        }
    }
}

/// Writes a new plan, for a new run.
fn write_new_plan(paths: &Paths, plan: &Plan) -> Result<()> {
    let path = paths.container_state(&plan.id).join("status.json");
    // A status of an earlier run would be taken for this one's.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).step(|| format!("remove {}", path.display()));
        }
        _ => {}
    }
    write_plan(paths, plan)
}

/// Writes a plan; one that changes while the container runs is for the next start by its restart policy.
pub(super) fn write_plan(paths: &Paths, plan: &Plan) -> Result<()> {
    let path = paths.container_state(&plan.id).join("plan.json");
    let step = || format!("write {}", path.display());
    let new = path.with_extension("json.new");
    let json = serde_json::to_vec(plan).step(step)?;
    status::write_private(&new, &json).and_then(|()| fs::rename(&new, &path)).step(step)
}

/// The plan with more lines in the environment of the process.
fn with_environment(mut plan: Plan, lines: &[String]) -> Plan {
    if let Some(process) = plan.spec.process_mut().as_mut().filter(|_| !lines.is_empty()) {
        let env = process.env().iter().flatten().cloned().chain(lines.iter().cloned()).collect();
        process.set_env(Some(env));
    }
    plan
}
