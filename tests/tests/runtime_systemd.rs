//! `kiste runtime --systemd-cgroup` against a real message bus (dbus-daemon) with a stand-in for the service manager on
//! it, which makes cgroups as systemd does and writes down what it was asked for. The stand-in is built on libdbus, so
//! that what goes over the wire is judged by somebody else's reading of the specification.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kiste_tests::{Bundle, Output, wait_until};
use serde_json::{Value, json};

/// The service manager, as far as a runtime sees it.
const MANAGER: &str = r#"
import json, os, sys
import dbus, dbus.service, dbus.bus
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

NAME, PATH = 'org.freedesktop.systemd1', '/org/freedesktop/systemd1'
MANAGER, PROPERTIES = NAME + '.Manager', 'org.freedesktop.DBus.Properties'
address, base, notes = sys.argv[1:]
top = '/sys/fs/cgroup/pids' if os.path.isdir('/sys/fs/cgroup/pids') else '/sys/fs/cgroup'

class Failure(dbus.DBusException):
    include_traceback = False
    def __init__(self, name, text):
        super().__init__(text, name=NAME + '.' + name)

class Unit(dbus.service.Object):
    def __init__(self, bus, path, group):
        super().__init__(bus, path)
        self.group = group
    @dbus.service.method(PROPERTIES, in_signature='ss', out_signature='v')
    def Get(self, interface, name):
        assert interface in (NAME + '.Scope', NAME + '.Slice') and name == 'ControlGroup', (interface, name)
        return self.group

class Manager(dbus.service.Object):
    def __init__(self, bus):
        super().__init__(bus, PATH)
        self.bus, self.units, self.listening, self.jobs = bus, {}, False, 0
        self.stale = {'kiste-stale.scope'}
    def note(self, member, *values):
        with open(notes, 'a') as file:
            file.write(json.dumps([member, *values]) + '\n')
    def job(self, unit, result):
        self.jobs += 1
        path = dbus.ObjectPath(PATH + '/job/%d' % self.jobs)
        number = self.jobs
        # Before the answer, as a busy manager may.
        if self.listening:
            self.JobRemoved(dbus.UInt32(number + 1000), dbus.ObjectPath(PATH + '/job/9999'), 'other.scope', 'failed')
            self.JobRemoved(dbus.UInt32(number), path, unit, result)
        return path
    @dbus.service.signal(MANAGER, signature='uoss')
    def JobRemoved(self, number, job, unit, result): pass
    @dbus.service.method(MANAGER)
    def Subscribe(self): self.listening = True
    @dbus.service.method(PROPERTIES, in_signature='ss', out_signature='v')
    def Get(self, interface, name):
        assert (interface, name) == (MANAGER, 'Version'), (interface, name)
        return '252.38-1~deb12u1'
    @dbus.service.method(MANAGER, in_signature='ssa(sv)a(sa(sv))', out_signature='o')
    def StartTransientUnit(self, name, mode, properties, auxiliary):
        self.note('StartTransientUnit', name, mode, {key: [value.__class__.__name__, value] for key, value in properties})
        if name in self.stale:
            raise Failure('UnitExists', 'Unit %s was already loaded.' % name)
        if 'Nonsense' in dict(properties):
            raise Failure('PropertyReadOnly', 'Cannot set property Nonsense, or unknown property.')
        if name == 'kiste-failing.scope':
            return self.job(name, 'failed')
        group = base + '/' + name
        os.makedirs(top + group)
        for pid in dict(properties)['PIDs']:
            with open(top + group + '/cgroup.procs', 'w') as file:
                file.write(str(pid))
        path = PATH + '/unit/u%d' % len(self.units)
        self.units[name] = (Unit(self.bus, path, group), path)
        return self.job(name, 'done')
    @dbus.service.method(MANAGER, in_signature='s', out_signature='o')
    def GetUnit(self, name): return dbus.ObjectPath(self.units[name][1])
    @dbus.service.method(MANAGER, in_signature='sba(sv)')
    def SetUnitProperties(self, name, runtime, properties):
        self.note('SetUnitProperties', name, bool(runtime), {key: [value.__class__.__name__, value] for key, value in properties})
    @dbus.service.method(MANAGER, in_signature='ss', out_signature='o')
    def StopUnit(self, name, mode):
        self.note('StopUnit', name, mode)
        if name not in self.units:
            raise Failure('NoSuchUnit', 'Unit %s not loaded.' % name)
        return self.job(name, 'done')
    @dbus.service.method(MANAGER, in_signature='s')
    def ResetFailedUnit(self, name):
        self.note('ResetFailedUnit', name)
        self.stale.discard(name)

