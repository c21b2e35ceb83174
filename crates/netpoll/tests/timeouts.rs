//! What a loop does by the clock: idle connections, messages that do not become whole, replies that
//! nobody takes, and the time that a closed connection's last bytes are given.

mod common;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use common::{PATIENCE, connect, eventually, frame, pattern, ping, read_frame, serve};
use netpoll::{
    BoxError, Builder, Callbacks, Error, EventLoop, Handle, LengthPrefixed, MemoryBudget, Reader,
    Runner, Writer, WriterExt,
};

const MIB: usize = 1 << 20;
const SHORT: Duration = Duration::from_millis(60);
/// For tests in which the clock must not run down.
const LONG: Duration = Duration::from_secs(1000);

/// How connections ended, and when; the handle of each.
#[derive(Clone, Default)]
struct Ends {
    ends: Arc<Mutex<Vec<(u64, String, Instant)>>>,
    handles: Arc<Mutex<Vec<Handle>>>,
    /// Handlers that have begun to sleep.
    naps: Arc<AtomicUsize>,
}

impl Ends {
    /// Waits for the first end, and says why and when it was.
    #[track_caller]
    fn first(&self) -> (String, Instant) {
        eventually("an end", || !self.ends.lock().unwrap().is_empty());
        let (_, why, when) = self.ends.lock().unwrap().remove(0);
        (why, when)
    }

    fn handle(&self) -> Handle {
        eventually("a handle", || !self.handles.lock().unwrap().is_empty());
        self.handles.lock().unwrap().remove(0)
    }
}

/// An echo of frames. A body `zN` is slept over for N milliseconds first; so is `iN`, whose connection
/// may be idle for a short time only from then on.
fn echo(ends: &Ends) -> Callbacks<()> {
    let (naps, handles) = (Arc::clone(&ends.naps), Arc::clone(&ends.handles));
    let ends = Arc::clone(&ends.ends);
    Callbacks::new(move |handle: &Handle| {
        handles.lock().unwrap().push(handle.clone());
        Ok(())
    })
    .framing(LengthPrefixed::u32_be())
    .on_request(move |conn, ()| {
        let (r, w) = conn.split();
        let slice = r.slice(r.len())?;
        let body = slice.to_vec();
        if let [kind @ (b'i' | b'z'), millis @ ..] = &body[4..] {
            let millis = std::str::from_utf8(millis)?.parse()?;
            if *kind == b'i' {
                r.handle().set_idle_timeout(Some(SHORT));
            }
            naps.fetch_add(1, SeqCst);
            thread::sleep(Duration::from_millis(millis));
        }
        w.write_bytes(slice)?;
        Ok(w.flush().map(drop)?)
    })
    .on_close(move |handle, (), why: Option<BoxError>| {
        let why = why.map_or_else(String::new, |why| {
            why.downcast_ref::<Error>()
                .map_or_else(|| why.to_string(), |error| format!("{error:?}"))
        });
        ends.lock().unwrap().push((handle.id(), why, Instant::now()));
    })
}

fn one_poller() -> Builder {
    EventLoop::builder().pollers(1)
}

#[test]
fn an_idle_connection_is_closed_and_never_early() {
    for (name, runner) in common::runners() {
        let ends = Ends::default();
        let builder = one_poller().runner(runner).idle_timeout(Some(SHORT));
        let (event_loop, addr) = serve(builder, echo(&ends));
        let mut client = connect(addr);
        // It is idle from its last byte on, not from its first.
        let mut last = Instant::now();
        for _ in 0..5 {
            let start = Instant::now();
            // A busy machine may let the time pass all the same.
            if client.write_all(&frame(b"hello")).is_err() || read_frame(&mut client).is_err() {
                break;
            }
            last = start;
            thread::sleep(SHORT / 6);
        }
        let (why, when) = ends.first();
        assert_eq!(why, "IdleTimeout", "{name}");
        assert!(when - last >= SHORT, "{name}: {:?}", when - last);
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
        eventually("its end", || event_loop.connections() == 0);
    }
}

