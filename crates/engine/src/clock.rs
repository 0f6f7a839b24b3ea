//! Times as the records keep them (nanoseconds since 1970) and as Docker prints them (RFC 3339).

use jiff::Timestamp;

/// Docker's way to write "never".
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// Now, in nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// RFC 3339 with as many decimals as needed, in UTC; 0 is [`NEVER`].
pub(crate) fn rfc3339(nanoseconds: i64) -> String {
    match (nanoseconds, Timestamp::from_nanosecond(i128::from(nanoseconds))) {
        (0, _) | (_, Err(_)) => NEVER.to_owned(),
        (_, Ok(time)) => time.to_string(),
    }
}
