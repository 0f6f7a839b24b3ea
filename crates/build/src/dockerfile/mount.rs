//! `RUN --mount=…`: the options of all five kinds, and which may stand together.

use super::split;
use crate::error::suggestion;
use crate::{Error, Result};

/// What is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that outlives builds.
    Cache,
    /// An empty directory in memory.
    Tmpfs,
    /// A secret, as a file or in the environment.
    Secret,
    /// The socket of an ssh agent.
    Ssh,
}

/// What happens when several builds want the same cache at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// They share it.
    #[default]
    Shared,
    /// Each gets one of its own.
    Private,
    /// One waits for the other.
    Locked,
}

/// A mount of one RUN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// `from`: stage, image or named context; empty: the build context.
    pub from: String,
    /// `source`: path in `from`.
    pub source: String,
    /// `target`: path in the container.
    pub target: String,
    /// Not writable.
    pub read_only: bool,
    /// Most bytes of a tmpfs; 0: no limit.
    pub size: u64,
    /// `id` of a cache, secret or agent.
    pub id: String,
    /// `sharing` of a cache, if it was given.
    pub sharing: Option<Sharing>,
    /// Without it the step fails.
    pub required: bool,
    /// The variable that a secret becomes; an empty one: named like the secret.
    pub env: Option<String>,
    /// Permissions.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

const KINDS: &[(&str, MountKind)] = &[
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("tmpfs", MountKind::Tmpfs),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
];

const SHARINGS: &[(&str, Sharing)] =
    &[("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

const KEYS: &[&str] = &[
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl Mount {
    /// What can be checked before variables are known: the list's form, and that `from` has none.
    pub(super) fn check_form(text: &str) -> Result<()> {
        for field in split::fields(text)? {
            let (key, value) = field.split_once('=').unwrap_or((&field, ""));
            // A lone `$` at the end is no variable.
            if key.eq_ignore_ascii_case("from") && value.find('$').is_some_and(|at| at + 1 != value.len()) {
                return Err(Error::new("'from' doesn't support variable expansion, define alias stage instead"));
            }
        }
        Ok(())
    }

    /// Reads the options, expanding the variables of their values.
    pub fn parse(text: &str, expand: &dyn Fn(&str) -> Result<String>) -> Result<Self> {
        let mut mount = Mount::default();
        let mut read_only = None;
        for field in split::fields(text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_lowercase(), Some(expand(value)?)),
                None => (field.to_lowercase(), None),
            };
            match (key.as_str(), value) {
                ("readonly" | "ro", value) => read_only = Some(boolean(&key, value)?),
                ("readwrite" | "rw", value) => read_only = Some(!boolean(&key, value)?),
                ("required", value) => {
                    if !matches!(mount.kind, MountKind::Secret | MountKind::Ssh) {
                        return Err(mount.unexpected(&key));
                    }
                    mount.required = boolean(&key, value)?;
                }
                (_, None) => return Err(Error::new(format!("invalid field '{field}' must be a key=value pair"))),
                (_, Some(value)) => mount.set(&key, value, &field)?,
            }
        }
        mount.read_only = read_only.unwrap_or(!matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs));
        mount.check()?;
        Ok(mount)
    }

    fn set(&mut self, key: &str, value: String, field: &str) -> Result<()> {
        let invalid = |what: &str| Error::new(format!("invalid value {value} for {what}"));
        match key {
            "type" => self.kind = choose("mount type", &value, KINDS)?,
            "sharing" => self.sharing = Some(choose("sharing value", &value, SHARINGS)?),
            "from" => self.from = value,
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "id" => self.id = value,
            "env" => self.env = Some(value),
            "size" if self.kind != MountKind::Tmpfs => return Err(self.unexpected(key)),
            "size" => self.size = bytes(&value).ok_or(Error::new(format!("invalid value for {key}: {value}")))?,
            "mode" => self.mode = Some(u32::from_str_radix(&value, 8).map_err(|_| invalid(key))?),
            "uid" => self.uid = Some(value.parse().map_err(|_| invalid(key))?),
            "gid" => self.gid = Some(value.parse().map_err(|_| invalid(key))?),
            _ => {
                let hint = suggestion(key, KEYS);
                return Err(Error::new(format!("unexpected key '{key}' in '{field}'{hint}")));
            }
        }
        Ok(())
    }

    fn unexpected(&self, key: &str) -> Error {
        Error::new(format!("unexpected key '{key}' for mount type '{}'", self.kind_name()))
    }

    fn kind_name(&self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(name, _)| name)
    }

    fn check(&self) -> Result<()> {
        let kind = self.kind_name();
        let owned = matches!(self.kind, MountKind::Secret | MountKind::Ssh | MountKind::Cache);
        for (name, value) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
            if value.is_some() && !owned {
                return Err(Error::new(format!("{name} not allowed for {kind:?} type mounts")));
            }
        }
        if self.kind == MountKind::Secret {
            if !self.from.is_empty() {
                return Err(Error::new("secret mount should not have a from"));
            }
            if self.sharing.is_some() {
                return Err(Error::new("secret mount should not define sharing"));
            }
            if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
                return Err(Error::new("invalid secret mount. one of source, target required"));
            }
            if !self.source.is_empty() && !self.id.is_empty() {
                return Err(Error::new("both source and id can't be set"));
            }
        }
        if self.sharing.is_some() && self.kind != MountKind::Cache {
            return Err(Error::new(format!("invalid cache sharing set for {kind} mount")));
        }
        Ok(())
    }
}

/// Go's `strconv.ParseBool`; without a value: yes.
fn boolean(key: &str, value: Option<String>) -> Result<bool> {
    match value.as_deref() {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(Error::new(format!("invalid value for {key}: {value}"))),
    }
}

fn choose<T: Copy>(what: &str, value: &str, choices: &[(&str, T)]) -> Result<T> {
    let lower = value.to_lowercase();
    let found = choices.iter().find(|(name, _)| *name == lower).map(|(_, choice)| *choice);
    found.ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        Error::new(format!("unsupported {what} {value:?}{}", suggestion(value, &names)))
    })
}

/// go-units' `RAMInBytes`: a number, perhaps with a fraction, and a unit of 1024.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_lowercase();
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim();
    let power = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    Some((number * 1024f64.powi(power)) as u64)
}
