//! `kiste rm`: removes containers.

use engine::{ErrorKind, RemoveOptions};

use crate::commands::{Verb, for_each};
use crate::context::{Context, report};
use crate::failure::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    force: bool,
    /// Remove the specified link
    #[arg(short, long)]
    link: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    volumes: bool,
    #[arg(required = true, hide = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ABOUT: &'static str = "Remove one or more containers";

    fn run(self, context: &Context) -> Result<u8> {
        if self.link {
            return for_each(&self.containers, |name| {
                context.engine.remove_link(name)?;
                context.print(&format!("{name}\n"))
            });
        }
        let options = RemoveOptions { force: self.force, volumes: self.volumes };
        for_each(&self.containers, |name| match context.engine.remove(name.trim_matches('/'), options) {
            Ok(()) => context.print(&format!("{name}\n")),
            // With --force, what is not there is as good as removed.
            Err(error) if self.force && error.kind == ErrorKind::NotFound => {
                report(&error.into());
                Ok(())
            }
            Err(error) => Err(error.into()),
        })
    }
}
