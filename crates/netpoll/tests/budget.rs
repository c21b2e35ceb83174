//! A budget for received bytes that connections and loops share: never passed by more than one
//! connection's limit, given back in every way, and in nobody's way for good.

mod common;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
};

use common::{
    Gate, PATIENCE, answer, connect, echo, eventually, frame, pattern, read_frame, reset_on_drop,
    runners, serve, serve_on,
};
use netpoll::{
    Builder, Callbacks, Connection, Delimited, EventLoop, Handle, LengthPrefixed, MemoryBudget,
    Reader, Writer, WriterExt, service_fn,
};

fn with(budget: &MemoryBudget) -> Builder {
    EventLoop::builder().pollers(2).memory_budget(budget.clone())
}

/// Watches the most that is used while `f` runs.
fn most_used<R>(budget: &MemoryBudget, f: impl FnOnce() -> R) -> (usize, R) {
    let (over, most) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                most.fetch_max(budget.used(), SeqCst);
                thread::yield_now();
            }
        });
        // Also where `f` panics, or the scope would wait for ever.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, SeqCst);
            }
        }
        let guard = Over(&over);
        let result = f();
        drop(guard);
        (most.load(SeqCst), result)
    })
}

/// A service that consumes nothing.
fn hoarder() -> Callbacks<()> {
    service_fn(|_| Ok(()))
}

/// A connection to `addr` from which `n` bytes are on their way.
fn hoarding(addr: SocketAddr, n: usize) -> TcpStream {
    let mut client = connect(addr);
    client.write_all(&pattern(n, 1)).unwrap();
    client
}

#[test]
fn greedy_connections_stay_within_it() {
    const CONNS: usize = 24;
    const TOTAL: usize = 200 << 10;
    const OWN: usize = 64 << 10;
    for (name, runner) in runners() {
        if name == "inline" {
            continue; // Its handlers may not block.
        }
        let budget = MemoryBudget::new(256 << 10);
        let gate = Arc::new(Gate::default());
        let pass = Arc::clone(&gate);
        let service = Callbacks::new(|_: &Handle| Ok(0)).on_request(
            move |conn: &mut Connection, seen: &mut usize| {
                pass.pass();
                let (r, w) = conn.split();
                *seen += r.len();
                r.skip(r.len())?;
                if *seen == TOTAL {
                    w.write_binary(b"!")?;
                    w.flush()?;
                }
                Ok(())
            },
        );
        let builder = with(&budget).runner(runner).input_limit(OWN).max_message(OWN);
        let (_event_loop, addr) = serve(builder, service);
        let (most, ()) = most_used(&budget, || {
            thread::scope(|scope| {
                for _ in 0..CONNS {
                    scope.spawn(|| {
                        let mut client = hoarding(addr, TOTAL);
                        client.read_exact(&mut [0]).unwrap();
                    });
                }
                eventually("it is used up", || budget.used() >= budget.limit());
                gate.open();
            });
        });
        assert!(most <= budget.limit() + OWN, "{name}: {most}");
        eventually("all is given back", || budget.used() == 0);
    }
}

#[test]
fn partial_frames_beyond_it_become_whole() {
    const CONNS: usize = 40;
    const FRAME: usize = 16 << 10;
    for (name, runner) in runners() {
        let budget = MemoryBudget::new(48 << 10);
        let builder = with(&budget).runner(runner).input_limit(FRAME).max_message(2 * FRAME);
        let (_event_loop, addr) = serve(builder, echo());
        let (most, ()) = most_used(&budget, || {
            let body = pattern(FRAME, 3);
            let bytes = frame(&body);
            let mut clients: Vec<_> = (0..CONNS).map(|_| connect(addr)).collect();
            for client in &mut clients {
                client.write_all(&bytes[..FRAME / 2]).unwrap();
            }
            eventually("parts use it up", || budget.used() >= budget.limit());
            // The one that is in debt may be any: the last is as good as the first.
            for client in clients.iter_mut().rev() {
                client.write_all(&bytes[FRAME / 2..]).unwrap();
            }
            for client in &mut clients {
                assert_eq!(read_frame(client).unwrap(), body);
            }
        });
        assert!(most <= budget.limit() + 2 * FRAME, "{name}: {most}");
        eventually("all is given back", || budget.used() == 0);
    }
}

