//! `kiste system start`: what a machine calls once when it has booted.

use crate::commands::Verb;
use crate::context::{Context, report};
use crate::failure::{Failure, Result};

#[derive(clap::Args)]
pub(crate) struct Args {}

impl Verb for Args {
    const SYNOPSIS: &'static str = "";
    const ABOUT: &'static str = "Start the containers whose restart policy wants them to run, after a boot";

    fn run(self, context: &Context) -> Result<u8> {
        let mut code = 0;
        for (name, started) in context.engine.start_all()? {
            match started {
                Ok(()) => context.print(&format!("{name}\n"))?,
                Err(error) => {
                    let failure = Failure::from(error);
                    report(&Failure { message: format!("{name}: {}", failure.message), ..failure });
                    code = 1;
                }
            }
        }
        Ok(code)
    }
}
