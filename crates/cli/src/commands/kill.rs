//! `kiste kill`: sends a signal to containers, SIGKILL by default.

use crate::commands::{Verb, each};
use crate::context::Context;
use crate::failure::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Signal to send to the container (default KILL)
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    #[arg(required = true, hide = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ABOUT: &'static str = "Kill one or more running containers";

    fn run(self, context: &Context) -> Result<u8> {
        each(context, &self.containers, |name| context.engine.kill(name, self.signal.as_deref()))
    }
}
