//! What connections hold: idle ones hardly anything, and busy ones no more than they need, whatever
//! they once needed.
//!
//! The counting allocator is the process's: each test runs again in a child of its own.

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::Write,
    net::TcpStream,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use common::{
    connect, eventually, frame, ping,
    process::{Other, argument, as_many, hear, in_child, say},
    serve,
};
use netpoll::{Callbacks, EventLoop, LengthPrefixed, Reader, WriterExt, service_fn};

struct Counting;

/// Bytes allocated now.
static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system's; only a counter changes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), SeqCst);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), SeqCst);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        LIVE.fetch_add(len, SeqCst);
        LIVE.fetch_sub(layout.size(), SeqCst);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, len) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn echo() -> Callbacks<()> {
    service_fn(|conn| {
        let (r, w) = conn.split();
        w.write_bytes(r.slice(r.len())?)?;
        Ok(w.flush().map(drop)?)
    })
    .framing(LengthPrefixed::u32_be())
}

/// Connections that have each sent a message and got it back.
fn warm(addr: std::net::SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let mut client = connect(addr);
        ping(&mut client, &[7; 1000]);
        clients.push(client);
    }
    clients
}

#[test]
fn an_idle_connection_holds_hardly_anything() {
    if !in_child("an_idle_connection_holds_hardly_anything") {
        return;
    }
    let count = as_many((10 * common::stress(10_000)).min(10_000));
    let (event_loop, addr) = serve(EventLoop::builder().pollers(1), echo());
    let arguments = [("addr", addr.to_string()), ("count", count.to_string())];
    let mut clients = Other::start("clients_that_idle", &arguments);
    // What the first ones need, the loop keeps.
    assert_eq!(clients.next(), "a few have been here");
    eventually("their end", || event_loop.connections() == 0);
    let before = LIVE.load(SeqCst);
    clients.tell("go on");
    assert_eq!(clients.next(), "all are here");
    assert_eq!(event_loop.connections(), count);
    let held = LIVE.load(SeqCst).saturating_sub(before) / count;
    println!("an idle connection holds {held} bytes, by {count} of them");
    // Besides, a thread keeps a few blocks at hand: among fewer connections that would show.
    let cached = if count < 5000 { (64 << 10) / count } else { 0 };
    assert!(held <= 1024 + cached, "{held} bytes");
    clients.tell("go");
    clients.end();
}

#[test]
#[ignore = "run by another, as: cargo test -p netpoll --test memory"]
fn clients_that_idle() {
    let (Some(addr), Some(count)) = (argument("addr"), argument("count")) else { return };
    let (addr, count) = (addr.parse().unwrap(), as_many(count.parse().unwrap()));
    drop(warm(addr, 100));
    say("a few have been here");
    hear();
    let clients = warm(addr, count);
    say("all are here");
    hear();
    drop(clients);
}

#[test]
fn a_burst_leaves_little_behind() {
    if !in_child("a_burst_leaves_little_behind") {
        return;
    }
    let _ = poller::sys::raise_nofile_limit();
    let room = poller::sys::nofile_limit().unwrap().soft as usize / 2 - 100;
    let count = (20 * common::stress(1000)).min(1000).min(room);
    let size = common::stress(8 << 20).max(1 << 20);
    // Takes in messages, and answers the small ones.
    let service = service_fn(|conn| {
        let (r, w) = conn.split();
        if r.len() < 5000 {
            w.write_bytes(r.slice(r.len())?)?;
        } else {
            r.skip(r.len())?;
        }
        Ok(w.flush().map(drop)?)
    })
    .framing(LengthPrefixed::u32_be());
    let (event_loop, addr) = serve(EventLoop::builder().pollers(1), service);
    let burst = frame(&vec![1; size]);
    let grow = |clients: &mut Vec<TcpStream>, count: usize| {
        for _ in 0..count {
            let mut client = connect(addr);
            client.write_all(&burst).unwrap();
            ping(&mut client, b"done");
            clients.push(client);
        }
    };
    // What one such connection needs, the loop and its cache keep.
    let mut clients = Vec::with_capacity(count);
    grow(&mut clients, 2);
    clients.clear();
    eventually("their end", || event_loop.connections() == 0);
    let before = LIVE.load(SeqCst);
    grow(&mut clients, count);
    // From here on little comes, and no message is ever whole for long.
    let small = frame(&[7; 1000]);
    for part in 0..4 {
        for client in &mut clients {
            if part > 0 {
                client.write_all(&small[500..]).unwrap();
                common::read_frame(client).unwrap();
            }
            client.write_all(&small[..500]).unwrap();
        }
    }
    assert_eq!(event_loop.connections(), count);
    let held = LIVE.load(SeqCst).saturating_sub(before) / count;
    // Besides, the cache keeps blocks for everybody: with a thousand connections that is little, with
    // fewer it would hide what they hold.
    let cached = if count < 1000 { (16 << 20) / count } else { 0 };
    println!("after a burst a connection that trickles holds {held} bytes, by {count} of them");
    assert!(held <= (64 << 10) + cached, "{held} bytes");
}
