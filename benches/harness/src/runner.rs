//! Rounds of runs: each server in turns with what it is compared with.
//!
//! Every run is a fresh process, so that where its memory happens to lie is noise like all other noise
//! and not a lasting advantage. Against a base the order is base, server, base, next server, and so on
//! to the base again, and each figure is compared with the mean of the base's runs before and after it;
//! so slow changes of the machine cancel out. A server that is compared with itself under another load
//! takes turns with itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::contender::Contender;
use crate::figure::{self, Sample};
use crate::load::Pace;
use crate::probe::{self, Probe};
use crate::report::{Figure, Outcome, ScenarioReport};
use crate::run::Stage;
use crate::scenario::{Against, Field, Kind, Scenario, Setup};
use crate::stats::Estimate;
use crate::sys;

/// Where everything runs.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) server: Vec<usize>,
    pub(crate) load: Vec<usize>,
}

impl Placement {
    /// Whether the load has cores that no server uses.
    pub(crate) fn is_apart(&self) -> bool {
        !self.load.iter().any(|core| self.server.contains(core))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) rounds: usize,
    /// Servers that are not ours take part in every so manieth round.
    pub(crate) peers_every: usize,
    pub(crate) slice: Duration,
    pub(crate) warm: Duration,
    pub(crate) probes: bool,
    pub(crate) base: String,
    /// Whatever a scenario compares with: compare with the base.
    pub(crate) only_base: bool,
}

pub(crate) struct Runner<'a> {
    pub(crate) root: &'a Path,
    pub(crate) settings: &'a Settings,
    pub(crate) placement: &'a Placement,
    pub(crate) bar: &'a ProgressBar,
}

/// A server under a scenario.
struct Entry<'a> {
    contender: &'a Contender,
    /// Its load, and what it is compared with, where the pace is its own.
    setup: Option<Setup>,
    control: Option<Setup>,
    samples: Vec<Sample>,
    /// For each sample, what it is compared with.
    beside: Vec<Sample>,
    problem: Option<String>,
}