#[test]
fn the_idle_clock_stands_still() {
    let ends = Ends::default();
    let (event_loop, addr) = serve(one_poller(), echo(&ends));
    // While a request runs.
    let mut client = connect(addr);
    let start = Instant::now();
    ping(&mut client, format!("i{}", 4 * SHORT.as_millis()).as_bytes());
    assert!(start.elapsed() >= 4 * SHORT);
    let (why, when) = ends.first();
    assert_eq!(why, "IdleTimeout");
    assert!(when - start >= 5 * SHORT);
    drop((client, ends.handle()));

    // While input is paused.
    let _client = connect(addr);
    let handle = ends.handle();
    handle.pause_read();
    handle.set_idle_timeout(Some(SHORT));
    thread::sleep(4 * SHORT);
    assert_eq!(event_loop.connections(), 1);
    let resumed = Instant::now();
    handle.resume_read();
    let (why, when) = ends.first();
    assert_eq!(why, "IdleTimeout");
    assert!(when - resumed >= SHORT);
}

#[test]
fn the_idle_timeout_of_one_connection() {
    let ends = Ends::default();
    let (event_loop, addr) = serve(one_poller(), echo(&ends));
    let mut client = connect(addr);
    ping(&mut client, b"hello");
    // The poller sleeps without end, and learns of it; the other way around, too.
    let handle = ends.handle();
    handle.set_idle_timeout(Some(LONG));
    let set = Instant::now();
    handle.set_idle_timeout(Some(SHORT));
    let (why, when) = ends.first();
    assert_eq!(why, "IdleTimeout");
    assert!(when - set >= SHORT);

    let mut client = connect(addr);
    let handle = ends.handle();
    handle.pause_read();
    handle.set_idle_timeout(Some(SHORT));
    handle.set_idle_timeout(None);
    handle.resume_read();
    thread::sleep(3 * SHORT);
    assert_eq!(event_loop.connections(), 1);
    ping(&mut client, b"hello");
}

#[test]
fn a_message_must_become_whole_in_time() {
    for (name, runner) in common::runners() {
        let ends = Ends::default();
        let builder = one_poller().runner(runner).frame_timeout(Some(SHORT));
        let (_loop, addr) = serve(builder, echo(&ends));
        let mut client = connect(addr);
        // Without a message no clock runs.
        ping(&mut client, b"hello");
        thread::sleep(2 * SHORT);
        ping(&mut client, b"hello");
        // Bytes that come do not make it whole.
        let begun = Instant::now();
        let mut sent = 0;
        for byte in frame(&pattern(100_000, 1)) {
            thread::sleep(SHORT / 10);
            if client.write_all(&[byte]).is_err() || !ends.ends.lock().unwrap().is_empty() {
                break;
            }
            sent += 1;
        }
        assert!(sent < 100_000);
        let (why, when) = ends.first();
        assert_eq!(why, "FrameTimeout", "{name}");
        assert!(when - begun >= SHORT, "{name}: {:?}", when - begun);
    }
}

/// A message that never becomes whole ends its connection, and what was paused meanwhile does not count:
/// from `start` to `paused` it may have been read, and again from `resumed` on.
#[track_caller]
fn ends_in_its_own_time(ends: &Ends, start: Instant, paused: Instant, resumed: Instant) {
    let (why, when) = ends.first();
    assert_eq!(why, "FrameTimeout");
    let read = (paused - start) + when.saturating_duration_since(resumed);
    assert!(read >= SHORT, "it was read for {read:?}");
}

#[test]
fn the_time_of_a_message_stands_still_while_paused_by_hand() {
    for (_, runner) in common::runners() {
        let ends = Ends::default();
        let builder = one_poller().runner(runner).frame_timeout(Some(LONG));
        let (_event_loop, addr) = serve(builder, echo(&ends));
        let mut client = connect(addr);
        let start = Instant::now();
        client.write_all(&frame(b"hello")[..6]).unwrap();
        let handle = ends.handle();
        eventually("a part", || handle.bytes_received() == 6);
        handle.pause_read();
        let paused = Instant::now();
        handle.set_frame_timeout(Some(SHORT));
        thread::sleep(SHORT * 5 / 2);
        let resumed = Instant::now();
        handle.resume_read();
        ends_in_its_own_time(&ends, start, paused, resumed);
        // Begun during a pause, and whole behind it.
        let mut client = connect(addr);
        let handle = ends.handle();
        handle.pause_read();
        client.write_all(&frame(b"hello")).unwrap();
        handle.resume_read();
        assert_eq!(read_frame(&mut client).unwrap(), b"hello");
    }
}

