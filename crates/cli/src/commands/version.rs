//! `kiste version`: versions in the shape that scripts ask Docker for. There is no server: both sides are this binary.

use serde_json::{Value, json};

use crate::commands::{Verb, document};
use crate::context::Context;
use crate::failure::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Format output: 'json', or a Go template
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Show the version information";
    const NEEDS_ENGINE: bool = false;

    fn run(self, context: &Context) -> Result<u8> {
        let version = both(context.engine.version());
        context.print(&document::shown(&self.format, &version, "system.versionInfo", &mut context.out(), text)?)?;
        Ok(0)
    }
}

/// Docker's document: a client and a server.
fn both(server: Value) -> Value {
    let of = |name: &str| server.get(name).cloned().unwrap_or_default();
    let client = json!({
        "Platform": of("Platform"),
        "Version": of("Version"),
        "ApiVersion": of("ApiVersion"),
        "DefaultAPIVersion": of("ApiVersion"),
        "GitCommit": of("GitCommit"),
        "GoVersion": of("GoVersion"),
        "Os": of("Os"),
        "Arch": of("Arch"),
        "BuildTime": of("BuildTime"),
        "Context": "default",
    });
    json!({"Client": client, "Server": server})
}

fn text(version: &Value) -> String {
    let of = |name: &str| version["Server"][name].as_str().unwrap_or_default().to_owned();
    let lines = [
        ("Version:", of("Version")),
        ("API version:", format!("{} (minimum version {})", of("ApiVersion"), of("MinAPIVersion"))),
        ("OS/Arch:", format!("{}/{}", of("Os"), of("Arch"))),
        ("Kernel:", of("KernelVersion")),
    ];
    let body: String = lines.iter().map(|(label, value)| format!(" {label:<18} {value}\n")).collect();
    format!("Kiste (no daemon: client and engine are one program)\n{body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_find_both_sides() {
        let version = both(
            json!({"Version": "0.1.0", "ApiVersion": "1.51", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64"}),
        );
        let shown = |format: &str| document::shown(format, &version, "system.versionInfo", &mut Vec::new(), text);
        assert_eq!(
            shown("{{.Server.Version}} {{.Client.Version}} {{.Client.DefaultAPIVersion}}").unwrap(),
            "0.1.0 0.1.0 1.51\n"
        );
        assert!(shown("").unwrap().contains(" API version:       1.51 (minimum version 1.24)\n"));
    }
}
