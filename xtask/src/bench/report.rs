//! The table: medians, with the ratio to Kiste's median behind every peer's.

use std::fmt::Write;
use std::time::Duration;

use super::memory::Memory;

/// Columns are engines, Kiste first; rows are measurements.
pub(super) struct Table {
    engines: Vec<String>,
    rows: Vec<(String, Vec<Option<f64>>, &'static str)>,
}

impl Table {
    pub(super) fn new(engines: Vec<String>) -> Self {
        Table { engines, rows: Vec::new() }
    }

    /// A row of times; an engine without any was not measured.
    pub(super) fn times(&mut self, name: &str, times: Vec<Vec<Duration>>) {
        let medians = times.into_iter().map(|times| median(times).map(|time| time.as_secs_f64() * 1e3)).collect();
        self.add(name, medians, "ms");
    }

    /// A row of memory for the processes that each container has.
    pub(super) fn memory(&mut self, name: &str, memory: Vec<Option<Memory>>) {
        self.add(name, memory.into_iter().map(|m| m.map(|m| m.monitors as f64 / 1024.0)).collect(), "MiB");
    }

    /// A row of what is the better the more it is.
    pub(super) fn rates(&mut self, name: &str, rates: Vec<Option<f64>>, unit: &'static str) {
        self.add(name, rates, unit);
    }

    /// A row of sizes in kibibytes.
    pub(super) fn sizes(&mut self, name: &str, sizes: Vec<Option<u64>>) {
        self.add(name, sizes.into_iter().map(|size| size.map(|size| size as f64 / 1024.0)).collect(), "MiB");
    }

    /// A row of memory for daemons.
    pub(super) fn daemons(&mut self, memory: Vec<Option<Memory>>) {
        let sizes = memory.into_iter().map(|m| m.map(|m| m.daemons as f64 / 1024.0)).collect();
        self.add("memory (PSS) of daemons", sizes, "MiB");
    }

    fn add(&mut self, name: &str, values: Vec<Option<f64>>, unit: &'static str) {
        // Progress for whoever waits; the table itself goes to standard output at the end.
        eprintln!("measured: {name}");
        self.rows.push((name.to_owned(), values, unit));
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = format!("| | {} |\n|---|{}\n", self.engines.join(" | "), "---:|".repeat(self.engines.len()));
        for (name, values, unit) in &self.rows {
            let base = values.first().copied().flatten();
            let _ = write!(text, "| {name} |");
            for (index, value) in values.iter().enumerate() {
                let _ = write!(text, " {} |", cell(*value, base.filter(|_| index > 0), unit));
            }
            text.push('\n');
        }
        text
    }
}

fn cell(value: Option<f64>, base: Option<f64>, unit: &str) -> String {
    let Some(value) = value else { return String::new() };
    let ratio = base.filter(|base| *base > 0.0 && value > 0.0).map(|base| format!(" ({:.1}×)", value / base));
    let digits = if value < 10.0 { 2 } else { 1 };
    format!("{value:.digits$} {unit}{}", ratio.unwrap_or_default())
}

fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort();
    let middle = times.len() / 2;
    match times.len() {
        0 => None,
        count if count % 2 == 1 => Some(times[middle]),
        _ => Some((times[middle - 1] + times[middle]) / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        let ms = Duration::from_millis;
        assert_eq!(median(vec![ms(5), ms(1), ms(3)]), Some(ms(3)));
        assert_eq!(median(vec![ms(1), ms(4), ms(2), ms(100)]), Some(ms(3)));
        assert_eq!(median(vec![]), None);
        let mut table = Table::new(vec!["kiste".to_owned(), "docker".to_owned(), "crun".to_owned()]);
        table.times("run", vec![vec![ms(8)], vec![ms(200)], vec![]]);
        assert!(table.markdown().ends_with("| run | 8.00 ms | 200.0 ms (25.0×) |  |\n"), "{}", table.markdown());
    }
}
