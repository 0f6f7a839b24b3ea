//! Reading an OCI configuration: errors that name the field, and what the specification wants to be tolerated. Checks
//! across fields are made where the fields are carried out.

use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads `config.json`. With it come warnings about what cannot be carried out and is no error: capabilities that do not
/// exist here (runtime-spec, config.md "Linux Process").
pub fn parse(json: &[u8]) -> Result<(Spec, Vec<String>), String> {
    let (mut spec, warnings): (Spec, _) = read(json, |value, warnings| {
        if let Some(process) = value.get_mut("process") {
            tolerate(process, warnings);
        }
    })?;
    // Some callers write the path of a new namespace as an empty one.
    let namespaces = spec.linux_mut().as_mut().and_then(|linux| linux.namespaces_mut().as_mut());
    for namespace in namespaces.into_iter().flatten() {
        if namespace.path().as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            namespace.set_path(None);
        }
    }
    if let Some(resources) = spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut()) {
        forget_absent_limit(resources, json, "/linux/resources/pids/limit");
    }
    Ok((spec, warnings))
}

/// A limit of no process is one, a limit that is not there is none (runtime-spec, config-linux.md "PIDs"); the library
/// reads both as zero. `pointer`: where the limit would be in `json`.
fn forget_absent_limit(resources: &mut LinuxResources, json: &[u8], pointer: &str) {
    let zero = resources.pids().is_some_and(|pids| pids.limit() == 0);
    let is_there = || serde_json::from_slice::<Value>(json).is_ok_and(|value| value.pointer(pointer).is_some());
    if zero && !is_there() {
        resources.set_pids(None);
    }
}

/// Reads the description of one more process, as `exec --process` takes it.
pub fn parse_process(json: &[u8]) -> Result<(Process, Vec<String>), String> {
    read(json, tolerate)
}

/// Nearly every configuration is read in one go; one that is not gets a second look.
fn read<T: DeserializeOwned>(
    json: &[u8],
    tolerate: impl FnOnce(&mut Value, &mut Vec<String>),
) -> Result<(T, Vec<String>), String> {
    if json.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err("it is no JSON object".into());
    }
    refuse_null(json)?;
    if let Ok(read) = serde_json::from_slice(json) {
        return Ok((read, Vec::new()));
    }
    let mut value: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let mut warnings = Vec::new();
    tolerate(&mut value, &mut warnings);
    match serde_path_to_error::deserialize(value) {
        Ok(read) => Ok((read, warnings)),
        Err(error) => Err(format!("{}: {}", error.path(), error.inner())),
    }
}

/// No name, path or value of the kernel's can have a null character in it; half of it would be taken for the whole.
fn refuse_null(json: &[u8]) -> Result<(), String> {
    const ESCAPED: &[u8] = b"\\u0000";
    if !json.windows(ESCAPED.len()).any(|window| window == ESCAPED) {
        return Ok(());
    }
    let value: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    match with_null(&value) {
        Some(field) => Err(format!("{}: contains a null byte", field.trim_start_matches('.'))),
        None => Ok(()),
    }
}

/// The path of a string with a null character.
fn with_null(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(list) => {
            let found = |(index, value)| with_null(value).map(|path| format!("[{index}]{path}"));
            list.iter().enumerate().find_map(found)
        }
        Value::Object(map) => map.iter().find_map(|(key, value)| {
            let path = if key.contains('\0') { Some(String::new()) } else { with_null(value) };
            path.map(|path| format!(".{}{path}", key.escape_debug()))
        }),
        _ => None,
    }
}

fn tolerate(process: &mut Value, warnings: &mut Vec<String>) {
    let Some(process) = process.as_object_mut() else { return };
    // Without a user it is root, as in every other runtime.
    process.entry("user").or_insert_with(|| Value::Object(serde_json::Map::new()));
    if let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut) {
        sets.iter_mut().for_each(|(set, list)| keep_known(set, list, warnings));
    }
    if let Some(flags) = process.get_mut("scheduler").and_then(|scheduler| scheduler.get_mut("flags")) {
        flags.as_array_mut().into_iter().flatten().for_each(rename_flag);
    }
}

/// Names of another release of the kernel, or none at all.
fn keep_known(set: &str, list: &mut Value, warnings: &mut Vec<String>) {
    let Some(list) = list.as_array_mut() else { return };
    list.retain(|name| {
        let known = serde_json::from_value::<oci_spec::runtime::Capability>(name.clone()).is_ok();
        if !known {
            warnings.push(format!("process.capabilities.{set}: unknown capability {name} is ignored"));
        }
        known || !name.is_string()
    });
}

