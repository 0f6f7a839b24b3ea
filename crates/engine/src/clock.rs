//! Times as the records keep them (nanoseconds since 1970) and as Docker prints them (RFC 3339).

use jiff::Timestamp;

/// Docker's way to write "never".
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// Now, in nanoseconds since 1970.
pub fn now() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// RFC 3339 with as many decimals as needed, in UTC; 0 is [`NEVER`].
pub fn rfc3339(nanoseconds: i64) -> String {
    match (nanoseconds, Timestamp::from_nanosecond(i128::from(nanoseconds))) {
        (0, _) | (_, Err(_)) => NEVER.to_owned(),
        (_, Ok(time)) => time.to_string(),
    }
}

/// RFC 3339 with nine decimals in UTC: the time stamps of log lines.
pub fn log_time(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).map_or_else(|_| String::new(), |time| format!("{time:.9}"))
}

/// A time in nanoseconds since 1970 from what Docker takes: RFC 3339 (also without zone: UTC, or only a date), seconds
/// since 1970 with decimals, or a duration (`1h30m`) before now.
pub fn parse(text: &str) -> Option<i64> {
    if let Some(nanoseconds) = seconds(text) {
        return Some(nanoseconds);
    }
    if let Some(duration) = duration(text) {
        return now().checked_sub(duration);
    }
    let time = text.parse::<Timestamp>().ok().or_else(|| {
        let civil: jiff::civil::DateTime = text.parse().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()
    })?;
    i64::try_from(time.as_nanosecond()).ok()
}

fn seconds(text: &str) -> Option<i64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 9 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let part: i64 = format!("{decimals:0<9}").parse().ok()?;
    whole.checked_mul(1_000_000_000)?.checked_add(part)
}

/// Go's durations: `300ms`, `1.5h`, `2h45m`.
fn duration(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        total += number * unit(&rest[digits..end])?;
        rest = &rest[end..];
    }
    (!text.is_empty() && total < i64::MAX as f64).then_some(total as i64)
}

/// Nanoseconds of a unit.
fn unit(name: &str) -> Option<f64> {
    Some(match name {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}

/// How long something has lasted, in Docker's words (`units.HumanDuration`).
pub(crate) fn human_duration(nanoseconds: i64) -> String {
    let seconds = nanoseconds.max(0) / 1_000_000_000;
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_and_out() {
        assert_eq!(rfc3339(0), NEVER);
        assert_eq!(rfc3339(1_500_000_000), "1970-01-01T00:00:01.5Z");
        assert_eq!(parse("1.5"), Some(1_500_000_000));
        assert_eq!(parse("1970-01-01T00:00:01.5Z"), Some(1_500_000_000));
        assert_eq!(parse("1970-01-02"), Some(86_400_000_000_000));
        let ago = parse("1h30m").unwrap();
        assert!((now() - ago - 5_400_000_000_000).abs() < 1_000_000_000);
        assert_eq!(parse("yesterday"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn durations_in_words() {
        let words = |seconds: i64| human_duration(seconds * 1_000_000_000);
        assert_eq!(words(0), "Less than a second");
        assert_eq!(words(61), "About a minute");
        assert_eq!(words(3600), "About an hour");
        assert_eq!(words(47 * 3600), "47 hours");
        assert_eq!(words(3 * 86400), "3 days");
        assert_eq!(words(400 * 86400), "13 months");
    }
}
