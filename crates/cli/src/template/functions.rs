//! The functions of templates: Go's predefined ones and those that Docker adds (`json`, `join`, …). `and` and `or`
//! are only declared here: the evaluator runs them, because they do not evaluate all their arguments.

use std::cmp::Ordering;

use serde_json::Value;

use super::printf;
use super::value::Datum;

/// What an argument must be.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Any,
    Text,
    Int,
    List,
}

impl Kind {
    pub(super) fn takes(self, value: &Datum<'_>) -> bool {
        match self {
            Kind::Any => true,
            Kind::Text => value.json().is_string(),
            Kind::Int => value.json().is_i64(),
            Kind::List => value.json().is_array() || value.json().is_null(),
        }
    }

    pub(super) fn type_name(self) -> &'static str {
        match self {
            Kind::Any => "interface {}",
            Kind::Text => "string",
            Kind::Int => "int",
            Kind::List => "[]string",
        }
    }

    /// How Go calls a constant of that kind, where it has a word for it.
    pub(super) fn noun(self) -> Option<&'static str> {
        match self {
            Kind::Text => Some("string"),
            Kind::Int => Some("integer"),
            Kind::Any | Kind::List => None,
        }
    }
}

type Call = for<'a> fn(&[Datum<'a>]) -> Result<Datum<'a>, String>;

/// A function.
pub(super) struct Function {
    pub(super) name: &'static str,
    /// How many arguments it needs.
    pub(super) least: usize,
    /// How many it takes; absent: any number.
    pub(super) most: Option<usize>,
    /// Kinds of the first arguments; the others may be anything.
    pub(super) kinds: &'static [Kind],
    /// In a table's head it returns its string argument as it is.
    pub(super) keeps_header: bool,
    pub(super) call: Call,
}

const fn function(
    name: &'static str,
    least: usize,
    most: Option<usize>,
    kinds: &'static [Kind],
    call: Call,
) -> Function {
    Function { name, least, most, kinds, keeps_header: false, call }
}

/// One of Docker's that change a column's value and leave the column's title alone.
const fn docker(name: &'static str, kinds: &'static [Kind], call: Call) -> Function {
    Function { name, least: kinds.len(), most: Some(kinds.len()), kinds, keeps_header: true, call }
}

static FUNCTIONS: &[Function] = &[
    function("and", 1, None, &[], |_| Ok(Datum::Missing)),
    function("or", 1, None, &[], |_| Ok(Datum::Missing)),
    function("not", 1, Some(1), &[], |values| Ok(Datum::new(!values[0].is_true()))),
    function("call", 1, None, &[], |values| Err(format!("non-function of type {}", values[0].type_name()))),
    function("len", 1, Some(1), &[], len),
    function("index", 1, None, &[], index),
    function("slice", 1, Some(4), &[], slice),
    function("eq", 1, None, &[], equal_any),
    function("ne", 2, Some(2), &[], |values| Ok(Datum::new(!equal(&values[0], &values[1])?))),
    function("lt", 2, Some(2), &[], |values| compare(values, Ordering::is_lt)),
    function("le", 2, Some(2), &[], |values| compare(values, Ordering::is_le)),
    function("gt", 2, Some(2), &[], |values| compare(values, Ordering::is_gt)),
    function("ge", 2, Some(2), &[], |values| compare(values, Ordering::is_ge)),
    function("print", 0, None, &[], |values| Ok(Datum::new(printf::print(values)))),
    function("println", 0, None, &[], |values| Ok(Datum::new(printf::println(values)))),
    function("printf", 1, None, &[Kind::Text], |values| Ok(Datum::new(printf::printf(text(&values[0]), &values[1..])))),
    function("html", 0, None, &[], |values| Ok(Datum::new(html(&printed(values))))),
    function("js", 0, None, &[], |values| Ok(Datum::new(js(&printed(values))))),
    function("urlquery", 0, None, &[], |values| Ok(Datum::new(urlquery(&printed(values))))),
    docker("json", &[Kind::Any], json),
    docker("join", &[Kind::List, Kind::Text], join),
    docker("split", &[Kind::Text, Kind::Text], split),
    docker("lower", &[Kind::Text], |values| Ok(Datum::new(text(&values[0]).to_lowercase()))),
    docker("upper", &[Kind::Text], |values| Ok(Datum::new(text(&values[0]).to_uppercase()))),
    docker("title", &[Kind::Text], |values| Ok(Datum::new(title(text(&values[0]))))),
    docker("pad", &[Kind::Text, Kind::Int, Kind::Int], pad),
    docker("truncate", &[Kind::Text, Kind::Int], truncate),
];