impl Runner<'_> {
    /// All rounds of a scenario.
    pub(crate) fn run(
        &self,
        scenario: &Scenario,
        contenders: &[Contender],
    ) -> Result<ScenarioReport> {
        sys::pin(&self.placement.load)?;
        let stage = self.stage(scenario);
        let base = self.base(scenario, contenders)?;
        let mut entries: Vec<Entry<'_>> = contenders
            .iter()
            .filter(|one| self.takes_part(scenario, one) && base.is_none_or(|b| b.name != one.name))
            .map(|contender| self.entry(&stage, scenario, contender))
            .collect();
        let mut of_base = base.map(|base| self.entry(&stage, scenario, base));
        if let Some(Entry { problem: Some(problem), contender, .. }) = &of_base {
            anyhow::bail!("{}: {problem}", contender.name);
        }
        for round in 0..self.settings.rounds {
            self.round(&stage, scenario, round, &mut entries, of_base.as_mut())?;
            // Every server comes first in some round.
            let step = entries.len().min(1);
            entries.rotate_left(step);
        }
        let order = |entry: &Entry<'_>| {
            contenders.iter().position(|contender| contender.name == entry.contender.name)
        };
        entries.sort_by_key(order);
        let outcomes = of_base.into_iter().chain(entries);
        let outcomes = outcomes.map(|entry| self.outcome(&stage, scenario, entry)).collect();
        Ok(ScenarioReport {
            scenario: scenario.clone(),
            beside: base.map_or_else(|| scenario.beside(""), |base| base.name.clone()),
            placement: self.placement.name,
            placement_title: self.placement.title,
            outcomes,
        })
    }

    fn stage(&self, scenario: &Scenario) -> Stage<'_> {
        let Runner { root, settings, placement, .. } = self;
        let settle = Duration::from_millis(scenario.settle_ms);
        Stage { root, settings, placement, stretch: scenario.stretch, settle }
    }

    /// The server that others are compared with, if any.
    fn base<'c>(&self, scenario: &Scenario, all: &'c [Contender]) -> Result<Option<&'c Contender>> {
        let name = match &scenario.against {
            Against::Server(name) if !self.settings.only_base => *name,
            Against::Itself { .. } if !self.settings.only_base => return Ok(None),
            _ => &*self.settings.base,
        };
        let base = all.iter().find(|one| one.name == name);
        base.with_context(|| format!("{name} takes no part")).map(Some)
    }

    fn takes_part(&self, scenario: &Scenario, contender: &Contender) -> bool {
        match scenario.field {
            _ if self.settings.only_base || contender.is_given() => true,
            Field::All => !contender.only_at_work,
            Field::These(names) => names.contains(&&*contender.name),
        }
    }

    fn entry<'c>(
        &self,
        stage: &Stage<'_>,
        scenario: &Scenario,
        contender: &'c Contender,
    ) -> Entry<'c> {
        let mut problem = contender.problem.clone().or_else(|| unfit(contender, scenario));
        let mut setup = scenario.setup().cloned();
        let mut control = match &scenario.against {
            Against::Itself { setup, .. } if !self.settings.only_base => Some((**setup).clone()),
            _ => None,
        };
        let own_pace = setup.as_ref().is_some_and(|setup| setup.pace == Pace::HalfPeak);
        if let (true, None, Some(tried)) = (own_pace, &problem, &setup) {
            self.bar.set_message(format!("{} · the peak of {}", scenario.id, contender.name));
            match stage.peak(contender, tried) {
                Ok(peak) => {
                    for setup in [&mut setup, &mut control].into_iter().flatten() {
                        setup.pace = Pace::Open { per_second: peak / 2.0 };
                    }
                }
                Err(error) => problem = Some(format!("{error:#}")),
            }
        }
        Entry { contender, setup, control, samples: Vec::new(), beside: Vec::new(), problem }
    }

    fn round(
        &self,
        stage: &Stage<'_>,
        scenario: &Scenario,
        round: usize,
        entries: &mut [Entry<'_>],
        mut base: Option<&mut Entry<'_>>,
    ) -> Result<()> {
        let run = |contender: &Contender, setup: Option<&Setup>| {
            self.bar.set_message(format!(
                "{} · round {}/{} · {}",
                scenario.id,
                round + 1,
                self.settings.rounds,
                contender.name
            ));
            let sample = sample(stage, scenario, contender, setup);
            self.bar.inc(1);
            sample
        };
        let again = |base: &mut Entry<'_>| {
            let sample = run(base.contender, base.setup.as_ref()).context("the base")?;
            base.samples.push(sample.clone());
            anyhow::Ok(sample)
        };
        let mut before = base.as_deref_mut().map(again).transpose()?;
        for entry in entries {
            let sits_out = !entry.contender.ours && round % self.settings.peers_every != 0;
            if entry.problem.is_some() || sits_out {
                continue;
            }
            let pair = match base.as_deref_mut() {
                None => in_turns(round, entry, &run),
                Some(base) => match run(entry.contender, entry.setup.as_ref()) {
                    Ok(own) => {
                        let after = again(base)?;
                        let first = before.replace(after.clone()).unwrap_or_default();
                        Ok((own, mean(&first, &after)))
                    }
                    Err(error) => Err(error),
                },
            };
            match pair {
                Ok((own, beside)) => {
                    entry.samples.push(own);
                    entry.beside.push(beside);
                }
                Err(error) => entry.problem = Some(format!("{error:#}")),
            }
        }
        Ok(())
    }

    fn outcome(&self, stage: &Stage<'_>, scenario: &Scenario, entry: Entry<'_>) -> Outcome {
        let Entry { contender, setup, samples, beside, problem, .. } = entry;
        let mut figures = BTreeMap::new();
        let shown = figure::names().filter(|name| is_shown(scenario, name));
        for name in shown {
            let of = |samples: &[Sample]| -> Vec<f64> {
                samples.iter().filter_map(|sample| sample.get(name).copied()).collect()
            };
            let (values, beside) = (of(&samples), of(&beside));
            if let Some(value) = Estimate::of(&values) {
                figures.insert(name, Figure::new(value, values, &beside));
            }
        }
        // Once is enough, where the load cannot disturb it.
        let plain = matches!(scenario.against, Against::Base) && !scenario.works();
        let counts =
            problem.is_none() && self.settings.probes && plain && self.placement.is_apart();
        let probe = match setup.filter(|setup| counts && matches!(setup.pace, Pace::Closed { .. }))
        {
            Some(setup) => probe::run(stage, contender, &setup),
            None => Probe::default(),
        };
        let (server, ours) = (contender.name.clone(), contender.ours);
        let own_base = matches!(scenario.against, Against::Itself { .. });
        let control = own_base && !self.settings.only_base;
        Outcome { server, ours, control, figures, probe, problem }
    }
}

