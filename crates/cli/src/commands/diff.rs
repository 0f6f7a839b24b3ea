//! `kiste diff`: what a container has changed in its image's files.

use engine::ChangeKind;

use crate::commands::Verb;
use crate::context::Context;
use crate::failure::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(required = true, hide = true, value_name = "CONTAINER")]
    container: String,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "CONTAINER";
    const ABOUT: &'static str = "Inspect changes to files or directories on a container's filesystem";

    fn run(self, context: &Context) -> Result<u8> {
        let mut text = String::new();
        for change in context.engine.diff(&self.container)? {
            let letter = match change.kind {
                ChangeKind::Added => 'A',
                ChangeKind::Modified => 'C',
                ChangeKind::Deleted => 'D',
            };
            text.push(letter);
            text += &format!(" /{}\n", String::from_utf8_lossy(&change.path));
        }
        context.print(&text).map(|()| 0)
    }
}
