//! Signal names and numbers, as Docker's flags take them (signal(7), numbers of Linux on x86 and ARM).

use crate::{Error, Result};

const NAMES: &[&str] = &[
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

const REALTIME: (i32, i32) = (34, 64);

/// The number of a signal given as `TERM`, `SIGTERM`, `15`, `RTMIN+3` or `RTMAX-2`.
pub(crate) fn parse(text: &str) -> Result<i32> {
    number(text).ok_or_else(|| {
        Error::invalid(format!("invalid signal: {text}")).hinted("`kill -l` lists the names, for example SIGTERM")
    })
}

fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=REALTIME.1).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    match name {
        "CLD" => return Some(17),
        "POLL" => return Some(29),
        "IOT" => return Some(6),
        _ => {}
    }
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(index + 1).ok();
    }
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        REALTIME.0 + offset(rest, '+')?
    } else {
        REALTIME.1 - offset(name.strip_prefix("RTMAX")?, '-')?
    };
    (REALTIME.0..=REALTIME.1).contains(&number).then_some(number)
}

fn offset(rest: &str, sign: char) -> Option<i32> {
    if rest.is_empty() { Some(0) } else { rest.strip_prefix(sign)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_and_numbers() {
        for (text, number) in
            [("TERM", 15), ("sigkill", 9), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX", 64), ("RTMAX-1", 63), ("SYS", 31)]
        {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for bad in ["", "0", "65", "SIGFOO", "RTMIN+99", "-9"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
