//! `events`: what a container uses, again and again or once, and that it ran out of memory; one JSON object a line.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use lexopt::{Arg, Parser};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sandbox::cgroup::Cgroup;
use serde_json::json;

use super::{Call, print};
use crate::arguments::{bad, required, switch, take_id, text, unexpected};
use crate::container::{Container, Status};
use crate::error::Step;
use crate::record::Store;
use crate::{Error, Result};

pub(super) const HELP: &str = "\
  --interval DURATION     how often figures are shown; 5s if not given
  --stats                 show them once
";

pub(super) fn run(call: Call<'_>) -> Result<u8> {
    let mut parser = Parser::from_args(call.words);
    let (mut interval, mut once, mut id) = (Duration::from_secs(5), false, None);
    while let Some(argument) = parser.next().map_err(bad)? {
        match argument {
            Arg::Long("interval") => {
                let text = text(&mut parser)?;
                interval = duration(&text).ok_or_else(|| Error::new("duration interval must be greater than 0"))?;
            }
            Arg::Long("stats") => once = switch(&mut parser)?,
            Arg::Value(value) => take_id(&mut id, value, "events")?,
            other => return Err(unexpected(other)),
        }
    }
    let id = required(id, "events")?;
    let container = Container::open(&Store::new(&call.globals.root), &id)?;
    if container.status() == Status::Stopped {
        return Err(Error::new(format!("container with id {id} is not running")));
    }
    let cgroup = container.required_cgroup()?;
    match once {
        true => show(&id, &cgroup)?,
        false => follow(&id, &container.running()?, &cgroup, interval)?,
    }
    Ok(0)
}

/// Until the container's process has ended.
fn follow(id: &str, process: &OwnedFd, cgroup: &Cgroup, interval: Duration) -> Result<()> {
    let oom = cgroup.oom_events().step(|| "watch for want of memory".into())?;
    let (mut kills, mut next) = (cgroup.oom_kills(), Instant::now() + interval);
    loop {
        let timeout = Timespec::try_from(next.saturating_duration_since(Instant::now())).unwrap_or_default();
        let mut fds = [PollFd::new(process, PollFlags::IN), PollFd::new(&oom, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.step(|| "wait for events".into())?,
        };
        let [ended, short] = [!fds[0].revents().is_empty(), !fds[1].revents().is_empty()];
        if short {
            let _ = rustix::io::read(&oom, &mut [0_u8; 4096][..]);
            let now = cgroup.oom_kills();
            if now > kills {
                print(&format!("{}\n", json!({"type": "oom", "id": id})))?;
            }
            kills = now;
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            show(id, cgroup)?;
            next += interval;
        }
    }
}

fn show(id: &str, cgroup: &Cgroup) -> Result<()> {
    print(&format!("{}\n", json!({"type": "stats", "id": id, "data": cgroup.stats()})))
}

/// As Go writes durations: `100ms`, `5s`, `1m30s`; more than nothing.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        rest = tail;
    }
    Some(total).filter(|total| !total.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("100ms"), Some(Duration::from_millis(100)));
        assert_eq!(duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("1.5s"), Some(Duration::from_millis(1500)));
        for bad in ["", "0s", "5", "-1s", "s", "1x", "99999999999999999999h"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
