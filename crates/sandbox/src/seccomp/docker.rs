//! Docker's profile format, also Podman's: OCI's with conditions on capabilities, architecture and kernel, which are
//! resolved here for one container.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSyscall,
};
use serde::Deserialize;

use super::abi::{self, Abi};

/// Largest profile file taken, in bytes; Docker's own has 17 KiB.
const MAX_SIZE: usize = 4 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    default_errno: Option<String>,
    #[serde(default)]
    architectures: Option<Vec<Arch>>,
    arch_map: Option<Vec<Architecture>>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    listener_path: Option<std::path::PathBuf>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Syscall>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: Arch,
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscall {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    errno: Option<String>,
    args: Option<Vec<LinuxSeccompArg>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Reads a profile in Docker's format (`archMap`, `includes`, `excludes`, `minKernel`) and resolves it for these
/// capabilities into an OCI profile.
pub fn from_docker_json(json: &str, capabilities: &[&str]) -> Result<LinuxSeccomp, String> {
    if json.len() > MAX_SIZE {
        return Err(format!("the seccomp profile has {} bytes; the limit is {MAX_SIZE}", json.len()));
    }
    let profile: Profile = serde_json::from_str(json).map_err(|error| format!("decode seccomp profile: {error}"))?;
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    resolve(profile, capabilities, NATIVE.0, NATIVE.1, version(&release)?)
}

/// The native architecture as Go calls it, and as seccomp does.
const NATIVE: (&str, Arch) = match abi::NATIVE {
    Abi::X86_64 | Abi::X86 | Abi::X32 => ("amd64", Arch::ScmpArchX86_64),
    Abi::Aarch64 | Abi::Arm => ("arm64", Arch::ScmpArchAarch64),
    Abi::Riscv64 => ("riscv64", Arch::ScmpArchRiscv64),
    Abi::Ppc64le => ("ppc64le", Arch::ScmpArchPpc64le),
    Abi::S390x => ("s390x", Arch::ScmpArchS390x),
};

fn resolve(
    profile: Profile,
    capabilities: &[&str],
    go_architecture: &str,
    native: Arch,
    kernel: (u32, u32),
) -> Result<LinuxSeccomp, String> {
    let mut resolved = LinuxSeccomp::default();
    resolved.set_default_action(profile.default_action);
    resolved.set_default_errno_ret(errno_ret(
        profile.default_action,
        profile.default_errno_ret,
        profile.default_errno,
    )?);
    resolved.set_architectures(architectures(profile.architectures, profile.arch_map, native)?);
    resolved.set_flags(profile.flags);
    resolved.set_listener_path(profile.listener_path);
    resolved.set_listener_metadata(profile.listener_metadata);
    let mut syscalls = Vec::new();
    for syscall in profile.syscalls.unwrap_or_default() {
        let excluded = match &syscall.excludes {
            Some(filter) => filter.excludes(capabilities, go_architecture, kernel)?,
            None => false,
        };
        let included = match &syscall.includes {
            Some(filter) => filter.includes(capabilities, go_architecture, kernel)?,
            None => true,
        };
        if included && !excluded {
            syscalls.push(syscall.resolve()?);
        }
    }
    resolved.set_syscalls(Some(syscalls));
    Ok(resolved)
}

fn architectures(
    listed: Option<Vec<Arch>>,
    map: Option<Vec<Architecture>>,
    native: Arch,
) -> Result<Option<Vec<Arch>>, String> {
    let (listed, map) = (listed.unwrap_or_default(), map.unwrap_or_default());
    if !listed.is_empty() && !map.is_empty() {
        return Err("use either 'architectures' or 'archMap' in the seccomp profile, not both".to_owned());
    }
    if !listed.is_empty() {
        return Ok(Some(listed));
    }
    let entry = map.into_iter().find(|entry| entry.architecture == native);
    Ok(entry.map(|entry| {
        let mut architectures = vec![entry.architecture];
        architectures.extend(entry.sub_architectures.unwrap_or_default());
        architectures
    }))
}

impl Syscall {
    fn resolve(self) -> Result<LinuxSyscall, String> {
        let names = match (self.name, self.names.unwrap_or_default()) {
            (Some(_), names) if !names.is_empty() => {
                return Err("use either 'name' or 'names' in a seccomp rule, not both".to_owned());
            }
            (Some(name), _) => vec![name],
            (None, names) => names,
        };
        if names.is_empty() || names.iter().any(String::is_empty) {
            return Err("a seccomp rule has no system call name".to_owned());
        }
        let mut resolved = LinuxSyscall::default();
        resolved.set_errno_ret(errno_ret(self.action, self.errno_ret, self.errno)?);
        resolved.set_names(names);
        resolved.set_action(self.action);
        resolved.set_args(self.args.filter(|arguments| !arguments.is_empty()));
        Ok(resolved)
    }
}

/// Podman writes the name of the error beside its number; the number wins, and other actions have neither.
fn errno_ret(action: LinuxSeccompAction, number: Option<u32>, name: Option<String>) -> Result<Option<u32>, String> {
    use LinuxSeccompAction::{ScmpActErrno, ScmpActTrace};
    match (number, name.as_deref()) {
        (None | Some(0), None | Some("")) if !matches!(action, ScmpActErrno | ScmpActTrace) => Ok(None),
        (None, Some("EPERM")) => Ok(Some(libc::EPERM as u32)),
        (None, Some("EACCES")) => Ok(Some(libc::EACCES as u32)),
        (None, Some("EINVAL")) => Ok(Some(libc::EINVAL as u32)),
        (None, Some("ENOSYS")) => Ok(Some(libc::ENOSYS as u32)),
        (None, Some(name)) if !name.is_empty() => {
            Err(format!("unknown error name {name:?} in the seccomp profile; hint: give errnoRet as a number"))
        }
        (number, _) => Ok(number),
    }
}

impl Filter {
    /// An included rule needs all of it.
    fn includes(&self, capabilities: &[&str], architecture: &str, kernel: (u32, u32)) -> Result<bool, String> {
        let architectures = self.arches.as_deref().unwrap_or_default();
        let wanted = self.caps.as_deref().unwrap_or_default();
        Ok((architectures.is_empty() || architectures.iter().any(|each| each == architecture))
            && wanted.iter().all(|each| capabilities.contains(&each.as_str()))
            && self.kernel_reached(kernel)?.unwrap_or(true))
    }

    /// Any of it excludes a rule.
    fn excludes(&self, capabilities: &[&str], architecture: &str, kernel: (u32, u32)) -> Result<bool, String> {
        let architectures = self.arches.as_deref().unwrap_or_default();
        let unwanted = self.caps.as_deref().unwrap_or_default();
        Ok(architectures.iter().any(|each| each == architecture)
            || unwanted.iter().any(|each| capabilities.contains(&each.as_str()))
            || self.kernel_reached(kernel)?.unwrap_or(false))
    }

    fn kernel_reached(&self, kernel: (u32, u32)) -> Result<Option<bool>, String> {
        match self.min_kernel.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => version(text).map(|wanted| Some(kernel >= wanted)),
        }
    }
}