DBusGMainLoop(set_as_default=True)
bus = dbus.bus.BusConnection(address)
manager = Manager(bus)
bus.request_name(NAME)
GLib.MainLoop().run()
"#;

/// Who may do what on the bus: everybody everything.
const RULES: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=SOCKET</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="true"/>
<allow receive_sender="*" eavesdrop="true"/></policy></busconfig>"#;

/// A bundle whose machine has a service manager.
struct World {
    bundle: Bundle,
    daemons: Vec<Child>,
}

impl World {
    fn new(line: &str) -> Self {
        let bundle = Bundle::new(line);
        let mut world = World { bundle, daemons: Vec::new() };
        let rules = world.bundle.path("bus.conf");
        fs::write(&rules, RULES.replace("SOCKET", &world.socket().to_string_lossy())).expect("the bundle is writable");
        let mut daemon = Command::new("dbus-daemon");
        daemon.arg(format!("--config-file={}", rules.display())).args(["--nofork", "--nosyslog"]);
        world.start(&mut daemon);
        let socket = world.socket();
        wait_until("the bus is there", Duration::from_secs(20), || socket.exists().then_some(()));
        let base = world.bundle.cgroup("x", "pids");
        let base = base.parent().and_then(|base| base.file_name()).expect("a name").to_string_lossy().into_owned();
        let mut manager = Command::new("/usr/bin/python3");
        manager.args(["-c", MANAGER, &world.address(), &format!("/{base}")]).arg(world.bundle.path("asked"));
        world.start(&mut manager);
        let has_name = || {
            let mut send = Command::new("dbus-send");
            send.arg(format!("--bus={}", world.address())).args(["--print-reply", "--dest=org.freedesktop.DBus", "/"]);
            send.args(["org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.systemd1"]);
            let answer = send.output().expect("dbus-send is installed");
            String::from_utf8_lossy(&answer.stdout).contains("true").then_some(())
        };
        wait_until("the manager is on the bus", Duration::from_secs(20), has_name);
        world
    }

    fn start(&mut self, command: &mut Command) {
        let log = fs::File::create(self.bundle.path("daemons.log")).expect("the bundle is writable");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.daemons.push(child.expect("dbus and python3-dbus are installed"));
    }

    fn socket(&self) -> PathBuf {
        self.bundle.path("bus")
    }

    fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }

    /// The runtime with `--systemd-cgroup`, on this bus.
    fn runtime(&self, words: &[&str]) -> Output {
        let mut command = self.bundle.command(&[&["--systemd-cgroup"], words].concat());
        self.bundle.detached(command.env("DBUS_SYSTEM_BUS_ADDRESS", self.address()), "c")
    }

    /// What the manager was asked for, oldest first.
    fn asked(&self, member: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.bundle.path("asked")).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("in JSON"));
        lines.filter(|line| line[0] == member).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for id in self.bundle.runtime(&["list", "-q"]).stdout.lines() {
            self.runtime(&["delete", "--force", id]);
        }
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