/// The function of that name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// Whether there is a function of that name.
pub(super) fn exists(name: &str) -> bool {
    find(name).is_some()
}

fn text<'a>(value: &'a Datum<'_>) -> &'a str {
    value.as_str().unwrap_or_default()
}

fn len<'a>(values: &[Datum<'a>]) -> Result<Datum<'a>, String> {
    let length = match values[0].json() {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        Value::Null if !values[0].is_nil() => 0,
        Value::Null => return Err("len of nil pointer".to_owned()),
        _ => return Err(format!("len of type {}", values[0].type_name())),
    };
    Ok(Datum::new(length))
}

/// A position in something of `length` elements; `most` is what is just allowed.
fn position(value: &Datum<'_>, most: usize) -> Result<usize, String> {
    let Some(number) = value.json().as_i64() else {
        return Err(match value.json() {
            Value::Null => "cannot index slice/array with nil".to_owned(),
            _ => format!("cannot index slice/array with type {}", value.type_name()),
        });
    };
    usize::try_from(number).ok().filter(|&at| at <= most).ok_or_else(|| format!("index out of range: {number}"))
}

fn index<'a>(values: &[Datum<'a>]) -> Result<Datum<'a>, String> {
    let (first, keys) = values.split_first().ok_or("missing argument")?;
    keys.iter().try_fold(first.clone(), |item, key| element(&item, key))
}

fn element<'a>(item: &Datum<'a>, key: &Datum<'a>) -> Result<Datum<'a>, String> {
    if item.is_nil() {
        return Err("index of untyped nil".to_owned());
    }
    let last = |length: usize| {
        length.checked_sub(1).ok_or(()).or_else(|()| position(key, 0).and(Err("index out of range: 0".to_owned())))
    };
    match item.json() {
        Value::Object(members) => {
            let Some(name) = key.as_str() else {
                return Err(format!("value has type {}; should be string", key.type_name()));
            };
            if !members.contains_key(name) {
                Ok(item.zero_element())
            } else {
                Ok(item.member(name).unwrap_or(Datum::Missing))
            }
        }
        Value::Null if item.is_map() => Ok(item.zero_element()),
        Value::Null => last(0).map(|_| Datum::Missing),
        Value::Array(items) => {
            let at = position(key, last(items.len())?)?;
            Ok(item
                .elements()
                .and_then(|mut all| (at < all.len()).then(|| all.swap_remove(at).1))
                .unwrap_or(Datum::Missing))
        }
        Value::String(text) => Ok(Datum::new(text.as_bytes()[position(key, last(text.len())?)?])),
        _ => Err(format!("can't index item of type {}", item.type_name())),
    }
}

fn slice<'a>(values: &[Datum<'a>]) -> Result<Datum<'a>, String> {
    let item = values[0].json();
    let length = match item {
        Value::String(_) if values.len() > 3 => return Err("cannot 3-index slice a string".to_owned()),
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        Value::Null => return Err("slice of untyped nil".to_owned()),
        _ => return Err(format!("can't slice item of type {}", values[0].type_name())),
    };
    let bounds = values[1..].iter().map(|value| position(value, length)).collect::<Result<Vec<_>, _>>()?;
    let from = bounds.first().copied().unwrap_or(0);
    let to = bounds.get(1).copied().unwrap_or(length);
    if from > to || bounds.get(2).is_some_and(|&most| to > most) {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match item {
        Value::String(text) => Datum::new(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned()),
        Value::Array(items) => Datum::new(items[from..to].to_vec()),
        _ => Datum::Missing,
    })
}

fn equal_any<'a>(values: &[Datum<'a>]) -> Result<Datum<'a>, String> {
    let (first, others) = values.split_first().ok_or("missing argument for comparison")?;
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if equal(first, other)? {
            return Ok(Datum::new(true));
        }
    }
    Ok(Datum::new(false))
}

