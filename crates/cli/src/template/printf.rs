//! Go's `fmt.Sprint`, `Sprintln` and `Sprintf` over template values: verbs, flags, width, precision, explicit argument
//! indexes, and the `%!verb(type=value)` texts for what does not fit.

use serde_json::Value;

use super::value::{Datum, exponent, format_number};

/// Wider fields than this are cut: no table needs them, and `%999999999d` must not fill the memory.
const MAX_WIDTH: usize = 4096;

/// `Sprint`: a space between operands when neither is a string.
pub(super) fn print(values: &[Datum<'_>]) -> String {
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        let strings = value.as_str().is_some() || index == 0 || values[index - 1].as_str().is_some();
        out.push_str(if strings { "" } else { " " });
        out.push_str(&value.format());
    }
    out
}

/// `Sprintln`: a space between all operands, and a newline.
pub(super) fn println(values: &[Datum<'_>]) -> String {
    values.iter().map(Datum::format).collect::<Vec<_>>().join(" ") + "\n"
}

/// `Sprintf`.
pub(super) fn printf(format: &str, values: &[Datum<'_>]) -> String {
    let mut printer = Printer { rest: format, values, next: 0, reordered: false, out: String::new() };
    while let Some(percent) = printer.rest.find('%') {
        printer.out.push_str(&printer.rest[..percent]);
        printer.rest = &printer.rest[percent + 1..];
        printer.directive();
    }
    printer.out.push_str(printer.rest);
    if !printer.reordered && printer.next < values.len() {
        let extra = values[printer.next..].iter().map(typed).collect::<Vec<_>>().join(", ");
        printer.out.push_str(&format!("%!(EXTRA {extra})"));
    }
    printer.out
}

fn typed(value: &Datum<'_>) -> String {
    match value.json() {
        Value::Null => "<nil>".to_owned(),
        _ => format!("{}={}", value.type_name(), value.format()),
    }
}

/// What stands between `%` and the verb.
#[derive(Clone, Copy, Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

struct Printer<'a, 'v> {
    rest: &'a str,
    values: &'a [Datum<'v>],
    next: usize,
    /// Whether `[n]` was used: then nothing counts as extra.
    reordered: bool,
    out: String,
}

impl Printer<'_, '_> {
    fn directive(&mut self) {
        let mut spec = self.flags();
        self.argument_index();
        spec.width = self.number().map(|width| {
            spec.minus |= width < 0;
            usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX).min(MAX_WIDTH)
        });
        if let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            self.argument_index();
            let precision = self.number().unwrap_or(0);
            spec.precision = usize::try_from(precision).ok().map(|precision| precision.min(MAX_WIDTH));
        }
        self.argument_index();
        let Some(verb) = self.rest.chars().next() else {
            self.out.push_str("%!(NOVERB)");
            return;
        };
        self.rest = &self.rest[verb.len_utf8()..];
        if verb == '%' {
            self.out.push('%');
            return;
        }
        let Some(value) = self.values.get(self.next) else {
            self.out.push_str(&format!("%!{verb}({})", if self.reordered { "BADINDEX" } else { "MISSING" }));
            return;
        };
        self.next += 1;
        self.out.push_str(&one(&spec, verb, value));
    }

    fn flags(&mut self) -> Spec {
        let mut spec = Spec::default();
        while let Some(flag) = self.rest.chars().next() {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                '0' => spec.zero = true,
                _ => break,
            }
            self.rest = &self.rest[1..];
        }
        spec
    }

    /// `[n]`: the next argument is the n-th, counted from 1.
    fn argument_index(&mut self) {
        let Some(inside) = self.rest.strip_prefix('[') else { return };
        let Some((digits, rest)) = inside.split_once(']') else { return };
        self.rest = rest;
        self.reordered = true;
        self.next = digits.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).unwrap_or(usize::MAX - 1);
    }

    /// Digits, or `*` for an argument.
    fn number(&mut self) -> Option<i64> {
        if let Some(rest) = self.rest.strip_prefix('*') {
            self.rest = rest;
            let value = self.values.get(self.next).and_then(|value| value.json().as_i64());
            self.next += 1;
            return value;
        }
        let digits = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        (!number.is_empty()).then(|| number.parse().unwrap_or(i64::MAX))
    }
}

/// One value under one verb.
fn one(spec: &Spec, verb: char, value: &Datum<'_>) -> String {
    let json = value.json();
    match (verb, json) {
        ('T', _) => pad(spec, value.type_name()),
        ('v', _) if spec.sharp => pad(spec, &source(json)),
        ('v', Value::Array(_) | Value::Object(_) | Value::Null) => pad(spec, &value.format()),
        (_, Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(|item| one(spec, verb, &Datum::borrowed(item))).collect();
            format!("[{}]", items.join(" "))
        }
        (_, Value::Object(members)) => {
            let mut pairs: Vec<_> = members.iter().collect();
            pairs.sort_unstable_by_key(|(key, _)| *key);
            let each = |(key, member): (&String, &Value)| {
                format!("{}:{}", one(spec, verb, &Datum::new(key.as_str())), one(spec, verb, &Datum::borrowed(member)))
            };
            format!("map[{}]", pairs.into_iter().map(each).collect::<Vec<_>>().join(" "))
        }
        (_, Value::Null) if value.is_nil() => format!("%!{verb}(<nil>)"),
        (_, Value::Null) => "[]".to_owned(),
        (_, Value::Bool(flag)) => boolean(spec, verb, *flag),
        (_, Value::String(text)) => string(spec, verb, text),
        (_, Value::Number(number)) => {
            match (number.as_i64().map(i128::from).or(number.as_u64().map(i128::from)), number.as_f64()) {
                (Some(integer), _) => self::integer(spec, verb, integer),
                (None, Some(float)) => self::float(spec, verb, float),
                (None, None) => pad(spec, &number.to_string()),
            }
        }
    }
}