/// Two names that the library has differently from the specification.
fn rename_flag(flag: &mut Value) {
    match flag.as_str() {
        Some("SCHED_FLAG_RESET_ON_FORK") => *flag = "SCHED_RESET_ON_FORK".into(),
        Some("SCHED_FLAG_DL_OVERRUN") => *flag = "SCHED_FLAG_D_L_OVERRUN".into(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(process: &str) -> String {
        format!(r#"{{"ociVersion": "1.3.0", "process": {process}}}"#)
    }

    fn error(json: &str) -> String {
        parse(json.as_bytes()).unwrap_err()
    }

    #[test]
    fn errors_name_the_field() {
        let cases = [
            (with(r#"{"cwd": "/", "args": 1}"#), "process.args: invalid type"),
            (
                with(r#"{"cwd": "/", "rlimits": [{"type": "RLIMIT_WHAT", "soft": 1, "hard": 1}]}"#),
                "process.rlimits[0].type",
            ),
            (with(r#"{"cwd": "/", "user": {"uid": -1}}"#), "process.user.uid"),
            (r#"{"ociVersion": "1", "linux": {"namespaces": [{"type": "moon"}]}}"#.into(), "linux.namespaces[0].type"),
            (r#"{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_MAYBE"}}}"#.into(), "linux.seccomp.defaultAction"),
            (r#"{"linux": {"resources": {"memory": {"limit": "1g"}}}}"#.into(), "linux.resources.memory.limit"),
            (r#"{"mounts": [{"source": "/"}]}"#.into(), "mounts[0]: missing field `destination`"),
            (r#"{"linux": {"devices": [{"path": "/dev/x", "major": 1, "minor": 1}]}}"#.into(), "missing field `type`"),
            (with(r#"{"cwd": "/", "env": ["A=1", "B\u0000=2"]}"#), "process.env[1]: contains a null byte"),
            (r#"{"annotations": {"a\u0000": "b"}}"#.into(), "annotations.a\\0: contains a null byte"),
            ("{".into(), "EOF"),
            ("[]".into(), "no JSON object"),
        ];
        for (json, expected) in cases {
            let error = error(&json);
            assert!(error.contains(expected), "{json}: {error}");
        }
    }

    #[test]
    fn unknown_capabilities_are_a_warning() {
        let json = with(r#"{"cwd": "/", "capabilities": {"bounding": ["CAP_CHOWN", "CAP_TELEPATHY"]}}"#);
        let (spec, warnings) = parse(json.as_bytes()).unwrap();
        assert_eq!(warnings, ["process.capabilities.bounding: unknown capability \"CAP_TELEPATHY\" is ignored"]);
        let sets = spec.process().as_ref().unwrap().capabilities().clone().unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 1);
        assert!(error(&with(r#"{"cwd": "/", "capabilities": {"bounding": [7]}}"#)).contains("capabilities.bounding"));
    }

    #[test]
    fn absent_limits_are_none() {
        for (pids, expected) in [("{}", None), (r#"{"limit": 0}"#, Some(0)), (r#"{"limit": 7}"#, Some(7))] {
            let json = format!(r#"{{"ociVersion": "1.3.0", "linux": {{"resources": {{"pids": {pids}}}}}}}"#);
            let (spec, _) = parse(json.as_bytes()).unwrap();
            let resources = spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
            assert_eq!(resources.pids().map(|pids| pids.limit()), expected, "{pids}");
        }
    }

    #[test]
    fn all_scheduler_flags_are_read() {
        let flags = "RESET_ON_FORK RECLAIM DL_OVERRUN KEEP_POLICY KEEP_PARAMS UTIL_CLAMP_MIN UTIL_CLAMP_MAX";
        let flags: Vec<String> = flags.split(' ').map(|flag| format!("\"SCHED_FLAG_{flag}\"")).collect();
        let scheduler = format!(r#"{{"policy": "SCHED_OTHER", "flags": [{}]}}"#, flags.join(","));
        let json = with(&format!(r#"{{"cwd": "/", "scheduler": {scheduler}}}"#));
        let (spec, _) = parse(json.as_bytes()).unwrap();
        assert_eq!(spec.process().as_ref().unwrap().scheduler().as_ref().unwrap().flags().as_ref().unwrap().len(), 7);
    }
}
