//! Framed echo: a 4-byte big-endian length, then that many bytes; the reply is the same frame.
//!
//! The first line it prints, once it accepts, is `listening on ADDR`. On SIGTERM or SIGINT it
//! finishes the requests that run, and exits.

use std::{
    error::Error,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use netpoll::{
    BINARY_INPLACE_THRESHOLD, Callbacks, EventLoop, LengthPrefixed, Listener, Reader, Runner,
    Writer, WriterExt, service_fn,
};
use poller::sys::ThreadClock;
use signal_hook::{consts::TERM_SIGNALS, iterator::Signals};

/// Bytes of the length in front of each body.
const HEADER: usize = 4;
/// The largest body that is echoed, in bytes.
const MAX_BODY: usize = (16 << 20) - HEADER;

#[derive(Parser)]
#[command(about = "Serves framed echo")]
struct Flags {
    /// Where to listen: HOST:PORT, [V6]:PORT, unix:PATH or unix:@NAME; port 0 takes a free one
    #[arg(long)]
    addr: String,
    /// Threads that wait in the kernel [default: the cores]
    #[arg(long)]
    pollers: Option<usize>,
    /// Where handlers run
    #[arg(long, value_enum, default_value = "auto")]
    runner: RunnerFlag,
    /// Microseconds of CPU that a handler burns, unless its request is empty
    #[arg(long, default_value_t = 0)]
    work_us: u64,
    /// ... for every Nth request
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    work_every: u64,
    /// Microseconds that a handler sleeps, unless its request is empty
    #[arg(long, default_value_t = 0)]
    block_us: u64,
    /// ... for every Nth request
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    block_every: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum RunnerFlag {
    Auto,
    Inline,
    Pool,
}

/// What a handler does besides echoing.
struct Load {
    work: Duration,
    work_every: u64,
    block: Duration,
    block_every: u64,
    requests: AtomicU64,
}

impl Load {
    fn is_none(&self) -> bool {
        self.work.is_zero() && self.block.is_zero()
    }

    /// For a request that is not empty: those are no work, so that a light one can be beside heavy ones.
    fn apply(&self) {
        let request = self.requests.fetch_add(1, Relaxed) + 1;
        if !self.block.is_zero() && request % self.block_every == 0 {
            thread::sleep(self.block);
        }
        if !self.work.is_zero() && request % self.work_every == 0 {
            // CPU time: however many burn at once, each burns its own.
            let clock = ThreadClock::current();
            let end = clock.cpu_time() + self.work;
            while clock.cpu_time() < end {
                std::hint::spin_loop();
            }
        }
    }
}

fn service(load: Load) -> Callbacks<()> {
    let idle = load.is_none();
    service_fn(move |conn| {
        let (r, w) = conn.split();
        if !idle && r.len() > HEADER {
            load.apply();
        }
        let len = r.len();
        // Sharing what is short costs more than copying it.
        if len < BINARY_INPLACE_THRESHOLD {
            w.write_binary(r.next(len)?)?;
        } else {
            w.write_bytes(r.slice(len)?)?;
        }
        w.flush()?;
        Ok(())
    })
    .framing(LengthPrefixed::u32_be().max(MAX_BODY))
}

fn run(flags: Flags) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut builder = EventLoop::builder().name("echo");
    if let Some(pollers) = flags.pollers {
        builder = builder.pollers(pollers);
    }
    builder = builder.runner(match flags.runner {
        RunnerFlag::Auto => Runner::Auto,
        RunnerFlag::Inline => Runner::Inline,
        RunnerFlag::Pool => {
            let pool = gopool::Pool::builder().name("handlers").cap(128).queue_limit(1 << 20);
            Runner::Pool(pool.build()?)
        }
    });
    let event_loop = builder.build()?;
    let mut signals = Signals::new(TERM_SIGNALS)?;
    let listener =
        Listener::bind(&flags.addr).map_err(|error| format!("{}: {error}", flags.addr))?;
    let addr = listener.local_addr()?;
    event_loop.listen(
        listener,
        service(Load {
            work: Duration::from_micros(flags.work_us),
            work_every: flags.work_every,
            block: Duration::from_micros(flags.block_us),
            block_every: flags.block_every,
            requests: AtomicU64::new(0),
        }),
    )?;
    println!("listening on {addr}");
    signals.forever().next();
    // What does not finish in time is ended: a server that is told to stop stops.
    if let Err(unfinished) = event_loop.shutdown(Duration::from_secs(4)) {
        eprintln!("echo_server: {unfinished}; closing them");
        event_loop.shutdown_now();
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_server: {error}");
            ExitCode::FAILURE
        }
    }
}
