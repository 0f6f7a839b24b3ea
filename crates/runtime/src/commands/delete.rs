//! `delete`: removes what is left of a container.

use lexopt::{Arg, Parser};

use super::Call;
use crate::Result;
use crate::arguments::{bad, required, switch, take_id, unexpected};
use crate::container::{Container, Status};
use crate::error::Error;
use crate::record::{Store, check_id};

pub(super) const HELP: &str = "Usage: delete [FLAGS] ID

  -f, --force             kill the container first if it is running; no error if there is none
";

pub(super) fn run(call: Call<'_>) -> Result<u8> {
    let mut parser = Parser::from_args(call.words);
    let (mut force, mut id) = (false, None);
    while let Some(argument) = parser.next().map_err(bad)? {
        match argument {
            Arg::Long("force") | Arg::Short('f') => force = switch(&mut parser)?,
            Arg::Value(value) => take_id(&mut id, value, "delete")?,
            other => return Err(unexpected(other)),
        }
    }
    let id = required(id, "delete")?;
    check_id(&id)?;
    let store = Store::new(&call.globals.root);
    if force && !store.has(&id) {
        return Ok(0);
    }
    let container = match Container::open(&store, &id) {
        // A creation that was cut off at its very beginning.
        Err(_) if force && store.has(&id) => return store.open(&id)?.remove().map(|()| 0),
        other => other?,
    };
    match container.status() {
        Status::Stopped | Status::Created => {}
        _ if force => {}
        other => {
            let text = format!("cannot delete container {id} that is not stopped: {}", other.name());
            return Err(Error::new(text));
        }
    }
    if let Some(warning) = container.destroy()? {
        call.log.warn(&warning);
    }
    Ok(0)
}
