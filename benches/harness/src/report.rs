//! What was measured, as it is kept: everything a reader needs to believe it, or to repeat it.

mod html;
mod svg;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::contender::Contender;
use crate::figure;
use crate::machine::Machine;
use crate::probe::Probe;
use crate::scenario::Scenario;
use crate::stats::{Estimate, Verdict};
pub(crate) use table::print;

/// A whole report.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) command: String,
    pub(crate) base: String,
    pub(crate) rounds: usize,
    /// Servers that are not ours took part in every so manieth round.
    pub(crate) peers_every: usize,
    pub(crate) slice_ms: u64,
    pub(crate) warm_ms: u64,
    /// What was scaled down or left out, and why.
    pub(crate) remarks: Vec<String>,
    pub(crate) servers: Vec<Contender>,
    pub(crate) scenarios: Vec<ScenarioReport>,
}

/// One scenario at one placement.
#[derive(Debug, Serialize)]
pub(crate) struct ScenarioReport {
    pub(crate) scenario: Scenario,
    /// What ratios are to.
    pub(crate) beside: String,
    pub(crate) placement: &'static str,
    pub(crate) placement_title: &'static str,
    /// The base first, if there is one.
    pub(crate) outcomes: Vec<Outcome>,
}

/// One server under one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) server: String,
    pub(crate) ours: bool,
    /// It is compared with itself under another load.
    pub(crate) control: bool,
    pub(crate) figures: BTreeMap<&'static str, Figure>,
    pub(crate) probe: Probe,
    /// Why it did not finish, or did not take part.
    pub(crate) problem: Option<String>,
}

/// One figure over all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) value: Estimate,
    /// What it is compared with; none for the base itself.
    pub(crate) beside: Option<Estimate>,
    /// Divided by that, pair by pair.
    pub(crate) ratio: Option<Estimate>,
    pub(crate) values: Vec<f64>,
    pub(crate) ratios: Vec<f64>,
    /// How much more than that, pair by pair.
    pub(crate) above: Vec<f64>,
}

impl Figure {
    pub(crate) fn new(value: Estimate, values: Vec<f64>, beside: &[f64]) -> Figure {
        let pairs = || values.iter().zip(beside);
        let ratios: Vec<f64> = pairs().map(|(own, other)| own / other).collect();
        let above = pairs().map(|(own, other)| own - other).collect();
        let (beside, ratio) = (Estimate::of(beside), Estimate::of(&ratios));
        Figure { value, beside, ratio, values, ratios, above }
    }
}

impl Outcome {
    pub(crate) fn value(&self, name: &str) -> Option<Estimate> {
        self.figures.get(name).map(|figure| figure.value)
    }

    pub(crate) fn ratio(&self, name: &str) -> Option<Estimate> {
        self.figures.get(name).and_then(|figure| figure.ratio)
    }

    /// How a figure compares, in a word.
    fn word(&self, name: &str) -> &'static str {
        let Some(ratio) = self.ratio(name) else { return "" };
        let side = match ratio {
            _ if ratio.coverage < 0.95 => 0,
            _ if ratio.high < 1.0 => -1,
            _ if ratio.low > 1.0 => 1,
            _ => 0,
        };
        match if figure::less_is_better(name) { side } else { -side } {
            -1 => "better",
            1 => "worse",
            _ => "unresolved",
        }
    }
}

impl ScenarioReport {
    /// Our server against the scenario's bars.
    pub(crate) fn verdicts(&self) -> Vec<(String, Verdict)> {
        let ours = self.outcomes.iter().filter(|outcome| outcome.ours);
        ours.flat_map(|outcome| {
            let judged = self.scenario.bars.iter().filter_map(|bar| bar.judge(outcome));
            judged.map(|(text, verdict)| {
                (format!("{}, {}: {text}", self.title(), outcome.server), verdict)
            })
        })
        .collect()
    }

    /// Its name among others.
    fn title(&self) -> String {
        match self.placement {
            "one" => self.scenario.title.clone(),
            _ => format!("{} ({})", self.scenario.title, self.placement_title),
        }
    }

    /// The servers by one ratio, the best first.
    fn bars(&self, name: &str) -> Vec<svg::Bar> {
        let even = Estimate { median: 1.0, low: 1.0, high: 1.0, coverage: 1.0, rounds: 0 };
        let bar = |outcome: &Outcome| {
            let is_base = outcome.server == self.beside && !outcome.figures.is_empty();
            let estimate = if is_base { even } else { outcome.ratio(name)? };
            Some(svg::Bar { label: outcome.server.clone(), estimate, ours: outcome.ours })
        };
        let mut bars: Vec<svg::Bar> = self.outcomes.iter().filter_map(bar).collect();
        bars.sort_by(|a, b| a.estimate.median.total_cmp(&b.estimate.median));
        if !figure::less_is_better(name) {
            bars.reverse();
        }
        bars
    }
}

impl Report {
    /// Our server against all bars.
    pub(crate) fn verdicts(&self) -> Vec<(String, Verdict)> {
        self.scenarios.iter().flat_map(ScenarioReport::verdicts).collect()
    }

    /// Writes `report.json`, `report.html` and `cpu.svg`.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let json = serde_json::to_string_pretty(self)?;
        fs::write(dir.join("report.json"), json + "\n")?;
        fs::write(dir.join("report.html"), html::page(self))?;
        if let Some(plot) = self.main_plot() {
            fs::write(dir.join("cpu.svg"), plot)?;
        }
        Ok(())
    }

    /// CPU per request against the base, for the scenarios that say most.
    fn main_plot(&self) -> Option<String> {
        let wanted = ["c1", "c100", "c1000", "pipelined"];
        let placement = self.scenarios.first()?.placement;
        let groups: Vec<svg::Group> = self
            .scenarios
            .iter()
            .filter(|one| one.placement == placement && wanted.contains(&one.scenario.id))
            .map(|one| svg::Group {
                title: one.scenario.title.clone(),
                bars: one.bars(figure::CPU),
            })
            .collect();
        if groups.is_empty() {
            return None;
        }
        let title = format!("CPU per request, relative to {} (less is better)", self.base);
        Some(svg::bars(&title, &groups))
    }
}

/// A number with three significant digits, thousands apart.
pub(crate) fn short(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    match value.abs() {
        v if v >= 999.5 => {
            let digits = format!("{value:.0}");
            let mut text = String::new();
            for (at, digit) in digits.chars().enumerate() {
                if at > 0 && (digits.len() - at) % 3 == 0 && text != "-" {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        v if v >= 0.0005 || v == 0.0 => format!("{value:.2}"),
        _ => "0.00".to_owned(),
    }
}

#[cfg(test)]
mod tests;
