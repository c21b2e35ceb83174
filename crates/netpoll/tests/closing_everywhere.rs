//! Closed by four threads at any point of its life, and inside each callback: each callback once, each
//! descriptor closed once, no panic, and no error but the documented ones.

mod common;

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
};

use common::{
    PATIENCE, connect, eventually, frame, pattern,
    process::{descriptors, in_child},
    serve, stress,
};
use netpoll::{
    Callbacks, Connection, Error, EventLoop, Handle, LengthPrefixed, Reader, Slice, Writer,
    WriterExt,
};

/// What the server is in the middle of; for the last six: in which callback it closes by itself, too.
const POINTS: [&str; 11] = [
    "in connect",
    "in request",
    "in flush",
    "in next",
    "in slice drop",
    "prepare",
    "connect",
    "request",
    "end",
    "disconnect",
    "close",
];

/// What is in flight when it closes.
const MUCH: usize = 512 << 10;

/// What became of one connection.
#[derive(Default)]
struct Story {
    calls: Mutex<Vec<&'static str>>,
    /// Closed and all said.
    over: AtomicBool,
}

impl Story {
    fn add(&self, what: &'static str) {
        self.calls.lock().unwrap().push(what);
    }

    fn count(&self, what: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|call| **call == what).count()
    }

    /// Every callback exactly once, or never where it was closed before.
    fn check(&self, what: &str) {
        let calls = self.calls.lock().unwrap().clone();
        for call in &calls {
            assert!(*call == "request" || self.count(call) == 1, "{what}: {call} in {calls:?}");
        }
        let serial: Vec<_> = calls.iter().copied().filter(|call| *call != "disconnect").collect();
        assert_eq!(serial.first(), Some(&"prepare"), "{what}: {calls:?}");
        let end = ["close", "second closer", "first closer"];
        assert!(serial.ends_with(&end), "{what}: {calls:?}");
    }
}

type Born = (Handle, Arc<Story>);

/// What the rounds, which come one after the other, share with the server.
#[derive(Default)]
struct Stage {
    point: AtomicUsize,
    handles: Mutex<Option<mpsc::Sender<Born>>>,
    slices: Mutex<Option<mpsc::Sender<Slice>>>,
}

impl Stage {
    fn is_at(&self, point: &str) -> bool {
        POINTS[self.point.load(SeqCst)] == point
    }

    fn close_at(&self, point: &str, handle: &Handle) {
        if self.is_at(point) {
            handle.close();
            assert!(!handle.is_active());
        }
    }
}

/// The state of a connection.
struct State {
    story: Arc<Story>,
    kept: Vec<Slice>,
}

fn is_documented(error: &Error) -> bool {
    let pipe = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
    error.is_closed()
        || matches!(error, Error::WouldWait)
        || matches!(error, Error::Io(e) if pipe(e))
}

/// What a connection is in the middle of, when it is closed.
fn busy(stage: &Stage, conn: &mut Connection, state: &mut State) -> Result<(), Error> {
    let (r, w) = conn.split();
    let message = r.slice(r.len())?;
    match POINTS[stage.point.load(SeqCst)] {
        "in flush" => {
            w.write_binary(&pattern(MUCH, 1))?;
            w.flush()?;
        }
        // Kept here until the close, sent to the peer, and dropped by a third.
        "in slice drop" => {
            for _ in 0..8 {
                state.kept.push(message.clone());
                if let Some(drops) = &*stage.slices.lock().unwrap() {
                    let _ = drops.send(message.clone());
                }
                w.write_bytes(message.clone())?;
                w.flush()?;
            }
        }
        _ => {
            for _ in 0..3 {
                w.write_bytes(message.clone())?;
                w.flush()?;
            }
        }
    }
    Ok(())
}

