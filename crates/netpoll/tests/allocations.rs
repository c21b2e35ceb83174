//! In steady state a request allocates nothing, on either side.
//!
//! The counting allocator is the process's: the test runs again in a child of its own.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    env,
    io::{Read, Write},
    net::TcpStream,
    process,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use netpoll::{
    Callbacks, Connection, EventLoop, LengthPrefixed, Listener, Reader, ReaderExt, Runner,
    Writer as _, WriterExt, service_fn,
};

struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is the system's; only a counter grows.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, SeqCst);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        CALLS.fetch_add(1, SeqCst);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        CALLS.fetch_add(1, SeqCst);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, len) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CHILD: &str = "NETPOLL_TEST_CHILD";

#[test]
fn none_per_request() {
    run_alone("in_a_child");
}

#[test]
fn few_per_connection() {
    run_alone("connections_in_a_child");
}

fn run_alone(test: &str) {
    let mut child = process::Command::new(env::current_exe().unwrap());
    let status = child
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[test]
#[ignore = "run by none_per_request, as: NETPOLL_TEST_CHILD=1 cargo test -p netpoll --test allocations -- --ignored"]
fn in_a_child() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    let framed: fn() -> Callbacks<()> = || {
        service_fn(|conn| {
            let (r, w) = conn.split();
            w.write_bytes(r.slice(r.len())?)?;
            Ok(w.flush().map(drop)?)
        })
        .framing(LengthPrefixed::u32_be())
    };
    let straight: fn() -> Callbacks<()> = || {
        service_fn(|conn| {
            let (r, w) = conn.split();
            let n = u32::from_be_bytes(r.read_array()?);
            let body = r.next(n as usize)?;
            w.malloc(4)?.put_u32(n);
            w.write_binary(body)?;
            Ok(w.flush().map(drop)?)
        })
    };
    for (name, runner) in [("auto", Runner::Auto), ("inline", Runner::Inline)] {
        for (kind, service) in [("framed", framed), ("straight", straight)] {
            for len in [0, 100, 1024, 20_000] {
                let builder = EventLoop::builder().pollers(1).runner(runner.clone());
                let event_loop = builder.build().unwrap();
                let listener = Listener::bind("127.0.0.1:0").unwrap();
                let addr = listener.local_addr().unwrap().as_inet().unwrap();
                event_loop.listen(listener, service()).unwrap();
                let mut conn = event_loop.dialer().dial(addr).unwrap();
                let body = vec![7; len];
                let what = format!("{name}, {kind}, {len} bytes");
                measure(&what, &mut conn, &body);
            }
        }
    }
}

/// Of connections that come, ask once and go: how often the allocator is called for one, there and back.
#[test]
#[ignore = "run by few_per_connection, as: NETPOLL_TEST_CHILD=1 cargo test -p netpoll --test allocations -- --ignored"]
fn connections_in_a_child() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    let event_loop = EventLoop::builder().pollers(1).build().unwrap();
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().as_inet().unwrap();
    let service = service_fn(|conn| {
        let (r, w) = conn.split();
        w.write_bytes(r.slice(r.len())?)?;
        Ok(w.flush().map(drop)?)
    });
    event_loop.listen(listener, service.framing(LengthPrefixed::u32_be())).unwrap();
    let visit = |many: u64| {
        for _ in 0..many {
            let mut client = TcpStream::connect(addr).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            client.write_all(b"\0\0\0\x01x").unwrap();
            let mut reply = [0; 5];
            client.read_exact(&mut reply).unwrap();
        }
    };
    let mut fewest = u64::MAX;
    for _ in 0..5 {
        visit(100);
        let before = CALLS.load(SeqCst);
        visit(500);
        fewest = fewest.min((CALLS.load(SeqCst) - before) / 500);
    }
    println!("{fewest} allocator calls per connection");
    assert!(fewest <= 12, "{fewest} allocator calls per connection");
}

fn round_trips(conn: &mut Connection, body: &[u8], count: usize) {
    for _ in 0..count {
        let (r, w) = conn.split();
        w.malloc(4).unwrap().put_u32(body.len() as u32);
        w.write_binary(body).unwrap();
        w.flush().unwrap();
        let n = u32::from_be_bytes(r.read_array().unwrap());
        assert!(r.next(n as usize).unwrap() == body);
        r.release();
    }
}

/// Caches fill and threads start at their own pace: one of a few runs in a row must be clean.
fn measure(what: &str, conn: &mut Connection, body: &[u8]) {
    let mut counts = Vec::new();
    for _ in 0..20 {
        round_trips(conn, body, 500);
        let before = CALLS.load(SeqCst);
        round_trips(conn, body, 1000);
        let calls = CALLS.load(SeqCst) - before;
        if calls == 0 {
            return;
        }
        counts.push(calls);
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what}: allocator calls in 1000 requests: {counts:?}");
}
