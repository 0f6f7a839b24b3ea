//! Clients that have attached to a container which does not run yet (`docker run` attaches before it starts). The start
//! that comes by this server connects them before the process runs, so that they miss nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use engine::{Attach, Engine, Session, StartOptions};
use tokio::sync::oneshot;

/// Who waits for which container.
#[derive(Default)]
pub(crate) struct Pending(Mutex<HashMap<String, Vec<Waiting>>>);

struct Waiting {
    attach: Attach,
    session: oneshot::Sender<Session>,
}

impl Pending {
    /// Registers a client; its session comes when the container starts, nothing if the start fails.
    pub(crate) fn add(&self, id: &str, attach: Attach) -> oneshot::Receiver<Session> {
        let (session, receiver) = oneshot::channel();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those who have gone are forgotten when somebody comes.
        all.values_mut().for_each(|list| list.retain(|waiting| !waiting.session.is_closed()));
        all.retain(|_, list| !list.is_empty());
        all.entry(id.to_owned()).or_default().push(Waiting { attach, session });
        receiver
    }

    /// Starts a container and connects those who wait for it.
    pub(crate) fn start(&self, engine: &Engine, name: &str) -> engine::Result<()> {
        let brief = engine.brief(name)?;
        let mut waiting = self.take(&brief.id);
        waiting.retain(|waiting| !waiting.session.is_closed());
        let [rows, columns] = brief.console_size.map(|n| u16::try_from(n).unwrap_or(u16::MAX));
        let options = StartOptions {
            attach: waiting.first().map(|first| first.attach),
            console_size: (rows > 0 && columns > 0).then_some((rows, columns)),
            ..StartOptions::default()
        };
        let session = engine.start(&brief.id, &options)?;
        let mut waiting = waiting.into_iter();
        if let (Some(first), Some(session)) = (waiting.next(), session) {
            // One that has gone meanwhile just closes its streams.
            drop(first.session.send(session));
        }
        for other in waiting {
            if let Ok(session) = engine.attach(&brief.id, other.attach) {
                drop(other.session.send(session));
            }
        }
        Ok(())
    }

    fn take(&self, id: &str) -> Vec<Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id).unwrap_or_default()
    }
}