fn service(stage: &Arc<Stage>) -> Callbacks<State> {
    let stages: [_; 6] = std::array::from_fn(|_| Arc::clone(stage));
    let [prepare, connect, request, end, disconnect, close] = stages;
    let stories = Arc::new(Mutex::new(std::collections::HashMap::<u64, Arc<Story>>::new()));
    let (begun, beside, ended) = (Arc::clone(&stories), Arc::clone(&stories), stories);
    Callbacks::new(move |handle: &Handle| {
        let story = Arc::new(Story::default());
        story.add("prepare");
        begun.lock().unwrap().insert(handle.id(), Arc::clone(&story));
        let last = Arc::clone(&story);
        handle.on_close(move |_| {
            last.add("first closer");
            last.over.store(true, SeqCst);
        });
        let next = Arc::clone(&story);
        handle.on_close(move |_| next.add("second closer"));
        if let Some(handles) = &*prepare.handles.lock().unwrap() {
            let _ = handles.send((handle.clone(), Arc::clone(&story)));
        }
        prepare.close_at("prepare", handle);
        Ok(State { story, kept: Vec::new() })
    })
    .framing({
        let stage = Arc::clone(stage);
        let framed = LengthPrefixed::u32_be();
        move |buffered: &netpoll::Buffered<'_>| {
            // Some points need a handler that waits.
            if stage.is_at("in next") || stage.is_at("disconnect") {
                return Ok(netpoll::Frame::Any);
            }
            netpoll::Framing::frame(&framed, buffered)
        }
    })
    .on_connect(move |conn, state| {
        state.story.add("connect");
        connect.close_at("connect", &conn.handle());
        if connect.is_at("in connect") {
            conn.write_binary(b"welcome")?;
            conn.flush()?;
            // More than will ever come.
            conn.peek(5000)?;
        }
        Ok(())
    })
    .on_request(move |conn, state| {
        state.story.add("request");
        request.close_at("request", &conn.handle());
        if request.is_at("in next") || request.is_at("disconnect") {
            let waited = conn.next(5000).map(drop);
            return Ok(waited?);
        }
        Ok(busy(&request, conn, state)?)
    })
    .on_end(move |conn, state| {
        state.story.add("end");
        end.close_at("end", &conn.handle());
        Ok(())
    })
    .on_disconnect(move |handle| {
        let story = beside.lock().unwrap().get(&handle.id()).cloned();
        if let Some(story) = story {
            story.add("disconnect");
        }
        disconnect.close_at("disconnect", handle);
    })
    .on_close(move |handle, state, why| {
        assert!(!handle.is_active());
        close.close_at("close", handle);
        if let Some(why) = why {
            let error = why.downcast_ref::<Error>().unwrap_or_else(|| panic!("{why}"));
            assert!(is_documented(error), "{error:?}");
        }
        let story = ended.lock().unwrap().remove(&handle.id());
        story.expect("it was there").add("close");
        drop(state);
    })
}

/// Opens and closes descriptors of its own: whoever closes one too often closes one of these.
fn stranger(stop: &AtomicBool) {
    while !stop.load(SeqCst) {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        other.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = [0; 8];
        thread::yield_now();
        one.write_all(b"strange!").unwrap();
        other.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"strange!");
    }
}

#[test]
fn at_every_point_of_its_life() {
    if !in_child("at_every_point_of_its_life") {
        return;
    }
    let rounds = stress(100_000).div_ceil(3);
    for (name, runner) in common::runners() {
        let stage = Arc::new(Stage::default());
        let (send, handles) = mpsc::channel();
        *stage.handles.lock().unwrap() = Some(send);
        let (send, slices) = mpsc::channel::<Slice>();
        *stage.slices.lock().unwrap() = Some(send);
        let dropping = thread::spawn(move || {
            for slice in slices {
                assert_eq!(slice.to_vec()[..4], 1000u32.to_be_bytes());
            }
        });
        let before = descriptors();
        let builder = EventLoop::builder().pollers(2).runner(runner);
        let (event_loop, addr) = serve(builder, service(&stage));
        let closers: Vec<_> = (0..4usize)
            .map(|i| {
                let (send, orders) = mpsc::channel::<(Handle, usize)>();
                let closing = thread::spawn(move || {
                    for (handle, delay) in orders {
                        for _ in 0..(delay * (i + 1)) % 4000 {
                            std::hint::spin_loop();
                        }
                        match (delay + i) % 8 {
                            1 => handle.shutdown_write(),
                            2 => handle.pause_read(),
                            _ => {}
                        }
                        handle.close();
                        assert!(!handle.is_active());
                    }
                });
                (send, closing)
            })
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let stranger = thread::spawn(move || stranger(&until));
        let message = frame(&pattern(1000, 1));
        for round in 0..rounds {
            let point = round % POINTS.len();
            stage.point.store(point, SeqCst);
            let what = format!("{name}, {}, round {round}", POINTS[point]);
            let mut client = connect(addr);
            // It may have closed by now.
            let _ = client.write_all(&message);
            match POINTS[point] {
                "end" => drop(client.shutdown(Shutdown::Write)),
                "disconnect" if round % 2 == 0 => drop(client.shutdown(Shutdown::Both)),
                _ => {}
            }
            let (handle, story) = handles.recv_timeout(PATIENCE).expect(&what);
            if round % 3 > 0 && point < 5 {
                // Surely in the middle, and not before.
                let called = if point == 0 { "connect" } else { "request" };
                eventually(&what, || story.count(called) > 0);
            }
            for (order, _) in &closers {
                order.send((handle.clone(), round.wrapping_mul(7919) % 4001)).unwrap();
            }
            let _ = client.read_to_end(&mut Vec::new());
            drop(client);
            eventually(&what, || story.over.load(SeqCst));
            story.check(&what);
        }
        for (order, closing) in closers {
            drop(order);
            closing.join().expect("closing does not panic");
        }
        eventually(name, || event_loop.connections() == 0);
        event_loop.shutdown(PATIENCE).unwrap();
        let closes = event_loop.stats().closes;
        assert_eq!((closes.total(), closes.panicked), (rounds as u64, 0), "{name}: {closes:?}");
        drop(event_loop);
        stage.slices.lock().unwrap().take();
        dropping.join().expect("its slices are whole");
        stop.store(true, SeqCst);
        stranger.join().expect("nobody closed what is a stranger's");
        eventually(name, || descriptors() <= before);
    }
}
