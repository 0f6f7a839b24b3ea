//! `--output`, `--push` and `--load` as they were typed, and the file of `--metadata-file`.

use std::io;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use build::{Built, Output, Sink};
use serde_json::{Map, Value, json};

use crate::failure::{Failure, Result};

/// What was asked for.
#[derive(Default)]
pub(super) struct Outputs {
    pub(super) list: Vec<Output>,
    /// `name=` of images.
    pub(super) names: Vec<String>,
}

/// Reads the flags.
pub(super) fn parse(texts: &[String], push: bool, load: bool) -> Result<Outputs> {
    let mut outputs = Outputs::default();
    texts.iter().try_for_each(|text| outputs.add(text))?;
    if push {
        match outputs.list.iter().position(|output| matches!(output, Output::Image { .. })) {
            Some(image) => outputs.list[image] = Output::Image { push: true },
            None if outputs.list.is_empty() => outputs.list.push(Output::Image { push: true }),
            None => return Err(Failure::new("push and the given output can't be used together")),
        }
    }
    if load && !outputs.list.iter().any(|output| matches!(output, Output::Image { .. })) {
        outputs.list.push(Output::Image { push: false });
    }
    Ok(outputs)
}

impl Outputs {
    fn add(&mut self, text: &str) -> Result<()> {
        if !text.contains('=') {
            self.list.push(if text == "-" { Output::Tar(stream()?) } else { Output::Directory(PathBuf::from(text)) });
            return Ok(());
        }
        let (mut kind, mut destination, mut push, mut plain) = (None, None, false, true);
        for field in text.split(',') {
            let invalid = || Failure::new(format!("invalid value {field} in output {text:?}"));
            let (key, value) = field.split_once('=').ok_or_else(invalid)?;
            match key {
                "type" => kind = Some(value.to_owned()),
                "dest" => destination = Some(value.to_owned()),
                "push" => push = truth(value).ok_or_else(invalid)?,
                "name" => self.names.push(value.to_owned()),
                // Layers are their archives, and archives hold OCI's media types.
                "compression" if value == "uncompressed" => {}
                "oci-mediatypes" | "tar" | "store" | "unpack" if truth(value) == Some(true) => {}
                "tar" => plain = false,
                _ => return Err(Failure::new(format!("{field}: not supported in output {text:?}"))),
            }
        }
        let kind = kind.ok_or_else(|| Failure::new(format!("type is required for output {text:?}")))?;
        if !plain {
            return Err(Failure::new("tar=false: layouts are written as archives only"));
        }
        let output = match (kind.as_str(), destination) {
            ("local", Some(directory)) => Output::Directory(PathBuf::from(directory)),
            ("local", None) => return Err(Failure::new("dest is required for local output")),
            ("tar", destination) => Output::Tar(sink(destination)?),
            ("oci", destination) => Output::Oci(sink(destination)?),
            ("docker", Some(destination)) => Output::Docker(sink(Some(destination))?),
            ("docker", None) => Output::Image { push: false },
            ("image", None) => Output::Image { push },
            ("registry", None) => Output::Image { push: true },
            ("cacheonly", None) => Output::Nothing,
            ("image" | "registry" | "cacheonly", Some(_)) => {
                return Err(Failure::new(format!("output {kind} has no dest")));
            }
            _ => return Err(Failure::new(format!("unknown output type {kind:?}"))),
        };
        self.list.push(output);
        Ok(())
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn sink(destination: Option<String>) -> Result<Sink> {
    match destination.as_deref() {
        None | Some("-") => stream(),
        Some(path) => Ok(Sink::File(PathBuf::from(path))),
    }
}

fn stream() -> Result<Sink> {
    if io::stdout().is_terminal() {
        return Err(Failure::new("dest file is required: refusing to write an archive to the terminal"));
    }
    Ok(Sink::Stream(Arc::new(Mutex::new(io::stdout()))))
}

/// BuildKit's answer as a document; what is a document itself stays one.
pub(super) fn metadata(built: &Built) -> String {
    let mut all = Map::new();
    for (key, value) in &built.metadata {
        let decoded = base64::engine::general_purpose::STANDARD.decode(value).ok();
        let document = decoded.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        all.insert(key.clone(), document.filter(Value::is_object).unwrap_or_else(|| json!(value)));
    }
    format!("{:#}\n", Value::Object(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(texts: &[&str], push: bool, load: bool) -> Result<Vec<String>> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let name = |output: &Output| match output {
            Output::Image { push } => format!("image {push}"),
            Output::Directory(path) => format!("local {}", path.display()),
            Output::Tar(_) => "tar".to_owned(),
            Output::Oci(_) => "oci".to_owned(),
            Output::Docker(_) => "docker".to_owned(),
            Output::Nothing => "nothing".to_owned(),
        };
        parse(&texts, push, load).map(|outputs| outputs.list.iter().map(name).collect())
    }

    #[test]
    fn outputs_by_their_form() {
        assert_eq!(kinds(&["out"], false, false).unwrap(), ["local out"]);
        assert_eq!(kinds(&["type=local,dest=a"], false, true).unwrap(), ["local a", "image false"]);
        assert_eq!(kinds(&["type=oci,dest=/x", "type=docker,dest=/y"], false, false).unwrap(), ["oci", "docker"]);
        assert_eq!(kinds(&["type=registry"], false, false).unwrap(), ["image true"]);
        assert_eq!(kinds(&["type=image,name=a"], true, false).unwrap(), ["image true"]);
        assert_eq!(kinds(&[], true, false).unwrap(), ["image true"]);
        assert_eq!(kinds(&["type=cacheonly"], false, false).unwrap(), ["nothing"]);
        for bad in ["type=local", "dest=x", "type=what", "type=oci,compression=gzip", "type=image,dest=x"] {
            assert!(kinds(&[bad], false, false).is_err(), "{bad}");
        }
        assert!(kinds(&["out"], true, false).is_err());
    }
}
