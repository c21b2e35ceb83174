//! Reports of made-up measurements.

use super::*;
use crate::scenario;

fn figure(values: &[f64], base: &[f64]) -> Figure {
    Figure::new(Estimate::of(values).unwrap(), values.to_vec(), base)
}

fn outcome(server: &str, ours: bool, cpu: &[f64], base: &[f64]) -> Outcome {
    Outcome {
        server: server.to_owned(),
        ours,
        control: false,
        figures: BTreeMap::from([
            (figure::CPU, self::figure(cpu, base)),
            (figure::P99, self::figure(cpu, base)),
        ]),
        probe: Probe::default(),
        problem: None,
    }
}

fn report() -> Report {
    let base = [10.0; 8];
    let (all, _) = scenario::all(20_000);
    let known = crate::contender::known();
    let scenarios = all
        .into_iter()
        .filter(|scenario| ["c100", "open-2k", "open-10k"].contains(&scenario.id))
        .map(|scenario| {
            let broken = outcome("mio", false, &base, &base).problem_only("it <fell> over");
            ScenarioReport {
                scenario,
                beside: "epoll".to_owned(),
                placement: "one",
                placement_title: "server on one core",
                outcomes: vec![
                    outcome("epoll", false, &base, &[]),
                    outcome("netpoll", true, &[12.0; 8], &base),
                    outcome("tokio", false, &[9.0, 11.0, 9.0, 11.0, 9.0, 11.0, 9.0, 11.0], &base),
                    broken,
                ],
            }
        })
        .collect();
    Report {
        machine: Machine::look(Path::new("/"), 2),
        command: "cargo xtask bench".to_owned(),
        base: "epoll".to_owned(),
        rounds: 8,
        slice_ms: 1,
        warm_ms: 1,
        peers_every: 1,
        remarks: vec!["scaled".to_owned()],
        servers: known,
        scenarios,
    }
}

impl Outcome {
    fn problem_only(self, problem: &str) -> Outcome {
        Outcome { figures: BTreeMap::new(), problem: Some(problem.to_owned()), ..self }
    }
}

#[test]
fn numbers_are_short_and_readable() {
    let cases = [
        (0.0, "0.00"),
        (0.1234, "0.12"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (123.4, "123"),
        (999.6, "1,000"),
        (1_234_567.0, "1,234,567"),
        (f64::NAN, "–"),
    ];
    for (value, text) in cases {
        assert_eq!(short(value), text);
    }
}

#[test]
fn words_follow_the_intervals() {
    let report = report();
    let outcomes = &report.scenarios[0].outcomes;
    let words: Vec<_> = outcomes.iter().map(|outcome| outcome.word(figure::CPU)).collect();
    assert_eq!(words, ["", "worse", "unresolved", ""]);
    let judged = report.scenarios[0].judged();
    assert_eq!(judged.len(), 1);
    assert_eq!(
        judged[0].to_string(),
        "MISSED: CPU per request: 1.200 (1.200 to 1.200) ×, wanted at most 1.03 ×, interval to 1.06"
    );
}

#[test]
fn a_table_has_every_server_and_every_problem() {
    let report = report();
    let text = table::table(&report.scenarios[0]);
    for part in ["base", "netpoll", "1.200–1.200", "worse", "mio: it <fell> over"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn a_page_stands_alone() {
    let page = html::page(&report());
    assert!(page.contains("p99 latency over load"));
    assert!(page.contains("it &lt;fell&gt; over"));
    // Nothing is loaded from anywhere; the name of the format is no address.
    let rest = page.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http:", "https:", "<script", "<link", "src=", "url("] {
        assert!(!rest.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert!(!page.contains("NaN"));
}

#[test]
fn markdown_has_a_part_for_the_readme() {
    let page = markdown::page(&report());
    let (_, rest) = page.split_once("<!-- bench:servers -->").unwrap();
    let (part, _) = rest.split_once("<!-- /bench:servers -->").unwrap();
    assert!(part.contains("| **netpoll** | **12.0 (1.20×)** |"), "{part}");
    assert!(page.contains("| 100 connections, 1 KiB | CPU per request | 1.200"), "{page}");
}

#[test]
fn a_report_is_written() {
    let dir = std::env::temp_dir().join(format!("netpoll-report-{}", std::process::id()));
    report().write(&dir).unwrap();
    let json = fs::read_to_string(dir.join("report.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["scenarios"][0]["outcomes"][1]["figures"]["cpu_us"]["ratio"]["median"], 1.2);
    assert!(fs::read_to_string(dir.join("cpu.svg")).unwrap().starts_with("<svg"));
    fs::remove_dir_all(dir).unwrap();
}
