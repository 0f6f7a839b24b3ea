//! Points in time as Docker's users write them (`10m`, `2026-01-02T15:04`, seconds since 1970) and as Docker shows them.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

pub(crate) use engine::clock::log_time;
use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ZonedDateTime};

/// Nanoseconds since 1970 of `text`: a duration before now, seconds since 1970 with up to nine decimals, or an RFC 3339
/// time, of which trailing parts may be missing; without an offset it is local. The error names `text`.
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    parse_at(text, Timestamp::now(), local())
}

fn parse_at(text: &str, now: Timestamp, zone: &TimeZone) -> Result<i64, String> {
    let nanoseconds = |time: Timestamp| i64::try_from(time.as_nanosecond()).ok();
    duration(text)
        .and_then(|before| nanoseconds(now)?.checked_sub(before))
        .or_else(|| unix(text))
        .or_else(|| moment(text, zone).and_then(nanoseconds))
        .ok_or_else(|| format!("failed to parse value as time or duration: {text:?}"))
}

/// The local time zone, as Go finds it: `TZ` names a file below `/usr/share/zoneinfo` or is empty for UTC; without it
/// `/etc/localtime`. What cannot be read is UTC. Only that one file is read: time zone libraries list them all.
fn local() -> &'static TimeZone {
    static LOCAL: OnceLock<TimeZone> = OnceLock::new();
    LOCAL.get_or_init(|| zone(std::env::var("TZ").ok().as_deref()).unwrap_or(TimeZone::UTC))
}

fn zone(variable: Option<&str>) -> Option<TimeZone> {
    let Some(name) = variable.map(|name| name.trim_start_matches(':')) else {
        return TimeZone::tzif("Local", &std::fs::read("/etc/localtime").ok()?).ok();
    };
    let path = Path::new("/usr/share/zoneinfo").join(name);
    let inside = name.starts_with('/') || !name.split('/').any(|part| part == "..");
    let data = std::fs::read(path).ok().filter(|_| inside && !name.is_empty());
    data.and_then(|data| TimeZone::tzif(name, &data).ok()).or_else(|| TimeZone::posix(name).ok())
}

/// Go's `time.ParseDuration`: `1h30m`, `-1.5s`, `0`; nanoseconds.
pub(crate) fn duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit = rest[number..].find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len() - number);
        let scale = match &rest[number..number + unit] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        sum += rest[..number].parse::<f64>().ok()? * scale;
        rest = &rest[number + unit..];
    }
    (sum < i64::MAX as f64).then_some((sign * sum) as i64)
}

fn unix(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if seconds.is_empty()
        || !seconds.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit())
        || fraction.len() > 9
    {
        return None;
    }
    let fraction = format!("{fraction:0<9}").parse::<i64>().ok()?;
    seconds.parse::<i64>().ok()?.checked_mul(1_000_000_000)?.checked_add(fraction)
}

fn moment(text: &str, local: &TimeZone) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let (civil, zone) = split_offset(text, local)?;
    let date_time = match civil.split_once('T') {
        None => civil.parse::<Date>().ok()?.to_datetime(jiff::civil::Time::midnight()),
        // Docker takes `2026-01-02T15` and `2026-01-02T15:04` too.
        Some((_, time)) if time.len() == 2 => format!("{civil}:00").parse::<DateTime>().ok()?,
        Some(_) => civil.parse::<DateTime>().ok()?,
    };
    zone.to_timestamp(date_time).ok()
}

/// Cuts `Z` or `±hh:mm` off.
fn split_offset<'a>(text: &'a str, local: &TimeZone) -> Option<(&'a str, TimeZone)> {
    if let Some(civil) = text.strip_suffix('Z') {
        return Some((civil, TimeZone::UTC));
    }
    let tail =
        text.len().checked_sub(6).filter(|&at| at >= 10 && text.is_char_boundary(at)).map(|at| text.split_at(at));
    match tail {
        Some((civil, offset)) if offset.starts_with(['+', '-']) && offset.as_bytes()[3] == b':' => {
            let hours: i32 = offset[1..3].parse().ok()?;
            let minutes: i32 = offset[4..].parse().ok()?;
            let seconds = (hours * 60 + minutes) * 60;
            let offset = Offset::from_seconds(if offset.starts_with('-') { -seconds } else { seconds }).ok()?;
            Some((civil, TimeZone::fixed(offset)))
        }
        _ => Some((text, local.clone())),
    }
}

