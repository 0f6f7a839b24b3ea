//! The unit of a container: its name from `cgroupsPath`, its start with a process in it, its properties, its end. What
//! goes over the bus is `org.freedesktop.systemd1(5)`.

use std::env;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;
use sandbox::cgroup::{self, Property};
use serde::{Deserialize, Serialize};

use super::bus::{Bus, Failure, Method, Place};
use super::value::Value;
use crate::error::Step;
use crate::{Error, Result};

const MANAGER: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// How long the manager may take to start or stop a unit (as runc).
const JOB: Duration = Duration::from_secs(30);

/// Which unit a container is, and whose manager has charge of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unit {
    /// As `docker-1234.scope`; a slice if the name in the configuration is one.
    pub(crate) name: String,
    /// The slice above it.
    pub(crate) slice: String,
    /// A manager of the user's instead of the machine's.
    pub(crate) of_user: bool,
}

impl Unit {
    /// From `slice:prefix:name`; without a path, one named like the container.
    pub(crate) fn parse(path: &str, id: &str, of_user: bool) -> Result<Self> {
        let wrong = |reason: &str| Error::new(format!("linux.cgroupsPath: {path:?}: {reason}"));
        let parts: Vec<&str> = match path {
            "" => vec!["", "kiste", id],
            _ => path.split(':').collect(),
        };
        let [slice, prefix, name] = parts[..] else {
            return Err(wrong("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups"));
        };
        let slice = match slice {
            "" if of_user => "user.slice",
            "" => "system.slice",
            given => given,
        };
        if !is_slice(slice) {
            return Err(wrong("invalid slice name"));
        }
        let name = match (name.ends_with(".slice"), prefix) {
            (true, _) => name.to_owned(),
            (false, "") => format!("{name}.scope"),
            (false, prefix) => format!("{prefix}-{name}.scope"),
        };
        match is_unit(&name) {
            true => Ok(Self { name, slice: slice.to_owned(), of_user }),
            false => Err(wrong("invalid name of a unit")),
        }
    }

    fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }
}

/// Names of units as `systemd.unit(5)` has them, without instances.
fn is_unit(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\".contains(&byte);
    name.len() <= 255 && !name.starts_with('.') && name.bytes().all(plain)
}

/// `a-b.slice` is below `a.slice`: no part between dashes is empty, but `-.slice` is the root.
fn is_slice(name: &str) -> bool {
    let stem = name.strip_suffix(".slice").unwrap_or_default();
    is_unit(name) && !stem.is_empty() && (stem == "-" || stem.split('-').all(|part| !part.is_empty()))
}

/// A connection to the manager that has charge of a unit.
pub(crate) struct Manager {
    bus: Bus,
    unit: Unit,
}

impl Manager {
    /// Over the bus that its environment names, the usual one, or the manager's own socket.
    pub(crate) fn connect(unit: &Unit) -> Result<Self> {
        let mut errors = Vec::new();
        for place in places(unit.of_user) {
            match Bus::connect(&place) {
                Ok(bus) => return Ok(Self { bus, unit: unit.clone() }),
                Err(error) => errors.push(error.text),
            }
        }
        Err(Error::new(format!(
            "cgroup manager systemd: no service manager can be reached; hint: use --cgroup-manager cgroupfs: {}",
            errors.join("; ")
        )))
    }

    /// Starts the unit with a process in it, and says which cgroup it has.
    pub(super) fn start(&mut self, pid: i32, own: &[(String, Value)], resources: &LinuxResources) -> Result<String> {
        self.listen()?;
        let properties = self.first_properties(pid, own, resources)?;
        let arguments = || {
            let none = Value::Array("(sa(sv))".into(), Vec::new());
            [Value::text(&*self.unit.name), Value::text("replace"), list(&properties), none]
        };
        let arguments = arguments();
        let started = match self.call(INTERFACE, "StartTransientUnit", &arguments) {
            // One that has failed and was never looked at.
            Err(failure) if failure.name == "org.freedesktop.systemd1.UnitExists" => {
                self.reset();
                self.call(INTERFACE, "StartTransientUnit", &arguments)
            }
            other => other,
        };
        let what = || format!("systemd: start the unit {}", self.unit.name);
        let job = started.map_err(|failure| failure.during(what()))?;
        match self.job(&job).as_deref() {
            Ok("done") => {}
            other => {
                let how = other.map_or_else(|error| error.text.clone(), |result| format!("the job is {result:?}"));
                let error = Error::new(format!("systemd: start the unit {}: {how}", self.unit.name));
                self.reset();
                return Err(error);
            }
        }
        self.control_group()
    }

