//! `kiste system prune`: removes everything that nobody uses, sort by sort.

use engine::PruneReport;

use crate::commands::{Verb, filters, image_prune, prune};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::format::human;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "label=<key>=<value>")
    #[arg(long = "filter", value_name = "filter", value_parser = filters::parse)]
    filters: Vec<filters::Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Remove unused data";

    fn run(self, context: &Context) -> Result<u8> {
        if self.volumes && self.filters.iter().any(|(key, _)| key == "until") {
            return Err(Failure::new("ERROR: The \"until\" filter is not supported with \"--volumes\""));
        }
        if !self.force && !prune::confirmed(context, &self.warning())? {
            return Ok(0);
        }
        let filters = filters::collect(self.filters);
        let mut reclaimed = 0;
        let mut tell = |title: &str, report: &PruneReport| {
            reclaimed += report.reclaimed;
            match report.removed.is_empty() {
                true => Ok(()),
                false => context.print(&format!("{title}\n{}\n\n", report.removed.join("\n"))),
            }
        };
        tell("Deleted Containers:", &context.engine.prune_containers(&filters)?)?;
        tell("Deleted Networks:", &context.engine.prune_networks(&filters)?)?;
        if self.volumes {
            tell("Deleted Volumes:", &context.engine.prune_volumes(&filters)?)?;
        }
        // Steps whose images somebody else still needs lose nothing but the memory of them. They have neither labels nor
        // an age of their own: with filters they stay.
        let steps = if filters.is_empty() { context.engine.prune_steps()? } else { PruneReport::default() };
        let mut of_images = filters;
        if self.all {
            of_images.insert("dangling".to_owned(), vec!["false".to_owned()]);
        }
        let images = context.engine.prune_images(&of_images)?;
        let total = human::size(reclaimed + steps.reclaimed + images.reclaimed);
        context.print(&format!("{}Total reclaimed space: {total}\n", image_prune::shown(&images)))?;
        Ok(0)
    }
}

impl Args {
    fn warning(&self) -> String {
        let mut text = "WARNING! This will remove:\n  - all stopped containers\n".to_owned();
        text += "  - all networks not used by at least one container\n";
        if self.volumes {
            text += "  - all anonymous volumes not used by at least one container\n";
        }
        text += match self.all {
            true => "  - all images without at least one container associated to them\n  - all build cache\n",
            false => "  - all dangling images\n  - unused build cache\n",
        };
        if !self.filters.is_empty() {
            text += "\n  Items to be pruned will be filtered with:\n";
            self.filters.iter().for_each(|(key, value)| text += &format!("  - {key}={value}\n"));
        }
        text
    }
}