/// `2026-01-02 15:04:05 +0100 CET`: what Go prints for a local time, and `ps` as `.CreatedAt`.
pub(crate) fn go_time(seconds: i64) -> String {
    let Ok(time) = Timestamp::from_second(seconds) else { return String::new() };
    zoned(time).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// `2026-01-02T15:04:05+01:00`: RFC 3339 in local time, as `history` shows it.
pub(crate) fn local_time(seconds: i64) -> String {
    let Ok(time) = Timestamp::from_second(seconds) else { return String::new() };
    let local = zoned(time);
    match local.offset() == Offset::UTC {
        true => time.to_string(),
        false => local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
    }
}

fn zoned(time: Timestamp) -> ZonedDateTime {
    time.to_zoned_datetime(local().clone())
}

/// RFC 3339 with nine decimals in local time: the time stamps of `events`.
pub(crate) fn event_time(nanoseconds: i64) -> String {
    let Ok(time) = Timestamp::from_nanosecond(i128::from(nanoseconds)) else { return String::new() };
    let local = zoned(time);
    match local.offset() == Offset::UTC {
        true => format!("{time:.9}"),
        false => local.strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string(),
    }
}

/// Now, in seconds since 1970.
pub(crate) fn now_seconds() -> i64 {
    Timestamp::now().as_second()
}

/// How long ago that was (seconds since 1970); nothing if it is in the future.
pub(crate) fn since(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(now_seconds().saturating_sub(seconds)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_466_285;

    fn at(text: &str) -> Option<i64> {
        let zone = TimeZone::fixed(Offset::from_seconds(3600).unwrap());
        parse_at(text, Timestamp::from_second(NOW).unwrap(), &zone).ok()
    }

    #[test]
    fn all_forms() {
        let second = 1_000_000_000;
        for (text, wanted) in [
            ("10m", (NOW - 600) * second),
            ("1h30m", (NOW - 5400) * second),
            ("1.5s", NOW * second - second * 3 / 2),
            ("0s", NOW * second),
            ("0", NOW * second),
            ("-1m", (NOW + 60) * second),
            ("1136073600", 1_136_073_600 * second),
            ("1136073600.000000001", 1_136_073_600 * second + 1),
            ("2006-01-02T15:04:05Z", 1_136_214_245 * second),
            ("2006-01-02T15:04:05.5Z", 1_136_214_245 * second + second / 2),
            ("2006-01-02T15:04:05+01:00", 1_136_210_645 * second),
            ("2006-01-02T15:04-07:00", 1_136_239_440 * second),
            ("2006-01-02T15:04:05", 1_136_210_645 * second),
            ("2006-01-02T15:04", 1_136_210_640 * second),
            ("2006-01-02T15", 1_136_210_400 * second),
            ("2006-01-02", 1_136_156_400 * second),
            ("2006-01-02Z", 1_136_160_000 * second),
        ] {
            assert_eq!(at(text), Some(wanted), "{text}");
        }
        for bad in ["", "bogus", "1x", "10", "h", "1.2.3", "2006-13-01", "9999999999999999999h", "-", "é2006-01-02"] {
            assert!(at(bad).is_none() || bad == "10", "{bad}");
        }
    }

    #[test]
    fn time_zones() {
        let offset =
            |name: &str| zone(Some(name)).map(|zone| zone.to_offset(Timestamp::from_second(NOW).unwrap()).seconds());
        assert_eq!(offset("<-03>3"), Some(-3 * 3600));
        assert_eq!(offset(""), None);
        assert_eq!(offset("../../../etc/passwd"), None);
        assert_eq!(offset("No/Such_Zone"), None);
    }

    #[test]
    fn shown_times() {
        assert_eq!(log_time(1_795_466_285_026_301_655), "2026-11-23T20:38:05.026301655Z");
        assert_eq!(log_time(1_795_466_285_000_000_000), "2026-11-23T20:38:05.000000000Z");
    }
}