#[test]
fn the_time_of_a_message_stands_still_while_a_budget_is_used_up() {
    for (_, runner) in common::runners() {
        let ends = Ends::default();
        let budget = MemoryBudget::new(64 << 10);
        let with = || one_poller().memory_budget(budget.clone()).frame_timeout(Some(LONG));
        let (_one, addr) = serve(with().runner(runner), echo(&ends));
        let mut client = connect(addr);
        let start = Instant::now();
        client.write_all(&frame(b"hello")[..6]).unwrap();
        let handle = ends.handle();
        eventually("a part", || handle.bytes_received() == 6);
        // Others use it up, and one of them has gone beyond: nobody else may.
        let (other, greedy) = serve(with(), common::echo());
        let hoard = frame(&pattern(MIB, 1));
        let mut hoarders = [connect(greedy), connect(greedy)];
        hoarders.iter_mut().for_each(|one| one.write_all(&hoard[..80 << 10]).unwrap());
        eventually("a debt", || budget.used() > budget.limit());
        client.write_all(b"h").unwrap();
        eventually("a pause", || handle.is_read_paused());
        let paused = Instant::now();
        assert_eq!(handle.bytes_received(), 6);
        handle.set_frame_timeout(Some(SHORT));
        thread::sleep(SHORT * 5 / 2);
        let resumed = Instant::now();
        drop(hoarders);
        ends_in_its_own_time(&ends, start, paused, resumed);
        assert!(handle.bytes_received() == 7 && other.stats().read_pauses > 0);
    }
}

#[test]
fn a_message_whose_last_bytes_are_there_is_in_time() {
    // The poller is held up over the deadline, and the bytes come meanwhile.
    let ends = Ends::default();
    let builder = one_poller().runner(Runner::Inline).frame_timeout(Some(LONG));
    let (_loop, addr) = serve(builder, echo(&ends));
    let (mut one, mut other) = (connect(addr), connect(addr));
    ping(&mut other, b"hello");
    let message = frame(&pattern(1000, 1));
    let handle = ends.handle();
    for round in 1..=3 {
        handle.set_frame_timeout(Some(LONG));
        one.write_all(&message[..500]).unwrap();
        eventually("the first half", || handle.bytes_received() % 1004 == 500);
        let nap = format!("z{}", SHORT.as_millis());
        other.write_all(&frame(nap.as_bytes())).unwrap();
        eventually("the nap", || ends.naps.load(SeqCst) == round);
        one.write_all(&message[500..]).unwrap();
        handle.set_frame_timeout(Some(Duration::from_millis(1)));
        assert_eq!(read_frame(&mut one).unwrap(), message[4..]);
        assert_eq!(read_frame(&mut other).unwrap(), nap.as_bytes());
    }
    assert!(ends.ends.lock().unwrap().is_empty());
}

#[test]
fn an_inline_reply_that_nobody_takes_times_out() {
    let (send, results) = mpsc::channel();
    let send = Mutex::new(send);
    let service = Callbacks::new(|_: &Handle| Ok(()))
        .on_request(|conn, ()| {
            conn.skip(conn.len())?;
            conn.write_binary(&pattern(16 * MIB, 1))?;
            Ok(conn.flush().map(drop)?)
        })
        .on_close(move |_, (), why| {
            let _ = send.lock().unwrap().send((why.unwrap().to_string(), Instant::now()));
        });
    let builder = one_poller().runner(Runner::Inline).write_timeout(Some(SHORT));
    let (event_loop, addr) = serve(builder, service);
    let mut client = connect(addr);
    let start = Instant::now();
    client.write_all(b"x").unwrap();
    let (why, when) = results.recv_timeout(PATIENCE).unwrap();
    assert_eq!(why, Error::WriteTimeout.to_string());
    assert!(when - start >= SHORT);
    eventually("its end", || event_loop.connections() == 0);
}

/// Replies to the first bytes, and closes, however much more is on its way.
fn refusing() -> Callbacks<()> {
    Callbacks::new(|_: &Handle| Ok(())).on_request(|conn, ()| {
        conn.skip(1)?;
        conn.write_binary(&pattern(100_000, 2))?;
        conn.flush()?;
        Err("refused".into())
    })
}

