//! `kiste stop`: asks containers to end, and kills those that do not.

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
    #[arg(required = true, value_name = "CONTAINER", hide = true)]
    containers: Vec<String>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ABOUT: &'static str = "Stop one or more running containers";

    fn run(self, context: &Context) -> Result<u8> {
        each(context, &self.containers, |name| context.engine.stop(name, self.signal.as_deref(), self.timeout))
    }
}