#[test]
fn partial_lines_beyond_it_become_whole() {
    const CONNS: usize = 20;
    let budget = MemoryBudget::new(5_000);
    let service = service_fn(answer).framing(Delimited::new("\n"));
    let (_event_loop, addr) = serve(with(&budget), service);
    let mut clients: Vec<_> = (0..CONNS).map(|_| hoarding_line(addr)).collect();
    eventually("parts use it up", || budget.used() >= budget.limit());
    for client in &mut clients {
        client.write_all(&[b'y'; 3_000]).unwrap();
        client.write_all(b"\n").unwrap();
    }
    for client in &mut clients {
        let mut line = vec![0; 6_001];
        client.read_exact(&mut line).unwrap();
        assert_eq!(line.last(), Some(&b'\n'));
    }
    eventually("all is given back", || budget.used() == 0);
}

fn hoarding_line(addr: SocketAddr) -> TcpStream {
    let mut client = connect(addr);
    client.write_all(&[b'x'; 3_000]).unwrap();
    client
}

/// Handlers that wait for the rest of a message themselves.
#[test]
fn waiting_handlers_beyond_it_get_their_bytes() {
    const CONNS: usize = 20;
    const NEED: usize = 10_000;
    let budget = MemoryBudget::new(20_000);
    let service = service_fn(|conn| {
        let (r, w) = conn.split();
        w.write_bytes(r.slice(NEED)?)?;
        Ok(w.flush().map(drop)?)
    });
    let (_event_loop, addr) = serve(with(&budget), service);
    let mut clients: Vec<_> = (0..CONNS).map(|_| hoarding(addr, NEED / 2)).collect();
    eventually("parts use it up", || budget.used() >= budget.limit());
    for client in &mut clients {
        client.write_all(&pattern(NEED / 2, 1)).unwrap();
    }
    for client in &mut clients {
        client.read_exact(&mut [0; NEED]).unwrap();
    }
    eventually("all is given back", || budget.used() == 0);
}

/// Messages without an end from some do not keep the others waiting.
#[test]
fn a_stream_of_messages_does_not_keep_the_right() {
    let budget = MemoryBudget::new(8_000);
    let (_event_loop, addr) = serve(with(&budget), echo());
    let bytes = frame(&pattern(6_000, 5));
    let over = AtomicBool::new(false);
    let mut stuck: Vec<_> = (0..6).map(|_| connect(addr)).collect();
    for client in &mut stuck {
        client.write_all(&bytes[..4_000]).unwrap();
    }
    eventually("parts use it up", || budget.used() >= budget.limit());
    thread::scope(|scope| {
        for _ in 0..2 {
            let mut sender = connect(addr);
            let mut receiver = sender.try_clone().unwrap();
            let (bytes, over) = (&bytes, &over);
            scope.spawn(move || {
                while !over.load(SeqCst) && sender.write_all(bytes).is_ok() {}
                let _ = sender.shutdown(std::net::Shutdown::Write);
            });
            scope.spawn(move || while read_frame(&mut receiver).is_ok() {});
        }
        let mut result = Ok(());
        for client in &mut stuck {
            client.write_all(&bytes[4_000..]).unwrap();
        }
        for client in &mut stuck {
            result = result.and(read_frame(client).map(drop));
        }
        over.store(true, SeqCst);
        result.unwrap();
    });
    drop(stuck);
    eventually("all is given back", || budget.used() == 0);
}

#[test]
fn one_that_stops_in_the_middle_is_ended_and_the_next_goes_on() {
    let budget = MemoryBudget::new(1_000);
    let (send, handles) = mpsc::channel();
    let service = Callbacks::new(move |handle: &Handle| Ok(send.send(handle.clone())?));
    let service = service.on_request(|conn, ()| answer(conn)).framing(LengthPrefixed::u32_be());
    let (_event_loop, addr) = serve(with(&budget), service);
    let bytes = frame(&pattern(4_000, 2));
    let mut stopped = connect(addr);
    stopped.write_all(&bytes[..2_000]).unwrap();
    eventually("it goes beyond", || budget.used() > budget.limit());
    let mut next = connect(addr);
    next.write_all(&frame(&pattern(3_000, 4))).unwrap();
    // Of the first alone: a busy machine must not end the other by it.
    handles.recv_timeout(PATIENCE).unwrap().set_frame_timeout(Some(PATIENCE / 200));
    assert_eq!(read_frame(&mut next).unwrap(), pattern(3_000, 4));
    assert!(matches!(stopped.read(&mut [0]), Ok(0) | Err(_)));
    drop((stopped, next));
    eventually("all is given back", || budget.used() == 0);
}

#[test]
fn two_loops_share_one() {
    let budget = MemoryBudget::new(10_000);
    let (one, hoards) = serve(with(&budget), hoarder());
    let (_two, addr) = serve(with(&budget), echo());
    let client = hoarding(hoards, 12_000);
    eventually("one loop uses it up", || budget.used() == 12_000);
    let mut other = connect(addr);
    let body = pattern(3_000, 1);
    other.write_all(&frame(&body)).unwrap();
    // There is no way to see that nothing comes; it is enough that nothing has been taken.
    thread::sleep(std::time::Duration::from_millis(10));
    assert_eq!(budget.used(), 12_000);
    drop(client);
    assert_eq!(read_frame(&mut other).unwrap(), body);
    eventually("an idle connection has nothing", || budget.used() == 0);
    drop(one);
}

