//! Reading an OCI configuration: errors that name the field, and what the specification wants to be tolerated. Checks
//! across fields are made where the fields are carried out.

use oci_spec::runtime::{Process, Spec};
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
    Ok((spec, warnings))
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
    fn all_scheduler_flags_are_read() {
        let flags = "RESET_ON_FORK RECLAIM DL_OVERRUN KEEP_POLICY KEEP_PARAMS UTIL_CLAMP_MIN UTIL_CLAMP_MAX";
        let flags: Vec<String> = flags.split(' ').map(|flag| format!("\"SCHED_FLAG_{flag}\"")).collect();
        let scheduler = format!(r#"{{"policy": "SCHED_OTHER", "flags": [{}]}}"#, flags.join(","));
        let json = with(&format!(r#"{{"cwd": "/", "scheduler": {scheduler}}}"#));
        let (spec, _) = parse(json.as_bytes()).unwrap();
        assert_eq!(spec.process().as_ref().unwrap().scheduler().as_ref().unwrap().flags().as_ref().unwrap().len(), 7);
    }
}
