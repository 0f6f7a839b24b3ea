//! `kiste restart`: stops containers and starts them again.

use crate::commands::{Verb, each};
use crate::context::Context;
use crate::failure::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(short, long, alias = "time", value_name = "int")]
    timeout: Option<i64>,
    #[arg(required = true, hide = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ABOUT: &'static str = "Restart one or more containers";

    fn run(self, context: &Context) -> Result<u8> {
        each(context, &self.containers, |name| context.engine.restart(name, self.signal.as_deref(), self.timeout))
    }
}
