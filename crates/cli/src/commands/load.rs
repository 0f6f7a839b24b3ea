//! `kiste load`: brings images in from an archive (`docker save`, OCI), a file or standard input.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;

use crate::commands::Verb;
use crate::context::Context;
use crate::failure::{Failure, Result};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "string")]
    input: Option<PathBuf>,
    /// Load only the given platform of the image
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Load an image from a tar archive or STDIN";

    fn run(self, context: &Context) -> Result<u8> {
        let mut input = open(self.input)?;
        let lines = context.engine.load(&mut input, self.platform.as_deref())?;
        // As with Docker, --quiet silences the progress and not the names.
        context.print(&lines.into_iter().map(|line| line + "\n").collect::<String>()).map(|()| 0)
    }
}

fn open(path: Option<PathBuf>) -> Result<Box<dyn Read>> {
    match path {
        Some(path) => {
            let file = File::open(&path).map_err(|error| Failure::new(format!("open {}: {error}", path.display())))?;
            Ok(Box::new(file))
        }
        None if io::stdin().is_terminal() => {
            Err(Failure::new("requested load from stdin, but stdin is empty").hinted("name the archive with --input"))
        }
        None => Ok(Box::new(io::stdin())),
    }
}
