//! The small grammars of flag values: sizes, durations, CPUs, `key=value`. Each function is a clap value parser whose
//! error text is Docker's.

use std::net::IpAddr;

/// Bytes: `512m`, `1.5GiB`, `64 kb` (powers of 1024, as `docker/go-units` has them).
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let end = text.rfind(|c: char| c.is_ascii_digit() || matches!(c, '.' | ' ')).ok_or_else(invalid)?;
    let (number, unit) = text.split_at(end + 1);
    let number: f64 = number.strip_suffix(' ').unwrap_or(number).parse().map_err(|_| invalid())?;
    if number < 0.0 {
        return Err(invalid());
    }
    let unit = unit.to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        _ => 1 + "kmgtp".find(&unit[..unit.ceil_char_boundary(1)]).ok_or_else(invalid)?,
    };
    if power > 0 && !matches!(&unit[1..], "" | "b" | "ib") {
        return Err(invalid());
    }
    let size = number * 1024f64.powi(power as i32);
    if size >= i64::MAX as f64 { Err(invalid()) } else { Ok(size as i64) }
}

/// Memory plus swap: a size, or -1 for unlimited swap.
pub(crate) fn bytes_or_unlimited(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

/// Nanoseconds: `1m30s`, `500ms`, `-1.5h` (Go's `time.ParseDuration`).
pub(crate) fn duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (sign, unsigned) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    if unsigned == "0" {
        return Ok(0);
    }
    let (mut rest, mut total) = (unsigned, 0f64);
    while !rest.is_empty() || unsigned.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            other => return Err(format!("time: unknown unit {other:?} in duration {text:?}")),
        };
        total += number * unit;
        rest = &rest[letters..];
    }
    if total >= i64::MAX as f64 { Err(invalid()) } else { Ok(sign * total as i64) }
}

/// CPUs × 10⁹: `1.5`; at most nine decimals.
pub(crate) fn nano_cpus(text: &str) -> Result<i64, String> {
    let invalid = || format!("failed to parse {text} as a rational number");
    let (sign, unsigned) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(invalid());
    }
    if fraction.trim_end_matches('0').len() > 9 {
        return Err("value is too precise".to_owned());
    }
    let fraction = format!("{fraction:0<9}");
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
    let nanos: i64 = fraction[..9].parse().map_err(|_| invalid())?;
    whole.checked_mul(1_000_000_000).and_then(|n| n.checked_add(nanos)).map(|n| sign * n).ok_or_else(invalid)
}

/// `key=value`; the value may be missing and is then empty.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    if key.contains(char::is_whitespace) {
        return Err(format!("label '{key}' contains whitespaces"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// `key=value`, both there.
pub(crate) fn strict_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("invalid value {text:?}: key=value expected")),
    }
}

/// An IP address.
pub(crate) fn address(text: &str) -> Result<String, String> {
    match text.trim().parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(format!("{text} is not an ip address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, size) in [
            ("0", 0),
            ("512", 512),
            ("512b", 512),
            ("1k", 1024),
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("64 kb", 65536),
            ("2GiB", 2 << 30),
            ("1T", 1 << 40),
            ("1e3k", 1_024_000),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "m", "-1", "1x", "1kk", "1.2.3", "9999999p", "1kbb", "5é"] {
            assert_eq!(bytes(text), Err(format!("invalid size: '{text}'")));
        }
        assert_eq!(bytes_or_unlimited("-1"), Ok(-1));
    }

    #[test]
    fn durations_are_gos() {
        for (text, nanos) in [
            ("0", 0),
            ("30s", 30_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("5ms", 5_000_000),
            ("7ns", 7),
            ("-1.5s", -1_500_000_000),
        ] {
            assert_eq!(duration(text), Ok(nanos), "{text}");
        }
        assert_eq!(duration("30"), Err("time: missing unit in duration \"30\"".into()));
        assert_eq!(duration("3x"), Err("time: unknown unit \"x\" in duration \"3x\"".into()));
        for text in ["", "s", "-", "--1s", "999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cpus_have_nine_decimals() {
        for (text, nanos) in [
            ("1", 1_000_000_000),
            ("1.5", 1_500_000_000),
            (".25", 250_000_000),
            ("0.000000001", 1),
            ("2.", 2_000_000_000),
            ("-1", -1_000_000_000),
        ] {
            assert_eq!(nano_cpus(text), Ok(nanos), "{text}");
        }
        assert_eq!(nano_cpus("0.0000000001"), Err("value is too precise".into()));
        for text in ["", ".", "x", "-", "1e3", "99999999999"] {
            assert!(nano_cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pairs_split_at_the_first_equals_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a"), Ok(("a".into(), String::new())));
        assert!(pair("=a").is_err() && strict_pair("a").is_err());
    }
}