    fn first_properties(
        &mut self,
        pid: i32,
        own: &[(String, Value)],
        resources: &LinuxResources,
    ) -> Result<Vec<(String, Value)>> {
        let mut properties = vec![("Description".to_owned(), Value::text(format!("container {}", self.unit.name)))];
        let mut add = |name: &str, value: Value| properties.push((name.to_owned(), value));
        match self.unit.is_slice() {
            true => add("Wants", Value::Array("s".into(), vec![Value::text(&*self.unit.slice)])),
            false => {
                add("Slice", Value::text(&*self.unit.slice));
                add("Delegate", Value::Bool(true));
                add("PIDs", Value::Array("u".into(), vec![Value::U32(pid as u32)]));
            }
        }
        for name in ["MemoryAccounting", "CPUAccounting", "TasksAccounting"] {
            add(name, Value::Bool(true));
        }
        let io = if cgroup::version() == cgroup::Version::V2 { "IOAccounting" } else { "BlockIOAccounting" };
        add(io, Value::Bool(true));
        add("DefaultDependencies", Value::Bool(false));
        properties.extend(own.iter().cloned());
        properties.extend(self.limits(resources)?);
        Ok(properties)
    }

    /// Changes the limits of the running unit.
    pub(crate) fn set(&mut self, resources: &LinuxResources) -> Result<()> {
        let properties = self.limits(resources)?;
        let arguments = [Value::text(&*self.unit.name), Value::Bool(true), list(&properties)];
        let set = self.call(INTERFACE, "SetUnitProperties", &arguments);
        set.map(drop).map_err(|failure| failure.during(format!("systemd: change the unit {}", self.unit.name)))
    }

    /// Stops the unit; nothing happens if it is gone with its last process.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.listen()?;
        match self.call(INTERFACE, "StopUnit", &[Value::text(&*self.unit.name), Value::text("replace")]) {
            Ok(job) => drop(self.job(&job)?),
            Err(failure) if failure.name == "org.freedesktop.systemd1.NoSuchUnit" => return Ok(()),
            Err(failure) => return Err(failure.during(format!("systemd: stop the unit {}", self.unit.name))),
        }
        self.reset();
        Ok(())
    }

    /// Takes a failed unit away; there usually is none.
    fn reset(&mut self) {
        let _ = self.call(INTERFACE, "ResetFailedUnit", &[Value::text(&*self.unit.name)]);
    }

    fn limits(&mut self, resources: &LinuxResources) -> Result<Vec<(String, Value)>> {
        let release = self.release();
        let properties = cgroup::properties(resources, release).step(|| "linux.resources".into())?;
        Ok(properties.into_iter().map(|(name, property)| (name.to_owned(), value(property))).collect())
    }

    /// As 252 from `252.38-1~deb12u1`.
    fn release(&mut self) -> u32 {
        let version = self.property(MANAGER_PATH, INTERFACE, "Version").ok();
        let version = version.as_ref().and_then(Value::as_text).unwrap_or_default().trim_start_matches('v');
        let digits = version.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(version.len());
        version[..digits].parse().unwrap_or(0)
    }

    fn control_group(&mut self) -> Result<String> {
        let name = self.unit.name.clone();
        let what = || format!("systemd: find the cgroup of the unit {name}");
        let unit = self.call(INTERFACE, "GetUnit", &[Value::text(&*self.unit.name)]);
        let unit = unit.map_err(|failure| failure.during(what()))?;
        let path = unit.first().and_then(Value::as_text).unwrap_or_default().to_owned();
        let kind = if self.unit.is_slice() { "Slice" } else { "Scope" };
        let group = self.property(&path, &format!("{MANAGER}.{kind}"), "ControlGroup");
        let group = group.map_err(|failure| failure.during(what()))?;
        match group.as_text() {
            Some(group) if !group.is_empty() => Ok(group.to_owned()),
            _ => Err(Error::new(format!("{}: it has none", what()))),
        }
    }

    fn property(&mut self, path: &str, interface: &str, name: &str) -> std::result::Result<Value, Failure> {
        let method = Method { destination: MANAGER, path, interface: PROPERTIES, member: "Get" };
        let mut values = self.bus.call(&method, &[Value::text(interface), Value::text(name)])?;
        values.pop().ok_or_else(|| Failure { name: String::new(), text: "no value".into() })
    }

    fn call(&mut self, interface: &str, member: &str, arguments: &[Value]) -> std::result::Result<Vec<Value>, Failure> {
        self.bus.call(&Method { destination: MANAGER, path: MANAGER_PATH, interface, member }, arguments)
    }

    /// Asks to be told of jobs' ends. On the manager's own socket there is no bus to ask, and we are told anyway.
    fn listen(&mut self) -> Result<()> {
        let rule = format!("type='signal',sender='{MANAGER}',interface='{INTERFACE}',member='JobRemoved'");
        let bus = "org.freedesktop.DBus";
        let add = Method { destination: bus, path: "/org/freedesktop/DBus", interface: bus, member: "AddMatch" };
        if self.bus.is_shared() {
            let added = self.bus.call(&add, &[Value::text(rule)]);
            added.map_err(|failure| failure.during("listen on the message bus".into()))?;
        }
        // An error only says that we are already.
        let _ = self.call(INTERFACE, "Subscribe", &[]);
        Ok(())
    }

    /// Waits for the end of a job and says how it ended.
    fn job(&mut self, job: &[Value]) -> Result<String> {
        let job = job.first().and_then(Value::as_text).unwrap_or_default();
        let deadline = Instant::now() + JOB;
        loop {
            let signal = self.bus.signal(deadline).step(|| format!("systemd: wait for the unit {}", self.unit.name))?;
            let value = |index: usize| signal.values.get(index).and_then(Value::as_text);
            if signal.member == "JobRemoved" && value(1) == Some(job) {
                return Ok(value(3).unwrap_or_default().to_owned());
            }
        }
    }
}