#[test]
fn every_end_gives_all_back() {
    const N: usize = 5_000;
    let budget = MemoryBudget::new(1 << 20);
    let (event_loop, plain) = serve(with(&budget), hoarder());
    let held = || eventually("it is held", || budget.used() == N);
    let free = |how: &str| eventually(how, || budget.used() == 0);
    let when_all = |f: fn(&mut Connection)| {
        service_fn(move |conn| {
            if conn.len() == N {
                f(conn);
            }
            Ok(())
        })
    };

    let client = hoarding(plain, N);
    held();
    drop(client);
    free("the peer closed");

    let client = hoarding(plain, N);
    held();
    reset_on_drop(&client);
    drop(client);
    free("the peer reset it");

    let handles = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&handles);
    let service = Callbacks::new(move |handle: &Handle| {
        kept.lock().unwrap().push(handle.clone());
        Ok(())
    });
    let addr = serve_on(&event_loop, service.on_request(|_, ()| Ok(())));
    let client = hoarding(addr, N);
    held();
    handles.lock().unwrap()[0].close();
    free("it was closed by its handle, which is kept");
    drop(client);

    let addr = serve_on(&event_loop, when_all(|_| panic!("on purpose")));
    let client = hoarding(addr, N);
    assert!(matches!((&client).read(&mut [0]), Ok(0) | Err(_)));
    free("the handler panicked");

    let addr = serve_on(&event_loop, when_all(|conn| drop(conn.take())));
    let client = hoarding(addr, N);
    assert!(matches!((&client).read(&mut [0]), Ok(0) | Err(_)));
    free("it was taken and dropped");

    let addr = serve_on(
        &event_loop,
        when_all(|conn| {
            let detached = conn.detach().unwrap();
            assert_eq!(detached.unread.len(), N);
        }),
    );
    let client = hoarding(addr, N);
    assert!(matches!((&client).read(&mut [0]), Ok(0) | Err(_)));
    free("it was detached");

    let other = EventLoop::builder().build().unwrap();
    let (to, taken) = (other.clone(), Arc::new(Mutex::new(None)));
    let put = Arc::clone(&taken);
    let addr = serve_on(
        &event_loop,
        service_fn(move |conn| {
            if conn.len() == N {
                *put.lock().unwrap() = conn.take();
            }
            Ok(())
        }),
    );
    let mut client = hoarding(addr, N);
    eventually("it is taken", || taken.lock().unwrap().is_some());
    held();
    let conn = taken.lock().unwrap().take().unwrap();
    to.attach(conn, service_fn(answer), ());
    client.read_exact(&mut [0; N]).unwrap();
    free("another loop's handler has read it");
    client.write_all(&[0; N]).unwrap();
    client.read_exact(&mut [0; N]).unwrap();
    drop(client);
    free("it was attached to another loop and has closed");

    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let conn = event_loop.dialer().adopt(theirs).unwrap();
    ours.write_all(&[0; N]).unwrap();
    conn.peek(N).unwrap();
    held();
    let (read, write) = conn.into_split();
    drop(read);
    free("its read half was dropped");
    drop(write);

    let client = hoarding(plain, N);
    held();
    event_loop.shutdown_now();
    free("its loop was ended");
    drop(client);
}

/// Connections that their own readers read.
#[test]
fn unpolled_readers_wait_for_it() {
    const N: usize = 4_000;
    let budget = MemoryBudget::new(N);
    let event_loop = with(&budget).build().unwrap();
    let pair = || {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(&[7; 2 * N]).unwrap();
        (ours, event_loop.dialer().adopt(theirs).unwrap())
    };
    let (_peer, first) = pair();
    first.peek(N).unwrap();
    assert_eq!(budget.used(), N);
    let (_peer, second) = pair();
    second.peek(N).unwrap();
    assert_eq!(budget.used(), 2 * N, "one may go beyond, as far as it needs");
    let (_peer, third) = pair();
    assert!(third.try_next(1).unwrap().is_none());
    third.handle().set_read_timeout(Some(PATIENCE / 2000));
    assert!(third.peek(1).unwrap_err().is_timeout());
    third.handle().set_read_timeout(Some(PATIENCE));
    thread::scope(|scope| {
        let waiting = scope.spawn(move || third.next(2 * N).map(drop));
        drop(first);
        drop(second);
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(budget.used(), 0);
}
