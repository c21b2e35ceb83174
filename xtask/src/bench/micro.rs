//! `cargo xtask bench --micro`: the criterion suites, and their tables in the READMEs.
//!
//! What stands between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` in a README is written here: a
//! table of the groups of criterion whose name starts with NAME, or, where `benches/benches/NAME.rs`
//! knows `--paired` (its own rounds of runs side by side), the table that it prints then.

mod tables;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::markers;
use crate::cargo::{cargo, git};
use crate::process::{Echo, announce, run as step, watch};
use crate::workspace;

/// No suite takes longer.
const LIMIT: Duration = Duration::from_secs(60 * 60);
/// What two commits may differ by, beyond both intervals, before it is called worse: the suites run one
/// after the other, and a machine drifts.
const DRIFT: f64 = 1.05;

/// Runs all suites, or those that `names` choose, and writes their tables.
pub(super) fn run(names: &[String]) -> Result<()> {
    let all = suites()?;
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        bail!("there is no suite {unknown}, only {}", all.join(", "));
    }
    let chosen: Vec<&String> =
        all.iter().filter(|name| names.is_empty() || names.contains(name)).collect();
    let mut printed = BTreeMap::new();
    for suite in &chosen {
        match knows_paired(suite) {
            true => drop(printed.insert((*suite).clone(), paired(suite)?)),
            false => step(suite, bench(workspace::root()).args(["--bench", suite]))?,
        }
    }
    let measured = measured(&criterion_dir(), "new")?;
    for readme in readmes()? {
        let text = fs::read_to_string(&readme)?;
        let mut updated = text.clone();
        for name in markers::names(&text) {
            if !chosen.iter().any(|suite| name.starts_with(&***suite)) {
                continue;
            }
            let table = printed.get(&name).cloned().or_else(|| tables::of(&measured, &name));
            match table {
                Some(table) => {
                    updated = markers::replace(&updated, &name, &(table + &provenance()?))?;
                }
                None => eprintln!("{}: nothing was measured for {name}", readme.display()),
            }
        }
        if updated != text {
            fs::write(&readme, updated)?;
            eprintln!("updated {}", readme.display());
        }
    }
    Ok(())
}

/// The suites there are, by name.
fn suites() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(workspace::root().join("benches/benches"))? {
        let path = entry?.path();
        if let (Some("rs"), Some(name)) =
            (path.extension().and_then(|e| e.to_str()), path.file_stem().and_then(|n| n.to_str()))
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Compares the suites at `tree` with those here.
pub(super) fn compare(tree: &Path) -> Result<()> {
    let home = criterion_dir();
    let run = |title: &str, dir: &Path, baseline: &str| {
        let mut command = bench(dir);
        command.env("CRITERION_HOME", &home);
        step(title, command.args(["--benches", "--", "--save-baseline", baseline]))
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
                tables::time(old.median),
                tables::time(new.median)
            ));
        }
    }
    if !worse.is_empty() {
        bail!("worse beyond the noise:\n  {}", worse.join("\n  "));
    }
    println!("none of {} measurements got worse beyond the noise", after.len());
    Ok(())
}

/// The peers take part, those in C where there is a compiler for it.
fn bench(dir: &Path) -> Command {
    let mut cc = Command::new("cc");
    cc.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    let features =
        if cc.status().is_ok_and(|status| status.success()) { "c-peers" } else { "peers" };
    let mut command = cargo(["bench", "-p", "benches", "--features", features]);
    command.current_dir(dir);
    command
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

fn knows_paired(suite: &str) -> bool {
    let source = workspace::root().join("benches/benches").join(suite).with_extension("rs");
    fs::read_to_string(source).is_ok_and(|text| text.contains("\"--paired\""))
}

/// The table that a suite prints under `--paired`.
fn paired(suite: &str) -> Result<String> {
    let mut command = bench(workspace::root());
    command.args(["--bench", suite, "--", "--paired"]);
    announce(&format!("{suite}, side by side"), &command);
    let outcome = watch(&mut command, LIMIT, Echo::Through)?;
    ensure!(outcome.success, "{suite} --paired failed");
    let rows: Vec<&str> = outcome.output.lines().filter(|line| line.starts_with('|')).collect();
    ensure!(rows.len() > 2, "{suite} --paired printed no table");
    Ok(rows.join("\n") + "\n\n")
}

fn readmes() -> Result<Vec<PathBuf>> {
    let mut paths = vec![workspace::root().join("README.md")];
    paths.extend(workspace::crates()?.into_iter().map(|krate| krate.dir.join("README.md")));
    paths.retain(|path| path.is_file());
    Ok(paths)
}