fn equal(left: &Datum<'_>, right: &Datum<'_>) -> Result<bool, String> {
    match (left.json(), right.json()) {
        (Value::Null, other) | (other, Value::Null) => Ok(other.is_null()),
        (Value::Array(_) | Value::Object(_), _) => {
            Err(format!("non-comparable type {}: {}", left.format(), left.type_name()))
        }
        (_, Value::Array(_) | Value::Object(_)) => {
            Err(format!("non-comparable type {}: {}", right.format(), right.type_name()))
        }
        (left_value, right_value) if left.type_name() == right.type_name() => Ok(left_value == right_value),
        _ => Err(incompatible(left, right)),
    }
}

fn incompatible(left: &Datum<'_>, right: &Datum<'_>) -> String {
    format!("incompatible types for comparison: {} and {}", left.type_name(), right.type_name())
}

fn compare<'a>(values: &[Datum<'a>], decide: fn(Ordering) -> bool) -> Result<Datum<'a>, String> {
    let [left, right] = values else { return Err("missing argument for comparison".to_owned()) };
    if left.type_name() != right.type_name() {
        return Err(incompatible(left, right));
    }
    let order = match (left.json(), right.json()) {
        (Value::String(left), Value::String(right)) => left.cmp(right),
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
        },
        _ => return Err("invalid type for comparison".to_owned()),
    };
    Ok(Datum::new(decide(order)))
}

/// What the escaping functions work on: a single string as it is, else everything printed.
fn printed(values: &[Datum<'_>]) -> String {
    match values {
        [one] => one.print(),
        many => printf::print(many),
    }
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => out.extend(['\\', c]),
            '<' | '>' | '&' | '=' | '\0'..='\x1f' | '\x7f'..='\u{9f}' => {
                out.push_str(&format!("\\u{:04X}", u32::from(c)))
            }
            c => out.push(c),
        }
    }
    out
}

fn urlquery(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn json<'a>(values: &[Datum<'a>]) -> Result<Datum<'a>, String> {
    serde_json::to_string(values[0].json()).map(Datum::new).map_err(|error| error.to_string())
}

fn join<'a>(values: &[Datum<'a>]) -> Result<Datum<'a>, String> {
    let items = values[0].elements().unwrap_or_default();
    Ok(Datum::new(items.iter().map(|(_, item)| item.format()).collect::<Vec<_>>().join(text(&values[1]))))
}

fn split<'a>(values: &[Datum<'a>]) -> Result<Datum<'a>, String> {
    let (whole, separator) = (text(&values[0]), text(&values[1]));
    let parts: Vec<String> = match separator {
        "" => whole.chars().map(String::from).collect(),
        separator => whole.split(separator).map(str::to_owned).collect(),
    };
    Ok(Datum::new(parts))
}

/// Go's `strings.Title`: the first letter of every word in upper case, the others as they are.
fn title(text: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if inside {
            out.push(c)
        } else {
            out.extend(c.to_uppercase())
        }
        inside = c == '_' || c == '\'' || c.is_alphanumeric();
    }
    out
}

/// Spaces before and after a string that is not empty.
fn pad<'a>(values: &[Datum<'a>]) -> Result<Datum<'a>, String> {
    let whole = text(&values[0]);
    let spaces = |value: &Datum<'_>| match value.json().as_i64() {
        Some(count @ 0..=0xffff) => Ok(" ".repeat(count as usize)),
        Some(count) => Err(format!("{count} spaces are out of range")),
        None => Err(format!("expected an int; found {}", value.type_name())),
    };
    let (before, after) = (spaces(&values[1])?, spaces(&values[2])?);
    Ok(Datum::new(if whole.is_empty() { String::new() } else { format!("{before}{whole}{after}") }))
}

/// At most that many bytes.
fn truncate<'a>(values: &[Datum<'a>]) -> Result<Datum<'a>, String> {
    let whole = text(&values[0]);
    let length =
        usize::try_from(values[1].json().as_i64().unwrap_or_default()).map_err(|_| "a negative length".to_owned())?;
    Ok(match whole.as_bytes().get(..length) {
        Some(part) => Datum::new(String::from_utf8_lossy(part).into_owned()),
        None => Datum::new(whole),
    })
}
