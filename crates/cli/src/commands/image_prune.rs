//! `kiste image prune`: removes images that nobody uses.

use engine::ImagePruneReport;
use engine::RemovedImage;

use crate::commands::{Verb, filters, prune};
use crate::context::Context;
use crate::failure::Result;
use crate::format::human;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long = "filter", value_name = "filter", value_parser = filters::parse)]
    filters: Vec<filters::Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Remove unused images";

    fn run(self, context: &Context) -> Result<u8> {
        let warning = match self.all {
            true => "WARNING! This will remove all images without at least one container associated to them.",
            false => "WARNING! This will remove all dangling images.",
        };
        if !self.force && !prune::confirmed(context, warning)? {
            return Ok(0);
        }
        let mut filters = filters::collect(self.filters);
        if self.all {
            filters.insert("dangling".to_owned(), vec!["false".to_owned()]);
        }
        let report = context.engine.prune_images(&filters)?;
        context.print(&format!("{}Total reclaimed space: {}\n", shown(&report), human::size(report.reclaimed)))?;
        Ok(0)
    }
}

/// The list of what was removed, with an empty line after it; nothing if nothing was.
pub(super) fn shown(report: &ImagePruneReport) -> String {
    let line = |removed: &RemovedImage| match removed {
        RemovedImage::Untagged(name) => format!("untagged: {name}\n"),
        RemovedImage::Deleted(id) => format!("deleted: {id}\n"),
    };
    match report.removed.is_empty() {
        true => String::new(),
        false => format!("Deleted Images:\n{}\n", report.removed.iter().map(line).collect::<String>()),
    }
}
