//! `cargo xtask instructions`: how many instructions the hot paths take, counted by callgrind.
//!
//! Instructions do not depend on who else uses the machine, but they do on the compiler and on libc. So
//! the baseline names both, and is a gate only where they are the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::cargo::cargo;
use crate::process::{Echo, run as step, watch};
use crate::workspace;

/// The paths of `benches/src/bin/instructions.rs`: how often they run, and by how many per cent they may
/// grow. Where threads take turns, the count is not the same twice.
const PATHS: [(&str, u64, f64); 6] = [
    ("malloc-free", 50_000, 1.0),
    ("frame-write", 20_000, 1.0),
    ("frame-read", 20_000, 1.0),
    ("slice", 20_000, 1.0),
    ("echo", 20_000, 1.0),
    ("dispatch", 2000, 10.0),
];
/// For one run under callgrind.
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn run(save: bool) -> Result<()> {
    if !has_valgrind() {
        println!("valgrind is not installed: nothing is counted, and nothing is gated");
        return Ok(());
    }
    let build = ["build", "--release", "-p", "benches", "--bin", "instructions"];
    step("the hot paths", cargo(build).env_remove("CARGO_TARGET_DIR"))?;
    let now = Counts { compiler: compiler()?, libc: libc()?, paths: count()? };
    let file = workspace::root().join("benches/instructions.json");
    if save {
        fs::write(&file, now.to_json()?)?;
        println!("{} is the baseline now", file.display());
    }
    let before = match fs::read_to_string(&file) {
        Ok(text) => Some(Counts::parse(&text)?),
        Err(_) => None,
    };
    compare(before.as_ref(), &now)
}

/// Instructions per call, and what they depend on.
#[derive(Debug, PartialEq)]
struct Counts {
    compiler: String,
    libc: String,
    paths: BTreeMap<String, f64>,
}

impl Counts {
    fn to_json(&self) -> Result<String> {
        let value =
            json!({ "compiler": self.compiler, "libc": self.libc, "instructions": self.paths });
        Ok(serde_json::to_string_pretty(&value)? + "\n")
    }

    fn parse(text: &str) -> Result<Counts> {
        let value: Value = serde_json::from_str(text).context("the baseline")?;
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let paths = value["instructions"].as_object().context("a baseline without instructions")?;
        let paths = paths.iter().filter_map(|(name, count)| Some((name.clone(), count.as_f64()?)));
        Ok(Counts { compiler: text("compiler"), libc: text("libc"), paths: paths.collect() })
    }
}

fn compare(before: Option<&Counts>, now: &Counts) -> Result<()> {
    let mut worse = Vec::new();
    println!("{:<14} {:>12} {:>12}", "per call", "baseline", "now");
    for (name, _, tolerance) in PATHS {
        let Some(count) = now.paths.get(name) else { continue };
        let old = before.and_then(|before| before.paths.get(name));
        let shown = old.map_or_else(|| "–".to_owned(), |old| format!("{old:.1}"));
        let change = old.map_or(0.0, |old| (count / old - 1.0) * 100.0);
        println!("{name:<14} {shown:>12} {count:>12.1}   {change:+.1} %");
        if change > tolerance {
            worse.push(format!("{name} by {change:.1} %"));
        }
    }
    let Some(before) = before else {
        println!("there is no baseline, so nothing is gated; --save makes one");
        return Ok(());
    };
    if (&before.compiler, &before.libc) != (&now.compiler, &now.libc) {
        println!(
            "the baseline was made with {} and {}, this is {} and {}: nothing is gated",
            before.compiler, before.libc, now.compiler, now.libc
        );
        return Ok(());
    }
    if !worse.is_empty() {
        bail!("more instructions than the baseline: {}", worse.join(", "));
    }
    println!("none takes more than the baseline allows");
    Ok(())
}

/// Instructions per call: two runs, so that what happens once does not count.
fn count() -> Result<BTreeMap<String, f64>> {
    let program = workspace::root().join("target/release/instructions");
    let out = workspace::root().join("target/callgrind.out");
    let mut counts = BTreeMap::new();
    for (name, calls, _) in PATHS {
        let few = callgrind(&program, &out, name, calls)?;
        let many = callgrind(&program, &out, name, 3 * calls)?;
        counts.insert(name.to_owned(), many.saturating_sub(few) as f64 / (2 * calls) as f64);
    }
    Ok(counts)
}

fn callgrind(program: &Path, out: &PathBuf, path: &str, calls: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args([path, &calls.to_string()]);
    let outcome = watch(&mut command, LIMIT, Echo::Quiet)?;
    ensure!(outcome.success, "{path} under callgrind failed:\n{}", outcome.output);
    total(&fs::read_to_string(out)?)
        .with_context(|| format!("callgrind counted nothing for {path}"))
}

/// The sum in a file of callgrind's.
fn total(text: &str) -> Option<u64> {
    let line = |name: &str| text.lines().rev().find_map(|line| line.strip_prefix(name));
    line("totals:").or_else(|| line("summary:"))?.split_whitespace().next()?.parse().ok()
}

fn has_valgrind() -> bool {
    let mut command = Command::new("valgrind");
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn compiler() -> Result<String> {
    let output = Command::new("rustc").arg("--version").output().context("rustc")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn libc() -> Result<String> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().context("getconf")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(compiler: &str, count: f64) -> Counts {
        Counts {
            compiler: compiler.to_owned(),
            libc: "glibc 2.36".to_owned(),
            paths: BTreeMap::from([("slice".to_owned(), count)]),
        }
    }

    #[test]
    fn the_gate_closes_only_for_the_same_compiler() {
        let before = counts("rustc 1", 100.0);
        assert!(compare(Some(&before), &counts("rustc 1", 100.9)).is_ok());
        assert!(compare(Some(&before), &counts("rustc 1", 102.0)).is_err());
        assert!(compare(Some(&before), &counts("rustc 2", 102.0)).is_ok());
        assert!(compare(None, &before).is_ok());
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let counts = counts("rustc 1", 123.5);
        assert_eq!(Counts::parse(&counts.to_json().unwrap()).unwrap(), counts);
    }

    #[test]
    fn the_sum_is_found() {
        assert_eq!(total("events: Ir\nsummary: 12\nfn=x\n1 2\ntotals: 34\n"), Some(34));
        assert_eq!(total("events: Ir\nsummary: 12\n"), Some(12));
        assert_eq!(total(""), None);
    }
}
