//! What was measured, as it is kept: everything a reader needs to believe it, or to repeat it.

mod html;
mod markdown;
mod svg;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Serialize, Serializer};

use crate::contender::Contender;
use crate::figure;
use crate::machine::Machine;
use crate::probe::Probe;
use crate::scenario::{Judged, Scenario};
use crate::stats::Estimate;
use svg::{Bar, Group};
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
    #[serde(serialize_with = "rounded")]
    pub(crate) values: Vec<f64>,
    #[serde(serialize_with = "rounded")]
    pub(crate) ratios: Vec<f64>,
    /// How much more than that, pair by pair.
    #[serde(serialize_with = "rounded")]
    pub(crate) above: Vec<f64>,
}

/// With as many digits as a measurement deserves.
fn rounded<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
    let five = |value: &f64| match value.is_finite() {
        true => format!("{value:.4e}").parse::<f64>().ok(),
        false => None,
    };
    to.collect_seq(values.iter().map(five))
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
    pub(crate) fn judged(&self) -> Vec<Judged> {
        let ours = self.outcomes.iter().filter(|outcome| outcome.ours);
        let judged = |outcome| self.scenario.bars.iter().filter_map(move |bar| bar.judge(outcome));
        ours.flat_map(judged).collect()
    }

    /// Its name among others.
    pub(crate) fn title(&self) -> String {
        match self.placement {
            "one" => self.scenario.title.clone(),
            _ => format!("{} ({})", self.scenario.title, self.placement_title),
        }
    }

    /// What its ratios are to, and how its runs differ from others.
    fn manner(&self) -> String {
        match self.scenario.settle_ms {
            0 => format!("ratios to {}", self.beside),
            ms => format!("ratios to {}, after at least {ms} ms", self.beside),
        }
    }

    /// The servers by one ratio, the best first.
    fn bars(&self, name: &str) -> Vec<Bar> {
        let even = Estimate { median: 1.0, low: 1.0, high: 1.0, coverage: 1.0, rounds: 0 };
        let bar = |outcome: &Outcome| {
            let is_base = outcome.server == self.beside && !outcome.figures.is_empty();
            let (estimate, kind) = match outcome {
                _ if is_base => (even, Bar::BASE),
                Outcome { ours: true, .. } => (outcome.ratio(name)?, Bar::OURS),
                _ => (outcome.ratio(name)?, Bar::OTHER),
            };
            Some(Bar { label: outcome.server.clone(), estimate, kind })
        };
        let mut bars: Vec<Bar> = self.outcomes.iter().filter_map(bar).collect();
        bars.sort_by(|a, b| a.estimate.median.total_cmp(&b.estimate.median));
        if !figure::less_is_better(name) {
            bars.reverse();
        }
        bars
    }
}

impl Report {
    /// Writes `report.json`, `report.html`, `report.md`, and the main plot as `cpu.svg`.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| path.display().to_string())
        };
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        // A line for each scenario: `git diff` and `grep` can live with that.
        let json = serde_json::to_string(self)?.replace("{\"scenario\":", "\n{\"scenario\":");
        write("report.json", &(json + "\n"))?;
        write("report.html", &html::page(self))?;
        write("report.md", &markdown::page(self))?;
        match self.main_plot() {
            Some(plot) => write("cpu.svg", &plot),
            None => Ok(()),
        }
    }

    /// The scenarios that compare with the base while handlers only echo, at the first placement.
    fn plain(&self) -> impl Iterator<Item = &ScenarioReport> {
        let placement = self.scenarios.first().map_or("", |one| one.placement);
        let wanted = ["c1", "c100", "c1000", "pipelined", "large"];
        self.scenarios
            .iter()
            .filter(move |one| one.placement == placement && wanted.contains(&one.scenario.id))
    }

    /// CPU per request against the base.
    fn main_plot(&self) -> Option<String> {
        let group = |one: &ScenarioReport| Group {
            title: one.scenario.title.clone(),
            bars: one.bars(figure::CPU),
        };
        let groups: Vec<Group> = self.plain().map(group).collect();
        if groups.iter().all(|group| group.bars.len() < 2) {
            return None;
        }
        let title = format!(
            "CPU per request, relative to a hand-written {} loop (less is better)",
            self.base
        );
        Some(svg::bars(&title, &groups))
    }
}

/// As it stands at the beginning of a line.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().collect::<String>());
    first.unwrap_or_default() + chars.as_str()
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
