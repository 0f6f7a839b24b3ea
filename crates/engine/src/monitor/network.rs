//! The container's network, from the monitor's side: connecting the new process while it builds its root. Services that
//! run for as long as the container does hang on what this leaves in the run.

use std::cell::{Cell, RefCell};

use network::Attachment;
use network::connect::{self, Connected};

use super::services::Services;
use crate::networking::external;
use crate::plan::Plan;
use crate::{Engine, Error, Paths, failpoint, naming, user_network};

/// A connection that is about to be made. The sandbox knows nothing of networks and their errors: what comes of it is
/// kept here.
pub(super) struct Connecting<'a> {
    paths: &'a Paths,
    plan: &'a Plan,
    connected: Cell<Option<Connected>>,
    failure: RefCell<Option<Error>>,
}

impl<'a> Connecting<'a> {
    pub(super) fn new(paths: &'a Paths, plan: &'a Plan) -> Self {
        Connecting { paths, plan, connected: Cell::new(None), failure: RefCell::new(None) }
    }

    /// Connects the process.
    pub(super) fn connect(&self, pid: i32) -> Result<(), String> {
        let Some(attachment) = &self.plan.network else { return Ok(()) };
        let connected = self.reach(attachment).and_then(|()| {
            let names = self.plan.questions.is_some();
            connect::connect(attachment, pid, &self.paths.state, names).map_err(|error| self.explained(error))
        });
        let connected = connected.and_then(|connected| {
            if connected.unprotected {
                // The first network since boot, or somebody has flushed all rules.
                Engine::new(self.paths.clone()).rebuild_firewall()?;
            }
            Ok(connected)
        });
        match connected {
            Ok(connected) => {
                failpoint::hit("monitor-connected");
                naming::announce(&self.paths.state, attachment, &self.plan.id, &self.plan.name);
                self.connected.set(Some(connected));
                Ok(())
            }
            Err(error) => {
                let text = error.message.clone();
                *self.failure.borrow_mut() = Some(error);
                Err(text)
            }
        }
    }

    /// Without root: holds the host's ports, then goes where the user's networks are.
    fn reach(&self, attachment: &Attachment) -> Result<(), Error> {
        user_network::hold_ports(attachment).map_err(|error| self.explained(error))?;
        user_network::enter(self.paths, true)
    }

    /// Docker's words around an error.
    fn explained(&self, error: network::Error) -> Error {
        let endpoint = self.plan.network.as_ref().and_then(|network| network.endpoints.first());
        let id = endpoint.map(|endpoint| endpoint.id.as_str()).unwrap_or_default();
        let message = match error.message.starts_with("failed to bind host port") {
            true => external(&error.message, &self.plan.name, id),
            false => format!("failed to set up container networking: {error}"),
        };
        let error = Error::from(error);
        Error { message: crate::plain(message), ..error }
    }

    /// Why the connection failed, if that is what the sandbox says; the process itself may have ended for another reason
    /// before.
    pub(super) fn failure(&self, said: &str) -> Option<Error> {
        self.failure.borrow_mut().take().filter(|failure| failure.message == said)
    }

    /// The connection, once, and the services that it comes with.
    pub(super) fn connected(&self, paths: &Paths, plan: &Plan) -> Result<(Option<Connected>, Services), Error> {
        serve(paths, plan, self.connected.take())
    }
}

fn serve(paths: &Paths, plan: &Plan, connected: Option<Connected>) -> Result<(Option<Connected>, Services), Error> {
    let Some(mut connected) = connected else { return Ok((None, Services::default())) };
    let services = Services::begin(paths, plan, &mut connected, user_network::held_ports())?;
    Ok((Some(connected), services))
}

/// Takes the network of a container over whose monitor has died.
pub(super) fn resume(paths: &Paths, plan: &Plan, pid: i32) -> Result<(Option<Connected>, Services), Error> {
    let Some(attachment) = &plan.network else { return Ok((None, Services::default())) };
    user_network::hold_ports(attachment)?;
    user_network::enter(paths, true)?;
    serve(paths, plan, Some(connect::resume(attachment, pid, plan.questions.is_some())?))
}
