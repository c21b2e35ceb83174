//! What nobody uses uses no time: the whole process is measured, so nothing else runs here.

mod common;

use std::{
    io::{Read, Write},
    thread,
    time::Duration,
};

use common::{connect, eventually, serve};
use netpoll::{EventLoop, service_fn};

#[test]
fn idle_loops_use_no_time() {
    let (event_loop, addr) = serve(EventLoop::builder().pollers(2), service_fn(|_| Ok(())));
    let mut clients: Vec<_> = (0..50).map(|_| connect(addr)).collect();
    clients.iter_mut().for_each(|client| client.write_all(b"left unread").unwrap());
    eventually("all", || event_loop.connections() == 50);
    thread::sleep(Duration::from_millis(50));
    let before = process_time();
    thread::sleep(Duration::from_millis(500));
    let used = process_time() - before;
    assert!(used < Duration::from_millis(50), "{used:?} of CPU while nothing happens");
    drop(event_loop);
    for client in &mut clients {
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    }
}

fn process_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to a live one.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
