//! The monitor: the process that owns one container from start to end: its streams, log, health, restarts and exit
//! code. Single-threaded, epoll, small: it opens the database only to record the end. Requests of clients are in
//! `requests`, what follows from the end in `ending`.

mod care;
mod clients;
mod ending;
mod events;
mod health;
mod keeper;
mod network;
mod poll;
pub(crate) mod protocol;
mod requests;
mod restart;
pub(crate) mod run;
mod services;
mod shield;
mod stream;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use linux::signal::SignalFd;
use rustix::fs::{Mode, OFlags};
use rustix::net::RecvFlags;

use crate::log::{Log, Options};
use crate::model::Status;
use crate::news::{self, News};
use crate::plan::Plan;
use crate::status::{RunLock, RunStatus};
use crate::verbs::{Stream, read_plan};
use crate::{Context, Engine, Error, Paths, Result, clock, failpoint, status, table};
use clients::Clients;
use events::Teller;
use health::Health;
use poll::{Poll, Token};
use protocol::{Answer, Received, Request, Streams};
use restart::Backoff;
use run::Run;
use services::Services;
use stream::{Feed, read_some};

/// Bytes read from the container at a time.
const CHUNK: usize = 16 << 10;
const SIGTERM: i32 = 15;

/// What is kept of the plan while the container runs; the rest is read again when it starts again.
struct Settings {
    restart: crate::model::RestartPolicy,
    auto_remove: bool,
    stop_signal: i32,
    stop_timeout: i64,
    stdin_once: bool,
    shares_pids: bool,
    cgroup: String,
}

/// One container's monitor.
struct Monitor {
    paths: Paths,
    id: String,
    settings: Settings,
    teller: Teller,
    lock: Option<RunLock>,
    status: RunStatus,
    poll: Poll,
    listener: OwnedFd,
    signals: SignalFd,
    clients: Clients,
    run: Option<Run>,
    /// The last run, after its end: its mounts may still be there.
    ended: Option<Run>,
    /// Directories of a container that is removed.
    trash: Vec<PathBuf>,
    /// With the records open: for a short while after a start whose end is waited for, and from when the end is recorded.
    engine: Option<Engine>,
    streams: run::Streams,
    feed: Feed,
    log: Log,
    health: Option<Health>,
    backoff: Backoff,
    /// `stop` was asked for, which has an event of its own.
    stop_asked: bool,
    /// When SIGKILL follows the stop signal.
    kill_at: Option<Instant>,
    /// When the container starts again.
    restart_at: Option<Instant>,
    console: Option<(u16, u16)>,
    buffer: Vec<u8>,
}

/// How long nothing must happen before memory is given back: less than a human notices, more than a busy container
/// pauses.
const QUIET: Duration = Duration::from_millis(100);

fn quiet() -> Instant {
    Instant::now() + QUIET
}

/// Entry point of `kiste monitor ID`: runs until the container has ended for good. Returns the process's exit code.
/// Standard input is the socket of the command that starts it.
pub fn main(paths: &Paths, id: &str) -> i32 {
    let Ok(control) = settle() else { return 1 };
    if crate::rootless::stay(&paths.state).is_err() {
        return 1;
    }
    failpoint::hit("monitor-begun");
    match begin(paths, id, &control) {
        Ok((mut monitor, attach)) => {
            let served = monitor.welcome(control, attach).and_then(|()| monitor.serve());
            monitor.clean_up();
            crate::user_network::leave(paths);
            i32::from(served.is_err())
        }
        Err(error) => {
            crate::user_network::leave(paths);
            let _ = protocol::send(&control, &Answer::Failed(error), &[]);
            1
        }
    }
}

/// Entry point of `kiste monitor ID EXEC`: keeps one process of the Engine API's `exec`.
pub fn keep_exec(paths: &Paths, id: &str, exec: &str) -> i32 {
    keeper::main(paths, id, exec)
}

