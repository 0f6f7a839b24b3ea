//! Attributes of builds that clients send as pairs: which there are, and those that are about caches and statements. What
//! is not known is refused, so that nothing is asked for in vain.

use build::{CacheSource, CacheTarget, Provenance};
use serde::Deserialize;

use super::options::Options;
use super::proto::{CacheEntry, CacheOptions, Exporter};
use super::wire::{Code, Result, Status};

/// Options of the frontend with an effect here.
const OPTIONS: &[&str] = &[
    "add-hosts",
    "attest:provenance",
    "attest:sbom",
    "cache-imports",
    "cgroup-parent",
    "context",
    "contextkey",
    "dockerfilekey",
    "filename",
    "force-network-mode",
    "image-resolve-mode",
    "no-cache",
    "platform",
    "requestid",
    "shm-size",
    "source",
    "target",
    "ulimit",
];
/// Families of them.
const FAMILIES: &[&str] = &["build-arg:", "context:", "label:", "local-sessionid:"];
/// What only describes the client or where its files are from: it changes nothing of a build.
const NOTES: &[&str] = &["build-arg:BUILDKIT_SYNTAX", "cmdline", "frontend.caps", "input-metadata:", "vcs:"];

/// Refuses options of the frontend that would have no effect.
pub(super) fn check_options(options: &Options) -> Result<()> {
    let known =
        |key: &str| OPTIONS.contains(&key) || FAMILIES.iter().chain(NOTES).any(|family| key.starts_with(family));
    match options.iter().find(|(key, _)| !known(key)) {
        Some((key, value)) => Err(unsupported(&format!("the option {key}={value}"))),
        None => Ok(()),
    }
}

/// Refuses attributes of an output that would have no effect.
pub(super) fn check_exporter(exporter: &Exporter) -> Result<()> {
    match exporter.attrs.iter().find(|(key, value)| !has_effect(&exporter.kind, key, value)) {
        Some((key, value)) => Err(unsupported(&format!("{key}={value} of the output type={}", exporter.kind))),
        None => Ok(()),
    }
}

/// Whether an attribute has an effect, or only says what is so anyway.
fn has_effect(kind: &str, key: &str, value: &str) -> bool {
    let archive = matches!(kind, "oci" | "docker");
    match key {
        "name" | "dest" => true,
        "push" => matches!(kind, "moby" | "image"),
        "oci-mediatypes" | "store" | "tar" => value == "true",
        "unpack" => true,
        "mode" => value == "copy",
        "compression" => value == if archive { "uncompressed" } else { "gzip" },
        "rewrite-timestamp" | "force-compression" | "push-by-digest" | "registry.insecure" => value == "false",
        _ => key.starts_with("annotation.") || key.starts_with("annotation-manifest."),
    }
}

fn unsupported(what: &str) -> Status {
    Status::new(Code::Unimplemented, format!("{what} is not supported"))
}

fn invalid(error: &build::Error) -> Status {
    Status::new(Code::InvalidArgument, error.message.clone())
}

/// An entry of the option `cache-imports`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Import {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(default)]
    attrs: std::collections::HashMap<String, String>,
}

