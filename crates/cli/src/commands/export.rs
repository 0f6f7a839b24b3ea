//! `kiste export`: a container's files as a tar archive.

use std::path::PathBuf;

use crate::commands::Verb;
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Output, written};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    #[arg(required = true, hide = true, value_name = "CONTAINER")]
    container: String,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] CONTAINER";
    const ABOUT: &'static str = "Export a container's filesystem as a tar archive";

    fn run(self, context: &Context) -> Result<u8> {
        let mut output = Output::open(self.output.as_deref(), "failed to export container")?;
        written(context.engine.export(&self.container, &mut output))?;
        output.finish().map(|()| 0)
    }
}
