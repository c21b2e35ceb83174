//! `cargo xtask loom`: the models in `crates/*/tests/loom.rs`, and the mistakes that they must catch.
//!
//! A line `NAME TEST` in a crate's `tests/mutants.txt` says: built with `--cfg netpoll_mutant="NAME"`,
//! the model `TEST` fails. Only the crate under test sees that cfg. Flags for everything would compile
//! loom itself anew for each mistake, so cargo calls this program in place of rustc for the members of
//! the workspace, by a link whose path names the crate and the mistake; cargo tells builds apart by
//! that path.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{cargo, rustflags};
use crate::flags;
use crate::process::{Counts, Echo, announce, watch};
use crate::workspace::{self, Crate};

/// For building and running all models of a crate.
const MODELS_LIMIT: Duration = Duration::from_secs(15 * 60);
/// For one model with a mistake in it.
const MUTANT_LIMIT: Duration = Duration::from_secs(3 * 60);
/// The name under which cargo calls this program instead of rustc.
const COMPILER: &str = "rustc-with-mutant";

pub(crate) fn run(options: &flags::Loom) -> Result<()> {
    let counts = models(options.package.as_deref(), options.filter.as_deref())?;
    if options.mutants {
        mutants(options.package.as_deref(), options.filter.as_deref())?;
    }
    println!("{} passed, {} failed", counts.passed, counts.failed);
    Ok(())
}

/// Runs the models of all crates that have some, or of one; running none is an error.
pub(crate) fn models(only: Option<&str>, filter: Option<&str>) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut failed = Vec::new();
    for krate in with_models(only)? {
        let mut command = loom_test(&krate);
        command.args(filter);
        announce(&format!("loom models of {}", krate.package), &command);
        let outcome = watch(&mut command, MODELS_LIMIT, Echo::Through)?;
        counts += outcome.counts;
        if outcome.timed_out {
            failed.push(format!("{} (not done after {MODELS_LIMIT:?})", krate.package));
        } else if !outcome.success {
            failed.push(krate.package);
        }
    }
    ensure!(failed.is_empty(), "models failed in {}", failed.join(", "));
    // One package without models is fine when only its tests were asked for.
    ensure!(counts.passed > 0 || only.is_some(), "not one model ran");
    Ok(counts)
}

fn with_models(only: Option<&str>) -> Result<Vec<Crate>> {
    let mut crates = workspace::crates()?;
    crates.retain(|krate| only.is_none_or(|only| krate.is(only)));
    crates.retain(|krate| krate.dir.join("tests/loom.rs").is_file());
    Ok(crates)
}

fn target_dir() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace::root().join(target).join("loom")
}

fn loom_test(krate: &Crate) -> Command {
    let mut command = cargo(["test", "--profile=loom", "--test=loom", "-p", &krate.package]);
    command.env("RUSTFLAGS", rustflags("--cfg netpoll_loom")).env("CARGO_TARGET_DIR", target_dir());
    command
}

/// A mistake, and the model that notices it.
#[derive(Debug, PartialEq, Eq)]
struct Mutant {
    name: String,
    model: String,
}

/// Reads `mutants.txt`: a name and a model per line, `#` for comments.
fn parse(text: &str) -> Result<Vec<Mutant>> {
    let mut mutants: Vec<Mutant> = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            [name, model] => {
                mutants.push(Mutant { name: name.to_owned(), model: model.to_owned() });
            }
            _ => bail!("not `mutant-name loom-test-name`: {line:?}"),
        }
    }
    Ok(mutants)
}

