//! Many connections that ask for echoes and verify every byte of every reply.
//!
//! Each connection is attached to an event loop and driven by its replies: one comes, is checked,
//! and the next request goes out. In steady state none of this allocates.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
    time::{Duration, Instant},
};

use netpoll::{
    BoxError, Buffered, Connection, Dialer, EventLoop, Frame, Framing, Handle, HandlerResult,
    LengthPrefixed, ReadHalf, Reader, ReaderExt, Service, WriteHalf, Writer, WriterExt,
};

use super::{histogram::Histogram, pattern};

/// Bytes that a connection may have under way, unless one request alone is longer. Less than what
/// a loop reads ahead (1 MiB): replies are taken off the wire even while requests wait for room,
/// so the two ends never wait for each other.
const WINDOW: usize = 512 << 10;

/// What to ask for.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) connections: usize,
    /// Requests over all connections.
    pub(crate) requests: u64,
    /// The length of a request's body, from its number.
    pub(crate) size: fn(&Plan, u64) -> usize,
    /// For `size`.
    pub(crate) bytes: usize,
    /// Requests that a connection may have under way.
    pub(crate) depth: usize,
    /// Some requests go out in pieces, each with a flush of its own.
    pub(crate) in_pieces: bool,
    /// The server may end connections: requests without a reply were refused.
    pub(crate) may_be_refused: bool,
}

impl Plan {
    /// Every request is `bytes` long.
    pub(crate) fn fixed(&self, _request: u64) -> usize {
        self.bytes
    }
}

/// A plan under way.
pub(crate) struct Load {
    plan: Plan,
    started: Instant,
    /// The number of the next request.
    tickets: AtomicU64,
    stop: AtomicBool,
    pub(crate) latency: Histogram,
    replies: AtomicU64,
    bytes: AtomicU64,
    refused: AtomicU64,
    open: AtomicUsize,
    failure: Mutex<Option<String>>,
    changed: Condvar,
}

impl Load {
    /// Dials all connections and then starts on all.
    pub(crate) fn start(
        event_loop: &EventLoop,
        dialer: &Dialer,
        addr: &str,
        plan: Plan,
    ) -> Result<Arc<Self>, String> {
        let mut conns = Vec::with_capacity(plan.connections);
        for n in 1..=plan.connections {
            conns.push(dialer.dial(addr).map_err(|error| match n {
                1 => error.to_string(),
                n => format!("connection {n} of {}: {error}", plan.connections),
            })?);
        }
        let load = Arc::new(Self {
            plan,
            started: Instant::now(),
            tickets: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            latency: Histogram::new(),
            replies: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            open: AtomicUsize::new(plan.connections),
            failure: Mutex::new(None),
            changed: Condvar::new(),
        });
        for conn in conns {
            event_loop.attach(conn, Client, Stream::new(&load));
        }
        Ok(load)
    }

    /// No further requests; what is under way is still answered.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Since the first request.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Replies that came back whole and right.
    pub(crate) fn replies(&self) -> u64 {
        self.replies.load(Relaxed)
    }

