//! Dialing: connections that this side opens.

use std::{
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use poller::{
    Interest,
    sys::{self, Addr, TimerFd},
};

use crate::{
    Error, Result, accept,
    connection::Connection,
    current,
    net::{self, ConnectOptions, ToTarget},
    net_host::{Net, ahead::Near},
    sched::Scheduler,
    sync::atomic::{
        AtomicBool,
        Ordering::{Acquire, Release},
    },
    trace::event,
};

/// Opens connections. Comes from [`EventLoop::dialer`](crate::EventLoop::dialer), and does not
/// keep the loop alive. Cheap to clone; works from any thread.
///
/// A dialed connection is read by the thread that wants its bytes. The loop only watches it for
/// hang-up, so that [`Handle::is_active`](crate::Handle::is_active) knows without I/O.
#[derive(Clone)]
pub struct Dialer {
    sched: Weak<Scheduler<Net>>,
    timeout: Option<Duration>,
    options: ConnectOptions,
    off: Option<CallOff>,
}

impl Dialer {
    pub(crate) fn new(sched: &Arc<Scheduler<Net>>) -> Self {
        let options = ConnectOptions::new().socket(sched.host.options.socket.clone());
        Self { sched: Arc::downgrade(sched), timeout: None, options, off: None }
    }

    /// From where and how to connect. The default is the system's choice, with the loop's socket
    /// options.
    #[must_use]
    pub fn options(mut self, options: ConnectOptions) -> Self {
        self.options = options;
        self
    }

    /// How long one dial may take. `None`, the default: as long as the system tries.
    #[must_use]
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// Has `off` end dials of this dialer from another thread, as far as that can be: looking up a
    /// name goes on.
    #[must_use]
    pub fn call_off(mut self, off: &CallOff) -> Self {
        self.off = Some(off.clone());
        self
    }

    /// Opens a connection to `HOST:PORT`, `[V6]:PORT`, `unix:PATH`, `unix:@NAME` or anything else
    /// that is a [`Target`](crate::Target). Waits on the calling thread; in a handler, others are
    /// not held up by it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] with a [`ConnectError`](crate::ConnectError), which tells every address that
    /// was tried and why it failed ([`Error::is_timeout`] where time ran out);
    /// [`Error::Closed`] where the loop is gone, or is ended at once while this waits to connect
    /// (looking up a name cannot be called off); [`Error::Closed`] or [`Error::DialTimeout`] where a
    /// [`CallOff`] ended it; [`Error::WouldWait`] under [`Runner::Inline`](crate::Runner::Inline).
    pub fn dial(&self, target: impl ToTarget) -> Result<Connection> {
        let sched = self.sched.upgrade().ok_or(Error::Closed)?;
        if sched.is_ending() {
            return Err(Error::Closed);
        }
        current::before_wait()?;
        let deadline = self.timeout.and_then(|timeout| sys::now().checked_add(timeout));
        let mut off = vec![sched.host.dials_off.as_fd()];
        off.extend(self.off.iter().map(|off| off.0.alarm.as_fd()));
        let connected = net::connect_unless(target, &self.options, deadline, &off);
        let fd = connected.map_err(|error| match error.is_called_off() {
            true if sched.host.is_forced() => Error::Closed,
            true => self.off.as_ref().map_or(Error::Closed, CallOff::reason),
            false => io::Error::from(error).into(),
        })?;
        if sched.is_ending() {
            return Err(Error::Closed);
        }
        let peer = sys::peer_addr(&fd).ok();
        watched(sched, fd, peer)
    }

    /// Adopts a connected stream socket: one of the standard library's, one half of a pair, or one
    /// that was inherited. It becomes non-blocking and close-on-exec, and a connection like a
    /// dialed one.
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use netpoll::{EventLoop, Reader, Writer};
    ///
    /// let event_loop = EventLoop::new()?;
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let mut ours = event_loop.dialer().adopt(ours)?;
    /// let theirs = event_loop.dialer().adopt(theirs)?;
    /// ours.write_binary(b"hello")?;
    /// ours.flush()?;
    /// assert_eq!(theirs.next(5)?, b"hello");
    /// # Ok::<(), netpoll::BoxError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Io`] with [`InvalidInput`](io::ErrorKind::InvalidInput) where it is no stream
    /// socket, or with [`NotConnected`](io::ErrorKind::NotConnected); [`Error::Closed`] where the
    /// loop is gone. The descriptor is closed then.
    pub fn adopt(&self, socket: impl Into<OwnedFd>) -> Result<Connection> {
        let sched = self.sched.upgrade().ok_or(Error::Closed)?;
        if sched.is_ending() {
            return Err(Error::Closed);
        }
        let fd = socket.into();
        if !sys::is_stream(&fd).unwrap_or(false) {
            let what = "the descriptor is not a stream socket";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what).into());
        }
        let peer = sys::peer_addr(&fd)?;
        sys::set_nonblocking(&fd, true)?;
        sys::set_cloexec(&fd, true)?;
        watched(sched, fd, Some(peer))
    }
}

