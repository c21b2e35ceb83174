//! The report as text, for a terminal.

use std::fmt::Write;

use super::{Outcome, Report, ScenarioReport, short};
use crate::runner::figure;

/// Prints the table of one scenario.
pub(crate) fn print(scenario: &ScenarioReport, base: &str) {
    println!("{}", table(scenario, base));
}

const HEAD: [&str; 12] = [
    "server",
    "CPU/req µs",
    "ratio",
    "95 % interval",
    "",
    "req/s",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "MiB",
    "switches",
    "calls",
];

pub(super) fn table(scenario: &ScenarioReport, base: &str) -> String {
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    rows[0].push("allocs".to_owned());
    let mut problems = Vec::new();
    for outcome in &scenario.outcomes {
        if let Some(problem) = &outcome.problem {
            problems.push(format!("{}: {problem}", outcome.server));
        }
        if !outcome.figures.is_empty() {
            rows.push(row(outcome, base));
        }
    }
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = format!("\n{} · {}\n", scenario.scenario.title, scenario.placement_title);
    for row in rows {
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Names to the left, numbers to the right.
            let _ = match at {
                0 | 4 => write!(text, "{cell:<width$}  "),
                _ => write!(text, "{cell:>width$}  "),
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    for problem in problems {
        let _ = writeln!(text, "  {problem}");
    }
    text
}

/// The cells of a server.
pub(super) fn row(outcome: &Outcome, base: &str) -> Vec<String> {
    let value = |name| outcome.value(name).map_or_else(|| "–".to_owned(), |v| short(v.median));
    let count = |count: Option<f64>| count.map_or_else(|| "–".to_owned(), short);
    let ratio = outcome.ratio(figure::CPU);
    let is_base = outcome.server == base;
    vec![
        outcome.server.clone(),
        value(figure::CPU),
        ratio.map_or_else(String::new, |r| format!("{:.3}", r.median)),
        ratio.map_or_else(String::new, |r| format!("{:.3}–{:.3}", r.low, r.high)),
        if is_base { "base".to_owned() } else { outcome.verdict().to_owned() },
        value(figure::RATE),
        value(figure::P50),
        value(figure::P99),
        value(figure::P999),
        value(figure::MEMORY),
        value(figure::SWITCHES),
        count(outcome.probe.syscalls),
        count(outcome.probe.allocations),
    ]
}

impl Report {
    /// What stands above all tables.
    pub(crate) fn heading(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "{} · {} cores · Linux {} · {} · commit {} · {}\n{} rounds of {} ms after {} ms; ratios to {}, \
             measured beside each run",
            machine.cpu,
            machine.cores,
            machine.kernel,
            machine.rustc,
            machine.commit,
            machine.when,
            self.rounds,
            self.slice_ms,
            self.warm_ms,
            self.base
        );
        for remark in &self.remarks {
            let _ = write!(text, "\nNOTE: {remark}");
        }
        text
    }
}
