//! Netpoll end to end, in one process: a server, many connections to it, every byte verified.
//!
//! ```text
//! cargo run --release -p netpoll --example quickstart
//! ```
//!
//! Exit status 0 if everything was right, 1 with a line that says what was not.

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    error::Error,
    io::IsTerminal,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use common::{
    load::{Load, Plan},
    pattern,
};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use netpoll::{
    Callbacks, Dialer, EventLoop, LengthPrefixed, Listener, Reader, ReaderExt, Writer, WriterExt,
    service_fn,
};

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Connections, where there are descriptors for so many.
const CONNECTIONS: usize = 1024;
/// Requests of mixed sizes, where there is time for so many.
const MIXED_REQUESTS: u64 = 100_000;
const MIXED_TIME: Duration = Duration::from_secs(6);
const STEADY_CONNECTIONS: usize = 64;
const STEADY_BYTES: usize = 1024;
const WARM_UP: Duration = Duration::from_millis(700);
const STEADY_TIME: Duration = Duration::from_secs(2);
/// How long the last replies of a phase may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// From here on requests allocate. Below it time does: on a busy machine a thread that is taken off
/// its core in a handler looks as if it blocked, and having another take over allocates.
const MOST_ALLOCATIONS: f64 = 1.0;

/// Counts what the whole process asks of the allocator.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// The whole server: what comes is what goes, without a copy.
fn echo(served: Arc<AtomicU64>) -> Callbacks<()> {
    service_fn(move |conn| {
        let (r, w) = conn.split();
        w.write_bytes(r.slice(r.len())?)?;
        w.flush()?;
        served.fetch_add(1, Relaxed);
        Ok(())
    })
    .framing(LengthPrefixed::u32_be().max(1 << 20))
}

/// A client in straight-line code: one request, one reply.
fn hello(dialer: &Dialer, addr: &str) -> Result {
    let mut conn = dialer.dial(addr)?;
    let text = "hello, netpoll";
    conn.malloc(4)?.put_u32(text.len() as u32);
    conn.write_string(text)?;
    conn.flush()?;
    let len = u32::from_be_bytes(conn.read_array()?);
    if conn.next_str(len as usize)? != text {
        return Err("the first reply is not what was sent".into());
    }
    Ok(())
}

/// Mostly small, now and then up to 1 MiB; nothing at all, and the most, among them.
fn mixed_size(_: &Plan, number: u64) -> usize {
    let random = pattern::mix(number ^ 0x5eed) as usize;
    match number % 1000 {
        0 => 0,
        1 => 1 << 20,
        2..400 => 1 + random % 128,
        400..900 => random % (4 << 10),
        900..992 => random % (32 << 10),
        992..998 => random % (256 << 10),
        _ => random % (1 << 20),
    }
}

/// A bar on a terminal, plain lines otherwise.
struct Progress(Option<ProgressBar>);

