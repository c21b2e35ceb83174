//! How the other commands call cargo, and git.

use std::env;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// `cargo ARGS`, in the root of the workspace.
pub(crate) fn cargo<I, S>(args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<str>,
{
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root());
    // Cargo describes xtask itself to us; what we start is about other packages.
    for (name, _) in env::vars_os() {
        let described = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if described {
            command.env_remove(name);
        }
    }
    for arg in args {
        command.arg(arg.as_ref());
    }
    command
}

/// `RUSTFLAGS` of the environment, and `more`.
pub(crate) fn rustflags(more: &str) -> String {
    match env::var("RUSTFLAGS") {
        Ok(given) if !given.is_empty() => format!("{given} {more}"),
        _ => more.to_owned(),
    }
}

/// Whether the subcommand `cargo NAME` is installed.
pub(crate) fn has_subcommand(name: &str) -> bool {
    cargo([name, "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// What `git ARGS` prints, in the root of the workspace.
pub(crate) fn git(args: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .args(args)
        .current_dir(workspace::root())
        .stdin(Stdio::null())
        .output()
        .context("git")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {}: {}", args.join(" "), complaint.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
