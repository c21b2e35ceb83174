//! A connection seen from anywhere: what works as long as somebody keeps it, also past the end.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use poller::sys::{self, Addr};

use super::{ends, inner::Inner, state::Life, wait};
use crate::{
    config::Options,
    contain::contained,
    lazy::Lazy,
    service::BoxError,
    sync::{
        Mutex,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
        lock,
    },
};

type Closer = Box<dyn FnOnce(&Handle) + Send>;

/// Bytes that went through a connection.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Counters {
    /// So many more were received; only who reads the socket says so.
    pub(crate) fn add_received(&self, n: usize) {
        // ORDERING: a figure for people; nothing is read through it.
        self.received.store(self.received.load(Relaxed) + n as u64, Relaxed);
    }

    /// So many more were accepted by the kernel; only the sender says so. How many those are now.
    pub(crate) fn add_sent(&self, n: usize) -> u64 {
        // ORDERING: release: who sees the count sees the bytes gone.
        let sent = self.sent.load(Relaxed) + n as u64;
        self.sent.store(sent, Release);
        sent
    }

    pub(crate) fn sent(&self) -> u64 {
        // ORDERING: pairs with the store in `add_sent`.
        self.sent.load(Acquire)
    }
}

/// A duration in one word; the largest value stands for none.
#[derive(Debug)]
struct Timeout(AtomicU64);

impl Timeout {
    fn new(timeout: Option<Duration>) -> Self {
        Self(AtomicU64::new(Self::encode(timeout)))
    }

    fn encode(timeout: Option<Duration>) -> u64 {
        timeout.map_or(u64::MAX, |t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX - 1))
    }

    fn load(&self) -> Option<Duration> {
        // ORDERING: a number; who changes it wakes who waits.
        let nanos = self.0.load(Acquire);
        (nanos != u64::MAX).then(|| Duration::from_nanos(nanos))
    }

    fn store(&self, timeout: Option<Duration>) {
        // ORDERING: as in `load`.
        self.0.store(Self::encode(timeout), Release);
    }
}

/// What outlives the descriptor. What every request touches comes first, on one line.
#[repr(C)]
pub(crate) struct Shared {
    pub(crate) life: Life,
    pub(crate) counters: Counters,
    pub(crate) options: Arc<Options>,
    id: u64,
    inner: Weak<Inner>,
    peer: Option<Addr>,
    rare: Lazy<Rare>,
}

// See `Inner`: what an idle connection costs.
#[cfg(not(netpoll_loom))]
const _: () = assert!(size_of::<Shared>() <= 88);

/// What most connections never need.
struct Rare {
    /// Asked of the kernel when somebody asks us.
    local: OnceLock<Option<Addr>>,
    read_timeout: Timeout,
    write_timeout: Timeout,
    idle_timeout: Timeout,
    frame_timeout: Timeout,
    deadlines: Mutex<(Option<Instant>, Option<Instant>)>,
    /// Close callbacks, oldest first; `None` once they have run.
    closers: Mutex<Option<Vec<Closer>>>,
    /// The first error that ended the connection.
    why: Mutex<Option<BoxError>>,
}

impl Rare {
    fn new(options: &Options) -> Self {
        Self {
            local: OnceLock::new(),
            read_timeout: Timeout::new(options.read_timeout),
            write_timeout: Timeout::new(options.write_timeout),
            idle_timeout: Timeout::new(options.idle_timeout),
            frame_timeout: Timeout::new(options.frame_timeout),
            deadlines: Mutex::new((None, None)),
            closers: Mutex::new(Some(Vec::new())),
            why: Mutex::new(None),
        }
    }
}

impl Shared {
    pub(crate) fn new(
        id: u64,
        peer: Option<Addr>,
        options: Arc<Options>,
        inner: Weak<Inner>,
    ) -> Self {
        Self {
            life: Life::new(),
            counters: Counters::default(),
            options,
            id,
            inner,
            peer,
            rare: Lazy::new(),
        }
    }

    fn inner(&self) -> Option<Arc<Inner>> {
        self.inner.upgrade()
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(|| Rare::new(&self.options))
    }

    /// When a read that began at `started` ends by time.
    pub(crate) fn read_deadline(&self, started: Instant) -> Option<Instant> {
        let rare = self.rare.get();
        let timeout = rare.map_or(self.options.read_timeout, |rare| rare.read_timeout.load());
        let by_timeout = timeout.and_then(|t| started.checked_add(t));
        wait::earlier(by_timeout, rare.and_then(|rare| lock(&rare.deadlines).0))
    }

