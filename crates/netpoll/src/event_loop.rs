//! Event loops: what serves, attaches, dials and shuts down.

use std::{fmt, io, sync::Arc, thread, time::Duration};

use poller::{Balance, sys};
use thiserror::Error;

use crate::{
    accept::{self, Acceptor},
    budget::MemoryBudget,
    config::{BuildError, Notice, OnNotice, Options, Runner},
    connection::{Connection, Handle},
    current,
    dialer::Dialer,
    net::{Listener, SocketOptions},
    net_host::{Closes, Command, Net},
    sched::{Mode, Scheduler, watchdog},
    service::Service,
    trace::event,
    watch::Rules,
};

/// A shutdown that did not finish in its time.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{connections} connection(s) still have something to handle")]
pub struct Unfinished {
    /// Connections that are still served.
    pub connections: usize,
}

/// Pollers, the threads that drive them, and the connections they serve.
///
/// Clones are the same loop. When the last is dropped, the loop ends at once, as by
/// [`EventLoop::shutdown_now`].
///
/// ```no_run
/// use netpoll::{EventLoop, Listener, Reader, WriterExt, service_fn};
///
/// # fn main() -> Result<(), netpoll::BoxError> {
/// let event_loop = EventLoop::new()?;
/// let listener = Listener::bind("127.0.0.1:7000")?;
/// event_loop.serve(
///     listener,
///     service_fn(|conn| {
///         let (r, w) = conn.split();
///         w.write_bytes(r.slice(r.len())?)?;
///         w.flush()?;
///         Ok(())
///     }),
/// )?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct EventLoop {
    owner: Arc<Owner>,
}

/// Ends the loop with its last clone.
struct Owner {
    sched: Arc<Scheduler<Net>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.sched.host.drain(&self.sched, true);
    }
}

impl EventLoop {
    /// A loop with the defaults of every option.
    ///
    /// # Errors
    ///
    /// See [`Builder::build`].
    pub fn new() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// A loop with options of its own.
    pub fn builder() -> Builder {
        Builder { options: Options::default() }
    }

    /// Accepts from `listener`, and runs the callbacks of `service` for every connection. Returns
    /// when the loop has shut down. Several threads may serve several listeners on one loop.
    ///
    /// # Errors
    ///
    /// The listener cannot be polled, or the loop is shutting down already
    /// ([`Error::Closed`](crate::Error::Closed)).
    pub fn serve<S: Service>(&self, listener: Listener, service: S) -> crate::Result<()> {
        self.listen(listener, service)?;
        current::before_wait()?;
        self.owner.sched.host.wait_forced();
        Ok(())
    }

    /// As [`EventLoop::serve`], but returns at once.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::serve`].
    pub fn listen<S: Service>(&self, listener: Listener, service: S) -> crate::Result<()> {
        let sched = &self.owner.sched;
        if sched.host.is_draining() {
            return Err(crate::Error::Closed);
        }
        let options = Arc::clone(&sched.host.options);
        // What it accepts inherits them, without a system call for each.
        listener.set_options(&options.socket)?;
        sched.host.add_listener(Acceptor::new(listener, service, options))
    }

    /// Hands `conn` to this loop, which runs the callbacks of `service` for it, from `on_connect`
    /// on. Bytes that had come before are handled like any others.
    pub fn attach<S: Service>(&self, conn: Connection, service: S, state: S::State) -> Handle {
        let sched = &self.owner.sched;
        let inner = Arc::clone(conn.inner());
        let handle = inner.handle();
        if !sched.host.join() {
            // The loop shuts down, or is full: the connection is closed, and its handle says so.
            drop(conn);
            return handle;
        }
        // From here on closing it is the callbacks' business.
        inner.set_served();
        let Ok(berth) = sched.host.berth(sched) else {
            inner.leave_service();
            return handle;
        };
        sched.host.tally.attached.count();
        event!(DEBUG, id = handle.id(), "attached");
        let service = Arc::new(service);
        let moved = Arc::clone(&inner);
        let adopt = move || {
            let inner = moved;
            inner.move_to(berth);
            inner.set_attached();
            let inner = accept::serve(conn, service, Some(state));
            inner.home().sched.host.catch_up(&inner);
            inner.command(Command::Run(Arc::clone(&inner)));
        };
        // Whoever polls it now must have stopped before another one starts.
        if inner.is_polled() {
            inner.command(Command::Leave(Arc::clone(&inner), Box::new(adopt)));
        } else {
            inner.deregister();
            adopt();
        }
        handle
    }