/// A connection that a poller of `sched` watches for hang-up.
fn watched(sched: Arc<Scheduler<Net>>, fd: OwnedFd, peer: Option<Addr>) -> Result<Connection> {
    let is_tcp = peer.as_ref().is_some_and(|peer| !peer.is_unix());
    let options = Arc::clone(&sched.host.options);
    let berth = sched.host.berth(&sched)?;
    let conn = accept::connection(fd, peer, is_tcp, &options, berth);
    let inner = conn.inner();
    inner.enter_table(Near::default())?;
    inner.register(Interest::RDHUP)?;
    inner.shared.life.open();
    inner.home().sched.host.tally.dialed.count();
    event!(DEBUG, id = inner.handle().id(), peer = ?inner.handle().peer_addr(), "dialed");
    Ok(conn)
}

/// Ends dials that wait, from another thread: at once, or at a moment that may still change. Cheap to
/// clone, and clones are the same. Has a descriptor.
///
/// ```
/// use netpoll::{CallOff, Error, EventLoop};
///
/// let event_loop = EventLoop::new()?;
/// let off = CallOff::new()?;
/// let dialer = event_loop.dialer().call_off(&off);
/// off.now(); // from any thread, before or while it dials
/// assert!(matches!(dialer.dial("192.0.2.1:7"), Err(Error::Closed)));
/// # Ok::<(), netpoll::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct CallOff(Arc<Off>);

#[derive(Debug)]
struct Off {
    alarm: TimerFd,
    /// For good.
    over: AtomicBool,
}

impl CallOff {
    /// One that ends nothing yet.
    ///
    /// # Errors
    ///
    /// When the process or the system is out of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Off { alarm: TimerFd::new()?, over: AtomicBool::new(false) })))
    }

    /// Ends every dial that waits under it, and every later one, with [`Error::Closed`].
    pub fn now(&self) {
        // ORDERING: release, before the alarm that has it looked at.
        self.0.over.store(true, Release);
        self.set(Some(Duration::ZERO));
    }

    /// Dials that wait under it at this moment end then, with [`Error::DialTimeout`]; as do later
    /// ones. `None`: none ends. Wakes who waits. Does nothing after [`now`](Self::now).
    pub fn at(&self, deadline: Option<Instant>) {
        self.set(deadline.map(|at| at.saturating_duration_since(sys::now())));
        if self.is_over() {
            self.set(Some(Duration::ZERO));
        }
    }

    fn set(&self, after: Option<Duration>) {
        // The kernel has no reason to refuse.
        let _ = self.0.alarm.set(after);
    }

    fn is_over(&self) -> bool {
        // ORDERING: pairs with the store in `now`.
        self.0.over.load(Acquire)
    }

    fn reason(&self) -> Error {
        if self.is_over() { Error::Closed } else { Error::DialTimeout }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
