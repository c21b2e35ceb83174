//! From an accepted descriptor to a connection that a service's callbacks run for.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use poller::sys::Addr;

use crate::{
    Listener,
    config::Options,
    connection::{
        Connection, Handle, Served, Session,
        handle::Shared,
        inner::{Home, Inner},
    },
    net_host::Net,
    sched::{Scheduler, Seat},
    service::Service,
};

/// The next connection's id, over all loops.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A connection over `fd`, with a home and not yet in its table.
pub(crate) fn connection(
    fd: OwnedFd,
    peer: Option<Addr>,
    is_tcp: bool,
    options: &Arc<Options>,
    home: Home,
) -> Connection {
    // ORDERING: only unique.
    let id = NEXT_ID.fetch_add(1, Relaxed);
    let shared = Shared::new(id, peer, options);
    let (inner, reader, writer) =
        Inner::new(fd, is_tcp, Arc::new(shared), Arc::clone(options), home);
    Connection::new(inner, reader, writer)
}

/// Gives `conn` to the callbacks of `service`. The caller sees to it that its turn, which is
/// taken, is run.
pub(crate) fn serve<S: Service>(
    conn: Connection,
    service: Arc<S>,
    state: Option<S::State>,
) -> Arc<Inner> {
    let inner = Arc::clone(conn.inner());
    inner.set_served();
    let watcher = Arc::clone(&service);
    inner.set_on_disconnect(Arc::new(move |handle: &Handle| watcher.on_disconnect(handle)));
    let session: Box<dyn Session> = Box::new(Served::new(service, conn, state));
    inner.with_session(|place| *place = Some(session));
    inner
}

type Start = Box<dyn Fn(Connection) -> Arc<Inner> + Send + Sync>;

/// A listener, and the service of what it accepts.
pub(crate) struct Acceptor {
    pub(crate) listener: Listener,
    start: Start,
    options: Arc<Options>,
}

impl Acceptor {
    pub(crate) fn new<S: Service>(listener: Listener, service: S, options: Arc<Options>) -> Self {
        let service = Arc::new(service);
        let start = Box::new(move |conn| serve(conn, Arc::clone(&service), None));
        Self { listener, start, options }
    }

    pub(crate) fn accept(&self) -> io::Result<Option<(OwnedFd, Addr)>> {
        self.listener.accept()
    }

    /// A served connection over `fd`, with `seat` as its home and in its table.
    pub(crate) fn admit(
        &self,
        fd: OwnedFd,
        peer: Addr,
        sched: &Arc<Scheduler<Net>>,
        seat: Arc<Seat<Net>>,
    ) -> linkbuffer::Result<Arc<Inner>> {
        let is_tcp = !peer.is_unix();
        let home = Home { sched: Arc::clone(sched), seat };
        let conn = connection(fd, Some(peer), is_tcp, &self.options, home);
        conn.inner().enter_table()?;
        sched.host.catch_up(conn.inner());
        Ok((self.start)(conn))
    }
}