/// `major.minor` at the start of a release.
fn version(text: &str) -> Result<(u32, u32), String> {
    let mut numbers = text.split(|letter: char| !letter.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(format!("invalid kernel version {text:?}; hint: major.minor, as 4.8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve_here(json: &str, capabilities: &[&str]) -> Result<LinuxSeccomp, String> {
        let profile = serde_json::from_str(json).map_err(|error| error.to_string())?;
        resolve(profile, capabilities, "amd64", Arch::ScmpArchX86_64, (6, 1))
    }

    fn names(profile: &LinuxSeccomp) -> Vec<&str> {
        profile.syscalls().iter().flatten().flat_map(|syscall| syscall.names()).map(String::as_str).collect()
    }

    #[test]
    fn conditions_are_resolved() {
        let json = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                        {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null}],
            "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["set_tls"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm"]}},
                {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
                {"name": "futex", "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.2"}}]}"#;
        let profile = resolve_here(json, &[]).unwrap();
        assert_eq!(names(&profile), ["read", "clone3", "ptrace"]);
        assert_eq!(profile.architectures().as_deref(), Some(&[Arch::ScmpArchX86_64, Arch::ScmpArchX86][..]));
        assert_eq!(names(&resolve_here(json, &["CAP_SYS_ADMIN"]).unwrap()), ["read", "mount", "ptrace"]);
    }

    #[test]
    fn contradictions_and_nonsense_are_refused() {
        let cases = [
            r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#,
            r#"{"syscalls": []}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_LOG"}]}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]}"#,
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "EWHAT"}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "action": "SCMP_ACT_LOG", "includes": {"minKernel": "x"}}]}"#,
        ];
        for json in cases {
            assert!(resolve_here(json, &[]).is_err(), "{json}");
        }
    }

    #[test]
    fn size_is_limited() {
        assert!(from_docker_json(&" ".repeat(MAX_SIZE + 1), &[]).unwrap_err().contains("limit"));
    }
}
