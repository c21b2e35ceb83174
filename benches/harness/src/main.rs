//! The instrument behind `cargo xtask bench`: servers as processes of their own, a load that checks
//! every byte, ratios to a base that runs beside each of them.

mod contender;
mod figure;
mod flags;
mod load;
mod machine;
mod probe;
mod proc;
mod report;
mod run;
mod runner;
mod scenario;
mod server;
mod stats;
mod sys;

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use contender::Contender;
use flags::{Flags, Placements};
use machine::Machine;
use report::Report;
use runner::{Placement, Runner, Settings};
use scenario::{Against, Field, Places, Scenario};
use stats::{Estimate, Verdict};

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("benches/harness lies in it")
}

fn run(flags: &Flags) -> Result<()> {
    let descriptors = sys::raise_descriptors().context("the limit of descriptors")?;
    sys::exact_timers()?;
    let (scenarios, mut remarks) = scenario::all(descriptors);
    let mut contenders = contender::known();
    for peer in &flags.peer {
        contenders.push(Contender::given(peer)?);
    }
    if flags.list {
        list(&scenarios, &contenders);
        return Ok(());
    }
    let scenarios = select_scenarios(flags, scenarios)?;
    let mut contenders = select_contenders(flags, contenders, &scenarios)?;

    let cores = sys::cores()?;
    let placements = placements(flags, &cores, &mut remarks);
    if !flags.no_build {
        contender::build(&mut contenders, root());
    }
    for contender in contenders.iter().filter(|one| one.problem.is_some()) {
        let problem = contender.problem.as_deref().unwrap_or_default();
        ensure!(contender.name != flags.base, "the base: {problem}");
        remarks.push(format!("{} is left out: {problem}", contender.name));
    }
    if flags.self_check {
        let base = contenders.swap_remove(0);
        contenders = vec![base.renamed(&format!("{} again", base.name)), base];
    }
    let settings = settings(flags);
    let mut report = Report {
        machine: Machine::look(root(), cores.len()),
        command: flags.shown_as.clone().unwrap_or_else(typed),
        base: settings.base.clone(),
        rounds: settings.rounds,
        peers_every: settings.peers_every,
        slice_ms: settings.slice.as_millis() as u64,
        warm_ms: settings.warm.as_millis() as u64,
        remarks,
        servers: contenders,
        scenarios: Vec::new(),
    };
    println!("{}", report.heading());
    let left_out = measure(&mut report, &settings, &scenarios, &placements, &flags.out)?;
    println!();
    for scenario in &report.scenarios {
        for judged in scenario.judged() {
            println!("{}: {judged}", scenario.title());
        }
    }
    println!("the report is in {}", flags.out.join("report.html").display());
    judge(flags, &report)?;
    // The report stands; a missing figure is still no success for who gates on this.
    ensure!(left_out == 0 || !(flags.self_check || flags.fail_if_worse), "{left_out} left out");
    Ok(())
}

/// The command line as it was typed.
fn typed() -> String {
    env::args().skip(1).fold("cargo xtask bench".to_owned(), |all, arg| {
        let quoted = if arg.contains(' ') { format!("'{arg}'") } else { arg };
        format!("{all} {quoted}")
    })
}

/// Says how many scenarios failed.
fn measure(
    report: &mut Report,
    settings: &Settings,
    scenarios: &[Scenario],
    placements: &[Placement],
    out: &Path,
) -> Result<usize> {
    let here = |placement: &Placement, scenario: &Scenario| match scenario.places {
        Places::Both => true,
        Places::One => placement.name == "one",
        Places::Two => placement.name == "two",
    };
    let mut plan = Vec::new();
    for placement in placements {
        // Whoever names a scenario wants it, wherever it says most.
        let all = scenarios.iter().filter(|one| placements.len() == 1 || here(placement, one));
        plan.extend(all.map(|scenario| (placement, scenario)));
    }
    let bar = runner::progress(0);
    let runner = |placement| Runner { root: root(), settings, placement, bar: &bar };
    let runs: Vec<u64> = plan
        .iter()
        .map(|(placement, scenario)| runner(placement).runs(scenario, &report.servers))
        .collect();
    bar.set_length(runs.iter().sum());
    bar.enable_steady_tick(Duration::from_secs(1));
    let (mut done, mut left_out) = (0, 0);
    for ((placement, scenario), runs) in plan.into_iter().zip(runs) {
        let one = runner(placement).run(scenario, &report.servers);
        done += runs;
        bar.set_position(done);
        match one {
            Ok(one) => {
                bar.suspend(|| report::print(&one));
                report.scenarios.push(one);
            }
            // The others say something all the same.
            Err(error) => {
                let remark = format!("{} is left out: {error:#}", scenario.id);
                bar.suspend(|| eprintln!("NOTE: {remark}"));
                report.remarks.push(remark);
                left_out += 1;
            }
        }
        // Whatever happens next, this is there.
        report.write(out)?;
    }
    bar.finish_and_clear();
    ensure!(!report.scenarios.is_empty(), "no scenario could be measured");
    Ok(left_out)
}

