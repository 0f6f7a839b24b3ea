//! `kiste stats`: what containers use, once or as a table that refreshes itself.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use engine::{ErrorKind, ListRequest, Stats};
use serde_json::json;

use crate::commands::Verb;
use crate::context::Context;
use crate::failure::Result;
use crate::format::{Listing, Row, human, shown};

/// Between two samples: CPU use is a difference.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    #[arg(value_name = "CONTAINER", hide = true)]
    containers: Vec<String>,
}

const LISTING: Listing = Listing {
    type_name: "*container.statsContext",
    titles: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
};

const TABLE: &str =
    r"table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

/// The last sample of each container, by its id.
type Samples = BTreeMap<String, Stats>;

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] [CONTAINER...]";
    const ABOUT: &'static str = "Display a live stream of container(s) resource usage statistics";

    fn run(self, context: &Context) -> Result<u8> {
        let format = match self.format.as_deref().or_else(|| context.setting("statsFormat")) {
            None | Some("" | "table") => TABLE,
            Some(format) => format,
        };
        let mut before = Samples::new();
        // The first sample is only there to be compared with; it also tells of names that do not exist.
        remember(&mut before, self.samples(context, true)?);
        loop {
            std::thread::sleep(INTERVAL);
            let now = self.samples(context, false)?;
            let rows: Vec<Row> = now.iter().map(|stats| row(stats, before.get(&stats.id), self.no_trunc)).collect();
            let text = shown(LISTING.render(format, &rows))?;
            let mut out = context.out();
            if self.no_stream {
                out.write_all(text.as_bytes())?;
                return Ok(0);
            }
            out.write_all(refreshed(&text).as_bytes())?;
            out.flush()?;
            remember(&mut before, now);
        }
    }
}

impl Args {
    /// A sample of every container asked for, or of all that run now. One that has gone meanwhile is left out, but not
    /// at first if it was named.
    fn samples(&self, context: &Context, first: bool) -> Result<Vec<Stats>> {
        let names = match self.containers.as_slice() {
            [] => self.listed(context)?,
            named => named.to_vec(),
        };
        let strict = first && !self.containers.is_empty();
        let mut samples = Vec::with_capacity(names.len());
        for name in &names {
            match context.engine.stats(name) {
                Ok(stats) => samples.push(stats),
                Err(error) if error.kind == ErrorKind::NotFound && !strict => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(samples)
    }

    fn listed(&self, context: &Context) -> Result<Vec<String>> {
        let request = ListRequest { all: self.all, ..ListRequest::default() };
        Ok(context.engine.list(&request)?.into_iter().map(|container| container.id).collect())
    }
}

fn remember(samples: &mut Samples, now: Vec<Stats>) {
    *samples = now.into_iter().map(|stats| (stats.id.clone(), stats)).collect();
}

/// From the top of the screen: every line clears its rest, the last one what is below.
fn refreshed(text: &str) -> String {
    format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

fn row(now: &Stats, before: Option<&Stats>, whole: bool) -> Row {
    let pair = |(one, other): (u64, u64)| format!("{} / {}", human::short_size(one), human::short_size(other));
    let memory = if now.memory_limit == 0 { 0.0 } else { now.memory_usage as f64 / now.memory_limit as f64 * 100.0 };
    let fields = json!({
        "BlockIO": pair(now.block),
        "CPUPerc": format!("{:.2}%", cpu_percent(now, before)),
        "Container": now.id,
        "ID": if whole { &now.id } else { human::short_id(&now.id) },
        "MemPerc": format!("{memory:.2}%"),
        "MemUsage": format!("{} / {}", human::memory(now.memory_usage), human::memory(now.memory_limit)),
        "Name": now.name,
        "NetIO": pair(now.network),
        "PIDs": now.pids.to_string(),
    });
    Row { fields, labels: None }
}

/// 100 is one CPU: the container's share of the host's CPU time, times the CPUs.
fn cpu_percent(now: &Stats, before: Option<&Stats>) -> f64 {
    let Some(before) = before else { return 0.0 };
    let container = now.cpu_total.saturating_sub(before.cpu_total) as f64;
    let host = now.system_cpu.saturating_sub(before.system_cpu) as f64;
    if host > 0.0 { container / host * f64::from(now.online_cpus) * 100.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu_total: u64, system_cpu: u64) -> Stats {
        Stats {
            id: "7efc028407e27eb4eeb48155ace02c21".to_owned(),
            name: "c3".to_owned(),
            cpu_total,
            system_cpu,
            online_cpus: 2,
            memory_usage: 335_872,
            memory_limit: 25_276_502_016,
            pids: 1,
            ..Stats::default()
        }
    }

    #[test]
    fn the_table_is_dockers() {
        let rows = [row(&sample(1_500, 4_000), Some(&sample(1_000, 2_000)), false)];
        assert_eq!(
            LISTING.render(TABLE, &rows).unwrap(),
            "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O   BLOCK I/O   PIDS\n\
             7efc028407e2   c3        50.00%    328KiB / 23.54GiB   0.00%     0B / 0B   0B / 0B     1\n"
        );
    }

    #[test]
    fn nothing_to_compare_with_is_zero() {
        assert_eq!(cpu_percent(&sample(5, 5), None), 0.0);
        assert_eq!(cpu_percent(&sample(5, 5), Some(&sample(5, 5))), 0.0);
        assert_eq!(cpu_percent(&sample(4, 9), Some(&sample(5, 5))), 0.0);
    }

    #[test]
    fn a_refresh_leaves_no_rest_of_older_lines() {
        assert_eq!(refreshed("a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
