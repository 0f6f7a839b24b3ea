//! Signals as Docker's flags take them.

use crate::{Error, Result};

/// The number of a signal given as `TERM`, `SIGTERM`, `15`, `RTMIN+3` or `RTMAX-2`.
pub(crate) fn parse(text: &str) -> Result<i32> {
    linux::signal::number(text).ok_or_else(|| {
        Error::invalid(format!("invalid signal: {text}")).hinted("`kill -l` lists the names, for example SIGTERM")
    })
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
