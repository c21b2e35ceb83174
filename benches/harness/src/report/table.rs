//! The report as text, for a terminal.

use std::fmt::Write;

use super::{Outcome, Report, ScenarioReport, short};
use crate::figure;

/// Prints the table of one scenario.
pub(crate) fn print(scenario: &ScenarioReport) {
    println!("{}", table(scenario));
}

pub(super) fn table(scenario: &ScenarioReport) -> String {
    let columns = columns(scenario);
    let mut rows = vec![columns.iter().map(|column| column.head()).collect::<Vec<_>>()];
    let mut problems = Vec::new();
    for outcome in &scenario.outcomes {
        if let Some(problem) = &outcome.problem {
            problems.push(format!("{}: {problem}", outcome.server));
        }
        if !outcome.figures.is_empty() {
            let cells = columns.iter().map(|column| column.cell(scenario, outcome));
            rows.push(cells.collect());
            if outcome.control {
                rows.push(columns.iter().map(|column| column.control(outcome)).collect());
            }
        }
    }
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = format!(
        "\n{} · {} · {}\n",
        scenario.scenario.title,
        scenario.placement_title,
        scenario.manner()
    );
    for row in rows {
        for ((cell, width), column) in row.iter().zip(&widths).zip(&columns) {
            let _ = match column.is_text() {
                true => write!(text, "{cell:<width$}  "),
                false => write!(text, "{cell:>width$}  "),
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    for problem in problems {
        let _ = writeln!(text, "  {problem}");
    }
    for judged in scenario.judged() {
        let _ = writeln!(text, "  {judged}");
    }
    text
}

/// What a column shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Server,
    Value(&'static str),
    Ratio(&'static str),
    Interval(&'static str),
    Word(&'static str),
    Calls,
    Allocations,
}

/// The figures that a scenario is about with their ratios, then the others that there are.
pub(super) fn columns(scenario: &ScenarioReport) -> Vec<Column> {
    let heads = &scenario.scenario.heads;
    let has = |name: &str| scenario.outcomes.iter().any(|one| one.figures.contains_key(name));
    let mut columns = vec![Column::Server];
    for name in heads.iter().copied().filter(|name| has(name)) {
        columns.push(Column::Value(name));
        if scenario.outcomes.iter().any(|outcome| outcome.ratio(name).is_some()) {
            columns.extend([Column::Ratio(name), Column::Interval(name), Column::Word(name)]);
        }
    }
    let others = figure::names().filter(|name| !heads.contains(name) && has(name));
    columns.extend(others.map(Column::Value));
    let probes = || scenario.outcomes.iter().map(|outcome| &outcome.probe);
    if probes().any(|probe| probe.syscalls.is_some()) {
        columns.push(Column::Calls);
    }
    if probes().any(|probe| probe.allocations.is_some()) {
        columns.push(Column::Allocations);
    }
    columns
}

impl Column {
    /// Whether it is set to the left.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Column::Server | Column::Word(_))
    }

    pub(super) fn head(self) -> String {
        let text = match self {
            Column::Server => "server",
            Column::Value(name) => figure::short(name),
            Column::Ratio(_) => "ratio",
            Column::Interval(_) => "95 % interval",
            Column::Word(_) => "",
            Column::Calls => "calls/req",
            Column::Allocations => "allocs/req",
        };
        text.to_owned()
    }

    pub(super) fn cell(self, scenario: &ScenarioReport, outcome: &Outcome) -> String {
        let count = |count: Option<f64>| count.map_or_else(|| "–".to_owned(), short);
        let ratio = |name| outcome.ratio(name);
        let is_base = outcome.server == scenario.beside;
        match self {
            Column::Server => outcome.server.clone(),
            Column::Value(name) => count(outcome.value(name).map(|value| value.median)),
            Column::Ratio(name) => {
                ratio(name).map_or_else(String::new, |r| format!("{:.3}", r.median))
            }
            Column::Interval(name) => {
                ratio(name).map_or_else(String::new, |r| format!("{:.3}–{:.3}", r.low, r.high))
            }
            Column::Word(_) if is_base => "base".to_owned(),
            Column::Word(name) => outcome.word(name).to_owned(),
            Column::Calls => count(outcome.probe.syscalls),
            Column::Allocations => count(outcome.probe.allocations),
        }
    }

    /// What stands below a server that is compared with itself.
    pub(super) fn control(self, outcome: &Outcome) -> String {
        match self {
            Column::Server => "  without".to_owned(),
            Column::Value(name) => {
                let beside = outcome.figures.get(name).and_then(|figure| figure.beside);
                beside.map_or_else(|| "–".to_owned(), |beside| short(beside.median))
            }
            _ => String::new(),
        }
    }
}

impl Report {
    /// What stands above all tables.
    pub(crate) fn heading(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "{} · {} cores · Linux {} · {} · commit {} · {}\n{} rounds of {} ms after {} ms",
            machine.cpu,
            machine.cores,
            machine.kernel,
            machine.rustc,
            machine.commit,
            machine.when,
            self.rounds,
            self.slice_ms,
            self.warm_ms,
        );
        if self.peers_every > 1 {
            let _ = write!(text, "; peers in one round of {}", self.peers_every);
        }
        for remark in &self.remarks {
            let _ = write!(text, "\nNOTE: {remark}");
        }
        text
    }
}
