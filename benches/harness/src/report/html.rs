//! The report as one page that needs nothing else.

use std::fmt::Write;

use super::svg::{self, Bar, Group, Line, Pair, escape};
use super::table::columns;
use super::{Outcome, Report, ScenarioReport, capital};
use crate::figure;
use crate::stats::Verdict;

const STYLE: &str = include_str!("style.css");

pub(super) fn page(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>\
         <meta name='viewport' content='width=device-width,initial-scale=1'>\
         <title>Netpoll bench</title><style>{STYLE}</style></head><body><main>\n"
    );
    head(&mut page, report);
    if let Some(plot) = report.main_plot() {
        card(&mut page, &plot);
    }
    bars(&mut page, report);
    disturbed(&mut page, report);
    latency(&mut page, report);
    details(&mut page, report);
    servers(&mut page, report);
    page + "</main></body></html>\n"
}

fn head(page: &mut String, report: &Report) {
    let machine = &report.machine;
    let _ = write!(
        page,
        "<h1>Framed echo, side by side</h1><p class='lead'>What a request costs, and how long it takes, \
         with Netpoll in Rust and with what others offer for the same job. Losses stand beside wins.</p>\
         <ul class='facts'><li>{}, {} cores, {:.0} GiB</li><li>Linux {}</li><li>{}</li><li>commit {}</li>\
         <li>{}</li><li>{} rounds of {} ms</li></ul>",
        escape(&machine.cpu),
        machine.cores,
        machine.memory_gib,
        escape(&machine.kernel),
        escape(&machine.rustc),
        escape(&machine.commit),
        escape(&machine.when),
        report.rounds,
        report.slice_ms,
    );
    for remark in &report.remarks {
        let _ = write!(page, "<p><b>Note:</b> {}</p>", escape(remark));
    }
}

fn card(page: &mut String, inside: &str) {
    let _ = write!(page, "<div class='card'>{inside}</div>");
}

/// What the project promises itself, and what came out.
fn bars(page: &mut String, report: &Report) {
    let mut rows = String::new();
    for scenario in &report.scenarios {
        for judged in scenario.judged() {
            let class = match judged.verdict {
                Verdict::Within => "kept",
                Verdict::Over => "missed",
                Verdict::Unresolved => "unresolved",
            };
            let _ = write!(
                rows,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class='{class}'>{class}</td></tr>",
                escape(&capital(&scenario.title())),
                escape(&judged.what),
                svg::whisker(judged.estimate, judged.bar.limit, judged.verdict),
                escape(&judged.measured),
                escape(&judged.wanted),
            );
        }
    }
    if rows.is_empty() {
        return;
    }
    *page += "<h2>Our server against its bars</h2><p class='soft'>The upright line is the limit, the dot the \
              median, the stripe the interval that holds the true median with 95 %. Where it straddles the \
              line, nothing is decided.</p>";
    card(
        page,
        &format!(
            "<table class='left'><tr><th>scenario</th><th>figure</th><th></th><th>measured</th>\
             <th>wanted</th><th></th></tr>{rows}</table>"
        ),
    );
}

/// Servers that are compared with themselves: what sleepers, burners and crowds do to the others.
fn disturbed(page: &mut String, report: &Report) {
    let wanted = ["block", "burn", "slow", "attack"];
    let mut plots = Vec::new();
    for scenario in report.scenarios.iter().filter(|one| wanted.contains(&one.scenario.id)) {
        for name in &scenario.scenario.heads {
            let pair = |outcome: &Outcome| {
                let figure = outcome.figures.get(name)?;
                Some(Pair {
                    label: outcome.server.clone(),
                    from: figure.beside?.median,
                    to: figure.value.median,
                    ours: outcome.ours,
                })
            };
            let pairs: Vec<Pair> = scenario.outcomes.iter().filter_map(pair).collect();
            if !pairs.is_empty() {
                let title =
                    format!("{}: {}", capital(&scenario.scenario.title), figure::title(name));
                plots.push(svg::pairs(&title, (&scenario.beside, "with them"), &pairs));
            }
        }
    }
    if plots.is_empty() {
        return;
    }
    *page += "<h2>When somebody else is slow</h2><p class='soft'>Some handlers sleep or burn CPU, or some \
              peers do their worst: what the other requests notice. Each server at half of its own peak \
              rate, with them and without them in turns.</p>";
    plots.iter().for_each(|plot| card(page, plot));
}

/// Latency over load, for each placement that has it.
fn latency(page: &mut String, report: &Report) {
    let mut placements: Vec<&ScenarioReport> = Vec::new();
    for scenario in &report.scenarios {
        if placements.iter().all(|one| one.placement != scenario.placement) {
            placements.push(scenario);
        }
    }
    let mut plots = Vec::new();
    for placement in placements {
        for (name, title) in [(figure::P50, "p50"), (figure::P99, "p99")] {
            let lines = latency_lines(report, placement.placement, name);
            if lines.iter().any(|line| line.points.len() > 1) {
                let title = format!("{title} latency over load, {}", placement.placement_title);
                plots.push(svg::lines(&title, "requests per second (open loop)", &lines));
            }
        }
    }
    if plots.is_empty() {
        return;
    }
    *page += "<h2>Latency over load</h2><p class='soft'>Requests are due at a fixed rate whatever the server \
              does, and latency counts from the moment a request was due.</p>";
    plots.iter().for_each(|plot| card(page, plot));
}

