//! The report as one page that needs nothing else.

use std::fmt::Write;

use super::svg::{self, Group, Line, escape};
use super::table::columns;
use super::{Report, ScenarioReport};
use crate::figure;
use crate::stats::Verdict;

const STYLE: &str = "
:root{color-scheme:light dark;--line:#d0d7de;--soft:#57606a;--ours:#ddf4ff;--good:#1a7f37;--bad:#cf222e}
@media(prefers-color-scheme:dark){:root{--line:#3d444d;--soft:#9198a1;--ours:#0c2d6b;--good:#3fb950;--bad:#f85149}}
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:.2rem}h2{margin-top:3rem;border-bottom:1px solid var(--line);padding-bottom:.3rem}
h3{margin-top:2.2rem}.soft,.soft td{color:var(--soft)}code,pre{font:13px ui-monospace,monospace}
pre{overflow-x:auto;padding:.7rem;border:1px solid var(--line);border-radius:6px}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}td,th{padding:.25rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
td:first-child,th:first-child,.left td,.left th{text-align:left;white-space:normal}
tr.ours{background:var(--ours);font-weight:600}.better{color:var(--good)}.worse{color:var(--bad)}
svg{max-width:100%;height:auto}ul.verdicts{padding-left:1.2rem}";

pub(super) fn page(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>\
         <meta name='viewport' content='width=device-width,initial-scale=1'>\
         <title>Netpoll bench</title><style>{STYLE}</style></head><body>\n<h1>Netpoll bench</h1>\n"
    );
    head(&mut page, report);
    if let Some(plot) = report.main_plot() {
        page += &plot;
    }
    latency(&mut page, report);
    for scenario in &report.scenarios {
        section(&mut page, scenario);
    }
    servers(&mut page, report);
    page + "</body></html>\n"
}

fn head(page: &mut String, report: &Report) {
    let machine = &report.machine;
    let _ = write!(
        page,
        "<p class='soft'>{} · {} cores · {:.0} GiB · Linux {} · {}<br>commit {} · {}</p>\
         <pre>{}</pre><p>Each figure is the median of {} rounds of {} ms, each in a process of its own, \
         after {} ms of warming up. Ratios are to what ran right before and right after (<b>{}</b>, if \
         nothing else is said); intervals hold the true median with 95 %. Where an interval contains 1.00, nothing is \
         said.</p>",
        escape(&machine.cpu),
        machine.cores,
        machine.memory_gib,
        escape(&machine.kernel),
        escape(&machine.rustc),
        escape(&machine.commit),
        escape(&machine.when),
        escape(&report.command),
        report.rounds,
        report.slice_ms,
        report.warm_ms,
        escape(&report.base),
    );
    for remark in &report.remarks {
        let _ = write!(page, "<p><b>Note:</b> {}</p>", escape(remark));
    }
    let verdicts = report.verdicts();
    if !verdicts.is_empty() {
        *page += "<ul class='verdicts'>";
        for (text, verdict) in verdicts {
            let class = match verdict {
                Verdict::Within => "better",
                Verdict::Over => "worse",
                Verdict::Unresolved => "soft",
            };
            let _ = write!(page, "<li class='{class}'>{}</li>", escape(&text));
        }
        *page += "</ul>";
    }
}

/// Latency over load, for each placement that has it.
fn latency(page: &mut String, report: &Report) {
    let mut placements: Vec<&ScenarioReport> = Vec::new();
    for scenario in &report.scenarios {
        if placements.iter().all(|one| one.placement != scenario.placement) {
            placements.push(scenario);
        }
    }
    for placement in placements {
        for (name, title) in [(figure::P50, "p50"), (figure::P99, "p99")] {
            let lines = latency_lines(report, placement.placement, name);
            if lines.iter().any(|line| line.points.len() > 1) {
                let title = format!("{title} latency over load, {}", placement.placement_title);
                *page += &svg::lines(&title, "requests per second (open loop)", "µs", &lines);
            }
        }
    }
}

fn latency_lines(report: &Report, placement: &str, name: &str) -> Vec<Line> {
    let open: Vec<(f64, &ScenarioReport)> = report
        .scenarios
        .iter()
        .filter(|one| one.placement == placement && !one.scenario.works())
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

fn section(page: &mut String, scenario: &ScenarioReport) {
    let _ = write!(
        page,
        "<h2>{} <span class='soft'>· {}</span></h2>",
        escape(&scenario.scenario.title),
        escape(scenario.placement_title)
    );
    for name in &scenario.scenario.heads {
        let bars = scenario.bars(name);
        if bars.len() > 1 || (bars.len() == 1 && scenario.outcomes[0].control) {
            let side = if figure::less_is_better(name) { "less" } else { "more" };
            let title = format!(
                "{}, relative to {} ({side} is better)",
                figure::title(name),
                scenario.beside
            );
            *page += &svg::bars(&title, &[Group { title: String::new(), bars }]);
        }
    }
    let columns = columns(scenario);
    *page += "<div class='wide'><table><tr>";
    for column in &columns {
        let _ = write!(page, "<th>{}</th>", escape(&column.head()));
    }
    *page += "</tr>";
    for outcome in scenario.outcomes.iter().filter(|outcome| !outcome.figures.is_empty()) {
        let _ = write!(page, "<tr class='{}'>", if outcome.ours { "ours" } else { "" });
        for column in &columns {
            let cell = column.cell(scenario, outcome);
            let class = if matches!(&*cell, "better" | "worse") { &*cell } else { "" };
            let _ = write!(page, "<td class='{class}'>{}</td>", escape(&cell));
        }
        *page += "</tr>";
        if outcome.control {
            *page += "<tr class='soft'>";
            for column in &columns {
                let _ = write!(page, "<td>{}</td>", escape(&column.control(outcome)));
            }
            *page += "</tr>";
        }
    }
    *page += "</table></div>";
    for outcome in &scenario.outcomes {
        let problems = outcome.problem.iter().chain(&outcome.probe.problems);
        for problem in problems {
            let text = format!("{}: {problem}", outcome.server);
            let _ = write!(page, "<p class='soft'>{}</p>", escape(&text));
        }
    }
}

fn servers(page: &mut String, report: &Report) {
    *page += "<h2>How each server is configured</h2><p>All have TCP_NODELAY on, and answer what one read \
              brought with one write.</p><div class='wide'><table class='left'><tr><th>server</th>\
              <th>configuration</th><th>command</th></tr>";
    for server in &report.servers {
        let configuration = server.problem.as_deref().unwrap_or(server.configuration);
        let _ = write!(
            page,
            "<tr class='{}'><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
            if server.ours { "ours" } else { "" },
            escape(&server.name),
            escape(configuration),
            escape(server.command.as_deref().unwrap_or_default())
        );
    }
    *page += "</table></div>";
}
