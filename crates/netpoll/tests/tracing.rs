//! What the feature `tracing` tells: one collector for the whole process, since events come from the
//! loops' threads.
#![cfg(feature = "tracing")]

mod common;

use std::{
    fmt,
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::{Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use common::{connect, eventually, serve};
use netpoll::{Callbacks, EventLoop, Handle, Reader, Writer, service_fn};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

static EVENTS: Mutex<Vec<(Level, String)>> = Mutex::new(Vec::new());

/// Writes down every event of the crate, and panics at some: that is nobody's harm but its own.
struct Collector;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.0.push_str(&format!("{value:?}")),
            name => self.0.push_str(&format!(" {name}={value:?}")),
        }
    }
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "netpoll"
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let panics = line.0.contains("at this, whoever listens panics");
        EVENTS.lock().unwrap().push((*event.metadata().level(), line.0));
        assert!(!panics, "somebody who listens");
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The collector is there, and this test has it alone.
fn listen() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    static THERE: OnceLock<()> = OnceLock::new();
    let guard = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    THERE.get_or_init(|| tracing::subscriber::set_global_default(Collector).unwrap());
    EVENTS.lock().unwrap().clear();
    guard
}

/// Waits for an event of this level whose line has all of these in it.
#[track_caller]
fn expect(level: Level, parts: &[&str]) -> String {
    let mut found = None;
    eventually(&format!("{level} {parts:?} in {:#?}", EVENTS.lock().unwrap()), || {
        let events = EVENTS.lock().unwrap();
        let fits = |line: &str| parts.iter().all(|part| line.contains(part));
        found = events.iter().find(|(l, line)| *l == level && fits(line)).map(|e| e.1.clone());
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn a_connection_from_its_beginning_to_its_end() {
    let _alone = listen();
    let service = Callbacks::new(|_: &Handle| Ok(())).on_request(|conn, ()| {
        match conn.read_byte()? {
            // Waits, and is told that its peer has gone.
            b'w' => conn.read_byte().map(drop)?,
            // The same, until time is up.
            b't' => {
                conn.handle().set_read_timeout(Some(Duration::from_millis(1)));
                conn.read_byte().map(drop)?;
            }
            b'p' => panic!("at this, whoever listens panics"),
            b'e' => return Err("no such request".into()),
            _ => conn.handle().close(),
        }
        Ok(())
    });
    let (event_loop, addr) = serve(EventLoop::builder().pollers(1), service);
    let mut client = connect(addr);
    let here = client.local_addr().unwrap().to_string();
    client.write_all(b"w").unwrap();
    let accepted = expect(Level::DEBUG, &["accepted", &here]);
    let id = accepted.split_whitespace().find(|word| word.starts_with("id=")).unwrap().to_owned();
    expect(Level::TRACE, &["a handler waits", &id]);
    drop(client);
    expect(Level::DEBUG, &["closed", &id, "the stream ended", "received=1", "sent=0"]);
    // Other reasons.
    for (request, level, parts) in [
        (b't', Level::DEBUG, &["a read timed out"][..]),
        (b't', Level::DEBUG, &["closed", "timed out"]),
        (b'p', Level::WARN, &["a callback panicked", "panic="]),
        (b'p', Level::DEBUG, &["closed", "a callback panicked"]),
        (b'e', Level::DEBUG, &["closed", "no such request"]),
        (b'c', Level::DEBUG, &["closed", "received=1"]),
    ] {
        EVENTS.lock().unwrap().clear();
        let mut client = connect(addr);
        client.write_all(&[request]).unwrap();
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
        expect(level, parts);
    }
    eventually("none", || event_loop.connections() == 0);
}

#[test]
fn dialing_attaching_taking_and_limits() {
    let _alone = listen();
    let service = service_fn(|conn| {
        conn.skip(conn.len())?;
        drop(conn.take());
        Ok(())
    });
    let builder = EventLoop::builder()
        .pollers(1)
        .max_connections(Some(1))
        .max_message(1000)
        .output_limit(1000)
        .input_limit(1000);
    let (event_loop, addr) = serve(builder, service);
    let mut conn = event_loop.dialer().dial(addr).unwrap();
    expect(Level::DEBUG, &["dialed", &addr.to_string()]);
    expect(Level::DEBUG, &["accepted"]);
    let other = EventLoop::builder().pollers(1).build().unwrap();
    assert!(conn.write_binary(&[0; 2001]).is_err());
    expect(Level::DEBUG, &["the output limit is reached", "requested=2001"]);
    assert!(conn.next(1001).is_err());
    expect(Level::DEBUG, &["the input limit is reached", "requested=1001", "limit=1000"]);
    let _other = connect(addr);
    expect(Level::DEBUG, &["refused"]);
    conn.write_binary(b"x").unwrap();
    conn.flush().unwrap();
    expect(Level::DEBUG, &["taken"]);
    let pair = || UnixStream::pair().unwrap();
    let ((one, _far), (two, _away)) = (pair(), pair());
    let mut detached = other.dialer().adopt(one).unwrap();
    let id = format!("id={}", detached.handle().id());
    detached.detach().unwrap();
    expect(Level::DEBUG, &["detached", &id]);
    let dropped = other.dialer().adopt(two).unwrap();
    let id = format!("id={}", dropped.handle().id());
    drop(dropped);
    expect(Level::DEBUG, &["closed", &id]);
    other.attach(conn, service_fn(|_| Ok(())), ());
    expect(Level::DEBUG, &["attached"]);
    other.shutdown_now();
}

#[test]
fn a_handler_that_blocks_unseen_is_told() {
    let _alone = listen();
    let gate = std::sync::Arc::new(common::Gate::default());
    let pass = std::sync::Arc::clone(&gate);
    let service = service_fn(move |conn| {
        conn.skip(conn.len())?;
        pass.pass();
        Ok(())
    });
    let (_loop, addr) = serve(EventLoop::builder().pollers(1), service);
    let mut client = connect(addr);
    client.write_all(b"x").unwrap();
    expect(Level::DEBUG, &["a handler blocks"]);
    gate.open();
}
