//! `kiste wait`: waits until containers have ended and prints their exit codes.

use engine::WaitCondition;

use crate::commands::{Verb, for_each};
use crate::context::Context;
use crate::failure::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(required = true, hide = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "CONTAINER [CONTAINER...]";
    const ABOUT: &'static str = "Block until one or more containers stop, then print their exit codes";

    fn run(self, context: &Context) -> Result<u8> {
        for_each(&self.containers, |name| {
            let code = context.engine.wait(name, WaitCondition::NotRunning)?;
            context.print(&format!("{code}\n"))
        })
    }
}
