//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Automation of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Unit, integration and doc tests of all crates, then the loom models.
    Test(Test),
    /// The same tests with their full counts (NETPOLL_STRESS=1), optimised.
    Stress(Stress),
    /// Formatting, clippy, documentation and tidy, with warnings as errors.
    Lint,
    /// The loom models, and the mistakes that they must catch.
    Loom(Loom),
    /// Checks of the sources that neither rustc nor clippy makes.
    Tidy,
    /// Our server beside its peers; `--micro` for the criterion suites, `--check BASE` for two commits.
    #[command(disable_help_flag = true)]
    Bench {
        /// Flags of the harness: see `cargo xtask bench --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
        args: Vec<String>,
    },
    /// Instructions per call of the hot paths, under callgrind, against a baseline.
    Instructions {
        /// Make what is counted now the baseline.
        #[arg(long)]
        save: bool,
    },
    /// Check, package and build the crates as they would be published; `--execute` publishes them.
    Release(Release),
    /// What CI runs: the tests with both runners, then the lints.
    Ci,
}

/// What runs the unit and integration tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runner {
    /// cargo-nextest where it is installed, `cargo test` otherwise.
    Auto,
    /// cargo-nextest; an error where it is not installed.
    Nextest,
    /// `cargo test`.
    Cargo,
    /// One after the other; where nextest is not installed, says so and goes on.
    Both,
}

#[derive(Args, Debug)]
pub(crate) struct Test {
    /// What runs the unit and integration tests.
    #[arg(long, value_enum, default_value = "auto", env = "NETPOLL_TEST_RUNNER")]
    pub(crate) runner: Runner,
    /// Only this package.
    #[arg(short, long, value_name = "PACKAGE")]
    pub(crate) package: Option<String>,
    /// Leave out the loom models.
    #[arg(long)]
    pub(crate) no_loom: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Stress {
    /// Only this package.
    #[arg(short, long, value_name = "PACKAGE")]
    pub(crate) package: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Loom {
    /// Only the models of this crate.
    #[arg(short = 'p', long = "crate", value_name = "CRATE")]
    pub(crate) package: Option<String>,
    /// Afterwards plant each mistake of `tests/mutants.txt` and expect its model to fail.
    #[arg(long)]
    pub(crate) mutants: bool,
    /// Only models whose name contains this.
    #[arg(value_name = "MODEL")]
    pub(crate) filter: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Release {
    /// Only check and show: the default.
    #[arg(long, conflicts_with = "execute")]
    pub(crate) dry_run: bool,
    /// Publish, and tag.
    #[arg(long)]
    pub(crate) execute: bool,
    /// Only the checks that need no building.
    #[arg(long, conflicts_with = "execute")]
    pub(crate) no_package: bool,
}
