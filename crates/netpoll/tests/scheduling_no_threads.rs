//! The system refuses the loop a thread: nothing is lost, it is counted and said, and the loop goes
//! on as soon as there are threads again. Alone in its process, whose memory it limits.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use std::{
    fs,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use common::{PATIENCE, connect, eventually, frame, ping, read_frame, serve};
use netpoll::{BuildError, EventLoop, LengthPrefixed, Notice, Reader, WriterExt, service_fn};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

/// Leaves this process room for small things, and not for a thread's stack.
fn leave_no_room_for_a_stack() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let used = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let used: u64 = used.trim().trim_end_matches(" kB").parse().unwrap();
    setrlimit(Resource::RLIMIT_AS, used * 1024 + (1 << 20), RLIM_INFINITY).unwrap();
}

fn lift_the_limit() {
    setrlimit(Resource::RLIMIT_AS, RLIM_INFINITY, RLIM_INFINITY).unwrap();
}

#[test]
fn a_role_without_a_taker_waits_for_a_thread() {
    let open = Arc::new(AtomicBool::new(false));
    let wait = Arc::clone(&open);
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let builder = EventLoop::builder().pollers(1).on_notice(move |notice| {
        if matches!(notice, Notice::ThreadsRefused { .. }) {
            count.fetch_add(1, SeqCst);
        }
    });
    let service = service_fn(move |conn| {
        if conn.peek(5)?[4] == b'w' {
            let start = Instant::now();
            while !wait.load(SeqCst) && start.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(1));
            }
        }
        let (r, w) = conn.split();
        w.write_bytes(r.slice(r.len())?)?;
        w.flush()?;
        Ok(())
    });
    let (event_loop, addr) = serve(builder, service.framing(LengthPrefixed::u32_be()));
    let mut good = connect(addr);
    // More than there can be spare threads by now: a busy machine may have seen rescues.
    let mut blocked: Vec<_> = (0..16).map(|_| connect(addr)).collect();
    ping(&mut good, b"good");

    leave_no_room_for_a_stack();
    let refused = EventLoop::builder().pollers(1).build();
    for client in &mut blocked {
        client.write_all(&frame(b"wait")).unwrap();
    }
    good.write_all(&frame(b"good")).unwrap();
    eventually("a thread is refused", || event_loop.stats().threads_refused > 0);
    eventually("it is said", || told.load(SeqCst) > 0);
    assert!(event_loop.stats().rescues > 0);
    lift_the_limit();
    assert!(matches!(refused, Err(BuildError::Threads(_))), "{refused:?}");

    // The handlers still wait, so it is a new thread that answers.
    assert_eq!(read_frame(&mut good).unwrap(), b"good");
    ping(&mut good, b"again");
    open.store(true, SeqCst);
    for client in &mut blocked {
        assert_eq!(read_frame(client).unwrap(), b"wait");
    }
}