#[test]
fn a_reply_survives_the_close_of_a_connection_whose_peer_goes_on_sending() {
    let (much, expected) = (vec![b'x'; 4 * MIB], pattern(100_000, 2));
    for (name, runner) in common::runners() {
        let builder = one_poller().runner(runner).linger(PATIENCE);
        let (event_loop, addr) = serve(builder, refusing());
        for _ in 0..common::stress(500) {
            let mut client = connect(addr);
            client.write_all(&much).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut reply = Vec::new();
            client.read_to_end(&mut reply).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(reply == expected, "{name}: {}", reply.len());
        }
        // Nobody is kept waiting for: they have all ended.
        event_loop.shutdown(PATIENCE).unwrap();
    }
}

#[test]
fn a_dropped_connection_with_unread_input_resets_nobody() {
    let ends = Ends::default();
    let (_loop, addr) = serve(one_poller(), echo(&ends));
    let clients = EventLoop::builder().pollers(1).linger(PATIENCE).build().unwrap();
    for round in 0..common::stress(1000) {
        let mut conn = clients.dialer().dial(addr).unwrap();
        // Its first byte asks for no nap.
        let body = [b"-", &pattern(1000, round)[..]].concat();
        for _ in 0..3 {
            conn.write_binary(&frame(&body)).unwrap();
        }
        conn.flush().unwrap();
        // Replies are there, or not.
        if round % 2 == 0 {
            conn.peek(1).unwrap();
        }
        drop(conn);
        let (why, _) = ends.first();
        assert_eq!(why, "");
    }
}

/// Writes until the socket says that nobody takes it any more.
fn write_until_refused(client: &mut TcpStream) {
    let start = Instant::now();
    let error = loop {
        if let Err(error) = client.write_all(&[0; 1000]) {
            break error;
        }
        assert!(start.elapsed() < PATIENCE, "it goes on for ever");
        thread::sleep(Duration::from_millis(1));
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
}

#[test]
fn a_peer_that_does_not_end_is_left_in_time() {
    // By the deadline.
    let (_loop, addr) = serve(one_poller().linger(SHORT), refusing());
    let mut client = connect(addr);
    client.write_all(b"x").unwrap();
    let mut reply = Vec::new();
    client.read_to_end(&mut reply).unwrap();
    assert!(reply == pattern(100_000, 2));
    write_until_refused(&mut client);

    // By the number of bytes.
    let (_loop, addr) =
        serve(one_poller().linger(LONG).max_message(MIB).input_limit(MIB), refusing());
    let mut client = connect(addr);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut vec![0; 100_000]).unwrap();
    write_until_refused(&mut client);
}

#[test]
fn whoever_forces_the_end_waits_for_nobody() {
    let (event_loop, addr) = serve(one_poller().linger(LONG), refusing());
    let mut client = connect(addr);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut vec![0; 100_000]).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    // An orderly end waits for the peer; nothing is served any more.
    eventually("its close", || event_loop.connections() == 0);
    assert_eq!(event_loop.shutdown(Duration::from_millis(20)).unwrap_err().connections, 0);
    event_loop.shutdown_now();
    event_loop.shutdown(PATIENCE).unwrap();
    write_until_refused(&mut client);
}

#[test]
fn timers_of_many_connections() {
    // Each has its own time; none is closed before it, and none is forgotten.
    let ends = Ends::default();
    let early = Arc::new(AtomicUsize::new(0));
    let (event_loop, addr) = serve(EventLoop::builder().pollers(2), echo(&ends));
    let count = 200;
    let clients: Vec<_> = (0..count).map(|_| connect(addr)).collect();
    eventually("all", || ends.handles.lock().unwrap().len() == count);
    for (i, handle) in ends.handles.lock().unwrap().iter().enumerate() {
        let timeout = Duration::from_millis((i as u64 * 37) % 150 + 1);
        let (early, start) = (Arc::clone(&early), Instant::now());
        handle.on_close(move |_| {
            early.fetch_add(usize::from(start.elapsed() < timeout), SeqCst);
        });
        handle.set_idle_timeout(Some(timeout));
    }
    eventually("all ends", || event_loop.connections() == 0);
    assert_eq!(early.load(SeqCst), 0);
    drop(clients);
}