    /// Bytes of these replies.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Requests without a reply.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Connections that are still open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    /// Whether every connection has closed by then. An error says what was wrong with a reply, or
    /// how a connection ended too early.
    pub(crate) fn wait(&self, within: Duration) -> Result<bool, String> {
        let deadline = Instant::now() + within;
        let mut failure = self.failure();
        loop {
            if let Some(failure) = failure.take() {
                return Err(failure);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if self.open() == 0 {
                return Ok(true);
            }
            if left.is_zero() {
                return Ok(false);
            }
            let waited = self.changed.wait_timeout(failure, left);
            failure = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn failure(&self) -> MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, why: String) {
        self.stop();
        self.failure().get_or_insert(why);
        self.changed.notify_all();
    }
}

/// A request that has no reply yet.
struct Asked {
    at: Instant,
    body: &'static [u8],
}

/// What a connection keeps.
struct Stream {
    load: Arc<Load>,
    asked: VecDeque<Asked>,
    bytes_asked: usize,
    /// A request that found no room in the window.
    next: Option<(u64, usize)>,
    /// Nothing more is asked for.
    done: bool,
}

impl Stream {
    fn new(load: &Arc<Load>) -> Self {
        Self {
            load: Arc::clone(load),
            asked: VecDeque::with_capacity(load.plan.depth),
            bytes_asked: 0,
            next: None,
            done: false,
        }
    }

    fn next_request(&mut self) -> Option<(u64, usize)> {
        if self.done || self.load.stop.load(Relaxed) {
            return None;
        }
        self.next.take().or_else(|| {
            let plan = &self.load.plan;
            let number = self.load.tickets.fetch_add(1, Relaxed);
            (number < plan.requests).then(|| (number, (plan.size)(plan, number)))
        })
    }

    /// Asks for as much as the plan allows to have under way.
    fn ask(&mut self, w: &mut WriteHalf) -> netpoll::Result<()> {
        while self.asked.len() < self.load.plan.depth {
            let Some((number, len)) = self.next_request() else {
                self.done = true;
                break;
            };
            if !self.asked.is_empty() && self.bytes_asked + len > WINDOW {
                self.next = Some((number, len));
                break;
            }
            let body = pattern::window(number, len);
            self.bytes_asked += len;
            self.asked.push_back(Asked { at: Instant::now(), body });
            if self.load.plan.in_pieces && number % 4 == 0 {
                write_in_pieces(w, number, body)?;
            } else {
                w.malloc(4)?.put_u32(len as u32);
                w.write_bytes(body)?;
            }
        }
        w.flush()?;
        Ok(())
    }

    /// Checks a reply, byte for byte.
    fn check(&mut self, r: &ReadHalf) -> netpoll::Result<Result<(), &'static str>> {
        let len = u32::from_be_bytes(r.read_array()?) as usize;
        let Some(asked) = self.asked.pop_front() else {
            return Ok(Err("a reply came that nobody asked for"));
        };
        self.bytes_asked -= asked.body.len();
        if len != asked.body.len() {
            return Ok(Err("a reply is not as long as its request"));
        }
        let mut left = asked.body;
        while !left.is_empty() {
            let chunk = r.chunk();
            let (expected, rest) = left.split_at(chunk.len().min(left.len()));
            if chunk[..expected.len()] != *expected {
                return Ok(Err("a reply has other bytes than its request"));
            }
            r.skip(expected.len())?;
            left = rest;
        }
        self.load.latency.record(asked.at.elapsed());
        self.load.bytes.fetch_add(len as u64, Relaxed);
        self.load.replies.fetch_add(1, Relaxed);
        Ok(Ok(()))
    }

    /// Asks for more, and closes the connection when nothing more is to come.
    fn go_on(&mut self, conn: &mut Connection) -> HandlerResult {
        if let Err(error) = self.ask(conn.split().1) {
            if !self.load.plan.may_be_refused {
                return Err(error.into());
            }
            // What was answered before the server stopped listening still comes.
            self.done = true;
        }
        if self.done && self.asked.is_empty() {
            conn.handle().close();
        }
        Ok(())
    }
}

/// Sends a frame in up to four pieces, cut anywhere, also inside its length.
fn write_in_pieces(w: &mut WriteHalf, number: u64, body: &'static [u8]) -> netpoll::Result<()> {
    let header = (body.len() as u32).to_be_bytes();
    let whole = header.len() + body.len();
    let mut cuts = [0; 4].map(|_: usize| whole);
    for (n, cut) in (0u64..).zip(&mut cuts[..3]) {
        *cut = (pattern::mix(number * 3 + n) % whole as u64) as usize;
    }
    cuts.sort_unstable();
    let mut from = 0;
    for to in cuts {
        w.write_binary(&header[within(from..to, 0, header.len())])?;
        w.write_bytes(&body[within(from..to, header.len(), body.len())])?;
        from = to;
        if to < whole {
            w.flush()?;
            // Lets the server see the piece before the next one comes.
            thread::yield_now();
        }
    }
    Ok(())
}

/// The part of `range` that lies in the `len` bytes from `start`, counted from there.
fn within(range: Range<usize>, start: usize, len: usize) -> Range<usize> {
    let clamp = |at: usize| at.saturating_sub(start).min(len);
    clamp(range.start)..clamp(range.end)
}

/// The callbacks of a connection that asks.
struct Client;

impl Service for Client {
    type State = Stream;

    fn on_prepare(&self, _: &Handle) -> HandlerResult<Stream> {
        Err("connections of a client are attached, never accepted".into())
    }

    fn on_connect(&self, conn: &mut Connection, stream: &mut Stream) -> HandlerResult {
        stream.go_on(conn)
    }

    fn on_request(&self, conn: &mut Connection, stream: &mut Stream) -> HandlerResult {
        if let Err(wrong) = stream.check(conn.split().0)? {
            stream.load.fail(wrong.to_owned());
            return Err(wrong.into());
        }
        stream.go_on(conn)
    }

    fn on_end(&self, conn: &mut Connection, stream: &mut Stream) -> HandlerResult {
        if !conn.is_empty() {
            stream.load.fail("the server ended a connection in the middle of a reply".to_owned());
        }
        Ok(())
    }

    fn on_close(&self, _: &Handle, stream: Stream, why: Option<BoxError>) {
        let load = &stream.load;
        let missing = stream.asked.len() as u64;
        load.refused.fetch_add(missing, Relaxed);
        if !load.plan.may_be_refused && (!stream.done || missing > 0) {
            let why = why.map_or("the server closed it".to_owned(), |why| why.to_string());
            load.fail(format!("a connection ended before its last reply: {why}"));
        }
        if load.open.fetch_sub(1, SeqCst) == 1 {
            let _guard = load.failure();
            load.changed.notify_all();
        }
    }

    fn frame(&self, buffered: &Buffered<'_>) -> netpoll::Result<Frame> {
        LengthPrefixed::u32_be().frame(buffered)
    }
}
