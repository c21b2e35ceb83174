//! What the integration tests share: servers on free ports, patient streams, and counts that grow
//! under `NETPOLL_STRESS=1`.

#![allow(dead_code, unreachable_pub)] // Each test uses its part of it.

pub mod process;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use netpoll::{
    Builder, Callbacks, Connection, EventLoop, HandlerResult, LengthPrefixed, Listener, Reader,
    Runner, Service, WriterExt, service_fn,
};

/// Nothing in a test waits longer than this: it fails instead.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// `n` in a stress run, 1 % of it (at least 1) otherwise.
pub fn stress(n: usize) -> usize {
    match std::env::var_os("NETPOLL_STRESS") {
        Some(_) => n,
        None => n.div_ceil(100),
    }
}

/// A loop of `builder` that serves `service` on a free loopback port.
pub fn serve<S: Service>(builder: Builder, service: S) -> (EventLoop, SocketAddr) {
    let event_loop = builder.build().unwrap();
    let addr = serve_on(&event_loop, service);
    (event_loop, addr)
}

/// Another listener of `event_loop`.
pub fn serve_on<S: Service>(event_loop: &EventLoop, service: S) -> SocketAddr {
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().as_inet().unwrap();
    event_loop.listen(listener, service).unwrap();
    addr
}

/// Sends back what is there.
pub fn answer(conn: &mut Connection) -> HandlerResult {
    let (r, w) = conn.split();
    w.write_bytes(r.slice(r.len())?)?;
    Ok(w.flush().map(drop)?)
}

/// A service that sends every frame back.
pub fn echo() -> Callbacks<()> {
    service_fn(answer).framing(LengthPrefixed::u32_be())
}

/// The same, and how many it has sent back.
pub fn counting_echo() -> (Callbacks<()>, Arc<AtomicUsize>) {
    let answered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answered);
    let service = service_fn(move |conn| {
        answer(conn)?;
        count.fetch_add(1, SeqCst);
        Ok(())
    });
    (service.framing(LengthPrefixed::u32_be()), answered)
}

/// Every runner, by name.
pub fn runners() -> Vec<(&'static str, Runner)> {
    let pool = gopool::Pool::builder().name("handlers").cap(64).queue_limit(1 << 16);
    vec![
        ("auto", Runner::Auto),
        ("inline", Runner::Inline),
        ("pool", Runner::Pool(pool.build().unwrap())),
    ]
}

/// A client of the standard library's that does not wait for ever.
pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The same for Unix sockets.
pub fn connect_unix(path: &std::path::Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Closing it resets the connection.
pub fn reset_on_drop(stream: &TcpStream) {
    poller::sys::set_linger(stream, Some(Duration::ZERO)).unwrap();
}

/// `body` behind its length in four bytes, most significant first.
pub fn frame(body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// Bytes that tell where they belong.
pub fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31 + i / 251 + seed * 7) % 256) as u8).collect()
}

/// Reads one frame's body.
pub fn read_frame(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let mut body = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// Sends `body` as a frame and expects it back.
pub fn ping(stream: &mut (impl Read + Write), body: &[u8]) {
    stream.write_all(&frame(body)).unwrap();
    assert_eq!(read_frame(stream).unwrap(), body);
}

/// Waits until `done`, and fails if it does not come.
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "it did not come: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A gate that handlers wait at, in a way that the library cannot see.
#[derive(Default)]
pub struct Gate(pub AtomicBool);

impl Gate {
    pub fn open(&self) {
        self.0.store(true, SeqCst);
    }

    pub fn pass(&self) {
        let start = Instant::now();
        while !self.0.load(SeqCst) && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What happened, in its order.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub fn count(&self, what: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|one| *one == what).count()
    }

    /// Waits until `last` is in it, and a little longer for what must not follow.
    #[track_caller]
    pub fn through(&self, last: &str) -> Vec<String> {
        eventually(&format!("{last}, after {:?}", self.all()), || self.count(last) > 0);
        thread::sleep(Duration::from_millis(5));
        self.all()
    }

    #[track_caller]
    pub fn expect(&self, what: &[&str]) {
        if let Some(last) = what.last() {
            assert_eq!(self.through(last), what);
        }
    }
}
