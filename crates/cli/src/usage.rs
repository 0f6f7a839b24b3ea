//! What clap's parser complains about, said in Docker's words, which scripts and people know.

use std::num::IntErrorKind;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use crate::failure::{ENGINE_FAILED, Failure};

/// The failure for a parser's error. Bad flags end with 125 and a wrong number of arguments with 1, as with Docker.
pub(crate) fn failure(path: &str, command: &Command, error: &clap::Error) -> Failure {
    let name = format!("kiste {path}");
    match error.kind() {
        ErrorKind::UnknownArgument if !invalid(error).starts_with('-') => count(&name, command),
        ErrorKind::MissingRequiredArgument | ErrorKind::TooManyValues | ErrorKind::WrongNumberOfValues => {
            count(&name, command)
        }
        _ => Failure::new(flag_message(command, error)).coded(ENGINE_FAILED).see(&name),
    }
}

fn flag_message(command: &Command, error: &clap::Error) -> String {
    let flag = invalid(error);
    let value = string(error, ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with("--") => {
            format!("unknown flag: {}", flag.split('=').next().unwrap_or(&flag))
        }
        ErrorKind::UnknownArgument => {
            let letter = flag.chars().nth(1).unwrap_or('-');
            format!("unknown shorthand flag: '{letter}' in {flag}")
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("flag needs an argument: {}", long(&flag)),
        ErrorKind::ValueValidation => {
            let cause = cause(error, &value);
            match find(command, &flag) {
                Some(arg) if !arg.is_positional() => {
                    format!("invalid argument {value:?} for \"{}\" flag: {cause}", both(arg))
                }
                _ => cause,
            }
        }
        ErrorKind::InvalidUtf8 => "invalid UTF-8 in an argument".to_owned(),
        _ => first_line(error),
    }
}

/// Why a value is refused: the parser's own words, or for a number Go's, as Docker prints them.
fn cause(error: &clap::Error, value: &str) -> String {
    let Some(source) = std::error::Error::source(error) else { return "invalid value".to_owned() };
    let text = source.to_string();
    let number = source.downcast_ref::<std::num::ParseIntError>().map(std::num::ParseIntError::kind);
    let reason = match number {
        Some(IntErrorKind::PosOverflow | IntErrorKind::NegOverflow) => "value out of range",
        Some(_) => "invalid syntax",
        // clap's words for a number that its type cannot hold: `65536 is not in 0..=65535`.
        None if text.starts_with(&format!("{value} is not in ")) => "value out of range",
        None => return text,
    };
    format!("strconv.ParseInt: parsing {value:?}: {reason}")
}

/// clap's own words, in one line and without its `error: `.
fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// The flag or word that clap complains about, as it shows it (`--memory <bytes>`).
fn invalid(error: &clap::Error) -> String {
    string(error, ContextKind::InvalidArg)
}

fn string(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(list)) => list.first().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

fn long(shown: &str) -> &str {
    shown.split([' ', '=', '[']).next().unwrap_or(shown)
}

fn find<'a>(command: &'a Command, shown: &str) -> Option<&'a Arg> {
    let name = long(shown).trim_start_matches('-');
    command.get_arguments().find(|arg| arg.get_long() == Some(name))
}

/// `-m, --memory`, as Docker names a flag.
fn both(arg: &Arg) -> String {
    let long = arg.get_long().unwrap_or_default();
    match arg.get_short() {
        Some(short) => format!("-{short}, --{long}"),
        None => format!("--{long}"),
    }
}

/// `'kiste rename' requires 2 arguments`.
fn count(name: &str, command: &Command) -> Failure {
    let (least, most) = command.get_positionals().fold((0, Some(0)), |(least, most), arg| {
        let endless = arg.get_num_args().is_some_and(|range| range.max_values() > 1);
        (least + usize::from(arg.is_required_set()), if endless { None } else { most.map(|most| most + 1) })
    });
    let arguments = |n| if n == 1 { "1 argument".to_owned() } else { format!("{n} arguments") };
    let wanted = match (least, most) {
        (0, Some(0)) => "accepts no arguments".to_owned(),
        (least, Some(most)) if least == most => format!("requires {}", arguments(least)),
        (least, None) => format!("requires at least {}", arguments(least)),
        (0, Some(most)) => format!("requires at most {}", arguments(most)),
        (least, Some(most)) => format!("requires at least {least} and at most {}", arguments(most)),
    };
    Failure { hint: usage_line(command), ..Failure::new(format!("'{name}' {wanted}")) }.see(name)
}

fn usage_line(command: &Command) -> Option<String> {
    let usage = command.clone().render_usage().to_string();
    usage.lines().next().map(|line| line.replacen("Usage:", "usage:", 1))
}
