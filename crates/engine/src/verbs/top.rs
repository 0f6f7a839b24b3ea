//! `top`: the processes of a container as the host sees them. Without arguments read from `/proc`; with arguments by the
//! host's ps(1), never by a program of the container's.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

use rustix::param::clock_ticks_per_second;
use sandbox::cgroup::Cgroup;

use crate::monitor::run;
use crate::verbs::read_plan;
use crate::{Context, Engine, Error, Result, clock};

/// A table of processes.
#[derive(Clone, Debug, Default, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Top {
    /// Column heads.
    pub titles: Vec<String>,
    /// One row a process.
    pub processes: Vec<Vec<String>>,
}

impl Engine {
    /// `arguments` are those of ps(1); empty: `-ef`.
    pub fn top(&self, name: &str, arguments: &[String]) -> Result<Top> {
        let container = self.look_up(name)?;
        let status = self.running(&container)?;
        let pids = self.processes(&container.id, status.pid)?;
        self.tell(&container, "top");
        if arguments.is_empty() { Ok(table(&pids)) } else { by_ps(&pids, arguments) }
    }

    /// The processes of a container: those of its cgroup or, where an ordinary user has none, of its PID namespace.
    fn processes(&self, id: &str, first: i32) -> Result<BTreeSet<i32>> {
        if !sandbox::cgroup::is_available() {
            return Ok(of_namespace(first));
        }
        let path = run::cgroup_path(&read_plan(self.paths(), id)?.spec);
        let pids = Cgroup::open(&path).and_then(|cgroup| cgroup.processes());
        Ok(pids.step(|| format!("list the processes of cgroup {path}"))?.into_iter().collect())
    }
}

/// Every process that has the same PID namespace as `first`.
fn of_namespace(first: i32) -> BTreeSet<i32> {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(wanted) = namespace(first) else { return BTreeSet::new() };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| namespace(*pid).as_ref() == Some(&wanted)).collect()
}

const TITLES: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];

fn table(pids: &BTreeSet<i32>) -> Top {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    // A process that has ended since the list was made has no row.
    let processes = pids.iter().filter_map(|&pid| row(pid, &users)).collect();
    Top { titles: TITLES.map(str::to_owned).to_vec(), processes }
}

/// The columns of `ps -ef`.
fn row(pid: i32, users: &str) -> Option<Vec<String>> {
    let directory = format!("/proc/{pid}");
    let uid = fs::metadata(&directory).ok()?.uid();
    let stat = fs::read_to_string(format!("{directory}/stat")).ok()?;
    let (head, tail) = stat.split_at(stat.rfind(')')?);
    let fields: Vec<&str> = tail[1..].split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    // Fields of proc_pid_stat(5), counted from the state (3): parent 4, terminal 7, times 14 and 15, start 22.
    let (parent, terminal, start) = (number(1)?, number(4)?, number(19)?);
    let ticks = clock_ticks_per_second();
    let cpu = (number(11)? + number(12)?) / ticks;
    let began = boot_time()? + (start / ticks) as i64;
    let lived = (clock::now() / 1_000_000_000 - began).max(1) as u64;
    let command =
        command(&directory).unwrap_or_else(|| format!("[{}]", head.split_once('(').map_or("", |(_, name)| name)));
    Some(vec![
        user(uid, users),
        pid.to_string(),
        parent.to_string(),
        (cpu * 100 / lived).min(99).to_string(),
        began_text(began),
        terminal_name(terminal),
        format!("{:02}:{:02}:{:02}", cpu / 3600, cpu / 60 % 60, cpu % 60),
        command,
    ])
}

fn command(directory: &str) -> Option<String> {
    let bytes = fs::read(Path::new(directory).join("cmdline")).ok()?;
    let words: Vec<_> =
        bytes.split(|&byte| byte == 0).filter(|word| !word.is_empty()).map(String::from_utf8_lossy).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn user(uid: u32, users: &str) -> String {
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| uid.to_string())
}

/// Seconds since 1970 at which the machine was started.
fn boot_time() -> Option<i64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

/// `ps` shows the hour of today's processes, the day of earlier ones (in UTC).
fn began_text(began: i64) -> String {
    let format = |seconds: i64, format: &str| match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime(format).to_string(),
        Err(_) => "?".to_owned(),
    };
    let today = format(clock::now() / 1_000_000_000, "%F");
    if format(began, "%F") == today { format(began, "%H:%M") } else { format(began, "%b%d") }
}

fn terminal_name(device: u64) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        0 => "?".to_owned(),
        4 => format!("tty{minor}"),
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        _ => "?".to_owned(),
    }
}

/// Runs the host's `ps` and keeps the rows of these processes. As Docker does, it is first asked for just these (`-q`),
/// as it otherwise leaves out other users' and terminals'; some selections and implementations refuse that.
fn by_ps(pids: &BTreeSet<i32>, arguments: &[String]) -> Result<Top> {
    let list = pids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    let mut output = ps(arguments, &["-q", &list])?;
    if !output.status.success() {
        output = ps(arguments, &[])?;
    }
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        let reason = reason.trim().lines().next().map(str::to_owned);
        return Err(Error::invalid(format!("ps: {}", reason.unwrap_or_else(|| output.status.to_string()))));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let titles: Vec<String> = lines.next().unwrap_or("").split_ascii_whitespace().map(str::to_owned).collect();
    let column = titles.iter().position(|title| title == "PID").ok_or_else(|| {
        Error::invalid("Couldn't find PID field in ps output").hinted("the output must have a PID column")
    })?;
    let rows = lines.map(|line| split_row(line, titles.len()));
    let ours =
        rows.filter(|row| row.get(column).and_then(|pid| pid.parse().ok()).is_some_and(|pid| pids.contains(&pid)));
    let processes = ours.collect();
    Ok(Top { titles, processes })
}

fn ps(arguments: &[String], more: &[&str]) -> Result<Output> {
    Command::new("ps").args(arguments).args(more).output().map_err(|cause| {
        Error::internal(format!("run ps {}: {cause}", arguments.join(" ")))
            .hinted("install the package procps, or give no arguments")
    })
}

/// Splits at blanks into so many columns; the last one keeps its blanks.
fn split_row(line: &str, columns: usize) -> Vec<String> {
    let mut rest = line.trim_start();
    let mut row = Vec::with_capacity(columns);
    while row.len() + 1 < columns {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        row.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    row.push(rest.trim_end().to_owned());
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_a_row() {
        let pid = std::process::id() as i32;
        let top = table(&[pid].into());
        assert_eq!(top.processes.len(), 1);
        assert_eq!(top.processes[0].len(), TITLES.len());
        assert_eq!(top.processes[0][1], pid.to_string());
        assert!(top.processes[0][7].contains("engine"), "{:?}", top.processes[0]);
    }

    #[test]
    fn the_last_column_keeps_its_blanks() {
        assert_eq!(split_row("  1 root sh -c 'a  b' ", 3), ["1", "root", "sh -c 'a  b'"]);
    }

    #[test]
    fn terminals() {
        assert_eq!([0, 0x8801, 0x0401].map(terminal_name), ["?", "pts/1", "tty1"]);
    }
}
