//! `cargo xtask test`: the tests of all crates, their documentation's, then the loom models.
//!
//! Tests that judge time live in integration tests whose name starts with `timing`. They run alone:
//! `.config/nextest.toml` gives them every slot, and `cargo test` gets them in a call of their own.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::cargo::{cargo, has_subcommand};
use crate::flags::{self, Runner};
use crate::loom;
use crate::process::{Counts, Echo, announce, watch};
use crate::workspace;

/// No step takes longer than this, building included.
const LIMIT: Duration = Duration::from_secs(30 * 60);

pub(crate) fn run(options: &flags::Test) -> Result<()> {
    let package = resolve(options.package.as_deref())?;
    let mut session = Session { package, stress: false, counts: Counts::default(), failed: vec![] };
    let start = Instant::now();
    let installed = has_subcommand("nextest");
    match options.runner {
        Runner::Auto if installed => session.nextest()?,
        Runner::Auto | Runner::Cargo => session.libtest()?,
        Runner::Nextest => {
            ensure!(installed, "cargo-nextest is not installed");
            session.nextest()?;
        }
        Runner::Both => {
            match installed {
                true => session.nextest()?,
                false => {
                    eprintln!("cargo-nextest is not installed: `cargo test` alone runs the tests")
                }
            }
            session.libtest()?;
        }
    }
    session.doctests()?;
    if !options.no_loom {
        match loom::models(session.package.as_deref(), None) {
            Ok(counts) => session.counts += counts,
            Err(error) => session.failed.push(format!("loom models: {error:#}")),
        }
    }
    session.finish(start)
}

pub(crate) fn stress(options: &flags::Stress) -> Result<()> {
    let package = resolve(options.package.as_deref())?;
    let mut session = Session { package, stress: true, counts: Counts::default(), failed: vec![] };
    let start = Instant::now();
    match has_subcommand("nextest") {
        true => session.nextest()?,
        false => session.libtest()?,
    }
    session.finish(start)
}

/// The package that a user means by `name`, who may say `poller` for `netpoll-poller`.
fn resolve(name: Option<&str>) -> Result<Option<String>> {
    let Some(name) = name else { return Ok(None) };
    let crates = workspace::crates()?;
    let found = crates.iter().find(|one| one.is(name));
    Ok(Some(found.map_or(name, |one| &one.package).to_owned()))
}

#[derive(Debug)]
struct Session {
    package: Option<String>,
    stress: bool,
    counts: Counts,
    /// What failed so far: the rest runs all the same.
    failed: Vec<String>,
}

impl Session {
    fn step(&mut self, title: &str, args: &[String]) -> Result<()> {
        let mut command = cargo(args);
        if self.stress {
            command.env("NETPOLL_STRESS", "1");
        }
        announce(title, &command);
        let limit = if self.stress { 8 * LIMIT } else { LIMIT };
        let outcome = watch(&mut command, limit, Echo::Through)?;
        self.counts += outcome.counts;
        if outcome.timed_out {
            self.failed.push(format!("{title}: not done after {limit:?}"));
        } else if !outcome.success {
            self.failed.push(title.to_owned());
        }
        Ok(())
    }

    /// `-p PACKAGE`, or the workspace without the criterion suites, which are no tests.
    fn packages(&self) -> Vec<String> {
        let args: &[&str] = match &self.package {
            Some(package) => &["-p", package, "--all-features"],
            None => &["--workspace", "--exclude", "benches", "--all-features"],
        };
        args.iter().map(|arg| (*arg).to_owned()).collect()
    }

    fn nextest(&mut self) -> Result<()> {
        let mut args = strings(["nextest", "run", "--no-tests=pass"]);
        args.extend(self.packages());
        if self.stress {
            // Optimised, and with the debug assertions on.
            args.extend(strings(["--profile=stress", "--cargo-profile=loom"]));
        }
        self.step("tests (nextest)", &args)
    }

    fn libtest(&mut self) -> Result<()> {
        let mut packages = self.packages();
        if self.stress {
            packages.push("--profile=loom".to_owned());
        }
        // Tests start these as programs; `cargo test --examples` would build their test form only.
        let mut build = strings(["build", "--examples"]);
        build.extend(packages.clone());
        self.step("examples", &build)?;

        let tests = workspace::integration_tests(self.package.as_deref())?;
        let (timing, others): (Vec<_>, Vec<_>) =
            tests.into_iter().partition(|name| name.starts_with("timing"));
        let mut args = strings(["test", "--no-fail-fast"]);
        args.extend(packages.clone());
        args.extend(strings(["--lib", "--bins"]));
        args.extend(others.into_iter().map(|name| format!("--test={name}")));
        self.step("tests (cargo test)", &args)?;

        if !timing.is_empty() {
            let mut args = strings(["test", "--no-fail-fast"]);
            args.extend(packages);
            args.extend(timing.into_iter().map(|name| format!("--test={name}")));
            args.extend(strings(["--", "--test-threads=1"]));
            self.step("tests that judge time (cargo test)", &args)?;
        }
        Ok(())
    }

    fn doctests(&mut self) -> Result<()> {
        let mut args = strings(["test", "--doc", "--no-fail-fast"]);
        args.extend(self.packages());
        self.step("documentation tests", &args)?;
        if self.package.is_none() {
            // The README of the workspace is compiled there.
            self.step("the README", &strings(["test", "--doc", "-p", "benches"]))?;
        }
        Ok(())
    }

    fn finish(self, start: Instant) -> Result<()> {
        let Counts { passed, failed } = self.counts;
        eprintln!("\nall of it took {:.0?}", start.elapsed());
        println!("{passed} passed, {failed} failed");
        if !self.failed.is_empty() {
            bail!("failed: {}", self.failed.join("; "));
        }
        ensure!(passed > 0, "no test ran");
        Ok(())
    }
}

fn strings<const N: usize>(args: [&str; N]) -> Vec<String> {
    args.map(str::to_owned).into()
}