    /// When a write that began at `started` ends by time.
    pub(crate) fn write_deadline(&self, started: Instant) -> Option<Instant> {
        let by_timeout = self.write_timeout().and_then(|t| started.checked_add(t));
        wait::earlier(by_timeout, self.rare.get().and_then(|rare| lock(&rare.deadlines).1))
    }

    pub(crate) fn write_timeout(&self) -> Option<Duration> {
        self.rare.get().map_or(self.options.write_timeout, |rare| rare.write_timeout.load())
    }

    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        self.rare.get().map_or(self.options.idle_timeout, |rare| rare.idle_timeout.load())
    }

    pub(crate) fn frame_timeout(&self) -> Option<Duration> {
        self.rare.get().map_or(self.options.frame_timeout, |rare| rare.frame_timeout.load())
    }

    /// Remembers why the connection ends; the first reason counts.
    pub(crate) fn blame(&self, why: BoxError) {
        let late = {
            let mut first = lock(&self.rare().why);
            if first.is_some() { Some(why) } else { first.replace(why) }
        };
        // Outside the lock: an error is a user's value.
        contained(|| drop(late));
    }

    pub(crate) fn take_blame(&self) -> Option<BoxError> {
        self.rare.get().and_then(|rare| lock(&rare.why).take())
    }
}

/// A connection's figures at one moment. See [`Handle::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Bytes received from the peer so far.
    pub bytes_received: u64,
    /// Bytes that the kernel has accepted for sending so far.
    pub bytes_sent: u64,
    /// Bytes that were flushed and that the kernel has not accepted yet.
    pub unsent: u64,
    /// How many bytes may be unread now before reading pauses: more than the option says while
    /// somebody waits for more.
    pub input_limit: usize,
    /// Whether the socket is left alone for now.
    pub read_paused: bool,
}