fn mutants(only: Option<&str>, filter: Option<&str>) -> Result<()> {
    let (mut caught, mut missed) = (0, Vec::new());
    for krate in with_models(only)? {
        let list = krate.dir.join("tests/mutants.txt");
        if !list.is_file() {
            continue;
        }
        let text = fs::read_to_string(&list)?;
        for mutant in parse(&text).with_context(|| list.display().to_string())? {
            if filter.is_some_and(|filter| !mutant.model.contains(filter)) {
                continue;
            }
            match plant(&krate, &mutant)? {
                Verdict::Caught => {
                    caught += 1;
                    eprintln!("   caught  {} {} by {}", krate.package, mutant.name, mutant.model);
                }
                Verdict::Missed(why) => {
                    eprintln!(
                        "   MISSED  {} {} by {}: {why}",
                        krate.package, mutant.name, mutant.model
                    );
                    missed.push(mutant.name);
                }
            }
        }
    }
    eprintln!("mistakes: {caught} caught, {} missed", missed.len());
    ensure!(missed.is_empty(), "not caught: {}", missed.join(", "));
    ensure!(caught > 0, "not one mistake was planted");
    Ok(())
}

#[derive(Debug)]
enum Verdict {
    Caught,
    Missed(String),
}

fn plant(krate: &Crate, mutant: &Mutant) -> Result<Verdict> {
    let compiler = compiler_for(krate, mutant)?;
    let with_mistake = || {
        let mut command = loom_test(krate);
        command.env("RUSTC_WORKSPACE_WRAPPER", &compiler);
        command
    };
    // It must build: a mistake that does not compile would seem to be caught.
    let built = watch(with_mistake().arg("--no-run"), MODELS_LIMIT, Echo::Quiet)?;
    ensure!(built.success, "{} does not build:\n{}", mutant.name, built.output);

    let mut test = with_mistake();
    test.args(["--", "--exact", &mutant.model, "--test-threads=1"]);
    let outcome = watch(&mut test, MUTANT_LIMIT, Echo::Quiet)?;
    if outcome.output.contains("running 0 tests") || !outcome.output.contains("running 1 test") {
        return Ok(Verdict::Missed(format!("there is no model {}", mutant.model)));
    }
    // A deadlock is a panic of loom, so a model that never ends is no proof of anything.
    Ok(match (outcome.timed_out, outcome.success) {
        (true, _) => Verdict::Missed(format!("not done after {MUTANT_LIMIT:?}")),
        (false, true) => Verdict::Missed("the model passed".to_owned()),
        (false, false) => Verdict::Caught,
    })
}

/// The path of this program under which it compiles `krate` with the mistake.
fn compiler_for(krate: &Crate, mutant: &Mutant) -> Result<PathBuf> {
    let dir = target_dir().join("mutants").join(&krate.lib).join(&mutant.name);
    fs::create_dir_all(&dir)?;
    let link = dir.join(COMPILER);
    let _ = fs::remove_file(&link);
    symlink(env::current_exe()?, &link)?;
    Ok(link)
}

/// Stands in for rustc where cargo called this program as one; see above.
pub(crate) fn act_as_compiler() -> Option<ExitCode> {
    let mut args = env::args_os();
    let me = PathBuf::from(args.next()?);
    if me.file_name()? != COMPILER {
        return None;
    }
    let mutant = me.parent()?.file_name()?.to_str()?;
    let krate = me.parent()?.parent()?.file_name()?.to_str()?;
    let rustc = args.next()?;
    let args: Vec<_> = args.collect();
    let name = args.iter().position(|arg| arg == "--crate-name").and_then(|at| args.get(at + 1));
    // The library, and its models, which may need to know what they look at.
    let ours = name.is_some_and(|name| name == krate || name == "loom");
    let mut command = Command::new(Path::new(&rustc));
    command.args(&args);
    if ours {
        command.arg("--cfg").arg(format!("netpoll_mutant=\"{mutant}\""));
    }
    let status = command.status();
    Some(if status.is_ok_and(|status| status.success()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_mutants_is_read() {
        let mutants = parse("# all of them\n\nno-fence  park_and_wake # the store\n").unwrap();
        assert_eq!(
            mutants,
            [Mutant { name: "no-fence".to_owned(), model: "park_and_wake".to_owned() }]
        );
        assert!(parse("alone\n").is_err());
    }
}