impl Progress {
    fn new() -> Self {
        Self(std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg:28} {wide_bar} {percent:>3}%");
            let bar = ProgressBar::new(100);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        }))
    }

    fn begin(&self, what: &'static str) {
        match &self.0 {
            Some(bar) => {
                bar.set_message(what);
                bar.set_position(0);
            }
            None => println!("{what} ..."),
        }
    }

    fn set(&self, share: f64) {
        if let Some(bar) = &self.0 {
            bar.set_position((share * 100.0) as u64);
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// What a phase came to.
struct Figures {
    rate: f64,
    p50: Duration,
    p99: Duration,
}

impl Figures {
    fn of(load: &Load, requests: u64, elapsed: Duration) -> Self {
        Self {
            rate: requests as f64 / elapsed.as_secs_f64(),
            p50: load.latency.quantile(0.5),
            p99: load.latency.quantile(0.99),
        }
    }

    fn print(&self, what: &str) {
        println!(
            "  {what:14} {:>9} requests/s   p50 {:>8}   p99 {:>8}",
            HumanCount(self.rate as u64).to_string(),
            short(self.p50),
            short(self.p99)
        );
    }
}

fn short(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    if micros < 1000.0 { format!("{micros:.0} us") } else { format!("{:.1} ms", micros / 1e3) }
}

/// Waits for the last replies of a load that asks for nothing more.
fn finish(load: &Load, what: &str) -> Result {
    load.stop();
    if load.wait(PATIENCE)? {
        Ok(())
    } else {
        let open = load.open();
        Err(format!("{what}: {open} connections did not end within {PATIENCE:?}").into())
    }
}

/// Both ends of a connection are descriptors of this process.
fn connections() -> Result<usize> {
    let limit = poller::sys::raise_nofile_limit()
        .or_else(|_| poller::sys::nofile_limit().map(|limit| limit.soft))?;
    let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(64) / 2;
    if room < STEADY_CONNECTIONS {
        return Err(format!("a limit of {limit} descriptors is too low: 192 are needed").into());
    }
    Ok(room.min(CONNECTIONS))
}

fn run() -> Result {
    let connections = connections()?;
    let progress = Progress::new();

    let server = EventLoop::builder().name("server").build()?;
    let listener = Listener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?.to_string();
    let served = Arc::new(AtomicU64::new(0));
    server.listen(listener, echo(Arc::clone(&served)))?;

    let client = EventLoop::builder().name("client").build()?;
    let dialer = client.dialer().timeout(Some(PATIENCE));
    hello(&dialer, &addr)?;
    let plan = Plan {
        connections,
        requests: MIXED_REQUESTS,
        size: mixed_size,
        bytes: 0,
        depth: 4,
        in_pieces: true,
        may_be_refused: false,
    };
    println!("netpoll quickstart: {connections} connections to {addr}");

    // Sizes from nothing to 1 MiB, some in pieces, up to four under way on each connection.
    progress.begin("frames of mixed sizes");
    let load = Load::start(&client, &dialer, &addr, plan)?;
    let mut mixed_time = load.elapsed();
    while !load.wait(Duration::from_millis(50))? {
        mixed_time = load.elapsed();
        progress.set(load.replies() as f64 / MIXED_REQUESTS as f64);
        if mixed_time > MIXED_TIME {
            finish(&load, "mixed sizes")?;
        }
    }
    let mixed = Figures::of(&load, load.replies(), mixed_time);
    let (mut requests, mut bytes) = (1 + load.replies(), load.bytes());

    // The same request again and again, until nothing is left to be set up. Nothing is printed
    // while allocations are counted: the bar would be counted too.
    progress.begin("steady state");
    let plan = Plan {
        connections: STEADY_CONNECTIONS,
        requests: u64::MAX,
        size: Plan::fixed,
        bytes: STEADY_BYTES,
        depth: 1,
        in_pieces: false,
        ..plan
    };
    let load = Load::start(&client, &dialer, &addr, plan)?;
    load.wait(WARM_UP)?;
    load.latency.reset();
    let start = Instant::now();
    let (replies_before, allocations_before) = (load.replies(), ALLOCATIONS.load(Relaxed));
    thread::sleep(STEADY_TIME);
    let allocations = ALLOCATIONS.load(Relaxed) - allocations_before;
    let steady_requests = load.replies() - replies_before;
    let steady = Figures::of(&load, steady_requests, start.elapsed());
    finish(&load, "steady state")?;
    requests += load.replies();
    bytes += load.bytes();

    // The server shuts down under load. What it began to handle it answers.
    progress.begin("shutdown while requests run");
    let plan = Plan { depth: 8, in_pieces: true, may_be_refused: true, ..plan };
    let load = Load::start(&client, &dialer, &addr, plan)?;
    load.wait(Duration::from_millis(300))?;
    let start = Instant::now();
    server.shutdown(PATIENCE)?;
    let shutdown_time = start.elapsed();
    finish(&load, "shutdown")?;
    if dialer.dial(addr.as_str()).is_ok() {
        return Err("the server still accepts after its shutdown".into());
    }
    requests += load.replies();
    bytes += load.bytes();
    client.shutdown(PATIENCE)?;
    progress.end();

    let per_request = allocations as f64 / steady_requests.max(1) as f64;
    let served = served.load(Relaxed);
    println!("  requests       {}, every byte of every reply verified", HumanCount(requests));
    println!("  bytes          {} each way", HumanBytes(bytes));
    mixed.print("mixed sizes");
    steady.print("1 KiB");
    println!(
        "  allocations    {per_request:.4} per request in steady state ({allocations} in {})",
        HumanCount(steady_requests)
    );
    println!(
        "  shutdown       {} under load; {} requests too late, none cut in half",
        short(shutdown_time),
        HumanCount(load.refused())
    );
    if served != requests {
        return Err(
            format!("the server answered {served} requests, {requests} replies came").into()
        );
    }
    println!("  lost           nothing: {} handled, as many replies", HumanCount(served));
    if steady_requests == 0 {
        return Err("nothing was answered in steady state".into());
    }
    if per_request >= MOST_ALLOCATIONS {
        return Err(format!("{per_request:.4} allocations per request in steady state").into());
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}
