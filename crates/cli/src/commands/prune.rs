//! `kiste container prune`: removes all containers that do not run.

use std::fmt::Write as _;
use std::io::{self, BufRead as _};

use engine::PruneReport;
use engine::model::Map;

use crate::commands::Verb;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::format::human;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter", value_parser = filter)]
    filter: Vec<(String, String)>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Remove all stopped containers";

    fn run(self, context: &Context) -> Result<u8> {
        if !self.force && !confirmed(context, "WARNING! This will remove all stopped containers.")? {
            return Ok(0);
        }
        let mut filters = Map::<Vec<String>>::new();
        for (key, value) in self.filter {
            filters.entry(key).or_default().push(value);
        }
        let report = context.engine.prune_containers(&filters)?;
        context.print(&shown("Deleted Containers:", &report)).map(|()| 0)
    }
}

/// Asks, and takes the answer from standard input, whatever that is; only `y` or `Y` is a yes. Nobody to ask is an error.
pub(super) fn confirmed(context: &Context, warning: &str) -> Result<bool> {
    context.print(&format!("{warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    if io::stdin().lock().read_line(&mut answer)? == 0 {
        context.print("\n")?;
        return Err(Failure::new("confirmation needed").hinted("use --force to remove without being asked"));
    }
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

pub(super) fn shown(title: &str, report: &PruneReport) -> String {
    let mut text = String::new();
    if !report.removed.is_empty() {
        write!(text, "{title}\n{}\n\n", report.removed.join("\n")).expect("a string takes all");
    }
    writeln!(text, "Total reclaimed space: {}", human::size(report.reclaimed)).expect("a string takes all");
    text
}

fn filter(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("invalid filter '{text}': key=value expected"))?;
    Ok((key.trim().to_lowercase(), value.trim().to_owned()))
}