/// Becomes independent of the command that started us; its socket.
fn settle() -> Result<OwnedFd> {
    // Descriptors of the caller's caller: held open for weeks, they would block whoever waits for their end. We have
    // opened none yet.
    linux::process::close_range(3, i32::MAX).step(|| "close inherited descriptors".to_owned())?;
    let control =
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).step(|| "take the control socket".to_owned())?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .step(|| "open /dev/null".to_owned())?;
    rustix::stdio::dup2_stdin(&null).step(|| "close standard input".to_owned())?;
    // Not an error if we lead a session already.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/").step(|| "change to /".to_owned())?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let _ = rustix::thread::set_name(c"kiste-monitor");
    shield::remember();
    Ok(control)
}

/// Reads what is to be done and makes everything but the container.
fn begin(paths: &Paths, id: &str, control: &OwnedFd) -> Result<(Monitor, Option<Streams>)> {
    let (adopt, attach, console, lock) = match protocol::receive(control, RecvFlags::empty())? {
        Received::Message(Request::Begin { adopt, attach, console }, mut descriptors) if descriptors.len() == 1 => {
            (adopt, attach, console, RunLock::from_handover(descriptors.remove(0)))
        }
        _ => return Err(Error::internal("the monitor was not told what to do")),
    };
    let plan = read_plan(paths, id)?;
    let mut monitor = Monitor::new(paths, &plan, lock)?;
    monitor.console = console;
    if attach.is_some() {
        // Docker's order: before `start`.
        monitor.teller.tell("attach", &[]);
    }
    if adopt {
        monitor.adopt(&plan)?;
    } else if let Err(error) = monitor.start(&plan) {
        monitor.give_up(&error);
        return Err(error);
    }
    linux::memory::trim();
    Ok((monitor, attach))
}

impl Monitor {
    fn new(paths: &Paths, plan: &Plan, lock: RunLock) -> Result<Self> {
        let options = Options::parse(&plan.log)?;
        let env = plan.spec.process().as_ref().and_then(|process| process.env().clone()).unwrap_or_default();
        let subject =
            crate::log::Subject { id: &plan.id, name: &plan.name, image: &plan.image, labels: &plan.labels, env: &env };
        let log = Log::open(&options, &plan.log_path, &options.attributes(&subject))?;
        let signals = linux::signalfd(&[SIGTERM]).step(|| "take signals".to_owned())?;
        let poll = Poll::new()?;
        let listener = protocol::listen(&paths.container_state(&plan.id))?;
        poll.watch_input(&listener, Token::Listener)?;
        poll.watch_input(&signals, Token::Signal)?;
        let status = RunStatus { monitor_pid: std::process::id() as i32, ..RunStatus::default() };
        Ok(Monitor {
            paths: paths.clone(),
            id: plan.id.clone(),
            settings: Settings {
                restart: plan.restart.clone(),
                auto_remove: plan.auto_remove,
                stop_signal: plan.stop_signal,
                stop_timeout: plan.stop_timeout,
                stdin_once: plan.stdin_once,
                shares_pids: run::shares_pids(&plan.spec),
                cgroup: run::cgroup_path(&plan.spec),
            },
            teller: Teller::new(paths, plan),
            lock: Some(lock),
            status,
            poll,
            listener,
            signals,
            clients: Clients::default(),
            run: None,
            ended: None,
            trash: Vec::new(),
            engine: None,
            streams: run::Streams::default(),
            feed: Feed::default(),
            log,
            health: plan.health.as_ref().and_then(Health::new),
            backoff: Backoff::default(),
            stop_asked: false,
            kill_at: None,
            restart_at: None,
            console: None,
            buffer: vec![0; CHUNK],
        })
    }