/// `%#v`: as Go source, near enough for JSON.
fn source(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => format!("{text:?}"),
        Value::Number(number) => format_number(number),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(source).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(key, member)| format!("{key:?}:{}", source(member))).collect();
            format!("map[string]interface {{}}{{{}}}", members.join(", "))
        }
        Value::Bool(flag) => flag.to_string(),
    }
}

fn pad(spec: &Spec, text: &str) -> String {
    let width = spec.width.unwrap_or(0);
    if spec.minus { format!("{text:<width$}") } else { format!("{text:>width$}") }
}

/// Pads a number; zeros go between the sign and the digits.
fn pad_number(spec: &Spec, sign: &str, digits: &str) -> String {
    let width = spec.width.unwrap_or(0);
    match spec.zero && !spec.minus {
        true => format!("{sign}{digits:0>0$}", width.saturating_sub(sign.len())),
        false => pad(spec, &format!("{sign}{digits}")),
    }
}

fn sign(spec: &Spec, negative: bool) -> &'static str {
    match (negative, spec.plus, spec.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    }
}

fn bad(verb: char, kind: &str, text: &str) -> String {
    format!("%!{verb}({kind}={text})")
}

fn boolean(spec: &Spec, verb: char, flag: bool) -> String {
    match verb {
        't' | 'v' => pad(spec, &flag.to_string()),
        _ => bad(verb, "bool", &flag.to_string()),
    }
}

fn string(spec: &Spec, verb: char, text: &str) -> String {
    let cut: String = text.chars().take(spec.precision.unwrap_or(usize::MAX)).collect();
    match verb {
        's' | 'v' => pad(spec, &cut),
        'q' if spec.sharp && !cut.contains(['`', '\n']) => pad(spec, &format!("`{cut}`")),
        'q' => pad(spec, &quote(&cut)),
        'x' | 'X' => {
            let bytes = text.as_bytes();
            let bytes = &bytes[..spec.precision.unwrap_or(bytes.len()).min(bytes.len())];
            let hex = |byte: &u8| if verb == 'x' { format!("{byte:02x}") } else { format!("{byte:02X}") };
            pad(spec, &bytes.iter().map(hex).collect::<Vec<_>>().join(if spec.space { " " } else { "" }))
        }
        _ => bad(verb, "string", text),
    }
}

/// Go's `strconv.Quote`.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            '\0'..='\x1f' | '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out + "\""
}

fn integer(spec: &Spec, verb: char, number: i128) -> String {
    let magnitude = number.unsigned_abs();
    let digits = match verb {
        'd' | 'v' => magnitude.to_string(),
        'b' => format!("{magnitude:b}"),
        'o' | 'O' => format!("{magnitude:o}"),
        'x' => format!("{magnitude:x}"),
        'X' => format!("{magnitude:X}"),
        'c' | 'q' | 'U' => return character(spec, verb, number),
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' | 's' | 't' => return bad(verb, "int", &number.to_string()),
        _ => return bad(verb, "int", &number.to_string()),
    };
    let prefix = match verb {
        'x' if spec.sharp => "0x",
        'X' if spec.sharp => "0X",
        'b' if spec.sharp => "0b",
        'o' if spec.sharp => "0",
        'O' => "0o",
        _ => "",
    };
    let digits = format!("{digits:0>0$}", spec.precision.unwrap_or(0));
    let spec = if spec.precision.is_some() { Spec { zero: false, ..*spec } } else { *spec };
    pad_number(&spec, &format!("{}{prefix}", sign(&spec, number < 0)), &digits)
}

fn character(spec: &Spec, verb: char, number: i128) -> String {
    let c = u32::try_from(number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    match verb {
        'c' => pad(spec, &c.to_string()),
        'U' => pad(spec, &format!("U+{number:04X}")),
        _ => pad(spec, &format!("'{c}'")),
    }
}

fn float(spec: &Spec, verb: char, number: f64) -> String {
    let magnitude = number.abs();
    let digits = match verb {
        'f' | 'F' => format!("{magnitude:.*}", spec.precision.unwrap_or(6)),
        'e' => exponent(&format!("{magnitude:.*e}", spec.precision.unwrap_or(6))),
        'E' => exponent(&format!("{magnitude:.*e}", spec.precision.unwrap_or(6))).to_uppercase(),
        'g' | 'v' => general(magnitude, spec.precision),
        'G' => general(magnitude, spec.precision).to_uppercase(),
        _ => return bad(verb, "float64", &super::value::format_float(number)),
    };
    pad_number(spec, sign(spec, number.is_sign_negative()), &digits)
}

/// `%g`: the shortest form, or so many significant digits without trailing zeros.
pub(crate) fn general(number: f64, precision: Option<usize>) -> String {
    let Some(precision) = precision else { return super::value::format_float(number) };
    let precision = precision.max(1);
    let scientific = format!("{number:.*e}", precision - 1);
    let Some((mantissa, power)) = scientific.split_once('e') else { return scientific };
    let power: i32 = power.parse().unwrap_or(0);
    let tidy = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if power < -4 || power >= i32::try_from(precision).unwrap_or(i32::MAX) {
        return exponent(&format!("{}e{power}", tidy(mantissa)));
    }
    let decimals = usize::try_from(i32::try_from(precision).unwrap_or(i32::MAX) - 1 - power).unwrap_or(0);
    tidy(&format!("{number:.decimals$}"))
}