fn latency_lines(report: &Report, placement: &str, name: &str) -> Vec<Line> {
    let open: Vec<(f64, &ScenarioReport)> = report
        .scenarios
        .iter()
        .filter(|one| one.placement == placement)
        .filter_map(|one| Some((one.scenario.rate()?, one)))
        .collect();
    let line = |server: &super::super::contender::Contender| {
        let points = open.iter().filter_map(|(rate, scenario)| {
            let outcome = scenario.outcomes.iter().find(|one| one.server == server.name)?;
            Some((*rate, outcome.value(name)?.median))
        });
        Line { label: server.name.clone(), points: points.collect(), ours: server.ours }
    };
    report.servers.iter().map(line).filter(|line| !line.points.is_empty()).collect()
}

/// Every scenario with its bars and its whole table.
fn details(page: &mut String, report: &Report) {
    *page += "<h2>Every scenario</h2>";
    for scenario in &report.scenarios {
        let _ = write!(
            page,
            "<details open><summary>{} <span>· {} · {}</span></summary><div>",
            escape(&capital(&scenario.scenario.title)),
            escape(scenario.placement_title),
            escape(&scenario.manner())
        );
        for name in &scenario.scenario.heads {
            let bars = scenario.bars(name);
            let says = bars.iter().any(|bar| bar.kind != Bar::BASE);
            if says && !scenario.outcomes.iter().any(|outcome| outcome.control) {
                let side = if figure::less_is_better(name) { "less" } else { "more" };
                let title = format!(
                    "{}, relative to {} ({side} is better)",
                    figure::title(name),
                    scenario.beside
                );
                *page += &svg::bars(&title, &[Group { title: String::new(), bars }]);
            }
        }
        table(page, scenario);
        *page += "</div></details>";
    }
}

fn table(page: &mut String, scenario: &ScenarioReport) {
    let columns = columns(scenario);
    *page += "<table><tr>";
    for column in &columns {
        let class = if column.is_text() { "t" } else { "" };
        let _ = write!(page, "<th class='{class}'>{}</th>", escape(&column.head()));
    }
    *page += "</tr>";
    for outcome in scenario.outcomes.iter().filter(|outcome| !outcome.figures.is_empty()) {
        let _ = write!(page, "<tr class='{}'>", if outcome.ours { "ours" } else { "" });
        for column in &columns {
            let cell = column.cell(scenario, outcome);
            let class = match (&*cell, column.is_text()) {
                ("better" | "worse" | "unresolved", _) => &*cell,
                (_, true) => "",
                _ => "n",
            };
            let side = if column.is_text() { "t " } else { "" };
            let _ = write!(page, "<td class='{side}{class}'>{}</td>", escape(&cell));
        }
        *page += "</tr>";
        if outcome.control {
            *page += "<tr class='soft'>";
            for column in &columns {
                let class = if column.is_text() { "t" } else { "" };
                let cell = escape(&column.control(outcome));
                let _ = write!(page, "<td class='{class}'>{cell}</td>");
            }
            *page += "</tr>";
        }
    }
    *page += "</table>";
    for outcome in &scenario.outcomes {
        for problem in outcome.problem.iter().chain(&outcome.probe.problems) {
            let text = format!("{}: {problem}", outcome.server);
            let _ = write!(page, "<p class='soft'>{}</p>", escape(&text));
        }
    }
}

fn servers(page: &mut String, report: &Report) {
    let _ = write!(
        page,
        "<h2>How it was measured</h2><p>Each run is a process of its own, bound to its core and warmed up \
         for {} ms. A ratio is to what ran right before and right after it, so slow changes of the machine \
         cancel out. The number of rounds was fixed beforehand{}. Intervals come from order statistics and \
         assume nothing about the noise.</p><pre>{}</pre>",
        report.warm_ms,
        match report.peers_every {
            1 => String::new(),
            n => format!("; servers that are not ours took part in every {n}. of them"),
        },
        escape(&report.command),
    );
    *page += "<h2>How each server is configured</h2><p>All have TCP_NODELAY on, and answer what one read \
              brought with one write.</p>";
    let mut rows = String::new();
    for server in &report.servers {
        let configuration = server.problem.as_deref().unwrap_or(server.configuration);
        let command = server.command.as_deref().or(server.client.as_deref());
        let _ = write!(
            rows,
            "<tr class='{}'><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
            if server.ours { "ours" } else { "" },
            escape(&server.name),
            escape(configuration),
            escape(command.unwrap_or_default())
        );
    }
    card(
        page,
        &format!(
            "<table class='left'><tr><th>server</th><th>configuration</th><th>command</th></tr>{rows}</table>"
        ),
    );
}
