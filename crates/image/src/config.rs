//! Image configurations as untrusted input: bounded, parsed leniently where Docker is lenient (`null` for absent),
//! strictly where it matters (layer digests, environment entries).

use oci_spec::image::ImageConfiguration;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::{Digest, limits};

/// Parses a configuration; `what` names it in errors.
pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<ImageConfiguration> {
    if bytes.len() as u64 > limits::CONFIG {
        return Err(Error::untrusted(format!("{what}: larger than {} MiB", limits::CONFIG >> 20)));
    }
    let bad = |cause: serde_json::Error| Error::untrusted(format!("{what} is no image configuration: {cause}"));
    let mut value: Value = serde_json::from_slice(bytes).map_err(bad)?;
    strip_nulls(&mut value);
    let mut parsed: ImageConfiguration = serde_json::from_value(value).map_err(bad)?;
    let layers = parsed.rootfs().diff_ids().len();
    if layers > limits::LAYERS {
        return Err(Error::untrusted(format!("{what}: {layers} layers, more than the {} allowed", limits::LAYERS)));
    }
    diff_ids(&parsed)?;
    drop_bad_environment(&mut parsed);
    Ok(parsed)
}

/// The layers' digests, lowest first.
pub(crate) fn diff_ids(config: &ImageConfiguration) -> Result<Vec<Digest>> {
    config.rootfs().diff_ids().iter().map(|text| text.parse()).collect()
}

/// Seconds since 1970 of a configuration's creation; 0 if it says nothing sensible.
pub(crate) fn created(config: &ImageConfiguration) -> i64 {
    let parsed = config.created().as_ref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    parsed.map_or(0, |time| time.as_second())
}

/// An entry without `=` would name a variable of whoever reads it (CVE-2026-57231): it is left out.
fn drop_bad_environment(config: &mut ImageConfiguration) {
    let Some(mut inner) = config.config().clone() else { return };
    if let Some(entries) = inner.env() {
        let good = |entry: &&String| entry.find('=').is_some_and(|at| at > 0) && !entry.contains('\0');
        let kept = entries.iter().filter(good).cloned().collect();
        inner.set_env(Some(kept));
        config.set_config(Some(inner));
    }
}

/// Go writes absent lists and maps as `null`.
fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, inner| !inner.is_null());
            map.values_mut().for_each(strip_nulls);
            if map.get("type").is_some_and(|kind| kind == "layers") {
                map.entry("diff_ids").or_insert_with(|| Value::Array(Vec::new()));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_nulls_and_bad_environment() {
        let text = br#"{"architecture":"amd64","os":"linux","created":"2024-05-06T07:08:09.5Z","history":null,
            "rootfs":{"type":"layers","diff_ids":null},
            "config":{"Env":["A=b","PATH","=x","*"],"Volumes":null,"ExposedPorts":{"80/tcp":{}},"Labels":null,"Cmd":null}}"#;
        let config = parse(text, "config").unwrap();
        assert_eq!(config.config().as_ref().unwrap().env().as_ref().unwrap(), &["A=b"]);
        assert_eq!(created(&config), 1_714_979_289);
    }

    #[test]
    fn hostile_configurations() {
        let layers: Vec<String> = (0..10_000).map(|n| format!("\"sha256:{n:064x}\"")).collect();
        let many = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            layers.join(",")
        );
        assert!(parse(many.as_bytes(), "c").unwrap_err().to_string().contains("10000 layers"));
        let path = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:../../x"]}}"#;
        assert!(parse(path.as_bytes(), "c").unwrap_err().to_string().contains("invalid digest"));
        for bad in ["", "[]", "{}", "null", "{\"rootfs\":7}"] {
            assert!(parse(bad.as_bytes(), "c").is_err(), "{bad}");
        }
        let deep = "[".repeat(100_000);
        assert!(parse(deep.as_bytes(), "c").is_err());
    }
}
