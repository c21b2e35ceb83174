//! `cargo xtask bench`: hands over to the harness, runs the criterion suites, compares two commits, or
//! makes the report that the repository keeps.
//!
//! The harness is a package of its own (`benches/harness`), so that what it needs is built only here.

mod check;
mod markers;
mod micro;
mod publish;

use anyhow::{Context, Result, bail};

use crate::cargo::cargo;

/// `--micro`, `--check BASE` and `--publish` are ours; everything else is the harness's.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut rest = args.to_vec();
    let micro = take(&mut rest, "--micro");
    let publish = take(&mut rest, "--publish");
    match (take_value(&mut rest, "--check")?, micro, publish) {
        (Some(base), _, false) => check::run(&base, micro, rest),
        (None, true, false) => micro::run(&rest),
        (None, false, true) => publish::run(&rest),
        (None, false, false) => harness(&rest),
        _ => bail!("--publish stands alone"),
    }
}

/// Removes a flag; says whether it was there.
fn take(args: &mut Vec<String>, flag: &str) -> bool {
    let before = args.len();
    args.retain(|arg| arg != flag);
    args.len() < before
}

/// Removes `FLAG VALUE` or `FLAG=VALUE`.
fn take_value(args: &mut Vec<String>, flag: &str) -> Result<Option<String>> {
    let joined = |arg: &String| arg.strip_prefix(flag)?.strip_prefix('=').map(str::to_owned);
    if let Some(at) = args.iter().position(|arg| joined(arg).is_some()) {
        return Ok(joined(&args.remove(at)));
    }
    let Some(at) = args.iter().position(|arg| arg == flag) else { return Ok(None) };
    args.remove(at);
    if at == args.len() {
        bail!("{flag} needs a value");
    }
    Ok(Some(args.remove(at)))
}

/// Builds the harness and runs it, with the terminal for itself.
fn harness(args: &[String]) -> Result<()> {
    let mut command = cargo(["run", "--quiet", "--release", "-p", "harness", "--"]);
    // What a user names is relative to where he stands; the harness finds the workspace by itself.
    command.current_dir(std::env::current_dir()?).args(args);
    let status = command.status().context("the harness")?;
    if !status.success() {
        bail!("the bench failed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_flags_are_taken_out() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let mut args = words("--quick --check main --micro --rounds 3");
        assert!(take(&mut args, "--micro") && !take(&mut args, "--micro"));
        assert_eq!(take_value(&mut args, "--check").unwrap().as_deref(), Some("main"));
        assert_eq!(args, words("--quick --rounds 3"));
        assert_eq!(take_value(&mut words("--check=a"), "--check").unwrap().as_deref(), Some("a"));
        assert!(take_value(&mut words("--check"), "--check").is_err());
    }
}
