//! One run: a server, or a client, as a fresh process on its cores, and the figures it yields.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::contender::{self, Contender};
use crate::figure::{self, Sample};
use crate::load::{Load, Pace, Plan, Slice, storm};
use crate::proc::ProcStatus;
use crate::runner::{Placement, Settings};
use crate::scenario::{Setup, Work};
use crate::server::{Server, fill_in, on_cores};
use crate::sys;

/// What runs have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) root: &'a Path,
    pub(crate) settings: &'a Settings,
    pub(crate) placement: &'a Placement,
    /// How many times longer than others a run takes.
    pub(crate) stretch: u32,
    /// How long it warms up at least.
    pub(crate) settle: Duration,
}

impl Stage<'_> {
    fn slice(&self) -> Duration {
        self.settings.slice * self.stretch
    }

    /// Starts a server for a setup.
    pub(crate) fn start(
        &self,
        contender: &Contender,
        setup: &Setup,
        envs: &[(&str, &Path)],
    ) -> Result<(Server, Plan)> {
        let command = contender.command.as_deref().context("it is no server")?;
        let cores = &self.placement.server;
        let count = setup.cores.unwrap_or(cores.len()).min(cores.len());
        let cores = &cores[cores.len() - count..];
        let server = Server::start(command, &setup.flags(), cores, envs, self.root)?;
        let plan = Plan {
            to: server.addr,
            connections: setup.connections,
            crowd: setup.crowd,
            light: setup.light,
            frame: setup.frame,
            pace: setup.pace,
            spin: self.placement.is_apart(),
        };
        Ok((server, plan))
    }

    /// One run of a server.
    pub(crate) fn serve(&self, contender: &Contender, setup: &Setup) -> Result<Sample> {
        let (server, plan) = self.start(contender, setup, &[])?;
        let mut load = Load::connect(plan)?;
        load.run(self.settle.max(self.settings.warm * self.stretch))?;
        let (before, cpu) = (server.status()?, server.cpu()?);
        let slice = load.run(self.slice())?;
        let cpu = server.cpu()? - cpu;
        let after = server.status()?;
        let rests = setup.pace == Pace::Rest;
        ensure!(rests || slice.replies > 0, "no reply within {:?}", self.slice());
        if setup.work.is_none() {
            load.drain()?;
        }
        let mut sample = of_process(&slice, &before, &after, cpu);
        if !rests {
            of_requests(&mut sample, &slice, setup);
        }
        Ok(sample)
    }

    /// The most requests per second that a server answers, with handlers that do nothing.
    pub(crate) fn peak(&self, contender: &Contender, setup: &Setup) -> Result<f64> {
        let closed = Setup { pace: Pace::Closed { depth: 1 }, work: None, ..setup.clone() };
        let mut rates = Vec::new();
        for _ in 0..3 {
            rates.push(self.serve(contender, &closed)?[figure::RATE]);
        }
        rates.sort_by(f64::total_cmp);
        Ok(rates[1])
    }

    /// One run of very many connections at once.
    pub(crate) fn storm(
        &self,
        contender: &Contender,
        connections: usize,
        window: usize,
    ) -> Result<Sample> {
        let (server, plan) = self.start(contender, &Setup::closed(0, 64, 1), &[])?;
        let cpu = server.cpu()?;
        let elapsed = storm(plan.to, connections, window, plan.spin)?;
        let cpu = server.cpu()? - cpu;
        Ok(Sample::from([
            (figure::TIME, elapsed.as_secs_f64() * 1e3),
            (figure::CPU, cpu.as_secs_f64() * 1e6 / connections as f64),
            (figure::RATE, connections as f64 / elapsed.as_secs_f64()),
            (figure::MEMORY, mebibytes(server.status()?.resident)),
        ]))
    }

    /// One run of a client, whose server (the base) is on the load's core.
    pub(crate) fn call(
        &self,
        contender: &Contender,
        frame: usize,
        requests: u64,
    ) -> Result<Sample> {
        let known = contender::known();
        let base = known[0].command.as_deref().expect("the base is a server");
        let server = Server::start(base, &[], &self.placement.load, &[], self.root)?;
        let command = contender.client.as_deref().context("it has no client")?;
        let flags = [format!("--size={frame}"), format!("--requests={requests}")];
        let addr = [server.addr.to_string()];
        let args = fill_in(command, &[("{addr}", &addr), ("{client}", &flags)]);
        let mut command = on_cores(&args, &self.placement.server, self.root)?;
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("starting {}", args[0]))?;
        let mut text = String::new();
        child.stdout.take().expect("piped above").read_to_string(&mut text)?;
        let (status, cpu) = sys::wait_with_cpu(child.id())?;
        ensure!(status == 0, "its client failed (wait status {status})");
        let mut sample = reported(&text);
        ensure!(sample.contains_key(figure::P50), "its client reported nothing");
        sample.insert(figure::CPU, cpu.as_secs_f64() * 1e6 / requests as f64);
        Ok(sample)
    }
}

