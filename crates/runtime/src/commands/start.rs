//! `start`: lets the program of a created container be executed.

use oci_spec::runtime::Spec;
use sandbox::hooks::Env;
use sandbox::launch;

use super::Call;
use crate::arguments::only_id;
use crate::container::{Container, Status};
use crate::notify::Notify;
use crate::record::{GATE, Store};
use crate::{Error, Result};

pub(super) fn run(call: Call<'_>) -> Result<u8> {
    let id = only_id(call.words, "start")?;
    let store = Store::new(&call.globals.root);
    let container = Container::open(&store, &id)?;
    container.directory.lock_for_start()?;
    match container.status() {
        Status::Created => {}
        Status::Stopped => return Err(Error::new("cannot start a container that has stopped")),
        Status::Running | Status::Paused => return Err(Error::new("cannot start an already running container")),
        Status::Creating => return Err(Error::new("cannot start a container that is still being created")),
    }
    let process = container.running()?;
    let spec = container.spec()?;
    let notify = Notify::from_environment(&container.directory)?.map(Notify::bind).transpose()?;
    let starter = launch::knock(container.directory.fd(), GATE)?;
    // Before the start: if we are killed in between, the container ends and is stopped, not for ever created.
    container.directory.remove_gate()?;
    let started = starter.start().map_err(|error| (matches!(error, launch::Error::Hook(_)), Error::from(error)));
    let started = started.and_then(|()| poststart(&container, &spec).map_err(|error| (true, error)));
    match started {
        // A hook that fails ends the container's life (runtime-spec, runtime.md "Lifecycle").
        Err((true, error)) => {
            container.destroy()?;
            return Err(error);
        }
        Err((false, error)) => return Err(error),
        Ok(()) => {}
    }
    if let Some(notify) = notify {
        notify.forward(container.record.pid, &process)?;
    }
    Ok(0)
}

/// The hooks after the start.
pub(super) fn poststart(container: &Container, spec: &Spec) -> Result<()> {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_ref());
    container.about().run("poststart", hooks, "running", container.record.pid, Env::Callers).map_err(Error::new)
}
