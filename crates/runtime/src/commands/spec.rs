//! `spec`: writes a configuration to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use lexopt::{Arg, Parser};
use serde_json::{Value, json};

use super::Call;
use crate::arguments::{bad, path, switch, unexpected};
use crate::error::Step;
use crate::{Error, Result};

pub(super) const HELP: &str = "\
  -b, --bundle DIR        where config.json is written; the present directory if not given
  --rootless              for a user without privileges
";

/// What `runc spec` writes.
const DEFAULT: &str = include_str!("default-config.json");

pub(super) fn run(call: Call<'_>) -> Result<u8> {
    let mut parser = Parser::from_args(call.words);
    let (mut bundle, mut rootless, mut file) = (PathBuf::from("."), false, None);
    while let Some(argument) = parser.next().map_err(bad)? {
        match argument {
            Arg::Long("bundle") | Arg::Short('b') => bundle = path(&mut parser)?,
            Arg::Long("config") | Arg::Short('f') => file = Some(path(&mut parser)?),
            Arg::Long("rootless") => rootless = switch(&mut parser)?,
            other => return Err(unexpected(other)),
        }
    }
    let path = file.unwrap_or_else(|| bundle.join("config.json"));
    let mut spec: Value = serde_json::from_str(DEFAULT).step(|| "read the default configuration".into())?;
    if rootless {
        without_privileges(&mut spec);
    }
    let json = serde_json::to_string_pretty(&spec).step(|| "encode the configuration".into())? + "\n";
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::new(format!("File {} exists. Remove it first", path.display())),
        _ => Error::new(format!("write {}: {}", path.display(), crate::error::plain(&error.to_string()))),
    })?;
    file.write_all(json.as_bytes()).step(|| format!("write {}", path.display()))?;
    Ok(0)
}

/// As `runc spec --rootless`: a user namespace that maps only the caller, the host's network, nothing that needs more.
fn without_privileges(spec: &mut Value) {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let map = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
    let linux = &mut spec["linux"];
    linux["uidMappings"] = map(uid);
    linux["gidMappings"] = map(gid);
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({"type": "user"}));
    }
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    for mount in spec["mounts"].as_array_mut().into_iter().flatten() {
        if mount["destination"] == "/sys" {
            *mount = json!({"destination": "/sys", "type": "none", "source": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
        }
        if let Some(options) = mount["options"].as_array_mut() {
            options
                .retain(|word| !word.as_str().is_some_and(|word| word.starts_with("gid=") || word.starts_with("uid=")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_configurations_that_we_take() {
        let mut spec: Value = serde_json::from_str(DEFAULT).unwrap();
        crate::bundle::parse(spec.to_string().as_bytes()).unwrap();
        without_privileges(&mut spec);
        crate::bundle::parse(spec.to_string().as_bytes()).unwrap();
        assert!(spec["linux"]["namespaces"].as_array().unwrap().contains(&json!({"type": "user"})));
    }
}
