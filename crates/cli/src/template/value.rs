//! The values that a template computes with: JSON, and what Go's types would say beyond it: which objects are maps
//! (a missing key is no error) and what a null prints as. Also how Go prints values (`%v`) and what counts as true.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::{Number, Value};

/// Go's type class of a field, as far as JSON does not tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A struct, a slice or a scalar: every field is known, null is a nil slice.
    Plain,
    /// A map with free keys; null is a nil map.
    Map,
    /// A map from strings to strings: what it lacks is the empty string.
    Strings,
    /// A pointer; null is nil.
    Pointer,
}

impl Shape {
    /// The shape of the field `name` in Docker's API types. `Config` is a struct with `Env` in it, or the options of a
    /// log driver.
    fn of(name: &str, value: &Value) -> Shape {
        match name {
            "Config" if value.get("Env").is_none() => Shape::Strings,
            "Labels" | "Annotations" | "Options" | "Sysctls" | "Tmpfs" | "StorageOpt" | "DriverOpts" | "Attributes" => {
                Shape::Strings
            }
            "Ports" | "PortBindings" | "ExposedPorts" | "Volumes" | "Networks" | "Data" | "Runtimes"
            | "IndexConfigs" => Shape::Map,
            "PidsLimit" | "Init" | "MemorySwappiness" | "OomKillDisable" | "Health" | "Healthcheck" | "StopTimeout"
            | "IPAMConfig" | "UsageData" | "SizeRw" | "SizeRootFs" | "Server" => Shape::Pointer,
            _ => Shape::Plain,
        }
    }
}

/// Optional members that Docker's JSON leaves out when they are unset, though the Go type has them.
const OPTIONAL: &[&str] = &[
    "Health",
    "Healthcheck",
    "SizeRw",
    "SizeRootFs",
    "ExposedPorts",
    "OnBuild",
    "StopSignal",
    "StopTimeout",
    "Shell",
    "Init",
    "Sysctls",
    "Ulimits",
    "Tmpfs",
    "StorageOpt",
    "Annotations",
    "Mounts",
];

/// A value inside a running template.
#[derive(Clone, Debug)]
pub(crate) enum Datum<'a> {
    /// What a map does not have; prints as `<no value>`.
    Missing,
    /// A JSON value and its shape.
    Json(Cow<'a, Value>, Shape),
}

impl<'a> Datum<'a> {
    /// A value of which only the JSON is known.
    pub(crate) fn borrowed(value: &'a Value) -> Self {
        Datum::Json(Cow::Borrowed(value), Shape::Plain)
    }

    /// A computed value.
    pub(crate) fn new(value: impl Into<Value>) -> Self {
        Datum::Json(Cow::Owned(value.into()), Shape::Plain)
    }

    /// Go's untyped nil.
    pub(crate) fn nil() -> Self {
        Datum::Json(Cow::Owned(Value::Null), Shape::Pointer)
    }

    /// A floating-point number; JSON has no infinities, they become nil.
    pub(crate) fn float(number: f64) -> Self {
        Number::from_f64(number).map_or_else(Datum::nil, Datum::new)
    }

    /// The JSON, null for a missing value.
    pub(crate) fn json(&self) -> &Value {
        match self {
            Datum::Missing => &Value::Null,
            Datum::Json(value, _) => value,
        }
    }

    /// The string, if it is one.
    pub(crate) fn as_str(&self) -> Option<&str> {
        self.json().as_str()
    }

    fn shape(&self) -> Shape {
        match self {
            Datum::Missing => Shape::Pointer,
            Datum::Json(_, shape) => *shape,
        }
    }

    /// Whether it is an object with free keys.
    pub(crate) fn is_map(&self) -> bool {
        matches!(self.shape(), Shape::Map | Shape::Strings)
    }

    /// Whether it is nil without a type, which nothing can be looked up in.
    pub(crate) fn is_nil(&self) -> bool {
        self.json().is_null() && self.shape() == Shape::Pointer
    }

