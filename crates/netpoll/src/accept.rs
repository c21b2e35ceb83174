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
    connection::{Connection, Served, Session, handle::Shared, inner::Inner},
    net_host::{Berth, Net, Rest, ahead::Near},
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
    berth: Berth,
) -> Connection {
    // ORDERING: only unique.
    let id = NEXT_ID.fetch_add(1, Relaxed);
    let shared = |inner| Shared::new(id, peer, Arc::clone(options), inner);
    let (inner, reader, writer) = Inner::new(fd, is_tcp, shared, berth);
    Connection::new(inner, reader, writer)
}

/// Gives `conn` to the callbacks of `service`, and enters it into the table of its home. The caller
/// has it catch up there, and sees to it that its turn, which is taken, is run.
pub(crate) fn serve<S: Service>(
    conn: Connection,
    service: Arc<S>,
    state: Option<S::State>,
) -> Arc<Inner> {
    let inner = Arc::clone(conn.inner());
    inner.set_served();
    inner.set_on_disconnect(Arc::<S>::clone(&service));
    let [input, output] = conn.buffers();
    let session: Box<dyn Session> = Box::new(Served::new(service, conn, state));
    let near = Near::of(Arc::as_ptr(&inner), [input, output, (&raw const *session).cast()]);
    inner.with_session(|place| *place = Some(session));
    if let Err(error) = inner.enter_table(near) {
        inner.give_up(error.into());
    }
    inner
}

type Start = Arc<dyn Fn(Connection) -> Arc<Inner> + Send + Sync>;

/// A listener, and the service of what it accepts.
pub(crate) struct Acceptor {
    pub(crate) listener: Listener,
    start: Start,
    options: Arc<Options>,
    pub(crate) rest: Rest,
}

impl Acceptor {
    pub(crate) fn new<S: Service>(listener: Listener, service: S, options: Arc<Options>) -> Self {
        let service = Arc::new(service);
        let start: Start = Arc::new(move |conn| serve(conn, Arc::clone(&service), None));
        Self { listener, start, options, rest: Rest::default() }
    }

    /// The same service behind another socket at the same address.
    pub(crate) fn sibling(&self) -> io::Result<Self> {
        let listener = self.listener.sibling()?;
        // What it accepts inherits them, as in `EventLoop::listen`.
        listener.set_options(&self.options.socket)?;
        let (start, options) = (Arc::clone(&self.start), Arc::clone(&self.options));
        Ok(Self { listener, start, options, rest: Rest::default() })
    }
}

impl Net {
    /// A served connection over what `acceptor` accepted on `seat`.
    pub(crate) fn admit(
        &self,
        sched: &Arc<Scheduler<Self>>,
        seat: &Arc<Seat<Self>>,
        acceptor: &Acceptor,
        (fd, peer): (OwnedFd, Addr),
    ) -> linkbuffer::Result<Arc<Inner>> {
        let berth = match acceptor.listener.is_per_poller() {
            true => self.berth_at(sched, seat)?,
            false => self.berth(sched)?,
        };
        let is_tcp = !peer.is_unix();
        let conn = connection(fd, Some(peer), is_tcp, &acceptor.options, berth);
        let inner = (acceptor.start)(conn);
        self.catch_up(&inner);
        Ok(inner)
    }
}
