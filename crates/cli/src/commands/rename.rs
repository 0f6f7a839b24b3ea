//! `kiste rename`: gives a container another name.

use crate::commands::Verb;
use crate::context::Context;
use crate::failure::{Failure, Result};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(required = true, hide = true, value_name = "CONTAINER")]
    container: String,
    #[arg(required = true, hide = true, value_name = "NEW_NAME")]
    name: String,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "CONTAINER NEW_NAME";
    const ABOUT: &'static str = "Rename a container";

    fn run(self, context: &Context) -> Result<u8> {
        if self.container.trim().is_empty() || self.name.trim().is_empty() {
            return Err(Failure::new("neither the old nor the new name may be empty"));
        }
        context.engine.rename(&self.container, &self.name)?;
        Ok(0)
    }
}