    /// What dials from this loop, without keeping it alive.
    pub fn dialer(&self) -> Dialer {
        Dialer::new(&self.owner.sched)
    }

    /// Stops accepting, closes idle connections, lets running requests finish and whole messages
    /// that are buffered be handled, and waits for that until `within` from now.
    ///
    /// Called in a handler of this loop, it starts all this and returns at once. May be called
    /// again, to go on waiting.
    ///
    /// # Errors
    ///
    /// [`Unfinished`] says how many connections are left. They are still served;
    /// [`EventLoop::shutdown_now`] ends them.
    pub fn shutdown(&self, within: Duration) -> Result<(), Unfinished> {
        let sched = &self.owner.sched;
        sched.host.drain(sched, false);
        let deadline = if current::is_handler_of(sched) {
            Some(sys::now())
        } else {
            sys::now().checked_add(within)
        };
        if !current::is_handler_of(sched) && current::before_wait().is_err() {
            return Err(Unfinished { connections: sched.host.served() });
        }
        if sched.host.wait_stopped(deadline) {
            Ok(())
        } else {
            Err(Unfinished { connections: sched.host.served() })
        }
    }

    /// Stops accepting and closes every connection, whatever runs. Waits in their handlers end
    /// with [`Error::Closed`](crate::Error::Closed). Returns at once, and says how many
    /// connections had something to handle.
    pub fn shutdown_now(&self) -> usize {
        let sched = &self.owner.sched;
        let left = sched.host.served();
        sched.host.drain(sched, true);
        left
    }

    /// Connections that this loop serves now.
    pub fn connections(&self) -> usize {
        self.owner.sched.host.served()
    }

    /// Changes how many handlers may run or be blocked at once: at least 1, at most what the loop
    /// was built with, whose threads it has. Handlers that run are not disturbed.
    pub fn set_cap(&self, handlers: usize) {
        let sched = &self.owner.sched;
        sched.set_cap(count(handlers.clamp(1, sched.host.options.cap)));
    }

    /// Adds or removes pollers until there are so many, 1 to 1024, while the loop runs.
    ///
    /// A poller that is removed gets nothing new. Its listeners move to those that stay, with the
    /// connections that wait to be accepted; it keeps the connections that it has until they end,
    /// and then its thread and its descriptors go. Nothing is lost, and no handler is disturbed.
    ///
    /// # Errors
    ///
    /// [`BuildError`] says why it cannot be done; what was there before goes on.
    pub fn set_pollers(&self, pollers: usize) -> Result<(), BuildError> {
        self.owner.sched.host.set_pollers(&self.owner.sched, pollers)
    }

    /// The pollers, with what each has: first those that get connections, in the order in which
    /// they came, among them those that are removed and still have connections.
    pub fn pollers(&self) -> Vec<PollerStats> {
        let seats = self.owner.sched.seats();
        let stats = seats.iter().map(|seat| {
            let poller = &seat.shared.poller;
            PollerStats {
                connections: poller.connections(),
                given: poller.picked(),
                is_removed: poller.is_removed(),
                kernel: poller.stats(),
            }
        });
        stats.collect()
    }

    /// The last error that accepting met, whatever became of it since. How often it met one is in
    /// [`EventLoop::stats`].
    pub fn last_accept_error(&self) -> Option<io::Error> {
        self.owner.sched.host.accepting.last_error()
    }

