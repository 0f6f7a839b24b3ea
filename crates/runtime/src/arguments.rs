//! Helpers around the command-line parser: values of flags as types, runc's words for what is wrong.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use lexopt::{Arg, Parser, ValueExt};

use crate::{Error, Result};

/// The error of the parser in runc's words.
pub(crate) fn bad(error: lexopt::Error) -> Error {
    Error::new(match &error {
        lexopt::Error::UnexpectedOption(flag) => {
            format!("flag provided but not defined: -{}", flag.trim_start_matches('-'))
        }
        lexopt::Error::MissingValue { option: Some(flag) } => {
            format!("flag needs an argument: -{}", flag.trim_start_matches('-'))
        }
        other => other.to_string(),
    })
}

/// An argument that the command does not know.
pub(crate) fn unexpected(argument: Arg<'_>) -> Error {
    bad(argument.unexpected())
}

/// The value of a flag as a path.
pub(crate) fn path(parser: &mut Parser) -> Result<PathBuf> {
    Ok(PathBuf::from(parser.value().map_err(bad)?))
}

/// As text.
pub(crate) fn text(parser: &mut Parser) -> Result<String> {
    parser.value().and_then(ValueExt::string).map_err(bad)
}

/// As a number; `flag` is for the error.
pub(crate) fn number<T: FromStr>(parser: &mut Parser, flag: &str) -> Result<T> {
    let text = text(parser)?;
    text.trim().parse().map_err(|_| Error::new(format!("invalid value {text:?} for flag -{flag}: not a valid number")))
}

/// A switch: alone it is on, `=true` and `=false` are possible.
pub(crate) fn switch(parser: &mut Parser) -> Result<bool> {
    let Some(value) = parser.optional_value() else { return Ok(true) };
    boolean(&value.to_string_lossy())
}

/// Go's words for truth.
pub(crate) fn boolean(word: &str) -> Result<bool> {
    match word {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::new(format!("invalid boolean value {word:?}"))),
    }
}

/// Takes the next positional argument: the container's id.
pub(crate) fn take_id(id: &mut Option<String>, value: OsString, command: &str) -> Result<()> {
    match id {
        None => {
            *id = Some(value.string().map_err(bad)?);
            Ok(())
        }
        Some(_) => Err(Error::new(format!("{command}: exactly one argument is required: the container's id"))),
    }
}

/// The id, which must have been given.
pub(crate) fn required(id: Option<String>, command: &str) -> Result<String> {
    match id {
        Some(id) if !id.is_empty() => Ok(id),
        Some(_) => Err(Error::new("container id cannot be empty")),
        None => Err(Error::new(format!("{command}: a container id is required"))),
    }
}

/// For commands that take an id and nothing else.
pub(crate) fn only_id(words: Vec<OsString>, command: &str) -> Result<String> {
    let mut parser = Parser::from_args(words);
    let mut id = None;
    while let Some(argument) = parser.next().map_err(bad)? {
        match argument {
            Arg::Value(value) => take_id(&mut id, value, command)?,
            other => return Err(unexpected(other)),
        }
    }
    required(id, command)
}
