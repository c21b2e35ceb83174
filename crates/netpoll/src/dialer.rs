//! Dialing: connections that this side opens.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use poller::{Interest, sys};

use crate::{
    Error, Result, accept,
    connection::{Connection, inner::Home},
    current, net,
    net_host::Net,
    sched::Scheduler,
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
}

impl Dialer {
    pub(crate) fn new(sched: &Arc<Scheduler<Net>>) -> Self {
        Self { sched: Arc::downgrade(sched), timeout: None }
    }

    /// How long one dial may take. `None`, the default: as long as the system tries.
    #[must_use]
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// Opens a connection to `HOST:PORT`, `[V6]:PORT`, `unix:PATH` or `unix:@NAME`.
    ///
    /// # Errors
    ///
    /// What the system says of every address that was tried; [`Error::DialTimeout`];
    /// [`Error::Closed`] where the loop is gone.
    pub fn dial(&self, addr: &str) -> Result<Connection> {
        let sched = self.sched.upgrade().ok_or(Error::Closed)?;
        if sched.is_ending() {
            return Err(Error::Closed);
        }
        current::before_wait()?;
        let fd = net::connect(addr, self.timeout)?;
        let peer = sys::peer_addr(&fd).ok();
        let is_tcp = peer.as_ref().is_some_and(|peer| !peer.is_unix());
        let options = Arc::clone(&sched.host.options);
        options.socket.apply_to(&fd, is_tcp)?;
        let seat = sched.host.next_seat(&sched);
        let conn = accept::connection(fd, peer, is_tcp, &options, Home { sched, seat });
        let inner = conn.inner();
        inner.enter_table()?;
        inner.register(Interest::RDHUP)?;
        inner.shared.life.open();
        Ok(conn)
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
