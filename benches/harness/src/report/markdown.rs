//! The report as Markdown: for reading where the code is read.

use std::fmt::Write;

use super::table::{Column, columns};
use super::{Report, ScenarioReport, capital, short};
use crate::figure;

/// Between these stands what a README repeats.
const MARKERS: [&str; 2] = ["<!-- bench:servers -->", "<!-- /bench:servers -->"];

pub(super) fn page(report: &Report) -> String {
    let mut page = "# Servers, side by side\n\n".to_owned();
    let _ = writeln!(page, "{}\n\n{}", MARKERS[0], summary(report));
    let _ = writeln!(page, "{}\n\n## What it was measured on\n", MARKERS[1]);
    let _ = writeln!(page, "```text\n$ {}\n{}\n```\n", report.command, report.heading());
    page += "Each run is a process of its own. Each figure is a median over the rounds; a ratio is to what \
             ran right before and after, with an interval that holds the true median with 95 %. \
             `report.html` shows the same with plots, `report.json` has every single run.\n\n";
    bars(&mut page, report);
    let mut placement = "";
    for scenario in &report.scenarios {
        if placement != scenario.placement {
            placement = scenario.placement;
            let _ = writeln!(page, "## {}\n", capital(scenario.placement_title));
        }
        section(&mut page, scenario);
    }
    page += "## The servers\n\n| server | configuration |\n|---|---|\n";
    for server in &report.servers {
        let configuration = match &server.problem {
            Some(problem) => format!("left out: {problem}"),
            None => server.configuration.to_owned(),
        };
        let _ = writeln!(page, "| {} | {configuration} |", server.name);
    }
    page
}

/// CPU per request, requests per second and p99 of the plain scenarios: servers down, scenarios across.
fn summary(report: &Report) -> String {
    let plain: Vec<&ScenarioReport> = report.plain().collect();
    let mut text = String::from("| CPU per request, µs |");
    for scenario in &plain {
        let _ = write!(text, " {} |", scenario.scenario.title);
    }
    let _ = write!(text, "\n|---|{}\n", "---:|".repeat(plain.len()));
    for server in report.servers.iter().filter(|server| !server.only_at_work) {
        let cell = |scenario: &&ScenarioReport| {
            let outcome = scenario.outcomes.iter().find(|one| one.server == server.name)?;
            let value = short(outcome.value(figure::CPU)?.median);
            Some(match outcome.ratio(figure::CPU) {
                Some(ratio) => format!("{value} ({:.2}×)", ratio.median),
                None => value,
            })
        };
        let cells: Vec<Option<String>> = plain.iter().map(cell).collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let bold = if server.ours { "**" } else { "" };
        let _ = write!(text, "| {bold}{}{bold} |", server.name);
        for cell in cells {
            let _ = write!(text, " {bold}{}{bold} |", cell.as_deref().unwrap_or("–"));
        }
        text.push('\n');
    }
    let machine = &report.machine;
    let _ = write!(
        text,
        "\nMedians of {} rounds, and the ratio to a hand-written {} loop beside each run, on {}, {} cores, \
         Linux {}, commit {}.",
        report.rounds, report.base, machine.cpu, machine.cores, machine.kernel, machine.commit
    );
    text
}

/// Our server against what the project promises.
fn bars(page: &mut String, report: &Report) {
    let rows: Vec<String> = report
        .scenarios
        .iter()
        .flat_map(|scenario| {
            scenario.judged().into_iter().map(|judged| {
                format!(
                    "| {} | {} | {} | {} | {} |",
                    scenario.title(),
                    judged.what,
                    judged.measured,
                    judged.wanted,
                    judged.word()
                )
            })
        })
        .collect();
    if !rows.is_empty() {
        *page += "## Our server against its bars\n\n| scenario | figure | measured | wanted | |\n";
        let _ = writeln!(*page, "|---|---|---:|---|---|\n{}\n", rows.join("\n"));
    }
}

fn section(page: &mut String, scenario: &ScenarioReport) {
    let columns = columns(scenario);
    let _ = writeln!(
        page,
        "### {}\n\n{}.\n",
        capital(&scenario.scenario.title),
        capital(&scenario.manner())
    );
    let mut row = |cells: Vec<String>| {
        let _ = writeln!(page, "| {} |", cells.join(" | "));
    };
    row(columns.iter().map(|column| column.head()).collect());
    row(columns.iter().map(|c| if c.is_text() { "---" } else { "---:" }.to_owned()).collect());
    for outcome in scenario.outcomes.iter().filter(|outcome| !outcome.figures.is_empty()) {
        let bold = |column: &Column| match column.cell(scenario, outcome) {
            cell if outcome.ours && *column == Column::Server => format!("**{cell}**"),
            cell => cell,
        };
        row(columns.iter().map(bold).collect());
        if outcome.control {
            row(columns.iter().map(|column| column.control(outcome)).collect());
        }
    }
    page.push('\n');
    for outcome in &scenario.outcomes {
        for problem in outcome.problem.iter().chain(&outcome.probe.problems) {
            let _ = writeln!(page, "{}: {problem}\n", outcome.server);
        }
    }
}
