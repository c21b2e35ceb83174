//! Rounds of runs: the base, a server, the base, the next server, and so on to the base again.
//!
//! Every run is a fresh process, so that where its memory happens to lie is noise like all other noise
//! and not a lasting advantage. Each server's figure is divided by the mean of the base's runs before
//! and after it, so slow changes of the machine cancel out.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::contender::Contender;
use crate::load::{Load, Plan};
use crate::probe;
use crate::report::{Figure, Outcome, ScenarioReport};
use crate::scenario::{Kind, Scenario};
use crate::server::{Server, fill_in, on_cores};
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
    fn is_apart(&self) -> bool {
        !self.load.iter().any(|core| self.server.contains(core))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) rounds: usize,
    pub(crate) slice: Duration,
    pub(crate) warm: Duration,
    pub(crate) probes: bool,
    pub(crate) base: String,
}

/// The figures of one run, by name.
pub(crate) type Sample = BTreeMap<&'static str, f64>;

/// The names of figures, in the order of the report.
pub(crate) mod figure {
    /// CPU time of the server per request, in microseconds.
    pub(crate) const CPU: &str = "cpu_us";
    pub(crate) const RATE: &str = "requests_per_s";
    pub(crate) const P50: &str = "p50_us";
    pub(crate) const P99: &str = "p99_us";
    pub(crate) const P999: &str = "p999_us";
    pub(crate) const MEMORY: &str = "resident_mib";
    pub(crate) const SWITCHES: &str = "switches_per_request";
}

pub(crate) struct Runner<'a> {
    pub(crate) root: &'a Path,
    pub(crate) settings: &'a Settings,
    pub(crate) placement: &'a Placement,
    pub(crate) bar: &'a ProgressBar,
}