/// Where the manager may be, most usual first.
fn places(of_user: bool) -> Vec<Place> {
    let path = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let (variable, run) = match of_user {
        true => ("DBUS_SESSION_BUS_ADDRESS", path("XDG_RUNTIME_DIR").unwrap_or_default()),
        false => ("DBUS_SYSTEM_BUS_ADDRESS", PathBuf::from("/run")),
    };
    let named = env::var(variable).unwrap_or_default();
    // Addresses are `kind:key=value,…;…`; ours are always sockets in the file system.
    let named = named.split(';').find_map(|address| {
        address.strip_prefix("unix:")?.split(',').find_map(|pair| pair.strip_prefix("path=")).map(PathBuf::from)
    });
    let usual = if of_user { run.join("bus") } else { run.join("dbus/system_bus_socket") };
    match named {
        Some(path) => vec![Place::Bus(path)],
        None => vec![Place::Bus(usual), Place::Private(run.join("systemd/private"))],
    }
}

fn list(properties: &[(String, Value)]) -> Value {
    let pair = |(name, value): &(String, Value)| Value::Tuple(vec![Value::text(name), value.clone().variant()]);
    Value::Array("(sv)".into(), properties.iter().map(pair).collect())
}

fn value(property: Property) -> Value {
    match property {
        Property::Number(number) => Value::U64(number),
        Property::Word(word) => Value::text(word),
        Property::Bits(bytes) => Value::Array("y".into(), bytes.into_iter().map(Value::Byte).collect()),
        Property::Devices(devices) => {
            let pair = |(name, access)| Value::Tuple(vec![Value::Text(name), Value::Text(access)]);
            Value::Array("(ss)".into(), devices.into_iter().map(pair).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(path: &str) -> Result<(String, String)> {
        Unit::parse(path, "c1", false).map(|unit| (unit.name, unit.slice))
    }

    #[test]
    fn paths_name_slice_prefix_and_name() {
        for (path, name, slice) in [
            ("", "kiste-c1.scope", "system.slice"),
            ("machine.slice:libpod:42", "libpod-42.scope", "machine.slice"),
            (":docker:42", "docker-42.scope", "system.slice"),
            ("a-b.slice::42", "42.scope", "a-b.slice"),
            ("-.slice:x:pod.slice", "pod.slice", "-.slice"),
        ] {
            assert_eq!(unit(path).unwrap(), (name.to_owned(), slice.to_owned()), "{path}");
        }
        assert_eq!(Unit::parse("", "c1", true).unwrap().slice, "user.slice");
    }

    #[test]
    fn other_paths_are_refused_by_name() {
        for path in [
            "/docker/42",
            "a:b",
            "a:b:c:d",
            "system:docker:42",
            "a--b.slice:x:y",
            "-a.slice:x:y",
            ".slice:x:y",
            "a/b.slice:x:y",
            "a.slice:x:../y",
            "a.slice:x:y z",
            "a.slice::.y",
        ] {
            assert!(unit(path).unwrap_err().text.contains("linux.cgroupsPath"), "{path}");
        }
        assert!(unit(&format!("a.slice:x:{}", "y".repeat(255))).is_err());
    }
}
