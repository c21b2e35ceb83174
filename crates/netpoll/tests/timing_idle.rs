//! What nobody uses uses no time: the whole process is measured, so nothing else runs here.

mod common;

use std::{
    io::{Read, Write},
    net::Shutdown,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use common::{PATIENCE, connect, eventually, frame, pattern, process::cpu_time, read_frame, serve};
use netpoll::{Callbacks, EventLoop, Handle, LengthPrefixed, Reader, Writer, service_fn};

/// The whole process is measured: one test at a time, also where the runner knows threads only.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|e| e.into_inner())
}

#[test]
fn idle_loops_use_no_time() {
    let _alone = alone();
    let (event_loop, addr) = serve(EventLoop::builder().pollers(2), service_fn(|_| Ok(())));
    let mut clients: Vec<_> = (0..50).map(|_| connect(addr)).collect();
    clients.iter_mut().for_each(|client| client.write_all(b"left unread").unwrap());
    eventually("all", || event_loop.connections() == 50);
    thread::sleep(Duration::from_millis(50));
    let before = cpu_time();
    thread::sleep(Duration::from_millis(500));
    let used = cpu_time() - before;
    assert!(used < Duration::from_millis(50), "{used:?} of CPU while nothing happens");
    drop(event_loop);
    for client in &mut clients {
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    }
}

/// The peer ends its half behind its request, and is answered 100 ms later: meanwhile nobody spins
/// about the end that is there to be read.
#[test]
fn a_half_close_is_answered_later_without_spinning() {
    let _alone = alone();
    let pause = Duration::from_millis(100);
    let reply = Arc::new(frame(&pattern(1 << 20, 3)));
    for announced in [false, true] {
        let bytes = Arc::clone(&reply);
        let (send, used) = mpsc::channel();
        let send = Mutex::new(send);
        let service = service_fn(move |conn| {
            conn.skip(conn.len())?;
            let before = cpu_time();
            if announced {
                netpoll::block_in_place(|| thread::sleep(pause));
            } else {
                thread::sleep(pause);
            }
            send.lock().unwrap().send(cpu_time() - before).unwrap();
            conn.write_binary(&bytes)?;
            Ok(conn.flush().map(drop)?)
        })
        .framing(LengthPrefixed::u32_be());
        let (event_loop, addr) = serve(EventLoop::builder().pollers(1), service);
        let mut client = connect(addr);
        client.write_all(&frame(b"a request")).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(read_frame(&mut client).unwrap() == reply[4..]);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        let used = used.recv_timeout(PATIENCE).unwrap();
        assert!(used < pause / 2, "{used:?} of CPU in {pause:?} without anything to do");
        eventually("its end", || event_loop.connections() == 0);
    }
}

/// A peer that sends as fast as it can to a handler that does not read: it is held back, nobody spins,
/// and once the handler reads, all of it comes.
#[test]
fn a_greedy_peer_is_held_back_without_spinning() {
    let _alone = alone();
    let (limit, much) = (64 << 10, 8 << 20);
    let total = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&total);
    let (send, handles) = mpsc::channel();
    let send = Mutex::new(send);
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let service = Callbacks::new(move |handle: &Handle| {
        send.lock().unwrap().send(handle.clone())?;
        Ok(())
    })
    .on_request(move |conn, ()| {
        if count.load(SeqCst) == 0 {
            // Until it is told to go on.
            let _ = netpoll::block_in_place(|| gate.lock().unwrap().recv_timeout(PATIENCE));
        }
        count.fetch_add(conn.len(), SeqCst);
        Ok(conn.skip(conn.len())?)
    });
    let (event_loop, addr) = serve(EventLoop::builder().pollers(1).input_limit(limit), service);
    let sending = thread::spawn(move || {
        let mut client = connect(addr);
        client.write_all(&vec![7; much]).unwrap();
    });
    let handle = handles.recv_timeout(PATIENCE).unwrap();
    eventually("its limit", || handle.is_read_paused());
    // The kernel's own buffers fill up.
    thread::sleep(Duration::from_millis(100));
    let before = cpu_time();
    thread::sleep(Duration::from_millis(300));
    let used = cpu_time() - before;
    assert!(used < Duration::from_millis(50), "{used:?} of CPU while nobody reads");
    assert!(handle.bytes_received() as usize <= limit, "{}", handle.bytes_received());
    go.send(()).unwrap();
    eventually("all of it", || total.load(SeqCst) == much);
    sending.join().unwrap();
    eventually("its end", || event_loop.connections() == 0);
}