    /// Starts the container's process.
    fn start(&mut self, plan: &Plan) -> Result<()> {
        shield::lower();
        let (run, streams) = run::begin(&self.paths, plan, self.console, &mut self.status)?;
        self.take_over(run, streams)?;
        self.status.status = Status::Running;
        self.status.started_at = clock::now();
        self.status.health = self.health.as_mut().map(Health::restart);
        self.write_status();
        shield::raise();
        failpoint::hit("monitor-running");
        self.teller.connected(plan);
        self.teller.tell("start", &[]);
        news::tell(&self.paths, &self.id, News::Started);
        Ok(())
    }

    /// Goes on with a process whose monitor has died.
    fn adopt(&mut self, plan: &Plan) -> Result<()> {
        let found =
            status::read(&self.paths, &self.id).ok_or_else(|| Error::internal("the container's status is gone"))?;
        let (run, streams) = run::adopt(&self.paths, plan, &found)?;
        self.take_over(run, streams)?;
        shield::raise();
        self.status = RunStatus { monitor_pid: std::process::id() as i32, ..found };
        if let (Some(health), Some(found)) = (&mut self.health, &self.status.health) {
            health.resume(found);
        }
        self.write_status();
        Ok(())
    }

    fn take_over(&mut self, run: Run, streams: run::Streams) -> Result<()> {
        self.poll.watch_input(&run.pidfd, Token::Process)?;
        for (index, output) in (0..).zip(&streams.output) {
            if let Some(output) = output {
                self.poll.watch_input(output, Token::Output(index))?;
            }
        }
        run.services.watch(&self.poll)?;
        (self.run, self.streams, self.feed) = (Some(run), streams, Feed::default());
        Ok(())
    }

    /// Takes in the command that started us as the first client. It hears that the container runs.
    fn welcome(&mut self, control: OwnedFd, attach: Option<Streams>) -> Result<()> {
        rustix::io::ioctl_fionbio(&control, true).step(|| "make the control socket non-blocking".to_owned())?;
        let id = self.clients.add(&self.poll, control)?;
        match attach {
            Some(wanted) => {
                self.attach(id, wanted, true)?;
                self.open_records();
                Ok(())
            }
            None => {
                self.clients.reply(id, Ok(()));
                Ok(())
            }
        }
    }

    /// Somebody waits for the end, which may come at once: opens what recording it takes while the process runs.
    fn open_records(&mut self) {
        let engine = Engine::new(self.paths.clone());
        drop(engine.read(|connection| table::find(connection, &self.id)));
        self.engine = Some(engine);
    }

    /// Serves until the run is over for good and every client has what is left for it.
    fn serve(&mut self) -> Result<()> {
        loop {
            let deadline = self.next_deadline();
            let mut happened = self.poll.wait(Some(deadline.map_or_else(quiet, |at| at.min(quiet()))))?;
            if happened.is_empty() && deadline.is_none_or(|at| at > quiet()) {
                // Nothing is going on: sleep small.
                self.buffer = Vec::new();
                if self.run.is_some() {
                    self.engine = None;
                }
                self.with_services(Services::rest);
                self.poll.sleep_small(deadline);
                happened = self.poll.wait(deadline)?;
                self.buffer = vec![0; CHUNK];
            }
            for token in happened {
                self.handle(token);
            }
            self.check_deadlines();
            if self.run.is_none() && self.restart_at.is_none() {
                self.clients.close_idle();
                if self.clients.is_empty() {
                    return Ok(());
                }
            }
        }
    }

