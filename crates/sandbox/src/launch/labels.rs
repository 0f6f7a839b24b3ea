//! Labels of security modules, AppArmor's profile and SELinux's context, which the kernel gives the process when it
//! executes its program. Written through the host's own procfs by descriptor: what a container has at `/proc` may be
//! anything (CVE-2019-16884, CVE-2025-52881).

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use oci_spec::runtime::Process;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Error;
use super::step::Step;

/// `PROC_SUPER_MAGIC` and `SELINUX_MAGIC` of `linux/magic.h`.
const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const SELINUX_MAGIC: i64 = 0xf97c_ff8c;

/// What is to be written, and where `/proc` of the host is.
pub(super) struct Labels {
    procfs: OwnedFd,
    apparmor: Option<String>,
    selinux: Option<String>,
}

impl Labels {
    /// The labels of a process, if it has some. Labels for modules that this host does not have are an error: a
    /// container would run without a protection that was asked for.
    pub(super) fn of(process: &Process) -> Result<Option<Self>, Error> {
        let given = |label: &Option<String>| label.clone().filter(|label| !label.is_empty());
        let selinux = given(process.selinux_label());
        let mut apparmor = given(process.apparmor_profile());
        if apparmor.is_some() && !has_apparmor() {
            // Without AppArmor everything is unconfined by it.
            apparmor = match apparmor.as_deref() {
                Some("unconfined") => None,
                _ => return missing("process.apparmorProfile", "config provided but apparmor not supported"),
            };
        }
        if selinux.is_some() && !has_selinux() {
            return missing("process.selinuxLabel", NO_SELINUX);
        }
        match (&apparmor, &selinux) {
            (None, None) => Ok(None),
            _ => Ok(Some(Self { procfs: procfs()?, apparmor, selinux })),
        }
    }

    /// Sets what the next program of the calling thread runs with.
    pub(super) fn apply(&self) -> Result<(), Error> {
        if let Some(profile) = &self.apparmor {
            let value = format!("exec {profile}");
            // The second is the only one before Linux 5.8.
            match self.write("attr/apparmor/exec", &value) {
                Err(Errno::NOENT) => self.write("attr/exec", &value),
                other => other,
            }
            .step(|| format!("process.apparmorProfile: apply profile {profile:?}"))?;
        }
        if let Some(label) = &self.selinux {
            self.write("attr/exec", label).step(|| format!("process.selinuxLabel: set {label:?}"))?;
        }
        Ok(())
    }

    fn write(&self, file: &str, value: &str) -> rustix::io::Result<()> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let path = Path::new("thread-self").join(file);
        let file = rustix::fs::openat2(&self.procfs, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        rustix::io::write(file, value.as_bytes()).map(drop)
    }
}

const NO_SELINUX: &str = "selinux label is specified in config, but selinux is disabled or not supported";

/// The label of new file systems, `linux.mountLabel`, as their mount option.
pub(super) fn mount_option(label: Option<&String>) -> Result<Option<String>, Error> {
    match label.filter(|label| !label.is_empty()) {
        None => Ok(None),
        Some(_) if !has_selinux() => missing("linux.mountLabel", NO_SELINUX),
        Some(label) => Ok(Some(format!("context={label}"))),
    }
}

fn missing<T>(field: &str, text: &str) -> Result<T, Error> {
    Err(Error::Invalid(format!("{field}: {text}")))
}

fn has_apparmor() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

fn has_selinux() -> bool {
    rustix::fs::statfs("/sys/fs/selinux").is_ok_and(|stat| stat.f_type == SELINUX_MAGIC)
}

fn procfs() -> Result<OwnedFd, Error> {
    let what = || "open /proc".to_owned();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let procfs = rustix::fs::open("/proc", flags, Mode::empty()).step(what)?;
    match rustix::fs::fstatfs(&procfs).step(what)?.f_type {
        PROC_SUPER_MAGIC => Ok(procfs),
        _ => Err(Error::Step("open /proc: it is no procfs".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(field: &str, value: &str) -> Result<Option<Labels>, Error> {
        let json = format!(r#"{{"user": {{}}, "cwd": "/", "{field}": "{value}"}}"#);
        Labels::of(&serde_json::from_str(&json).unwrap())
    }

    #[test]
    fn no_label_costs_nothing() {
        assert!(labels("apparmorProfile", "").unwrap().is_none());
        assert!(labels("selinuxLabel", "").unwrap().is_none());
    }

    #[test]
    fn labels_for_missing_modules_are_refused_by_name() {
        if !has_apparmor() {
            assert!(labels("apparmorProfile", "docker-default").err().unwrap().to_string().contains("apparmor not"));
            assert!(labels("apparmorProfile", "unconfined").unwrap().is_none());
        }
        if !has_selinux() {
            assert!(labels("selinuxLabel", "a:b:c").err().unwrap().to_string().contains("selinuxLabel"));
            assert!(mount_option(Some(&"a:b:c".to_owned())).unwrap_err().to_string().contains("mountLabel"));
        }
        assert_eq!(mount_option(None).unwrap(), None);
    }

    /// The thread's own attributes are found through the host's procfs, and the kernel is asked; which module answers
    /// what depends on the host.
    #[test]
    fn attributes_are_written_by_descriptor() {
        let labels = Labels { procfs: procfs().unwrap(), apparmor: None, selinux: None };
        assert_eq!(labels.write("attr/no-such-file", "x"), Err(Errno::NOENT));
        assert!(labels.write("comm", "labelled").is_ok());
        let name = fs::read_to_string("/proc/thread-self/comm").unwrap();
        assert_eq!(name.trim(), "labelled");
    }
}
