//! `kiste cp`: between the host's files and a container's, or standard input and output.

use std::io::{self, IsTerminal as _};

use engine::CopyOptions;

use crate::commands::Verb;
use crate::context::{Context, say};
use crate::failure::{Failure, Result};
use crate::format::human;
use crate::output::written;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached
    #[arg(short, long)]
    quiet: bool,
    #[arg(required = true, hide = true, value_name = "SRC_PATH", allow_hyphen_values = true)]
    source: String,
    #[arg(required = true, hide = true, value_name = "DEST_PATH", allow_hyphen_values = true)]
    destination: String,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\
        \u{20}       kiste cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH";
    const ABOUT: &'static str = "Copy files/folders between a container and the local filesystem";

    fn run(self, context: &Context) -> Result<u8> {
        let options = CopyOptions { follow_link: self.follow_link, archive: self.archive };
        let engine = &context.engine;
        let (copied, to) = match (split(&self.source), split(&self.destination)) {
            ((Some(_), _), (Some(_), _)) => {
                return Err(Failure::new("copying between containers is not supported"));
            }
            ((None, _), (None, _)) => return Err(Failure::new("must specify at least one container source")),
            ((Some(container), path), (None, "-")) => {
                written(engine.copy_to_stream(container, path, &mut io::stdout(), options))?;
                return Ok(0);
            }
            ((None, "-"), (Some(container), path)) => {
                engine.copy_from_stream(&mut io::stdin(), container, path, options)?;
                return Ok(0);
            }
            ((Some(container), path), (None, local)) => {
                (engine.copy_out(container, path, local, options)?, local.to_owned())
            }
            ((None, local), (Some(container), path)) => {
                (engine.copy_in(local, container, path, options)?, format!("{container}:{path}"))
            }
        };
        if !self.quiet && io::stderr().is_terminal() {
            say(&format!("Successfully copied {} to {to}\n", human::size(copied)));
        }
        Ok(0)
    }
}

/// Container and path, or a path of the host's.
fn split(argument: &str) -> (Option<&str>, &str) {
    match argument.split_once(':') {
        Some((container, path)) if !argument.starts_with(['/', '.']) && !container.is_empty() => {
            (Some(container), path)
        }
        // Docker takes an empty name for the host.
        Some(("", path)) => (None, path),
        _ => (None, argument),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_and_paths() {
        assert_eq!(split("web:/a:b"), (Some("web"), "/a:b"));
        assert_eq!(split("/a:b"), (None, "/a:b"));
        assert_eq!(split("./a:b"), (None, "./a:b"));
        assert_eq!(split("a"), (None, "a"));
        assert_eq!(split("web:"), (Some("web"), ""));
        assert_eq!(split(":x"), (None, "x"));
    }
}
