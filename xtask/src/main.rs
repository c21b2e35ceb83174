//! Automation of this workspace: `cargo xtask --help`.
//!
//! Each command is a file; all of them are thin layers over `cargo`. `cargo xtask test` is the one a
//! newcomer types, so the dependencies here stay few: what is heavy lives in a package of its own.

mod bench;
mod cargo;
mod flags;
mod instructions;
mod lint;
mod loom;
mod process;
mod release;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::Parser;
use flags::{Command, Flags};

fn main() -> ExitCode {
    if let Some(code) = loom::act_as_compiler() {
        return code;
    }
    match run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> anyhow::Result<()> {
    match &flags.command {
        Command::Test(options) => test::run(options),
        Command::Stress(options) => test::stress(options),
        Command::Lint => lint::run(),
        Command::Loom(options) => loom::run(options),
        Command::Tidy => tidy::run(),
        Command::Bench { args } => bench::run(args),
        Command::Instructions { save } => instructions::run(*save),
        Command::Release(options) => release::run(options),
        Command::Ci => {
            test::run(&flags::Test { runner: flags::Runner::Both, package: None, no_loom: false })?;
            lint::run()
        }
    }
}