impl Runner<'_> {
    /// All rounds of a scenario.
    pub(crate) fn run(
        &self,
        scenario: &Scenario,
        contenders: &[Contender],
    ) -> Result<ScenarioReport> {
        sys::pin(&self.placement.load)?;
        let base = contenders.iter().find(|one| one.name == self.settings.base);
        let base = base.context("the base takes no part")?;
        let mut entries: Vec<Entry<'_>> = Vec::new();
        for contender in contenders.iter().filter(|one| one.name != base.name) {
            let problem = contender.problem.clone().or_else(|| unfit(contender, scenario));
            entries.push(Entry { contender, samples: Vec::new(), beside: Vec::new(), problem });
        }
        let mut of_base = Vec::new();
        for round in 0..self.settings.rounds {
            // Every server comes first in some round.
            let count = entries.len().max(1);
            entries.rotate_left(usize::from(round > 0) % count);
            let mut before = self.sample(base, scenario, round).context("the base")?;
            of_base.push(before.clone());
            for entry in &mut entries {
                if entry.problem.is_some() {
                    self.bar.inc(2);
                    continue;
                }
                match self.sample(entry.contender, scenario, round) {
                    Ok(sample) => {
                        let after = self.sample(base, scenario, round).context("the base")?;
                        entry.beside.push(mean(&before, &after));
                        entry.samples.push(sample);
                        of_base.push(after.clone());
                        before = after;
                    }
                    Err(error) => {
                        self.bar.inc(1);
                        entry.problem = Some(format!("{error:#}"));
                    }
                }
            }
        }
        let mut outcomes = vec![self.outcome(base, scenario, &of_base, &[], None)];
        for contender in contenders {
            let entry = entries.iter().find(|entry| entry.contender.name == contender.name);
            let Some(Entry { samples, beside, problem, .. }) = entry else { continue };
            outcomes.push(self.outcome(contender, scenario, samples, beside, problem.clone()));
        }
        Ok(ScenarioReport {
            scenario: scenario.clone(),
            placement: self.placement.name,
            placement_title: self.placement.title,
            outcomes,
        })
    }

    fn outcome(
        &self,
        contender: &Contender,
        scenario: &Scenario,
        samples: &[Sample],
        beside: &[Sample],
        problem: Option<String>,
    ) -> Outcome {
        let mut figures = BTreeMap::new();
        for name in samples.first().into_iter().flat_map(|sample| sample.keys().copied()) {
            let values: Vec<f64> = samples.iter().filter_map(|s| s.get(name).copied()).collect();
            let ratios: Vec<f64> =
                samples.iter().zip(beside).map(|(own, base)| own[name] / base[name]).collect();
            if let Some(value) = Estimate::of(&values) {
                figures
                    .insert(name, Figure { value, ratio: Estimate::of(&ratios), values, ratios });
            }
        }
        let probe = match problem.is_none() && self.settings.probes {
            true => probe::run(self, contender, scenario),
            false => probe::Probe::default(),
        };
        Outcome { server: contender.name.clone(), ours: contender.ours, figures, probe, problem }
    }

    fn sample(&self, contender: &Contender, scenario: &Scenario, round: usize) -> Result<Sample> {
        self.bar.set_message(format!(
            "{} · round {}/{} · {}",
            scenario.id,
            round + 1,
            self.settings.rounds,
            contender.name
        ));
        let sample = match scenario.kind {
            Kind::Server { .. } => self.serve(contender, scenario),
            Kind::Client { connections, frame, requests } => {
                self.call(contender, connections, frame, requests)
            }
        };
        self.bar.inc(1);
        sample
    }

    /// Starts a server for a scenario, on its cores.
    pub(crate) fn start(
        &self,
        contender: &Contender,
        scenario: &Scenario,
        envs: &[(&str, &Path)],
    ) -> Result<(Server, Plan)> {
        let Kind::Server { connections, idle, frame, pace, work } = &scenario.kind else {
            anyhow::bail!("{} is no scenario of servers", scenario.id)
        };
        let command = contender.command.as_deref().context("it is no server")?;
        let server = Server::start(command, work, &self.placement.server, envs, self.root)?;
        let plan = Plan {
            to: server.addr,
            connections: *connections,
            idle: *idle,
            frame: *frame,
            pace: *pace,
            spin: self.placement.is_apart(),
        };
        Ok((server, plan))
    }

    /// One run of a server.
    fn serve(&self, contender: &Contender, scenario: &Scenario) -> Result<Sample> {
        let (server, plan) = self.start(contender, scenario, &[])?;
        let mut load = Load::connect(plan)?;
        load.run(self.settings.warm)?;
        let (status, cpu) = (server.status()?, server.cpu()?);
        let slice = load.run(self.settings.slice)?;
        let cpu = server.cpu()? - cpu;
        let after = server.status()?;
        ensure!(slice.replies > 0, "no reply within {:?}", self.settings.slice);
        load.drain()?;

        let replies = slice.replies as f64;
        let micros = |part| slice.latency.quantile(part) as f64 / 1e3;
        Ok(Sample::from([
            (figure::CPU, cpu.as_secs_f64() * 1e6 / replies),
            (figure::RATE, replies / slice.elapsed.as_secs_f64()),
            (figure::P50, micros(0.5)),
            (figure::P99, micros(0.99)),
            (figure::P999, micros(0.999)),
            (figure::MEMORY, after.resident as f64 / f64::from(1 << 20)),
            (figure::SWITCHES, after.switches.saturating_sub(status.switches) as f64 / replies),
        ]))
    }

    /// One run of a client, against the base on the load's core.
    fn call(
        &self,
        contender: &Contender,
        connections: usize,
        frame: usize,
        requests: u64,
    ) -> Result<Sample> {
        let known = crate::contender::known();
        let base = known[0].command.as_deref().expect("the base is a server");
        let server = Server::start(base, &[], &self.placement.load, &[], self.root)?;
        let command = contender.client.as_deref().context("it has no client")?;
        let flags = [
            format!("--connections={connections}"),
            format!("--size={frame}"),
            format!("--requests={requests}"),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let addr = server.addr.to_string();
        let args = fill_in(command, &[("{addr}", &[&addr]), ("{client}", &flags)]);
        let mut command = on_cores(&args, &self.placement.server, self.root)?;
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let start = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {}", args[0]))?;
        let (status, cpu) = sys::wait_with_cpu(child.id())?;
        let elapsed = start.elapsed().as_secs_f64();
        ensure!(status == 0, "its client failed (wait status {status})");
        let requests = requests as f64;
        Ok(Sample::from([
            (figure::CPU, cpu.as_secs_f64() * 1e6 / requests),
            (figure::RATE, requests / elapsed),
        ]))
    }
}

struct Entry<'a> {
    contender: &'a Contender,
    samples: Vec<Sample>,
    /// For each sample, the mean of the base's runs beside it.
    beside: Vec<Sample>,
    problem: Option<String>,
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

/// How many runs a bar has to count.
pub(crate) fn runs(rounds: usize, contenders: usize) -> u64 {
    (rounds * (2 * contenders).saturating_sub(1)) as u64
}

/// A bar over all runs.
pub(crate) fn progress(runs: u64) -> ProgressBar {
    let bar = ProgressBar::new(runs);
    let style = "{bar:30} {pos}/{len} runs, {eta} left · {wide_msg}";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_beside_a_run_is_a_mean() {
        let (a, b) = (Sample::from([("x", 1.0), ("y", 5.0)]), Sample::from([("x", 3.0)]));
        assert_eq!(mean(&a, &b), Sample::from([("x", 2.0), ("y", 5.0)]));
    }

    #[test]
    fn a_bar_counts_the_base_around_each_server() {
        assert_eq!(runs(20, 9), 340);
        assert_eq!(runs(3, 0), 0);
    }
}