/// Whether a figure says something under a scenario.
fn is_shown(scenario: &Scenario, name: &str) -> bool {
    match name {
        figure::OTHERS_P99
        | figure::SHARE
        | figure::ASIDE
        | figure::ASIDE_WAKES
        | figure::WAKES => scenario.heads.contains(&name),
        figure::THREADS => scenario.works() || scenario.setup().is_some_and(|s| s.crowd.slow > 0),
        _ => true,
    }
}

/// One run under a scenario.
fn sample(
    stage: &Stage<'_>,
    scenario: &Scenario,
    contender: &Contender,
    setup: Option<&Setup>,
) -> Result<Sample> {
    match (&scenario.kind, setup) {
        (Kind::Accept { connections, window }, _) => stage.storm(contender, *connections, *window),
        (Kind::Client { frame, requests }, _) => stage.call(contender, *frame, *requests),
        (Kind::Server(setup), None) | (Kind::Server(_), Some(setup)) => {
            stage.serve(contender, setup)
        }
    }
}

/// A run, and one of the same server under the other load; who comes first changes.
fn in_turns(
    round: usize,
    entry: &Entry<'_>,
    run: &impl Fn(&Contender, Option<&Setup>) -> Result<Sample>,
) -> Result<(Sample, Sample)> {
    let own = || run(entry.contender, entry.setup.as_ref());
    let control = || run(entry.contender, entry.control.as_ref());
    if round % 2 == 0 {
        let beside = control()?;
        return Ok((own()?, beside));
    }
    Ok((own()?, control()?))
}

/// Why a contender has no place in a scenario.
fn unfit(contender: &Contender, scenario: &Scenario) -> Option<String> {
    match scenario.kind {
        Kind::Client { .. } if contender.client.is_none() => Some("has no client here".to_owned()),
        Kind::Server { .. } if scenario.works() && !contender.works() => {
            Some("cannot pretend to work ({work} is not in its command)".to_owned())
        }
        _ => None,
    }
}

fn mean(a: &Sample, b: &Sample) -> Sample {
    a.iter().map(|(name, value)| (*name, (value + b.get(name).unwrap_or(value)) / 2.0)).collect()
}

/// A bar over all runs.
pub(crate) fn progress(runs: u64) -> ProgressBar {
    let bar = ProgressBar::new(runs);
    let style = "{bar:30} {pos}/{len} runs, {eta} left · {wide_msg}";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
    bar
}

impl Runner<'_> {
    /// How many runs a scenario takes at most.
    pub(crate) fn runs(&self, scenario: &Scenario, contenders: &[Contender]) -> u64 {
        let mut runs = 0;
        let field: Vec<&Contender> = contenders
            .iter()
            .filter(|one| self.takes_part(scenario, one) && one.problem.is_none())
            .collect();
        for round in 0..self.settings.rounds {
            let here = |one: &&&Contender| one.ours || round % self.settings.peers_every == 0;
            runs += 2 * field.iter().filter(here).count();
        }
        runs as u64
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn the_base_beside_a_run_is_a_mean() {
        let (a, b) = (Sample::from([("x", 1.0), ("y", 5.0)]), Sample::from([("x", 3.0)]));
        assert_eq!(mean(&a, &b), Sample::from([("x", 2.0), ("y", 5.0)]));
    }

    #[test]
    fn a_server_takes_turns_with_itself() {
        let (scenarios, _) = crate::scenario::all(20_000);
        let idle = scenarios.iter().find(|one| one.id == "idle").unwrap();
        let Against::Itself { setup: alone, .. } = &idle.against else { unreachable!() };
        let known = crate::contender::known();
        let entry = Entry {
            contender: &known[0],
            setup: idle.setup().cloned(),
            control: Some((**alone).clone()),
            samples: vec![],
            beside: vec![],
            problem: None,
        };
        for round in 0..2 {
            let crowds = RefCell::new(Vec::new());
            let run = |_: &Contender, setup: Option<&Setup>| {
                let idle = setup.unwrap().crowd.idle;
                crowds.borrow_mut().push(idle);
                Ok(Sample::from([("x", idle as f64)]))
            };
            let (own, beside) = in_turns(round, &entry, &run).unwrap();
            assert_eq!((own["x"], beside["x"]), (8000.0, 0.0));
            assert_eq!(crowds.into_inner()[round], 0);
        }
    }
}
