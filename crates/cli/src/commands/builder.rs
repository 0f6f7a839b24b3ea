//! `kiste builder prune`: forgets what builds remember.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::KeptSteps;

use crate::commands::Verb;
use crate::commands::prune::{confirmed, shown};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::options::units::bytes;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Remove all unused build cache, not just dangling ones (it always does)
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g., "until=24h")
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Amount of disk space that steps may keep
    #[arg(long, visible_alias = "keep-storage", value_name = "bytes", value_parser = bytes)]
    max_used_space: Option<i64>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Remove build cache";

    fn run(self, context: &Context) -> Result<u8> {
        if !self.force && !confirmed(context, "WARNING! This will remove all build cache.")? {
            return Ok(0);
        }
        let since = self.filter.iter().map(|filter| since(filter)).next_back().transpose()?;
        let bytes = self.max_used_space.map(|bytes| u64::try_from(bytes).unwrap_or(0));
        let nanoseconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let kept = KeptSteps { since: since.map(|time| i64::try_from(nanoseconds(time)).unwrap_or(i64::MAX)), bytes };
        let mut report = context.engine.prune_steps_but(&kept)?;
        // The room of cache mounts is not counted: with a limit for steps only the unused ones of a filter go.
        let caches = match (bytes, since) {
            (Some(_), None) => Ok(0),
            _ => build::prune_unused_since(context.engine.paths(), since),
        };
        let caches = caches.map_err(|error| Failure::new(error.message))?;
        report.reclaimed += caches;
        context.print(&shown("Deleted build cache objects:", &report)).map(|()| 0)
    }
}

/// `until=24h`: what was used since then stays.
fn since(filter: &str) -> Result<SystemTime> {
    let bad = || Failure::new(format!("invalid filter {filter:?}: try until=24h"));
    let text = filter.strip_prefix("until=").ok_or_else(bad)?;
    let unit = text.chars().last().ok_or_else(bad)?;
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| bad())?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(bad()),
    };
    SystemTime::now().checked_sub(Duration::from_secs(number.saturating_mul(seconds))).ok_or_else(bad)
}