    /// Figures that show the loop at work: a snapshot of plain counters, which costs those who count
    /// next to nothing. Those that only grow are not all taken at the same moment.
    #[doc(alias = "snapshot")]
    pub fn stats(&self) -> Stats {
        let sched = &self.owner.sched;
        let counters = &sched.counters;
        let accepting = &sched.host.accepting;
        let tally = &sched.host.tally;
        Stats {
            connections: sched.host.served(),
            cap: sched.places.cap(),
            handlers: sched.places.taken(),
            queued: sched.places.queued(),
            attached_cap: sched.attached.cap(),
            attached_handlers: sched.attached.taken(),
            attached_queued: sched.attached.queued(),
            handovers: counters.handovers.get(),
            rescues: counters.rescues.get(),
            watchdog_wakes: counters.watchdog_wakes.get(),
            accepted: accepting.accepted.get(),
            refused: accepting.refused.get(),
            accept_rests: accepting.rests.get(),
            attached: tally.attached.get(),
            dialed: tally.dialed.get(),
            taken: tally.taken.get(),
            read_pauses: tally.read_pauses.get(),
            closes: tally.closes(),
            standstills: counters.standstills.get(),
            handler_time: Duration::from_nanos(counters.place_nanos.get()),
            threads_refused: sched.host.threads_refused(),
        }
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// What an event loop has done and is doing. See [`EventLoop::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections served now.
    pub connections: usize,
    /// How many handlers of accepted connections may run or wait at once.
    pub cap: usize,
    /// Places under that cap that are taken now: handlers that run or wait.
    pub handlers: usize,
    /// Accepted connections that wait for a place now.
    pub queued: usize,
    /// How many handlers of attached connections may run or wait at once.
    pub attached_cap: usize,
    /// Places under that cap that are taken now.
    pub attached_handlers: usize,
    /// Attached connections that wait for a place now.
    pub attached_queued: usize,
    /// Times a handler's thread passed its poller on before it waited.
    pub handovers: u64,
    /// Times the watchdog took a poller from a handler that blocked or burned unseen.
    pub rescues: u64,
    /// Times the watchdog was woken because there was work again.
    pub watchdog_wakes: u64,
    /// Times a full cap was found not to move for a second while others queued.
    pub standstills: u64,
    /// How long handlers have run or waited, all of them together: an estimate, from the places that
    /// were taken at each look of the watchdog (every 10 to 80 ms; less often while all pollers sleep).
    /// A poller keeps its place from the first handler after a poll to the next poll, so reading
    /// between handlers counts as well. Zero under [`Runner::Inline`], which is not watched, and
    /// under [`Runner::Pool`], whose handlers take no places.
    pub handler_time: Duration,
    /// Times the system refused the loop a thread. What needed it waits, and is tried again.
    pub threads_refused: usize,
    /// Connections accepted and served, ever.
    pub accepted: u64,
    /// Connections accepted and closed at once: over [`Builder::max_connections`], while the loop was
    /// shutting down, or for want of memory.
    pub refused: u64,
    /// Times a listener rested because nothing could be accepted: out of descriptors or memory.
    /// [`EventLoop::last_accept_error`] tells which.
    pub accept_rests: u64,
    /// Connections that were given to the loop by [`EventLoop::attach`], ever.
    pub attached: u64,
    /// Connections that were dialed or adopted, ever. Unless they are attached, they are not served,
    /// and not counted in the other figures.
    pub dialed: u64,
    /// Served connections that a callback [took](Connection::take) out of the loop, ever.
    pub taken: u64,
    /// Times a connection was left unread: at its [`input_limit`](Builder::input_limit), for want of
    /// [budget](Builder::memory_budget), or because it was [paused by hand](crate::Handle::pause_read)
    /// and something came.
    pub read_pauses: u64,
    /// Served connections that have closed: why, and what went through them.
    pub closes: Closes,
}

/// What one poller of a loop has. See [`EventLoop::pollers`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PollerStats {
    /// Connections that it watches now: served, dialed and adopted ones.
    pub connections: usize,
    /// Connections that it was ever given.
    pub given: u64,
    /// It was removed, and is there until its connections have ended.
    pub is_removed: bool,
    /// What it did in the kernel.
    pub kernel: poller::Stats,
}

