//! Sizes and durations in the words of Docker's `go-units`, and shortened ids and texts.

use std::time::Duration;

use crate::template::printf;

/// How Docker counts: kB = 1000 bytes, four significant digits.
pub(crate) fn size(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 4)
}

/// As [`size`] with three significant digits: images and container layers.
pub(crate) fn short_size(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 3)
}

/// Memory: KiB = 1024 bytes, four significant digits.
pub(crate) fn memory(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], 4)
}

fn scaled(bytes: u64, base: f64, units: &[&str], digits: usize) -> String {
    let mut number = bytes as f64;
    let mut unit = 0;
    while number >= base && unit + 1 < units.len() {
        number /= base;
        unit += 1;
    }
    format!("{}{}", printf::general(number, Some(digits)), units[unit])
}

/// A duration in Docker's words: `3 seconds`, `About a minute`, `5 weeks`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, 2..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// The first 12 characters of an id, without the digest's algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let id = id.split_once(':').map_or(id, |(_, digits)| digits);
    id.get(..12).unwrap_or(id)
}

/// At most `most` characters, the last of them an ellipsis if something was cut.
pub(crate) fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, wanted) in
            [(0, "0B"), (999, "999B"), (1000, "1kB"), (1_982_291, "1.982MB"), (25_276_502_016, "25.28GB")]
        {
            assert_eq!(size(bytes), wanted);
        }
        for (bytes, wanted) in [(1_982_291, "1.98MB"), (70_900_000, "70.9MB"), (999_950, "1e+03kB"), (12, "12B")] {
            assert_eq!(short_size(bytes), wanted);
        }
        for (bytes, wanted) in [(335_872, "328KiB"), (25_276_502_016, "23.54GiB"), (1023, "1023B"), (u64::MAX, "16EiB")]
        {
            assert_eq!(memory(bytes), wanted);
        }
    }

    #[test]
    fn durations() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        for (seconds, wanted) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (59 * 60 + 59, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR, "47 hours"),
            (2 * DAY, "2 days"),
            (14 * DAY, "2 weeks"),
            (60 * DAY, "2 months"),
            (2 * 365 * DAY, "2 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), wanted, "{seconds}");
        }
    }

    #[test]
    fn cut_texts() {
        assert_eq!(ellipsis("sh -c 'echo \"a b\"; sleep 10'", 20), "sh -c 'echo \"a b\"; …");
        assert_eq!(ellipsis("exactly twenty chars", 20), "exactly twenty chars");
        assert_eq!(short_id("sha256:a8a31ba83ccd1de05b0f"), "a8a31ba83ccd");
        assert_eq!(short_id("abc"), "abc");
    }
}