/// Where the cache comes from: told with the build, and once more to the frontend.
pub(super) fn sources(cache: &CacheOptions, options: &Options) -> Result<Vec<CacheSource>> {
    let mut entries = cache.imports.clone();
    if let Some(text) = options.get("cache-imports").filter(|text| !text.is_empty()) {
        let wrong = |error: serde_json::Error| Status::new(Code::InvalidArgument, format!("cache-imports: {error}"));
        let list: Option<Vec<Import>> = serde_json::from_str(text).map_err(wrong)?;
        let entry = |import: Import| CacheEntry { kind: import.kind, attrs: import.attrs };
        entries.extend(list.into_iter().flatten().map(entry));
    }
    let mut sources = Vec::new();
    for entry in &entries {
        in_reach(entry)?;
        let source = CacheSource::new(&entry.kind, pairs(entry)).map_err(|error| invalid(&error))?;
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    Ok(sources)
}

/// Where the cache goes.
pub(super) fn targets(cache: &CacheOptions) -> Result<Vec<CacheTarget>> {
    let target = |entry: &CacheEntry| {
        in_reach(entry)?;
        CacheTarget::new(&entry.kind, pairs(entry)).map_err(|error| invalid(&error))
    };
    cache.exports.iter().map(target).collect()
}

/// A directory of the client's is not one of ours.
fn in_reach(entry: &CacheEntry) -> Result<()> {
    if entry.kind == "local" {
        return Err(unsupported(
            "a cache of type=local in a client's directory (type=registry and type=inline are): it",
        ));
    }
    Ok(())
}

fn pairs(entry: &CacheEntry) -> Vec<(String, String)> {
    entry.attrs.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Whether packages are to be listed beside the images.
pub(super) fn sbom(options: &Options) -> Result<bool> {
    match options.get("attest:sbom").map(String::as_str) {
        None | Some("disabled=true") => Ok(false),
        Some("" | "disabled=false") => Ok(true),
        Some(other) => Err(unsupported(&format!("attest:sbom={other} (the scanner is built in)"))),
    }
}

/// What is to be said of how the images were made. Statements for inline use only are for places that have none here.
pub(super) fn provenance(options: &Options) -> Result<Option<Provenance>> {
    let Some(text) = options.get("attest:provenance") else { return Ok(None) };
    let mut wanted = Some(Provenance::Min);
    for field in text.split(',').filter(|field| !field.is_empty()) {
        match field {
            "mode=min" | "disabled=false" | "inline-only=false" | "version=v1" => {}
            "mode=max" => wanted = Some(Provenance::Max),
            "disabled=true" | "inline-only=true" => return Ok(None),
            other => return Err(unsupported(&format!("attest:provenance with {other}"))),
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, attrs: &[(&str, &str)]) -> CacheEntry {
        let attrs = attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        CacheEntry { kind: kind.to_owned(), attrs }
    }

    #[test]
    fn caches_by_their_entries() {
        let cache = CacheOptions {
            exports: vec![entry("inline", &[]), entry("registry", &[("ref", "h/c"), ("mode", "max")])],
            imports: vec![entry("registry", &[("ref", "h/c")])],
        };
        let again = r#"[{"Type":"registry","Attrs":{"ref":"h/c"}},{"Type":"registry","Attrs":{"ref":"h/d"}}]"#;
        let options = [("cache-imports".to_owned(), again.to_owned())].into();
        let sources = sources(&cache, &options).unwrap();
        assert_eq!(sources, ["h/c", "h/d"].map(|name| CacheSource::Registry(name.to_owned())));
        assert_eq!(targets(&cache).unwrap().len(), 2);
        for wrong in
            [entry("gha", &[]), entry("local", &[("dest", "/a")]), entry("registry", &[("ref", "x"), ("y", "z")])]
        {
            assert!(targets(&CacheOptions { exports: vec![wrong], imports: Vec::new() }).is_err());
        }
    }

    #[test]
    fn nothing_is_asked_for_in_vain() {
        let options = |key: &str| -> Options { [(key.to_owned(), "x".to_owned())].into() };
        assert!(check_options(&options("build-arg:X")).is_ok() && check_options(&options("hostname")).is_err());
        let exporter = |kind: &str, key: &str, value: &str| Exporter {
            kind: kind.to_owned(),
            attrs: [(key.to_owned(), value.to_owned())].into(),
        };
        assert!(check_exporter(&exporter("image", "push", "true")).is_ok());
        for (key, value) in [("rewrite-timestamp", "true"), ("compression", "zstd"), ("odd", "1")] {
            assert!(check_exporter(&exporter("oci", key, value)).is_err(), "{key}");
        }
    }

    #[test]
    fn statements_by_their_options() {
        let options = |text: &str| -> Options { [("attest:provenance".to_owned(), text.to_owned())].into() };
        assert_eq!(provenance(&options("mode=max")).unwrap(), Some(Provenance::Max));
        assert_eq!(provenance(&options("mode=min,inline-only=true")).unwrap(), None);
        assert!(provenance(&options("builder-id=x")).is_err() && sbom(&Options::new()) == Ok(false));
    }
}