/// What the exit status says about the figures.
fn judge(flags: &Flags, report: &Report) -> Result<()> {
    let ratios = || {
        report.scenarios.iter().flat_map(|scenario| {
            scenario.outcomes.iter().filter_map(|outcome| {
                let name = scenario.scenario.heads[0];
                let less = figure::less_is_better(name);
                let ratio = outcome.ratio(name)?;
                Some((&scenario.scenario.title, &outcome.server, ratio, less))
            })
        })
    };
    if flags.self_check {
        let mut checked = 0;
        for (title, _, Estimate { median, low, high, .. }, _) in ratios() {
            let width = (high - median).max(median - low);
            let text = format!("{title}: {median:.3}, interval {low:.3} to {high:.3}");
            println!("self-check: {text}");
            ensure!(low <= 1.0 && 1.0 <= high, "{text} does not contain 1.00");
            ensure!(width <= 0.03, "{text} is wider than ±3 %");
            checked += 1;
        }
        ensure!(checked > 0, "nothing was compared");
    }
    if flags.fail_if_worse {
        let worse: Vec<String> = ratios()
            .filter(|(_, _, ratio, less)| ratio.verdict(1.0, 1.0, *less) == Verdict::Over)
            .map(|(title, server, ratio, _)| {
                format!(
                    "{server}, {title}: {:.3} ({:.3} to {:.3})",
                    ratio.median, ratio.low, ratio.high
                )
            })
            .collect();
        if !worse.is_empty() {
            bail!("worse beyond the noise:\n  {}", worse.join("\n  "));
        }
    }
    Ok(())
}

fn settings(flags: &Flags) -> Settings {
    let (rounds, slice, warm) = match (flags.self_check, flags.quick) {
        (false, true) => (6, 150, 50),
        (false, false) => (20, 400, 100),
        // The interval is the point.
        (true, _) => (20, 700, 100),
    };
    Settings {
        rounds: flags.rounds.unwrap_or(rounds),
        slice: Duration::from_millis(flags.slice_ms.unwrap_or(slice)),
        warm: Duration::from_millis(flags.warm_ms.unwrap_or(warm)),
        probes: !flags.no_probes && !flags.self_check,
        base: flags.base.clone(),
        peers_every: usize::from(flags.peers_every),
        only_base: flags.fail_if_worse || flags.self_check,
    }
}

fn select_scenarios(flags: &Flags, all: Vec<Scenario>) -> Result<Vec<Scenario>> {
    if let Some(unknown) = flags.scenario.iter().find(|id| all.iter().all(|one| one.id != **id)) {
        bail!("there is no scenario {unknown}; see --list");
    }
    let wanted = |one: &Scenario| match (flags.scenario.is_empty(), flags.self_check) {
        (false, _) => flags.scenario.iter().any(|id| id == one.id),
        (true, true) => one.id == "c100",
        (true, false) => one.quick || !flags.quick,
    };
    Ok(all.into_iter().filter(wanted).collect())
}

fn select_contenders(
    flags: &Flags,
    mut all: Vec<Contender>,
    scenarios: &[Scenario],
) -> Result<Vec<Contender>> {
    for name in flags.only.iter().chain(&flags.skip).chain([&flags.base]) {
        ensure!(all.iter().any(|one| one.name == *name), "there is no server {name}; see --list");
    }
    ensure!(!flags.skip.contains(&flags.base), "the base cannot be left out");
    let compares = |name: &str| {
        let with = |one: &Scenario| matches!(one.against, Against::Server(other) if other == name);
        !flags.fail_if_worse && scenarios.iter().any(with)
    };
    let plays = |one: &Contender| {
        scenarios.iter().any(|scenario| match scenario.field {
            Field::All => !one.only_at_work,
            Field::These(names) => names.contains(&&*one.name),
        })
    };
    all.retain(|one| {
        let chosen = flags.only.is_empty() || flags.only.contains(&one.name);
        let wanted = !flags.skip.contains(&one.name) && (one.is_given() || chosen && plays(one));
        one.name == flags.base || (!flags.self_check && (wanted || compares(&one.name)))
    });
    Ok(all)
}

fn placements(flags: &Flags, cores: &[usize], remarks: &mut Vec<String>) -> Vec<Placement> {
    let (first, last) = (cores[0], cores[cores.len() - 1]);
    let mut one = Placement {
        name: "one",
        title: "server on one core, load on another",
        server: vec![last],
        load: vec![first],
    };
    let two = Placement {
        name: "two",
        title: "everything on the same two cores",
        server: cores[..cores.len().min(2)].to_vec(),
        load: cores[..cores.len().min(2)].to_vec(),
    };
    if first == last {
        one.title = "server and load on the only core";
        remarks.push("there is only one core: the servers share it with the load".to_owned());
        return vec![one];
    }
    match flags.placement {
        Placements::One => vec![one],
        Placements::Two => vec![two],
        Placements::Both if flags.quick || flags.self_check => vec![one],
        Placements::Both => vec![one, two],
    }
}

fn list(scenarios: &[Scenario], contenders: &[Contender]) {
    println!("scenarios:");
    for scenario in scenarios {
        println!("  {:<10} {}", scenario.id, scenario.title);
    }
    println!("servers:");
    for contender in contenders {
        println!("  {:<12} {}", contender.name, contender.configuration);
    }
}
