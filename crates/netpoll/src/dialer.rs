//! Dialing: connections that this side opens.

use std::{
    fmt, io,
    os::fd::OwnedFd,
    sync::{Arc, Weak},
    time::Duration,
};

use poller::{
    Interest,
    sys::{self, Addr},
};

use crate::{
    Error, Result, accept,
    connection::Connection,
    current,
    net::{self, ConnectOptions, ToTarget},
    net_host::Net,
    sched::Scheduler,
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
}

impl Dialer {
    pub(crate) fn new(sched: &Arc<Scheduler<Net>>) -> Self {
        let options = ConnectOptions::new().socket(sched.host.options.socket.clone());
        Self { sched: Arc::downgrade(sched), timeout: None, options }
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

    /// Opens a connection to `HOST:PORT`, `[V6]:PORT`, `unix:PATH`, `unix:@NAME` or anything else
    /// that is a [`Target`](crate::Target). Waits on the calling thread; in a handler, others are
    /// not held up by it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] with a [`ConnectError`](crate::ConnectError), which tells every address that
    /// was tried and why it failed ([`Error::is_timeout`] where time ran out);
    /// [`Error::Closed`] where the loop is gone, or is ended at once while this waits to connect
    /// (looking up a name cannot be called off); [`Error::WouldWait`] under
    /// [`Runner::Inline`](crate::Runner::Inline).
    pub fn dial(&self, target: impl ToTarget) -> Result<Connection> {
        let sched = self.sched.upgrade().ok_or(Error::Closed)?;
        if sched.is_ending() {
            return Err(Error::Closed);
        }
        current::before_wait()?;
        let deadline = self.timeout.and_then(|timeout| sys::now().checked_add(timeout));
        let off = &sched.host.dials_off;
        let connected = net::connect_unless(target, &self.options, deadline, Some(off));
        let fd = connected.map_err(|error| match error.is_called_off() {
            true => Error::Closed,
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
    inner.enter_table()?;
    inner.register(Interest::RDHUP)?;
    inner.shared.life.open();
    inner.home().sched.host.tally.dialed.count();
    event!(DEBUG, id = inner.handle().id(), peer = ?inner.handle().peer_addr(), "dialed");
    Ok(conn)
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
