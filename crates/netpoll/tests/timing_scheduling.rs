//! How long others wait beside a handler that stays, and what watching costs: always against a run
//! without it beside it.

mod common;

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use common::{connect, eventually, frame, ping, read_frame, serve};
use netpoll::{Connection, EventLoop, HandlerResult, LengthPrefixed, Reader, WriterExt};

/// What a rescue may take on a busy machine: two looks and a thread, many times over.
const RESCUE: Duration = Duration::from_millis(150);

fn echo(conn: &mut Connection) -> HandlerResult {
    let (r, w) = conn.split();
    w.write_bytes(r.slice(r.len())?)?;
    w.flush()?;
    Ok(())
}

fn serve_framed(
    name: &str,
    f: impl Fn(&mut Connection) -> HandlerResult + Send + Sync + 'static,
) -> (EventLoop, SocketAddr) {
    let service = netpoll::service_fn(f).framing(LengthPrefixed::u32_be());
    serve(EventLoop::builder().name(name).pollers(1), service)
}

/// The time of each of so many pings, shortest first.
fn times(addr: SocketAddr, count: usize) -> Vec<Duration> {
    let mut stream = connect(addr);
    ping(&mut stream, b"warm");
    let mut times: Vec<_> = (0..count)
        .map(|_| {
            let start = Instant::now();
            ping(&mut stream, b"good");
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times
}

/// One poller, and handlers that block for a second where the library cannot see it.
#[test]
fn a_blocked_handler_holds_up_nobody() {
    static HELD: Mutex<()> = Mutex::new(());
    let blocks: [(&str, fn()); 2] =
        [("sleep", || thread::sleep(Duration::from_secs(1))), ("mutex", || drop(HELD.lock()))];
    for (what, block) in blocks {
        let (event_loop, addr) = serve_framed("blocks", move |conn| {
            if conn.peek(5)?[4] == b's' {
                block();
            }
            echo(conn)
        });
        let control = times(addr, 200);
        let held = HELD.lock().unwrap();
        let mut slow: Vec<_> = (0..4).map(|_| connect(addr)).collect();
        let start = Instant::now();
        for stream in &mut slow {
            stream.write_all(&frame(b"slow")).unwrap();
        }
        let beside = times(addr, 200);
        let took = start.elapsed();
        drop(held);
        for stream in &mut slow {
            assert_eq!(read_frame(stream).unwrap(), b"slow");
        }
        let (median, worst) = (beside[100], beside[199]);
        assert!(median <= control[100] * 4 + Duration::from_micros(200), "{what}: {median:?}");
        assert!(worst < 4 * RESCUE && took < Duration::from_secs(1), "{what}: {worst:?} {took:?}");
        assert!(event_loop.stats().rescues >= 1);
    }
}

/// A connection with thousands of requests in the buffer takes its turns with the others.
#[test]
fn a_pipelining_connection_leaves_others_their_turns() {
    const REQUESTS: usize = 10_000;
    let (_loop, addr) = serve_framed("fair", |conn| {
        let start = Instant::now();
        // Too short for the watchdog to see.
        while start.elapsed() < Duration::from_micros(80) {}
        echo(conn)
    });
    let mut greedy = connect(addr);
    let mut reader = greedy.try_clone().unwrap();
    let mut quiet = connect(addr);
    ping(&mut quiet, b"quiet");
    let start = Instant::now();
    let (all, worst) = thread::scope(|scope| {
        let all = scope.spawn(move || {
            for _ in 0..REQUESTS {
                assert_eq!(read_frame(&mut reader).unwrap(), b"greedy");
            }
            start.elapsed()
        });
        greedy.write_all(&frame(b"greedy").repeat(REQUESTS)).unwrap();
        let mut worst = Duration::ZERO;
        while !all.is_finished() {
            let start = Instant::now();
            ping(&mut quiet, b"quiet");
            worst = worst.max(start.elapsed());
            thread::sleep(Duration::from_millis(1));
        }
        (all.join().unwrap(), worst)
    });
    // Its fair share is 64 of 10,000.
    assert!(worst < all / 5, "{worst:?} of {all:?}");
}

/// Where `/proc` keeps the thread of that name.
fn thread_of(name: &str) -> Option<PathBuf> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let mut paths = tasks.filter_map(|task| Some(task.ok()?.path()));
    paths.find(|path| {
        fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    })
}

/// Its voluntary context switches.
fn switches(name: &str) -> u64 {
    let status = fs::read_to_string(thread_of(name).unwrap().join("status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_watchdog_sleeps_while_nothing_happens() {
    let (event_loop, addr) = serve_framed("idle", echo);
    let mut client = connect(addr);
    ping(&mut client, b"once");
    // A thread takes its name when it begins.
    eventually("it is there", || thread_of("idle-watch").is_some());
    eventually("it sleeps", || {
        let before = switches("idle-watch");
        thread::sleep(Duration::from_millis(50));
        switches("idle-watch") == before
    });
    let (before, wakes) = (switches("idle-watch"), event_loop.stats().watchdog_wakes);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(switches("idle-watch"), before);
    assert_eq!(event_loop.stats().watchdog_wakes, wakes);
    // And it is there when it is needed.
    ping(&mut client, b"again");
    eventually("it woke", || switches("idle-watch") > before);
}

/// Where handlers mostly block, the watchdog is not needed for each of them: the role is passed on
/// first. And no more, once they come back soon.
#[test]
fn handlers_that_mostly_block_pass_the_role_on_first() {
    let (event_loop, addr) = serve_framed("habit", |conn| {
        if conn.peek(5)?[4] == b's' {
            // Half of the time between two looks of the watchdog, which must not fall into step.
            thread::sleep(Duration::from_millis(5));
        }
        echo(conn)
    });
    let mut clients: Vec<_> = (0..16).map(|_| connect(addr)).collect();
    // Each client's request is under way before a reply is read.
    let mut round = |body: &[u8]| {
        let before = event_loop.stats();
        clients.iter_mut().for_each(|client| client.write_all(&frame(body)).unwrap());
        clients.iter_mut().for_each(|client| assert_eq!(read_frame(client).unwrap(), body));
        let after = event_loop.stats();
        (after.handovers - before.handovers, after.rescues - before.rescues)
    };
    eventually("the role is passed on by all", || {
        let (handovers, rescues) = round(b"sleep");
        handovers >= 16 && rescues == 0
    });
    eventually("the role is kept", || round(b"quick") == (0, 0));
}
