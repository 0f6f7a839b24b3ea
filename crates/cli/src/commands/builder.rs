//! `kiste builder prune`: forgets what builds remember.

use crate::commands::Verb;
use crate::commands::prune::{confirmed, shown};
use crate::context::Context;
use crate::failure::{Failure, Result};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Remove all unused build cache, not just dangling ones (it always does)
    #[arg(short, long)]
    all: bool,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Remove build cache";

    fn run(self, context: &Context) -> Result<u8> {
        if !self.force && !confirmed(context, "WARNING! This will remove all build cache.")? {
            return Ok(0);
        }
        let mut report = context.engine.prune_steps()?;
        let caches = build::prune(context.engine.paths()).map_err(|error| Failure::new(error.message))?;
        report.reclaimed += caches;
        context.print(&shown("Deleted build cache objects:", &report)).map(|()| 0)
    }
}