/// The options of an [`EventLoop`].
///
/// | option | default | bounds |
/// |---|---|---|
/// | [`pollers`](Self::pollers) | the cores | threads that wait in the kernel |
/// | [`balance`](Self::balance) | round robin | which poller gets a connection |
/// | [`cap`](Self::cap) | 64 × cores, at least 128 | handlers running or blocked |
/// | [`attached_cap`](Self::attached_cap) | as `cap` | the same, of connections given to it by `attach` |
/// | [`input_limit`](Self::input_limit) | 1 MiB | unread bytes of a connection |
/// | [`input_resume`](Self::input_resume) | half of that | unread bytes at which reading goes on after a pause |
/// | [`max_message`](Self::max_message) | 16 MiB | one message, and what a handler may wait for |
/// | [`output_limit`](Self::output_limit) | 4 MiB | bytes written and not sent, above one message |
/// | [`memory_budget`](Self::memory_budget) | none | received bytes of all connections of the loops that share it |
/// | [`read_budget`](Self::read_budget) | 256 KiB | bytes read from one socket before others have their turn |
/// | [`accept_batch`](Self::accept_batch) | 16 | connections accepted before others have their turn |
/// | [`fair_share`](Self::fair_share) | 64 | messages of one connection handled before others have their turn |
/// | [`max_connections`](Self::max_connections) | none | connections served at once |
/// | [`read_timeout`](Self::read_timeout) | 60 s | one wait for bytes |
/// | [`write_timeout`](Self::write_timeout) | 60 s | one wait for room inside `flush` |
/// | [`idle_timeout`](Self::idle_timeout) | none | the time without bytes, either way |
/// | [`frame_timeout`](Self::frame_timeout) | 60 s | the time from a message's first bytes until it is whole |
/// | [`linger`](Self::linger) | 1 s | what the peer is given when a connection closes |
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    options: Options,
}