#[test]
fn the_manager_makes_the_cgroup_and_knows_the_limits() {
    let mut world = World::new("cat /proc/self/cgroup; sleep 1000");
    world.bundle.config["linux"]["cgroupsPath"] = "-.slice:kiste:one".into();
    world.bundle.config["linux"]["resources"] =
        json!({"pids": {"limit": 50}, "cpu": {"quota": 50000, "period": 100000, "cpus": "0"}});
    world.bundle.config["annotations"] =
        json!({"org.systemd.property.TimeoutStopSec": "7", "org.systemd.property.CollectMode": "'inactive-or-failed'"});
    world.bundle.write("c");
    world.runtime(&["run", "--detach", "c"]).ok();
    let asked = world.asked("StartTransientUnit");
    let [_, name, mode, properties] = &asked[0].as_array().expect("a list")[..] else { panic!("{asked:?}") };
    assert_eq!((name, mode), (&json!("kiste-one.scope"), &json!("replace")));
    let expected = [
        ("Slice", json!(["String", "-.slice"])),
        ("Delegate", json!(["Boolean", 1])),
        ("DefaultDependencies", json!(["Boolean", 0])),
        ("TasksMax", json!(["UInt64", 50])),
        ("CPUQuotaPerSecUSec", json!(["UInt64", 500_000])),
        ("CPUQuotaPeriodUSec", json!(["UInt64", 100_000])),
        ("AllowedCPUs", json!(["Array", [1]])),
        ("TimeoutStopUSec", json!(["UInt64", 7_000_000])),
        ("CollectMode", json!(["String", "inactive-or-failed"])),
        ("DevicePolicy", json!(["String", "strict"])),
    ];
    for (key, value) in expected {
        assert_eq!(properties[key], value, "{key}");
    }
    let devices = properties["DeviceAllow"].to_string();
    assert!(devices.contains(r#"["/dev/char/1:3","rwm"]"#) && devices.contains(r#"["char-136","rwm"]"#), "{devices}");
    // The limits hold, and the container is where the manager said; who was first in the unit has gone.
    let group = world.bundle.cgroup("kiste-one.scope", "pids");
    assert_eq!(fs::read_to_string(group.join("pids.max")).expect("the cgroup is there").trim(), "50");
    let pid = world.bundle.state("c")["pid"].to_string();
    let members = || {
        let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        let members: Vec<String> = text.lines().map(str::to_owned).collect();
        (members.contains(&pid) && members.len() <= 2 && !members.is_empty()).then_some(())
    };
    wait_until("the container is in the unit", Duration::from_secs(10), members);
    world.runtime(&["update", "--pids-limit", "60", "c"]).ok();
    let set = world.asked("SetUnitProperties");
    assert_eq!(set[0][3], json!({"TasksMax": ["UInt64", 60]}));
    assert_eq!(fs::read_to_string(group.join("pids.max")).expect("the cgroup is there").trim(), "60");
    world.runtime(&["exec", "c", "true"]).ok();
    world.runtime(&["delete", "--force", "c"]).ok();
    assert_eq!(world.asked("StopUnit"), [json!(["StopUnit", "kiste-one.scope", "replace"])]);
    assert!(!group.exists());
}

#[test]
fn a_failed_unit_of_the_same_name_gives_way() {
    let mut world = World::new("true");
    world.bundle.config["linux"]["cgroupsPath"] = "-.slice:kiste:stale".into();
    world.bundle.write("c");
    world.runtime(&["run", "c"]).ok();
    assert_eq!(world.asked("StartTransientUnit").len(), 2);
}

#[test]
fn what_the_manager_refuses_is_one_error_and_leaves_nothing() {
    let mut world = World::new("true");
    let attempts = [
        ("-.slice:kiste:failing", json!({}), "start the unit kiste-failing.scope: the job is"),
        ("-.slice:kiste:c", json!({"org.systemd.property.Nonsense": "1"}), "unknown property"),
        ("-.slice:kiste:c", json!({"org.systemd.property.Any": "'open"}), "org.systemd.property.Any"),
        ("/absolute/path", json!({}), "slice:prefix:name"),
        ("a/b.slice:kiste:c", json!({}), "invalid slice name"),
    ];
    for (path, annotations, expected) in attempts {
        world.bundle.config["linux"]["cgroupsPath"] = path.into();
        world.bundle.config["annotations"] = annotations;
        world.bundle.write("c");
        let output = world.runtime(&["run", "c"]);
        assert_eq!(output.code(), 1, "{path}");
        assert!(output.stderr.contains(expected), "{path}: {}", output.stderr);
        assert_eq!(world.bundle.runtime(&["list", "-q"]).ok(), "");
    }
}

#[test]
fn without_a_manager_the_error_says_so_at_once() {
    let mut bundle = Bundle::new("true");
    bundle.config["linux"]["cgroupsPath"] = ":kiste:c".into();
    bundle.write("c");
    let mut command = bundle.command(&["--cgroup-manager", "systemd", "run", "c"]);
    let output = bundle.detached(command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus"), "c");
    assert_eq!(output.code(), 1);
    assert!(output.stderr.contains("no service manager can be reached"), "{}", output.stderr);
}
