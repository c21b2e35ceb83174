//! `cargo xtask bench --check BASE`: what got worse since another commit, on this machine.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{harness, micro};
use crate::cargo::{cargo, git};
use crate::process::run as step;
use crate::workspace;

/// Scenarios that look at a server only; `--scenario` chooses others.
const SCENARIOS: &str = "--scenario=c1,c100,c1000,pipelined,large,burn-1ms,sleepers,churn";

/// Builds both servers and lets the harness compare them; with `micro`, the criterion suites too.
pub(super) fn run(base: &str, micro: bool, mut rest: Vec<String>) -> Result<()> {
    let commit = git(&["rev-parse", "--verify", &format!("{base}^{{commit}}")])?;
    let dir = workspace::root().join("target/check");
    fs::create_dir_all(&dir)?;
    let tree = dir.join("tree");
    checkout(&tree, &commit)?;

    let example = ["build", "--release", "-p", "netpoll", "--example", "echo_server"];
    let target = dir.join("build");
    step("the server before", cargo(example).current_dir(&tree).env("CARGO_TARGET_DIR", &target))?;
    let before = dir.join("before");
    fs::copy(target.join("release/examples/echo_server"), &before)?;
    step("the server after", cargo(example).env_remove("CARGO_TARGET_DIR"))?;
    let after = dir.join("after");
    fs::copy(workspace::root().join("target/release/examples/echo_server"), &after)?;

    let mut args: Vec<String> = [("before", &before), ("after", &after)]
        .map(|(name, path)| format!("--peer={name}={} --addr {{addr}} {{work}}", path.display()))
        .into();
    args.extend(
        ["--base=before", "--only=after", "--fail-if-worse", "--no-build", "--placement=one"]
            .map(str::to_owned),
    );
    if !rest.iter().any(|arg| arg.starts_with("--scenario")) {
        args.push(SCENARIOS.to_owned());
    }
    if !rest.iter().any(|arg| arg.starts_with("--out")) {
        args.push("--out=bench-report/check".to_owned());
    }
    args.append(&mut rest);
    let servers = harness(&args).context("the servers");
    let suites = if micro { micro::compare(&tree) } else { Ok(()) };
    servers.and(suites)
}

/// Puts the files of a commit at `tree`.
fn checkout(tree: &Path, commit: &str) -> Result<()> {
    let path = tree.to_string_lossy();
    if !tree.join("Cargo.toml").is_file() {
        git(&["worktree", "prune"])?;
        git(&["worktree", "add", "--detach", "--force", &path, commit])?;
    }
    git(&["-C", &path, "checkout", "--quiet", "--detach", commit])?;
    let at = git(&["-C", &path, "rev-parse", "HEAD"])?;
    ensure!(at == commit, "{path} is at {at}");
    Ok(())
}
