//! `cargo xtask bench --micro`: the criterion suites, and their tables in the READMEs.
//!
//! What stands between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` in a README is written here: a
//! table of every group of criterion whose name starts with NAME, or, where `benches/benches/NAME.rs`
//! knows `--paired` (its own rounds of runs side by side), what that prints.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cargo::{cargo, git};
use crate::process::{Echo, announce, run as step, watch};
use crate::workspace;

/// No suite takes longer.
const LIMIT: Duration = Duration::from_secs(60 * 60);
/// What two commits may differ by, beyond both intervals, before it is called worse: the suites run one
/// after the other, and a machine drifts.
const DRIFT: f64 = 1.05;

/// Runs everything, or what `args` (passed on to `cargo bench`) choose.
pub(super) fn run(args: &[String]) -> Result<()> {
    let mut command = bench();
    step("criterion suites", command.args(args))?;
    for readme in readmes()? {
        let text = fs::read_to_string(&readme)?;
        let mut updated = text.clone();
        for name in markers(&text) {
            let table = match paired(&name)? {
                Some(table) => table,
                None => match tables(&measured(&criterion_dir(), "new")?, &name) {
                    Some(tables) => tables + &provenance()?,
                    None => {
                        eprintln!("{}: nothing was measured for {name}", readme.display());
                        continue;
                    }
                },
            };
            updated = replace(&updated, &name, &table)?;
        }
        if updated != text {
            fs::write(&readme, updated)?;
            eprintln!("updated {}", readme.display());
        }
    }
    Ok(())
}

/// Compares the suites at `tree` with those here.
pub(super) fn compare(tree: &Path) -> Result<()> {
    let home = criterion_dir();
    let run = |title: &str, dir: &Path, baseline: &str| {
        let mut command = bench();
        command.current_dir(dir).env("CRITERION_HOME", &home);
        step(title, command.args(["--", "--save-baseline", baseline]))
    };
    run("criterion suites before", tree, "before")?;
    run("criterion suites after", workspace::root(), "after")?;
    let (before, after) = (measured(&home, "before")?, measured(&home, "after")?);
    let mut worse = Vec::new();
    for (key, new) in &after {
        let Some(old) = before.get(key) else { continue };
        if new.low > old.high * DRIFT {
            let ratio = new.median / old.median;
            worse.push(format!(
                "{}: {} → {} ({ratio:.2})",
                key.join("/"),
                time(old.median),
                time(new.median)
            ));
        }
    }
    if !worse.is_empty() {
        bail!("worse beyond the noise:\n  {}", worse.join("\n  "));
    }
    println!("none of {} measurements got worse beyond the noise", after.len());
    Ok(())
}

/// The peers that need nothing but Rust take part.
fn bench() -> std::process::Command {
    cargo(["bench", "-p", "benches", "--benches", "--features", "peers"])
}

fn criterion_dir() -> PathBuf {
    workspace::root().join("target/criterion")
}

/// One measurement of criterion, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Measured {
    median: f64,
    low: f64,
    high: f64,
}

/// Group, function and parameter.
type Key = [String; 3];

/// Everything measured under a name (`new` is the latest).
fn measured(dir: &Path, name: &str) -> Result<BTreeMap<Key, Measured>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                if path.file_name().is_some_and(|last| last == name) {
                    found.extend(one(&path)?);
                } else {
                    dirs.push(path);
                }
            }
        }
    }
    Ok(found)
}

fn one(dir: &Path) -> Result<Option<(Key, Measured)>> {
    let read = |name: &str| -> Result<Option<Value>> {
        let path = dir.join(name);
        if !path.is_file() {
            return Ok(None);
        }
        let value = serde_json::from_str(&fs::read_to_string(&path)?);
        value.with_context(|| path.display().to_string()).map(Some)
    };
    let (Some(about), Some(estimates)) = (read("benchmark.json")?, read("estimates.json")?) else {
        return Ok(None);
    };
    let text = |name: &str| about[name].as_str().unwrap_or_default().to_owned();
    let median = &estimates["median"];
    let bound = |name: &str| median["confidence_interval"][name].as_f64().unwrap_or(f64::NAN);
    let measured = Measured {
        median: median["point_estimate"].as_f64().context("an estimate without a median")?,
        low: bound("lower_bound"),
        high: bound("upper_bound"),
    };
    Ok(Some(([text("group_id"), text("function_id"), text("value_str")], measured)))
}

/// A table for each group whose name starts with `name`.
fn tables(measured: &BTreeMap<Key, Measured>, name: &str) -> Option<String> {
    let belongs = |group: &str| {
        let rest = group.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['_', '/']))
    };
    let mut groups: Vec<&String> = measured.keys().map(|key| &key[0]).collect();
    groups.dedup();
    let mut text = String::new();
    for group in groups.into_iter().filter(|group| belongs(group)) {
        text += &table(measured, group);
    }
    (!text.is_empty()).then_some(text)
}

/// Functions down, parameters across.
fn table(measured: &BTreeMap<Key, Measured>, group: &str) -> String {
    let of_group = || measured.iter().filter(|(key, _)| key[0] == group);
    let mut functions: Vec<&str> = of_group().map(|(key, _)| &*key[1]).collect();
    functions.dedup();
    let mut parameters: Vec<&str> = of_group().map(|(key, _)| &*key[2]).collect();
    parameters.sort_by_key(|parameter| size(parameter));
    parameters.dedup();
    let title = group.replace(['_', '/'], " ");
    let heads: Vec<&str> =
        parameters.iter().map(|one| if one.is_empty() { "time" } else { one }).collect();
    let mut text =
        format!("| {title} | {} |\n|---|{}\n", heads.join(" | "), "---:|".repeat(heads.len()));
    for function in functions {
        let cells: Vec<String> = parameters
            .iter()
            .map(|parameter| {
                let key = [group.to_owned(), function.to_owned(), (*parameter).to_owned()];
                measured.get(&key).map_or_else(|| "–".to_owned(), |one| time(one.median))
            })
            .collect();
        text += &format!("| {function} | {} |\n", cells.join(" | "));
    }
    text + "\n"
}