/// What a client printed: a line `NAME VALUE` for each figure.
fn reported(text: &str) -> Sample {
    let figure = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((figure::names().find(|known| *known == name)?, value.trim().parse().ok()?))
    };
    text.lines().filter_map(figure).collect()
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// What a process used during a slice.
fn of_process(slice: &Slice, before: &ProcStatus, after: &ProcStatus, cpu: Duration) -> Sample {
    let seconds = slice.elapsed.as_secs_f64();
    let percent = |cpu: Duration| cpu.as_secs_f64() / seconds * 100.0;
    let threads = after.since(before);
    let switches = |of: &[crate::proc::Thread]| of.iter().map(|t| t.switches).sum::<u64>() as f64;
    let aside = threads.get(1..).unwrap_or_default();
    let mut sample = Sample::from([
        (figure::MEMORY, mebibytes(after.resident)),
        (figure::THREADS, threads.len() as f64),
        (figure::SHARE, percent(cpu)),
        (figure::WAKES, switches(&threads) / seconds),
        (figure::ASIDE, percent(aside.iter().map(|thread| thread.cpu).sum())),
        (figure::ASIDE_WAKES, switches(aside) / seconds),
    ]);
    if slice.replies > 0 {
        let replies = slice.replies as f64;
        sample.extend([
            (figure::CPU, cpu.as_secs_f64() * 1e6 / replies),
            (figure::RATE, replies / seconds),
            (figure::SWITCHES, switches(&threads) / replies),
        ]);
    }
    sample
}

/// How requests were answered during a slice.
fn of_requests(sample: &mut Sample, slice: &Slice, setup: &Setup) {
    let micros = |nanos: u64| nanos as f64 / 1e3;
    let latency = &slice.latency;
    sample.extend([
        (figure::P50, micros(latency.quantile(0.5))),
        (figure::P99, micros(latency.quantile(0.99))),
        (figure::P999, micros(latency.quantile(0.999))),
    ]);
    // Which requests slept is not seen from here. But it is known how many, and how long at least: to
    // leave out as many of the quickest that could have been them flatters no server.
    let others = match setup.work {
        Some(Work { micros, every, .. }) => latency.without(slice.replies / every, micros * 1000),
        None => latency.clone(),
    };
    sample.insert(figure::OTHERS_P99, micros(others.quantile(0.99)));
    if setup.light.is_some() {
        sample.insert(figure::LIGHT_P99, micros(slice.light.quantile(0.99)));
    }
    if let (Some(Work { burns: false, micros, every }), Pace::Closed { .. }) =
        (setup.work, setup.pace)
    {
        let allowed = (setup.connections as u64 * every) as f64 * 1e6 / micros as f64;
        sample.insert(figure::ALLOWED, sample[figure::RATE] / allowed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_client_are_read() {
        let sample = reported("hello\np50_us 12.5\np99_us 40\nunknown 3\n");
        assert_eq!(sample, Sample::from([(figure::P50, 12.5), (figure::P99, 40.0)]));
    }
}
