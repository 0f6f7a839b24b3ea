//! `kiste tag`: gives an image one more name.

use crate::commands::Verb;
use crate::context::Context;
use crate::failure::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(required = true, hide = true, value_name = "SOURCE_IMAGE")]
    source: String,
    #[arg(required = true, hide = true, value_name = "TARGET_IMAGE")]
    target: String,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]";
    const ABOUT: &'static str = "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE";

    fn run(self, context: &Context) -> Result<u8> {
        context.engine.tag(&self.source, &self.target)?;
        Ok(0)
    }
}
