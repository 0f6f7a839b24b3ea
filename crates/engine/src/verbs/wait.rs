//! `wait`: for the end of a run, of the next one, or of the container. A [`Waiter`] is registered when it is made, so
//! nothing that happens from then on is missed; its descriptor says when to look again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::RecvFlags;

use crate::monitor::protocol::{self, Answer, Received, Request};
use crate::news::{self, News};
use crate::table::{self, Container, Intent};
use crate::wake::Wake;
use crate::{Engine, Error, ErrorKind, Result, status};

/// What `wait` waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// Not running (returns at once for a container that has ended or never ran). The end of a process that a policy
    /// starts again counts, as with Docker.
    #[default]
    NotRunning,
    /// The next time that it ends.
    NextExit,
    /// It is gone.
    Removed,
}

/// Somebody who waits for a container.
pub struct Waiter {
    id: String,
    condition: WaitCondition,
    news: news::Reader,
    /// The monitor's answer comes here; its death shows here too.
    monitor: Option<OwnedFd>,
    wake: Wake,
    /// Code of the last run.
    code: i32,
}

impl Engine {
    /// Waits; the exit code.
    pub fn wait(&self, name: &str, condition: WaitCondition) -> Result<i32> {
        let mut waiter = self.waiter(name, condition)?;
        loop {
            if let Some(code) = waiter.check(self)? {
                return Ok(code);
            }
            waiter.wake.wait(None)?;
        }
    }

    /// Registers somebody who waits.
    pub fn waiter(&self, name: &str, condition: WaitCondition) -> Result<Waiter> {
        let id = self.look_up(name)?.id;
        let news = news::Reader::open(self.paths(), &id)?;
        let wake = Wake::new()?;
        wake.add(news.watch())?;
        Ok(Waiter { id, condition, news, monitor: None, wake, code: 0 })
    }
}

impl Waiter {
    /// The exit code, if what was waited for has come. To be called once at the beginning, and whenever the descriptor
    /// is readable.
    pub fn check(&mut self, engine: &Engine) -> Result<Option<i32>> {
        loop {
            while let Some(news) = self.news.next() {
                if let Some(code) = self.heard(news) {
                    return Ok(Some(code));
                }
            }
            if self.monitor.is_some() {
                match self.answer()? {
                    Some(code) => return Ok(Some(code)),
                    None if self.monitor.is_some() => return Ok(None),
                    None => {}
                }
            }
            // No monitor, or one that is gone.
            let container = match engine.look_up(&self.id) {
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(Some(self.code)),
                found => found?,
            };
            match self.look(engine, &container)? {
                Looked::Done(code) => return Ok(Some(code)),
                Looked::Connected => {}
                Looked::Nothing => return Ok(None),
                // Starting or being wound up: a matter of milliseconds.
                Looked::Between => std::thread::sleep(std::time::Duration::from_millis(1)),
            }
        }
    }

    fn heard(&mut self, news: News) -> Option<i32> {
        match (news, self.condition) {
            (News::Started, _) => None,
            (News::Exited(code), condition) => (condition != WaitCondition::Removed).then_some(code),
            (News::Ended(code), condition) => {
                self.code = code;
                (condition != WaitCondition::Removed).then_some(code)
            }
            (News::Removed, _) => Some(self.code),
        }
    }

    /// What the monitor says; it is forgotten if it says nothing more.
    fn answer(&mut self) -> Result<Option<i32>> {
        let Some(monitor) = &self.monitor else { return Ok(None) };
        match protocol::receive(monitor, RecvFlags::DONTWAIT)? {
            Received::Nothing => return Ok(None),
            Received::Message(Answer::Ended { code }, _) => {
                self.code = code;
                if self.condition != WaitCondition::Removed {
                    return Ok(Some(code));
                }
            }
            Received::Message(Answer::Failed(error), _) => return Err(error),
            Received::Message(..) | Received::Closed => {}
        }
        self.monitor = None;
        Ok(None)
    }

    fn look(&mut self, engine: &Engine, container: &Container) -> Result<Looked> {
        if !status::is_held(engine.paths(), &container.id) {
            return self.look_at_record(engine);
        }
        let Some(socket) = protocol::connect(&engine.paths().container_state(&container.id))? else {
            return Ok(Looked::Between);
        };
        let next = self.condition != WaitCondition::Removed;
        if protocol::send(&socket, &Request::Wait { next }, &[]).is_err() {
            return Ok(Looked::Between);
        }
        self.wake.add(&socket)?;
        self.monitor = Some(socket);
        Ok(Looked::Connected)
    }

    /// The container does not run.
    fn look_at_record(&mut self, engine: &Engine) -> Result<Looked> {
        let row = match engine.read(|connection| table::find(connection, &self.id)) {
            Err(Error { kind: ErrorKind::NotFound, .. }) => return Ok(Looked::Done(self.code)),
            row => row?,
        };
        if row.state == Intent::Running {
            return Ok(Looked::Between);
        }
        self.code = row.exit_code as i32;
        Ok(match self.condition {
            WaitCondition::NotRunning => Looked::Done(self.code),
            WaitCondition::NextExit | WaitCondition::Removed => Looked::Nothing,
        })
    }
}

/// What a look at the container brought.
enum Looked {
    /// What was waited for has come.
    Done(i32),
    /// Its monitor will tell.
    Connected,
    /// There is nothing but to wait for news.
    Nothing,
    /// It is about to be one or the other.
    Between,
}

impl AsFd for Waiter {
    /// Readable when [`Waiter::check`] may have something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
