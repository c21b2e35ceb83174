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
use crate::machine::Machine;
use crate::probe::Probe;
use crate::runner::figure;
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
    pub(crate) slice_ms: u64,
    pub(crate) warm_ms: u64,
    /// The ratio that our server should stay within.
    pub(crate) bar: f64,
    /// What was scaled down or left out, and why.
    pub(crate) remarks: Vec<String>,
    pub(crate) servers: Vec<Contender>,
    pub(crate) scenarios: Vec<ScenarioReport>,
}

/// One scenario at one placement.
#[derive(Debug, Serialize)]
pub(crate) struct ScenarioReport {
    pub(crate) scenario: Scenario,
    pub(crate) placement: &'static str,
    pub(crate) placement_title: &'static str,
    /// The base first.
    pub(crate) outcomes: Vec<Outcome>,
}

/// One server under one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) server: String,
    pub(crate) ours: bool,
    pub(crate) figures: BTreeMap<&'static str, Figure>,
    pub(crate) probe: Probe,
    /// Why it did not finish, or did not take part.
    pub(crate) problem: Option<String>,
}

/// One figure over all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) value: Estimate,
    /// Divided by the base's runs beside it; none for the base itself.
    pub(crate) ratio: Option<Estimate>,
    pub(crate) values: Vec<f64>,
    pub(crate) ratios: Vec<f64>,
}

impl Outcome {
    pub(crate) fn value(&self, name: &str) -> Option<Estimate> {
        self.figures.get(name).map(|figure| figure.value)
    }

    pub(crate) fn ratio(&self, name: &str) -> Option<Estimate> {
        self.figures.get(name).and_then(|figure| figure.ratio)
    }

    /// CPU per request against the base, in words.
    fn verdict(&self) -> &'static str {
        match self.ratio(figure::CPU) {
            None => "",
            Some(ratio) if ratio.coverage < 0.95 => "unresolved",
            Some(ratio) if ratio.high < 1.0 => "cheaper",
            Some(ratio) if ratio.low > 1.0 => "dearer",
            Some(_) => "unresolved",
        }
    }
}

impl Report {
    /// Our server against its bar, scenario by scenario.
    pub(crate) fn verdicts(&self) -> Vec<(String, Verdict)> {
        let mut verdicts = Vec::new();
        for scenario in
            self.scenarios.iter().filter(|one| one.scenario.has_bar && one.placement == "one")
        {
            for outcome in scenario.outcomes.iter().filter(|outcome| outcome.ours) {
                let Some(ratio) = outcome.ratio(figure::CPU) else { continue };
                let verdict = ratio.verdict(self.bar);
                let word = match verdict {
                    Verdict::Within => "within",
                    Verdict::Over => "OVER",
                    Verdict::Unresolved => "unresolved against",
                };
                let text = format!(
                    "{}, {}: {:.3} ({:.3} to {:.3}) is {word} {:.2}",
                    outcome.server,
                    scenario.scenario.title,
                    ratio.median,
                    ratio.low,
                    ratio.high,
                    self.bar
                );
                verdicts.push((text, verdict));
            }
        }
        verdicts
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
                bars: self.bars(one, figure::CPU),
            })
            .collect();
        if groups.is_empty() {
            return None;
        }
        let title = format!("CPU per request, relative to {} (less is better)", self.base);
        Some(svg::bars(&title, &groups))
    }

    /// The servers of a scenario by one ratio, the least first.
    fn bars(&self, scenario: &ScenarioReport, name: &str) -> Vec<svg::Bar> {
        let mut bars: Vec<svg::Bar> = scenario
            .outcomes
            .iter()
            .filter_map(|outcome| {
                let estimate = match outcome.server == self.base {
                    true => Estimate { median: 1.0, low: 1.0, high: 1.0, coverage: 1.0, rounds: 0 },
                    false => outcome.ratio(name)?,
                };
                Some(svg::Bar { label: outcome.server.clone(), estimate, ours: outcome.ours })
            })
            .collect();
        bars.sort_by(|a, b| a.estimate.median.total_cmp(&b.estimate.median));
        bars
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