/// Orders `64B` before `1KiB` before `1MiB`, and numbers by their value.
fn size(text: &str) -> (u64, String) {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let unit = match text[digits.len()..].trim().chars().next() {
        Some('K' | 'k') => 1 << 10,
        Some('M') => 1 << 20,
        Some('G') => 1 << 30,
        _ => 1,
    };
    (digits.parse::<u64>().unwrap_or(0) * unit, text.to_owned())
}

/// Nanoseconds in the unit a person would choose.
fn time(nanos: f64) -> String {
    let (value, unit) = match nanos {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    match value {
        v if v < 10.0 => format!("{v:.2} {unit}"),
        v if v < 100.0 => format!("{v:.1} {unit}"),
        v => format!("{v:.0} {unit}"),
    }
}

/// Where the numbers above come from.
fn provenance() -> Result<String> {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |line: &str| line.split_once(':').map(|(_, value)| value.trim().to_owned());
    let cpu = info.lines().find(|line| line.starts_with("model name")).and_then(field);
    let cores = std::thread::available_parallelism()?;
    let cpu = cpu.unwrap_or_else(|| "an unnamed CPU".to_owned());
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|_| "unknown".to_owned());
    Ok(format!("Medians on {cpu}, {cores} cores, commit {commit}: `cargo xtask bench --micro`.\n"))
}

/// What a suite prints under `--paired`, if it knows it.
fn paired(name: &str) -> Result<Option<String>> {
    let source = workspace::root().join("benches/benches").join(name).with_extension("rs");
    if !fs::read_to_string(source).is_ok_and(|text| text.contains("\"--paired\"")) {
        return Ok(None);
    }
    let mut command = bench();
    command.args(["--bench", name, "--", "--paired"]);
    announce(&format!("{name}, side by side"), &command);
    let outcome = watch(&mut command, LIMIT, Echo::Through)?;
    ensure!(outcome.success, "{name} --paired failed");
    let rows: Vec<&str> = outcome.output.lines().filter(|line| line.starts_with('|')).collect();
    if rows.is_empty() {
        eprintln!("{name} --paired printed no table: taking criterion's figures");
        return Ok(None);
    }
    Ok(Some(format!("{}\n\n{}", rows.join("\n"), provenance()?)))
}

fn readmes() -> Result<Vec<PathBuf>> {
    let mut paths = vec![workspace::root().join("README.md")];
    paths.extend(workspace::crates()?.into_iter().map(|krate| krate.dir.join("README.md")));
    paths.retain(|path| path.is_file());
    Ok(paths)
}

/// The names of the places for numbers.
fn markers(text: &str) -> Vec<String> {
    let names = text.lines().filter_map(|line| {
        line.trim().strip_prefix("<!-- bench:")?.strip_suffix(" -->").map(str::to_owned)
    });
    names.collect()
}

/// Puts `table` between the markers of `name`.
fn replace(text: &str, name: &str, table: &str) -> Result<String> {
    let (open, close) = (format!("<!-- bench:{name} -->"), format!("<!-- /bench:{name} -->"));
    let start = text.find(&open).with_context(|| format!("no {open}"))? + open.len();
    let end = text[start..].find(&close).with_context(|| format!("no {close}"))? + start;
    Ok(format!("{}\n{}\n{}", &text[..start], table.trim_end(), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurements() -> BTreeMap<Key, Measured> {
        let one = |group: &str, function: &str, value: &str, median: f64| {
            let key = [group, function, value].map(str::to_owned);
            (key, Measured { median, low: median, high: median })
        };
        BTreeMap::from([
            one("mcache_one", "mcache", "1KiB", 12.34),
            one("mcache_one", "mcache", "64B", 5.0),
            one("mcache_one", "system", "64B", 1234.0),
            one("mcaches", "other", "", 1.0),
        ])
    }

    #[test]
    fn a_group_becomes_a_table() {
        let text = tables(&measurements(), "mcache").unwrap();
        assert_eq!(
            text,
            "| mcache one | 64B | 1KiB |\n|---|---:|---:|\n\
             | mcache | 5.00 ns | 12.3 ns |\n| system | 1.23 µs | – |\n\n"
        );
        assert!(tables(&measurements(), "gopool").is_none());
    }

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let text = "a\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nb\n";
        assert_eq!(markers(text), ["x"]);
        let new = replace(text, "x", "| new |\n\n").unwrap();
        assert_eq!(new, "a\n<!-- bench:x -->\n| new |\n<!-- /bench:x -->\nb\n");
        assert_eq!(replace(&new, "x", "| new |").unwrap(), new);
        assert!(replace("a\n<!-- bench:x -->\n", "x", "").is_err());
    }

    #[test]
    fn times_are_readable() {
        let cases = [(1.234, "1.23 ns"), (99.96, "100.0 ns"), (123.4, "123 ns"), (2.5e9, "2.50 s")];
        for (nanos, text) in cases {
            assert_eq!(time(nanos), text);
        }
    }
}
