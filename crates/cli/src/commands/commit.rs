//! `kiste commit`: makes an image of a container and its changes.

use engine::CommitRequest;

use crate::commands::Verb;
use crate::context::Context;
use crate::failure::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    author: String,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    message: String,
    /// Pause container during commit (default true)
    #[arg(short, long, default_value = "true")]
    pause: bool,
    /// Do not pause the container during commit
    #[arg(long, conflicts_with = "pause")]
    no_pause: bool,
    #[arg(required = true, hide = true, value_name = "CONTAINER")]
    container: String,
    #[arg(hide = true, value_name = "REPOSITORY")]
    reference: Option<String>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]";
    const ABOUT: &'static str = "Create a new image from a container's changes";

    fn run(self, context: &Context) -> Result<u8> {
        let id = context.engine.commit(&CommitRequest {
            container: self.container,
            reference: self.reference,
            author: self.author,
            comment: self.message,
            changes: self.change,
            pause: self.pause && !self.no_pause,
            config: None,
        })?;
        context.print(&format!("{id}\n")).map(|()| 0)
    }
}