    fn handle(&mut self, token: Token) {
        match token {
            Token::Process => self.process_ended(),
            Token::Names => self.with_services(Services::answer),
            Token::Proxy => self.with_services(Services::forward),
            Token::Watch | Token::Repair => {
                let Some(run) = &mut self.run else { return };
                run.services.look_after(&self.poll);
            }
            Token::Listener => drop(self.clients.accept(&self.poll, &self.listener)),
            Token::Signal => self.signalled(),
            Token::Output(0) => self.output(Stream::Stdout),
            Token::Output(_) => self.output(Stream::Stderr),
            Token::Input => self.input_has_room(),
            Token::Probe | Token::ProbeOutput => self.probe_progress(token),
            Token::Client(id) => self.client(id),
            Token::ClientInput(id) => self.client_input(id),
            Token::ClientStdout(id) => self.clients.flush(&self.poll, id, Stream::Stdout),
            Token::ClientStderr(id) => self.clients.flush(&self.poll, id, Stream::Stderr),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let probe = self.run.as_ref().and(self.health.as_ref()).and_then(|health| health.deadline());
        let services = self.run.as_ref().and_then(|run| run.services.deadline());
        [self.kill_at, self.restart_at, probe, services].into_iter().flatten().min()
    }

    fn with_services(&mut self, work: impl FnOnce(&mut Services)) {
        if let Some(run) = &mut self.run {
            work(&mut run.services);
        }
    }

    fn check_deadlines(&mut self) {
        let now = Instant::now();
        if let Some(run) = &mut self.run {
            run.services.due(now, &self.poll);
        }
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            self.force();
        }
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart_at = None;
            self.start_again();
        }
        if self.run.is_some() && self.status.status == Status::Running {
            self.probe_if_due(now);
        }
    }

    /// The host shuts down: the container gets the chance to end by itself.
    fn signalled(&mut self) {
        while let Ok(Some(_)) = self.signals.read() {
            drop(self.stop(None, None));
        }
    }

    /// Moves what the container wrote to the log and to the clients; false if there was nothing more.
    fn output(&mut self, stream: Stream) {
        self.move_output(stream);
    }

    fn move_output(&mut self, stream: Stream) -> bool {
        let index = stream as usize;
        let Some(output) = &self.streams.output[index] else { return false };
        match read_some(output, &mut self.buffer) {
            None => false,
            Some(0) => {
                self.poll.forget(output);
                self.streams.output[index] = None;
                false
            }
            Some(count) => {
                self.log.write(stream, &self.buffer[..count]);
                self.clients.broadcast(&self.poll, stream, &self.buffer[..count]);
                true
            }
        }
    }

    /// A client typed. Its bytes are read only while the container takes them.
    fn client_input(&mut self, id: u32) {
        let Some(client) = self.clients.get(id) else { return };
        let Some(stdin) = &client.stdin else { return };
        if !self.feed.is_idle() {
            self.poll.forget(stdin);
            return;
        }
        match read_some(stdin, &mut self.buffer) {
            None => {}
            Some(0) => {
                client.stdin = None;
                if self.settings.stdin_once && !self.streams.terminal {
                    self.streams.input = None;
                }
            }
            Some(count) => {
                let Some(input) = &self.streams.input else { return };
                if self.feed.push(input, &self.buffer[..count]).is_err() {
                    self.streams.input = None;
                } else if !self.feed.is_idle() {
                    drop(self.poll.watch_room(input, Token::Input));
                }
            }
        }
    }

    /// The container reads again: finish what waits, then let the clients type on.
    fn input_has_room(&mut self) {
        let Some(input) = &self.streams.input else { return };
        match self.feed.flush(input) {
            Ok(()) if !self.feed.is_idle() => return,
            Ok(()) => self.poll.forget(input),
            Err(_) => (self.streams.input, self.feed) = (None, Feed::default()),
        }
        for (id, stdin) in self.clients.with_input() {
            drop(self.poll.watch_input(stdin, Token::ClientInput(id)));
        }
    }

    fn write_status(&self) {
        // Without a status file the container is served all the same; readers fall back to its record.
        drop(status::write(&self.paths, &self.id, &self.status));
    }

    fn spill_directory(&self) -> PathBuf {
        self.paths.container(&self.id)
    }

    fn lived(&self) -> Duration {
        Duration::from_nanos(clock::now().saturating_sub(self.status.started_at).max(0) as u64)
    }
}
