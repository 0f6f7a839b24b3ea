//! `ps`: the processes of a container, as numbers or as the host's ps(1) shows them.

use std::process::Command;

use lexopt::{Arg, Parser};

use super::{Call, print};
use crate::arguments::{bad, required, text, unexpected};
use crate::container::{Container, Status};
use crate::error::Step;
use crate::record::Store;
use crate::{Error, Result};

pub(super) const HELP: &str = "\
  -f, --format FORMAT     table or json
  what follows the id is given to ps(1); -ef if there is nothing
";

pub(super) fn run(call: Call<'_>) -> Result<u8> {
    let mut parser = Parser::from_args(call.words);
    let (mut format, mut id) = ("table".to_owned(), None);
    let mut arguments = Vec::new();
    while let Some(argument) = parser.next().map_err(bad)? {
        match argument {
            Arg::Long("format") | Arg::Short('f') => format = text(&mut parser)?,
            Arg::Value(value) => {
                id = Some(value.to_string_lossy().into_owned());
                arguments = parser.raw_args().map_err(bad)?.collect();
            }
            other => return Err(unexpected(other)),
        }
    }
    let container = Container::open(&Store::new(&call.globals.root), &required(id, "ps")?)?;
    // Without its first process there are no others, or those that a killed one has left in a shared pid namespace.
    let pids = match container.cgroup() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && container.status() == Status::Stopped => {
            Vec::new()
        }
        _ => container.required_cgroup()?.processes().step(|| "list the container's processes".into())?,
    };
    match format.as_str() {
        "json" => print(&serde_json::to_string(&pids).step(|| "encode the list".into())?)?,
        "table" => {
            if arguments.first().is_some_and(|word| word == "--") {
                arguments.remove(0);
            }
            if arguments.is_empty() {
                arguments.push("-ef".into());
            }
            let output = Command::new("ps").args(&arguments).output();
            let output = output.step(|| "execute ps, which `--format json` does without".into())?;
            if !output.status.success() {
                return Err(Error::new(format!("ps: {}", String::from_utf8_lossy(&output.stderr).trim())));
            }
            print(&rows(&String::from_utf8_lossy(&output.stdout), &pids)?)?;
        }
        _ => return Err(Error::new("invalid format option")),
    }
    Ok(0)
}

/// The head and the lines of these processes.
fn rows(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|title| title == "PID");
    let column = column.ok_or_else(|| Error::new("couldn't find PID field in ps output"))?;
    let mut text = format!("{head}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|field| field.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::rows;

    #[test]
    fn only_the_containers_processes_are_shown() {
        let table = "UID PID CMD\nroot 1 init\nroot 12 sleep 1\nroot 2 x\n";
        assert_eq!(rows(table, &[12, 99]).unwrap(), "UID PID CMD\nroot 12 sleep 1\n");
        assert!(rows("UID CMD\n", &[1]).is_err());
    }
}
