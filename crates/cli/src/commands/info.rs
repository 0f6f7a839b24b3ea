//! `kiste info`: the engine and the machine, in the lines of `docker info`.

use serde_json::Value;

use crate::commands::{Verb, document};
use crate::context::Context;
use crate::failure::Result;
use crate::format::human;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Format output: 'json', or a Go template
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Display system-wide information";

    fn run(self, context: &Context) -> Result<u8> {
        let info = context.engine.info()?;
        context.print(&document::shown(&self.format, &info, "system.dockerInfo", &mut context.out(), text)?)?;
        if self.format.is_empty() {
            strings(&info["Warnings"]).for_each(|warning| context.warn(warning.trim_start_matches("WARNING: ")));
        }
        Ok(0)
    }
}

/// Indentation, label, and the field that is shown there.
const LINES: &[(usize, &str, &str)] = &[
    (1, "Containers", "Containers"),
    (2, "Running", "ContainersRunning"),
    (2, "Paused", "ContainersPaused"),
    (2, "Stopped", "ContainersStopped"),
    (1, "Images", "Images"),
    (1, "Server Version", "ServerVersion"),
    (1, "Storage Driver", "Driver"),
    (2, "", "DriverStatus"),
    (1, "Logging Driver", "LoggingDriver"),
    (1, "Cgroup Driver", "CgroupDriver"),
    (1, "Cgroup Version", "CgroupVersion"),
    (1, "Plugins", ""),
    (2, "Volume", "Plugins/Volume"),
    (2, "Network", "Plugins/Network"),
    (2, "Log", "Plugins/Log"),
    (1, "Swarm", "Swarm/LocalNodeState"),
    (1, "Default Runtime", "DefaultRuntime"),
    (1, "Init Binary", "InitBinary"),
    (1, "Security Options", ""),
    (2, "", "SecurityOptions"),
    (1, "Kernel Version", "KernelVersion"),
    (1, "Operating System", "OperatingSystem"),
    (1, "OSType", "OSType"),
    (1, "Architecture", "Architecture"),
    (1, "CPUs", "NCPU"),
    (1, "Total Memory", "MemTotal"),
    (1, "Name", "Name"),
    (1, "ID", "ID"),
    (1, "Docker Root Dir", "DockerRootDir"),
    (1, "Debug Mode", "Debug"),
    (1, "HTTP Proxy", "HttpProxy"),
    (1, "HTTPS Proxy", "HttpsProxy"),
    (1, "No Proxy", "NoProxy"),
    (1, "Live Restore Enabled", "LiveRestoreEnabled"),
];

fn text(info: &Value) -> String {
    let mut text = "Kiste (no daemon: client and engine are one program)\n".to_owned();
    for &(indent, label, path) in LINES {
        let pad = " ".repeat(indent);
        match (label, path) {
            (label, "") => text += &format!("{pad}{label}:\n"),
            ("", path) => lines(field(info, path)).iter().for_each(|line| text += &format!("{pad}{line}\n")),
            (label, path) => {
                text +=
                    &value(path, field(info, path)).map(|value| format!("{pad}{label}: {value}\n")).unwrap_or_default()
            }
        }
    }
    text
}

fn field<'a>(info: &'a Value, path: &str) -> &'a Value {
    path.split('/').fold(info, |value, name| &value[name])
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// A value in one line; nothing for what is unset.
fn value(path: &str, value: &Value) -> Option<String> {
    match value {
        Value::Number(bytes) if path == "MemTotal" => bytes.as_u64().map(human::memory),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Array(_) => Some(strings(value).collect::<Vec<_>>().join(" ")),
        _ => None,
    }
}

/// A list of lines: `[name, value]` pairs, or `name=seccomp,profile=builtin` options with their details below.
fn lines(value: &Value) -> Vec<String> {
    let pair = |item: &Value| Some(format!("{}: {}", item.get(0)?.as_str()?, item.get(1)?.as_str()?));
    let option = |item: &Value| {
        let mut parts = item.as_str()?.split(',').map(|part| part.split_once('=').unwrap_or(("", part)));
        let mut line = parts.next()?.1.to_owned();
        parts.for_each(|(name, value)| line += &format!("\n   {}: {value}", capitalised(name)));
        Some(line)
    };
    value.as_array().into_iter().flatten().filter_map(|item| pair(item).or_else(|| option(item))).collect()
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_are_dockers() {
        let info = json!({
            "Containers": 3, "Driver": "overlay", "DriverStatus": [["Native Overlay Diff", "true"]], "MemTotal": 25_276_502_016_u64,
            "SecurityOptions": ["name=seccomp,profile=builtin", "name=userns"], "Plugins": {"Log": ["json-file", "none"]}, "HttpProxy": "",
        });
        let text = text(&info);
        for line in [
            "\n Containers: 3\n",
            "\n Storage Driver: overlay\n  Native Overlay Diff: true\n",
            "\n  Log: json-file none\n",
            "\n Security Options:\n  seccomp\n   Profile: builtin\n  userns\n",
            "\n Total Memory: 23.54GiB\n",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        assert!(!text.contains("Proxy"));
    }
}
