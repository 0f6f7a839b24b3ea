//! `list`: all containers of a state root, as a table, as JSON, or only their ids.

use lexopt::{Arg, Parser};

use super::state::State;
use super::{Call, print};
use crate::arguments::{bad, switch, text, unexpected};
use crate::container::Container;
use crate::error::Step;
use crate::record::Store;
use crate::{Error, Result, tabular};

pub(super) const HELP: &str = "\
  -f, --format FORMAT     table or json
  -q, --quiet             only the ids
";

pub(super) fn run(call: Call<'_>) -> Result<u8> {
    let mut parser = Parser::from_args(call.words);
    let (mut format, mut quiet) = ("table".to_owned(), false);
    while let Some(argument) = parser.next().map_err(bad)? {
        match argument {
            Arg::Long("format") | Arg::Short('f') => format = text(&mut parser)?,
            Arg::Long("quiet") | Arg::Short('q') => quiet = switch(&mut parser)?,
            other => return Err(unexpected(other)),
        }
    }
    let store = Store::new(&call.globals.root);
    let ids = store.ids()?;
    if quiet {
        return print(&ids.iter().map(|id| format!("{id}\n")).collect::<String>()).map(|()| 0);
    }
    // One that is removed meanwhile, or whose state is not whole, is left out.
    let states: Vec<State> = ids.iter().filter_map(|id| Container::open(&store, id).ok().map(State::of)).collect();
    match format.as_str() {
        "table" => print(&table(&states))?,
        "json" => print(&serde_json::to_string(&states).step(|| "encode the list".into())?)?,
        _ => return Err(Error::new("invalid format option")),
    }
    Ok(0)
}

fn table(states: &[State]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned).to_vec()];
    rows.extend(states.iter().map(|state| {
        let State { id, pid, status, bundle, created, owner, .. } = state;
        vec![id.clone(), pid.to_string(), (*status).to_owned(), bundle.clone(), created.clone(), owner.clone()]
    }));
    tabular::table(&rows)
}
