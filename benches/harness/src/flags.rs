//! The command line: what `cargo xtask bench` passes on.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// What xtask does with these itself.
const OTHERS: &str = "\
Instead of servers:
  --micro         Run the criterion suites (or those named) and write their tables into the READMEs
  --publish       Measure everything into docs/bench, and put the summary into the README
  --check <BASE>  Compare our server at the commit BASE with what is here, and fail if it got worse;
                  with --micro the criterion suites too";

/// Compares servers that speak framed echo, each run beside a run of the base.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench", after_help = OTHERS)]
pub(crate) struct Flags {
    /// A few scenarios with six short rounds: ends within 3 minutes once everything is built.
    #[arg(long)]
    pub(crate) quick: bool,
    /// How many rounds, fixed beforehand [default: 20, or 6 with --quick].
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<usize>,
    /// Let servers that are not ours take part in one round of N only [default: 1].
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=20))]
    pub(crate) peers_every: u8,
    /// How long each run is measured, in milliseconds [default: 400, or 150 with --quick].
    #[arg(long, value_name = "MS")]
    pub(crate) slice_ms: Option<u64>,
    /// How long each run warms up before, in milliseconds [default: 100, or 50 with --quick].
    #[arg(long, value_name = "MS")]
    pub(crate) warm_ms: Option<u64>,
    /// Only these scenarios, separated by commas; see --list.
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub(crate) scenario: Vec<String>,
    /// Only these servers, the base, and those given by --peer.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Without these servers.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) skip: Vec<String>,
    /// Another server: `name=command with {addr}`. A `{work}` in it is where the flags for pretended work
    /// go; without it, the server is left out where handlers block or burn.
    #[arg(long, value_name = "NAME=COMMAND")]
    pub(crate) peer: Vec<String>,
    /// The server that all others are compared with.
    #[arg(long, value_name = "NAME", default_value = "epoll")]
    pub(crate) base: String,
    /// Where servers and the load run.
    #[arg(long, value_enum, default_value = "both")]
    pub(crate) placement: Placements,
    /// Compare a server with itself under two names; fails unless it comes out as 1.00 within ±3 %.
    #[arg(long)]
    pub(crate) self_check: bool,
    /// Where the report goes.
    #[arg(long, value_name = "DIR", default_value = "bench-report")]
    pub(crate) out: PathBuf,
    /// Take the servers as they were built before.
    #[arg(long)]
    pub(crate) no_build: bool,
    /// Do not count system calls and allocations.
    #[arg(long)]
    pub(crate) no_probes: bool,
    /// Fail if a server is more expensive than the base beyond the noise: for comparing two commits.
    #[arg(long)]
    pub(crate) fail_if_worse: bool,
    /// The command that the report shows.
    #[arg(long, hide = true)]
    pub(crate) shown_as: Option<String>,
    /// Name the scenarios and servers, and end.
    #[arg(long)]
    pub(crate) list: bool,
}

/// Where servers and the load run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Placements {
    /// The server on one core, the load on another.
    One,
    /// Everything on the same two cores.
    Two,
    /// Both, one after the other; only the first with --quick.
    Both,
}
