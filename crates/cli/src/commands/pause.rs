//! `kiste pause`: freezes all processes of containers.

use crate::commands::{Verb, each};
use crate::context::Context;
use crate::failure::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(required = true, hide = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "CONTAINER [CONTAINER...]";
    const ABOUT: &'static str = "Pause all processes within one or more containers";

    fn run(self, context: &Context) -> Result<u8> {
        each(context, &self.containers, |name| context.engine.pause(name))
    }
}