impl Builder {
    /// The name of the loop's threads.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into();
        self
    }

    /// Which poller gets the next connection, accepted or dialed.
    pub fn balance(mut self, balance: Balance) -> Self {
        self.options.balance = balance;
        self
    }

    /// How many pollers, 1 to 1024. [`EventLoop::set_pollers`] changes it later.
    pub fn pollers(mut self, pollers: usize) -> Self {
        self.options.pollers = pollers;
        self
    }

    /// Where handlers run.
    pub fn runner(mut self, runner: Runner) -> Self {
        self.options.runner = runner;
        self
    }

    /// How many handlers may run or be blocked at once, 1 to 500000. At the cap, connections
    /// queue; a freed place takes the oldest. Handlers that fill the cap and all wait for one
    /// that is queued wait until their timeouts.
    pub fn cap(mut self, handlers: usize) -> Self {
        self.options.cap = handlers;
        self
    }

    /// How many handlers of connections given to the loop by [`EventLoop::attach`] may run or be
    /// blocked at once, 1 to 500000. They have a cap of their own, as large as the other if none is
    /// given: a server's handlers may wait for what those of its clients do.
    pub fn attached_cap(mut self, handlers: usize) -> Self {
        self.options.attached_cap = Some(handlers);
        self
    }

    /// Tells `f` what may be worth a log line, of each kind at most once a second (of accepting that
    /// fails: of each error). It is called on the watchdog's thread, and must not block there. Not
    /// called under [`Runner::Inline`], where [`EventLoop::stats`] tells.
    ///
    /// ```
    /// # fn main() -> Result<(), netpoll::BuildError> {
    /// let event_loop = netpoll::EventLoop::builder()
    ///     .on_notice(|notice| eprintln!("netpoll: {notice}"))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_notice(mut self, f: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        self.options.on_notice = Some(OnNotice(Arc::new(f)));
        self
    }

    /// The high mark: how many bytes of a connection may be unread before its socket is left alone. A
    /// wait for more raises it for as long as it lasts.
    pub fn input_limit(mut self, bytes: usize) -> Self {
        self.options.input_limit = bytes;
        self
    }

    /// The low mark: a socket that was left alone at [`input_limit`](Self::input_limit) is read again
    /// once no more than so many bytes are unread; 0: once none is. Half of the limit where this is
    /// not called. Near the limit, reading starts and stops for little; far below it, the peer may
    /// have to start anew when the handler has run dry. A handler that needs more than it has gets it
    /// whatever this says.
    pub fn input_resume(mut self, bytes: usize) -> Self {
        self.options.input_resume = Some(bytes);
        self
    }

    /// The largest message, in bytes, and the most that a handler may wait for at once.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.options.max_message = bytes;
        self
    }

    /// How many bytes a connection may have written and not sent, beside one message of the largest
    /// size. Writing more is an error that loses nothing; flushing makes room.
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.options.output_limit = bytes;
        self
    }

    /// A budget that the received bytes of all its connections count against, together with those of
    /// other loops that are given the same one. See [`MemoryBudget`].
    pub fn memory_budget(mut self, budget: MemoryBudget) -> Self {
        self.options.memory_budget = Some(budget);
        self
    }

    /// How many bytes are read from one socket before others have their turn. The last read is not
    /// cut short for it, so that a turn may bring a little more, and never as much as twice that.
    pub fn read_budget(mut self, bytes: usize) -> Self {
        self.options.read_budget = bytes;
        self
    }

    /// How many connections are accepted before others have their turn.
    pub fn accept_batch(mut self, connections: usize) -> Self {
        self.options.accept_batch = connections;
        self
    }

    /// How many messages of one connection are handled before others have their turn.
    pub fn fair_share(mut self, messages: usize) -> Self {
        self.options.fair_share = messages;
        self
    }

    /// How many connections are served at once; those above are closed when they are accepted.
    /// `None`: as many as there are descriptors.
    pub fn max_connections(mut self, connections: Option<usize>) -> Self {
        self.options.max_connections = connections;
        self
    }

    /// How long one call may wait for bytes. `None`: for ever, also inside handlers, where waits
    /// without an end can fill the cap.
    pub fn read_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.options.read_timeout = timeout;
        self
    }

    /// How long one `flush` may wait for room. `None`: for ever.
    pub fn write_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.options.write_timeout = timeout;
        self
    }

    /// How long a served connection may be without bytes, either way, and without a callback that
    /// runs or waits for its turn. One that is idle for longer is closed, with
    /// [`Error::IdleTimeout`](crate::Error::IdleTimeout) as the reason that `on_close` gets. While
    /// its input is paused its clock stands still. `None`: for ever.
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.options.idle_timeout = timeout;
        self
    }

    /// With framing, how long a message may take from when its first bytes were seen until it is
    /// whole. A connection whose message takes longer is closed, with
    /// [`Error::FrameTimeout`](crate::Error::FrameTimeout) as the reason that `on_close` gets.
    /// While input is paused its clock stands still. `None`: for ever.
    pub fn frame_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.options.frame_timeout = timeout;
        self
    }

    /// How long a connection that was closed goes on in the background, held by no thread: until
    /// what was flushed is sent, and the peer has ended its stream as well. What still comes is
    /// dropped meanwhile; the kernel would answer it with a reset, which can overtake our last
    /// reply at the peer. Zero: closed at once.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.options.linger = linger;
        self
    }

    /// Options of every socket.
    pub fn socket_options(mut self, socket: SocketOptions) -> Self {
        self.options.socket = socket;
        self
    }

    /// Makes the loop; its threads start.
    ///
    /// # Errors
    ///
    /// [`BuildError`] says which value is out of its bounds, or what the system refused.
    pub fn build(self) -> Result<EventLoop, BuildError> {
        self.options.check()?;
        let options = Arc::new(self.options);
        let mode = match options.runner {
            Runner::Auto => Mode::Auto,
            Runner::Inline => Mode::Inline,
            Runner::Pool(_) => Mode::Pool,
        };
        let host = Net::new(Arc::clone(&options))?;
        // All that can fail comes before the first thread.
        let parts: Vec<_> =
            (0..options.pollers).map(|_| host.poller()).collect::<Result<_, _>>()?;
        let sched = Arc::new(Scheduler::new(
            host,
            mode,
            count(options.cap),
            count(options.attached_cap()),
            options.fair_share,
        ));
        sched.host.set_scheduler(&sched);
        sched.host.add_pollers(&sched, parts);
        let owner = Arc::new(Owner { sched });
        if owner.sched.host.threads_refused() > 0 {
            owner.sched.host.dismiss();
            return Err(BuildError::Threads("the system refused one to a poller".into()));
        }
        // A pool takes the handlers, but `on_disconnect` runs where it is noticed.
        if mode != Mode::Inline {
            let watched = Arc::clone(&owner.sched);
            thread::Builder::new()
                .name(format!("{}-watch", options.name))
                .spawn(move || watchdog::run(&watched, Rules::new()))
                .map_err(|error| BuildError::Threads(error.to_string()))?;
        }
        Ok(EventLoop { owner })
    }
}

/// A number of handlers, which was checked to be much smaller.
fn count(handlers: usize) -> u32 {
    u32::try_from(handlers).unwrap_or(u32::MAX)
}
