//! `kiste explain`: what a container really is, as a page for people who want to see it. The facts are the engine's, read
//! from the kernel; here they get headings, sentences and columns.

mod page;
mod story;

use engine::Explanation;

use crate::commands::{Verb, document};
use crate::context::Context;
use crate::failure::{Failure, Result};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Format output: 'json', or a Go template
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    #[arg(value_name = "CONTAINER", hide = true)]
    container: String,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] CONTAINER";
    const ABOUT: &'static str = "Show what a container really is: namespaces, ids, limits, layers, mounts, privileges";

    fn run(self, context: &Context) -> Result<u8> {
        let explanation: Explanation = context.engine.explain(&self.container)?;
        let facts = serde_json::to_value(&explanation).map_err(|error| Failure::new(format!("write JSON: {error}")))?;
        context.print(&document::shown(&self.format, &facts, "engine.Explanation", &mut context.out(), |_| {
            story::tell(&explanation)
        })?)?;
        Ok(0)
    }
}