/// A cheap, cloneable view of a connection that works from any thread, and goes on working after
/// the connection is closed. It does not keep the descriptor open.
///
/// Handles are equal if they belong to the same connection.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// A number that no other connection of this process has or had.
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// The address on this side, where the socket has one. Asked of the kernel the first time;
    /// `None` if the connection had closed before that.
    pub fn local_addr(&self) -> Option<&Addr> {
        let ask = || self.shared.inner().and_then(|inner| sys::local_addr(inner.fd()).ok());
        self.shared.rare().local.get_or_init(ask).as_ref()
    }

    /// The peer's address, where the socket has one.
    pub fn peer_addr(&self) -> Option<&Addr> {
        self.shared.peer.as_ref()
    }

    /// Whether nothing is known that speaks against using the connection: neither side has closed
    /// or half-closed it, as far as was heard. Does no I/O.
    pub fn is_active(&self) -> bool {
        self.shared.life.is_active()
    }

    /// Starts closing the connection and returns. Calls on it that wait end with
    /// [`Error::Closed`](crate::Error::Closed); callbacks that run are left to finish; `on_close`
    /// and the close callbacks follow. Closing twice does nothing.
    pub fn close(&self) {
        let inner = self.shared.inner();
        let wake = || inner.iter().for_each(|inner| inner.wake_all());
        if ends::ask_to_close(&self.shared.life, wake) {
            if let Some(inner) = inner {
                if inner.is_served() {
                    inner.call();
                } else {
                    inner.close_unserved(true);
                }
            }
        }
    }

    /// Ends our half of the stream: the peer reads what was flushed, and then the end. Reading
    /// goes on.
    pub fn shutdown_write(&self) {
        if let Some(inner) = self.shared.inner() {
            inner.shutdown_write();
        }
    }

    /// How long one call may wait for bytes. `None`: for ever. Holds from the next wait on, and
    /// for one that is under way from its next look.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        self.shared.rare().read_timeout.store(timeout);
        self.look_again();
    }

    /// How long one `flush` may wait for room. `None`: for ever. A connection whose write timed
    /// out is done for: half a message may be on the wire.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        self.shared.rare().write_timeout.store(timeout);
        self.look_again();
    }

    /// The moment at which reads that wait end, now and later. Wakes who waits.
    pub fn set_read_deadline(&self, deadline: Option<Instant>) {
        lock(&self.shared.rare().deadlines).0 = deadline;
        self.look_again();
    }

    /// The moment at which flushes that wait end, now and later. Wakes who waits.
    pub fn set_write_deadline(&self, deadline: Option<Instant>) {
        lock(&self.shared.rare().deadlines).1 = deadline;
        self.look_again();
    }

    /// How long the connection may be without bytes, either way, and without a callback, while a
    /// loop serves it: see [`Builder::idle_timeout`](crate::Builder::idle_timeout). `None`: for
    /// ever. Counts from this call.
    pub fn set_idle_timeout(&self, timeout: Option<Duration>) {
        self.shared.rare().idle_timeout.store(timeout);
        if let Some(inner) = self.shared.inner() {
            inner.set_idle_clock(timeout.is_some());
            inner.rearm_clocks();
        }
    }

    /// How long a message may take until it is whole: see
    /// [`Builder::frame_timeout`](crate::Builder::frame_timeout). `None`: for ever. Holds for a
    /// message that is under way as well, if it was begun under a timeout.
    pub fn set_frame_timeout(&self, timeout: Option<Duration>) {
        self.shared.rare().frame_timeout.store(timeout);
        if let Some(inner) = self.shared.inner() {
            inner.rearm_clocks();
        }
    }

    pub(super) fn inner(&self) -> Option<Arc<Inner>> {
        self.shared.inner()
    }

    fn look_again(&self) {
        if let Some(inner) = self.shared.inner() {
            inner.wake_all();
        }
    }

    /// Stops reading the socket: the peer is held back by the kernel's buffers. What is buffered
    /// here is still handled.
    pub fn pause_read(&self) {
        if let Some(inner) = self.shared.inner() {
            let _ = inner.flow.pause_by_hand(true);
            inner.note_pause();
            inner.wake_all();
        }
    }

    /// Goes on reading after [`Handle::pause_read`].
    pub fn resume_read(&self) {
        if let Some(inner) = self.shared.inner() {
            inner.stir();
            if inner.flow.pause_by_hand(false) {
                inner.rearm();
            } else {
                inner.go_on_reading();
            }
            inner.wake_all();
        }
    }

    /// Whether the socket is left alone for now: too much is unread, or somebody paused it.
    pub fn is_read_paused(&self) -> bool {
        self.shared.inner().is_some_and(|inner| inner.flow.is_paused())
    }

    /// Adds a callback for when the connection has closed. They run once each, the newest first,
    /// after the service's `on_close`; on a connection that has already closed, at once, on the
    /// calling thread. A panic in one is contained.
    pub fn on_close(&self, callback: impl FnOnce(&Handle) + Send + 'static) {
        let late = match &mut *lock(&self.shared.rare().closers) {
            Some(closers) => {
                closers.push(Box::new(callback));
                None
            }
            None => Some(callback),
        };
        if let Some(callback) = late {
            contained(|| callback(self));
        }
    }

    /// The connection has closed: runs the close callbacks.
    pub(crate) fn run_closers(&self) {
        let closers = lock(&self.shared.rare().closers).take();
        for callback in closers.into_iter().flatten().rev() {
            contained(|| callback(self));
        }
    }

    /// How the connection stands at this moment: a snapshot of plain counters.
    #[doc(alias = "snapshot")]
    pub fn stats(&self) -> ConnectionStats {
        let inner = self.shared.inner();
        let inner = inner.as_deref();
        ConnectionStats {
            bytes_received: self.bytes_received(),
            bytes_sent: self.bytes_sent(),
            unsent: inner.map_or(0, Inner::unsent),
            input_limit: inner.map_or(0, |inner| inner.flow.limit()),
            read_paused: inner.is_some_and(|inner| inner.flow.is_paused()),
        }
    }

    /// Bytes received from the peer so far.
    pub fn bytes_received(&self) -> u64 {
        self.shared.counters.received.load(Relaxed)
    }

    /// Bytes that the kernel has accepted for sending so far.
    pub fn bytes_sent(&self) -> u64 {
        self.shared.counters.sent()
    }
}

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        self.shared.id == other.shared.id
    }
}

impl Eq for Handle {}

impl Hash for Handle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.shared.id.hash(state);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("id", &self.shared.id)
            .field("peer", &self.shared.peer)
            .field("life", &self.shared.life)
            .finish_non_exhaustive()
    }
}
