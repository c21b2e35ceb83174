//! The client of `echo_server`: N requests over C connections, every byte verified, with figures.

mod common;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use common::{
    load::{Load, Plan},
    pattern,
};
use netpoll::EventLoop;

/// How long a dial, and a wait without a single reply, may last.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest body that `echo_server` takes.
const MAX_BODY: u64 = (pattern::LONGEST - 4) as u64;

#[derive(Parser)]
#[command(about = "Asks a framed echo server, and verifies what it says")]
struct Flags {
    /// Where the server listens: HOST:PORT, [V6]:PORT, unix:PATH or unix:@NAME
    #[arg(long)]
    addr: String,
    /// Connections that ask at the same time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Requests, over all connections
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    /// Bytes of a request, without the four of its length
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(..=MAX_BODY))]
    size: u64,
    /// Requests that a connection sends before it waits for a reply
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pipeline: u32,
}

fn run(flags: &Flags) -> Result<(), String> {
    // Each connection is a descriptor; where they cannot be had, dialing says so.
    let _ = poller::sys::raise_nofile_limit();
    let event_loop =
        EventLoop::builder().name("client").build().map_err(|error| error.to_string())?;
    let dialer = event_loop.dialer().timeout(Some(PATIENCE));
    let plan = Plan {
        connections: flags.connections as usize,
        requests: flags.requests,
        size: Plan::fixed,
        bytes: flags.size as usize,
        depth: flags.pipeline as usize,
        in_pieces: false,
        may_be_refused: false,
    };
    // Made before the clock runs.
    pattern::window(0, plan.bytes);
    let load = Load::start(&event_loop, &dialer, &flags.addr, plan)?;
    let mut replies = 0;
    while !load.wait(PATIENCE)? {
        let now = load.replies();
        if now == replies {
            return Err(format!("no reply for {PATIENCE:?}, {now} of {} came", flags.requests));
        }
        replies = now;
    }
    let elapsed = load.elapsed().as_secs_f64();
    println!("requests    {}", load.replies());
    println!("bytes       {}", load.bytes());
    println!("seconds     {elapsed:.3}");
    println!("requests/s  {:.0}", load.replies() as f64 / elapsed);
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let micros = load.latency.quantile(share).as_secs_f64() * 1e6;
        println!("{name}         {micros:.1} us");
    }
    if load.replies() == flags.requests {
        Ok(())
    } else {
        Err(format!("{} of {} requests were answered", load.replies(), flags.requests))
    }
}

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_client: {error}");
            ExitCode::FAILURE
        }
    }
}
