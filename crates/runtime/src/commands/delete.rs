//! `delete`: removes what is left of a container.

use lexopt::{Arg, Parser};

use super::Call;
use crate::Result;
use crate::arguments::{bad, required, switch, take_id, unexpected};
use crate::container::{Container, Status};
use crate::error::Error;
use crate::log::Log;
use crate::record::{Store, check_id};

pub(super) const HELP: &str = "\
  -f, --force             kill the container first if it is running; no error if there is none
  -r, --regex             all containers whose id the regular expression matches
";

pub(super) fn run(call: Call<'_>) -> Result<u8> {
    let mut parser = Parser::from_args(call.words);
    let (mut force, mut regex, mut id) = (false, false, None);
    while let Some(argument) = parser.next().map_err(bad)? {
        match argument {
            Arg::Long("force") | Arg::Short('f') => force = switch(&mut parser)?,
            Arg::Long("regex") | Arg::Short('r') => regex = switch(&mut parser)?,
            Arg::Value(value) => take_id(&mut id, value, "delete")?,
            other => return Err(unexpected(other)),
        }
    }
    let id = required(id, "delete")?;
    let store = Store::new(&call.globals.root);
    let ids = if regex { store.matching(&id)? } else { vec![id] };
    ids.iter().try_for_each(|id| delete(&store, id, force, call.log))?;
    Ok(0)
}

fn delete(store: &Store, id: &str, force: bool, log: &Log) -> Result<()> {
    check_id(id)?;
    if force && !store.has(id) {
        return Ok(());
    }
    let container = match Container::open(store, id) {
        // A creation that was cut off at its very beginning.
        Err(_) if force && store.has(id) => return store.open(id)?.remove(),
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
    container.destroy()?.iter().for_each(|warning| log.warn(warning));
    Ok(())
}