    /// The member `name`; `None` if a struct has no such member.
    pub(crate) fn member(&self, name: &str) -> Option<Datum<'a>> {
        let (found, shape) = match self {
            Datum::Missing => return Some(Datum::Missing),
            Datum::Json(Cow::Borrowed(value), shape) => (value.get(name).map(Cow::Borrowed), *shape),
            Datum::Json(Cow::Owned(value), shape) => (value.get(name).cloned().map(Cow::Owned), *shape),
        };
        match (found, shape) {
            (Some(value), Shape::Map | Shape::Strings) => Some(Datum::Json(value, Shape::Plain)),
            (Some(value), _) => {
                let shape = Shape::of(name, &value);
                Some(Datum::Json(value, shape))
            }
            (None, Shape::Map | Shape::Strings) => Some(Datum::Missing),
            (None, _) if self.json().is_object() && OPTIONAL.contains(&name) => {
                Some(Datum::Json(Cow::Owned(Value::Null), Shape::of(name, &Value::Null)))
            }
            (None, _) => None,
        }
    }

    /// What `index` says of a key that a map lacks.
    pub(crate) fn zero_element(&self) -> Datum<'a> {
        if self.shape() == Shape::Strings { Datum::new("") } else { Datum::Missing }
    }

    /// Elements of a list, or members of an object in the order of their keys, with their index or key.
    pub(crate) fn elements(&self) -> Option<Vec<(Datum<'a>, Datum<'a>)>> {
        fn list(value: &Value) -> Option<Vec<(Value, &Value)>> {
            match value {
                Value::Array(items) => {
                    Some(items.iter().enumerate().map(|(index, item)| (index.into(), item)).collect())
                }
                Value::Object(members) => {
                    let mut pairs: Vec<_> = members.iter().collect();
                    pairs.sort_unstable_by_key(|(key, _)| *key);
                    Some(pairs.into_iter().map(|(key, value)| (Value::from(key.as_str()), value)).collect())
                }
                Value::Null => Some(Vec::new()),
                _ => None,
            }
        }
        match self {
            Datum::Missing => Some(Vec::new()),
            Datum::Json(Cow::Borrowed(value), _) => list(value)
                .map(|pairs| pairs.into_iter().map(|(key, value)| (Datum::new(key), Datum::borrowed(value))).collect()),
            Datum::Json(Cow::Owned(value), _) => list(value).map(|pairs| {
                pairs.into_iter().map(|(key, value)| (Datum::new(key), Datum::new(value.clone()))).collect()
            }),
        }
    }

    /// Go's truth: not zero, not empty, not nil. A struct is always true.
    pub(crate) fn is_true(&self) -> bool {
        match self.json() {
            Value::Null => false,
            Value::Bool(value) => *value,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(members) => !self.is_map() || !members.is_empty(),
        }
    }

    /// The Go type that error texts name.
    pub(crate) fn type_name(&self) -> &'static str {
        match self.json() {
            Value::Null => "<nil>",
            Value::Bool(_) => "bool",
            Value::Number(number) if number.is_f64() => "float64",
            Value::Number(_) => "int",
            Value::String(_) => "string",
            Value::Array(_) => "[]interface {}",
            Value::Object(_) => "map[string]interface {}",
        }
    }

    /// What an action prints.
    pub(crate) fn print(&self) -> String {
        match self {
            Datum::Missing => "<no value>".to_owned(),
            Datum::Json(..) => self.format(),
        }
    }

    /// Go's `%v`.
    pub(crate) fn format(&self) -> String {
        let mut out = String::new();
        format_into(&mut out, self.json(), self.shape(), true);
        out
    }
}

fn format_into(out: &mut String, value: &Value, shape: Shape, typed: bool) {
    match value {
        Value::Null => out.push_str(match shape {
            Shape::Plain if typed => "[]",
            Shape::Map | Shape::Strings => "map[]",
            _ => "<nil>",
        }),
        Value::Bool(value) => drop(write!(out, "{value}")),
        Value::Number(number) => out.push_str(&format_number(number)),
        Value::String(text) => out.push_str(text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { " " });
                format_into(out, item, Shape::Plain, false);
            }
            out.push(']');
        }
        Value::Object(members) if shape == Shape::Plain || shape == Shape::Pointer => {
            out.push('{');
            for (index, (key, member)) in members.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { " " });
                format_into(out, member, Shape::of(key, member), true);
            }
            out.push('}');
        }
        Value::Object(members) => {
            let mut pairs: Vec<_> = members.iter().collect();
            pairs.sort_unstable_by_key(|(key, _)| *key);
            out.push_str("map[");
            for (index, (key, member)) in pairs.into_iter().enumerate() {
                let _ = write!(out, "{}{key}:", if index == 0 { "" } else { " " });
                format_into(out, member, Shape::Plain, false);
            }
            out.push(']');
        }
    }
}

/// A number as Go prints it: integers plainly, the rest by [`format_float`].
pub(crate) fn format_number(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => format_float(float),
        _ => number.to_string(),
    }
}

/// Go's `%v` of a float64: the shortest digits that mean the same number, with an exponent below 1e-4 and from 1e6
/// on.
pub(crate) fn format_float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let power: i32 = scientific.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0);
    if (-4..6).contains(&power) { format!("{number}") } else { exponent(&scientific) }
}

/// Rewrites Rust's exponent (`1e21`, `1.5e-7`) as Go's (`1e+21`, `1.5e-07`).
pub(crate) fn exponent(text: &str) -> String {
    let Some((mantissa, exponent)) = text.split_once('e') else { return text.to_owned() };
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}
