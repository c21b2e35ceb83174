//! The scheduler's host: real pollers, sockets, connections and threads.

#![allow(unsafe_code)] // Reading sockets is for the role's holder: each such place says why it is.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, OnceLock, Weak},
    time::{Duration, Instant},
};

use poller::{
    Batch, Event, Events, Interest, Poller, Slots, Token, Waker,
    sys::{self, AcceptFailure, ThreadClock},
};

use crate::{
    accept::Acceptor,
    config::{BuildError, Options, Runner},
    connection::inner::{Fill, Inner},
    current,
    sched::{At, Host, Mode, Outcome, Scheduler, Seat, Step, turn::Turn},
    sync::{
        Mutex,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
            fence,
        },
        lock,
    },
    watch::Rules,
};

/// Events taken from the kernel at once.
const BATCH: usize = 256;
/// How long accepting rests when descriptors have run out.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What a poller's token stands for.
pub(crate) enum Entry {
    Connection(Weak<Inner>),
    Listener(Arc<Acceptor>),
}

/// What other threads ask of a poller's driver.
pub(crate) enum Command {
    /// Run this connection's turn, which is claimed.
    Run(Arc<Inner>),
    /// Give back the block of this connection's input, if it is idle.
    ///
    /// Weak, since a poller whose role has ended reads no inbox: the descriptor must not stay open
    /// for that.
    Tidy(Weak<Inner>),
    /// Stop reading this connection, take it out of the table, and then call this.
    Leave(Arc<Inner>, Box<dyn FnOnce() + Send>),
    /// End every connection once no whole message is left of it, or at once.
    Drain { at_once: bool },
}

/// What any thread may see of a poller.
pub(crate) struct Shared {
    pub(crate) poller: Poller,
    waker: Waker,
    pub(crate) slots: Slots<Entry>,
    /// CPU clock of the thread that drives.
    pub(crate) clock: Mutex<Option<ThreadClock>>,
    /// The connection whose handler left flushed bytes queued.
    pub(crate) queued: Mutex<Option<Arc<Inner>>>,
    asides: Mutex<Asides>,
}

/// Connections whose `on_disconnect` is due. One runs at a time per poller: any number of peers may
/// go at once, and each callback may wait on a thread of its own.
#[derive(Default)]
struct Asides {
    running: bool,
    due: VecDeque<Arc<Inner>>,
}

/// What moves with a poller's role.
pub(crate) struct Core {
    batch: Batch<Entry>,
    events: Events,
    cursor: usize,
    /// Turns that are claimed and wait to be run here.
    ready: VecDeque<Arc<Inner>>,
    /// Those of them that have used up their share: they are run behind the next poll, so that what
    /// has become ready meanwhile is not held up.
    sated: VecDeque<Arc<Inner>>,
    /// What stopped at a budget: looked at again after the next poll, which does not block.
    again: Vec<Token>,
    /// The ones of the last round.
    walk: Vec<Token>,
    /// Listeners that rest, and until when.
    resting: Vec<(Instant, Token)>,
    read_budget: usize,
}

impl Core {
    /// In a handler of `inner` on the thread that drives it: reads its socket.
    pub(crate) fn read_for(&mut self, inner: &Inner) {
        // SAFETY: the core is lent to the holder of the role, and the caller has checked that it
        // is the core of this connection's poller. An unpolled connection has no such core.
        if inner.is_polled() && unsafe { inner.fill(self.read_budget, false) } == Fill::More {
            // A handler that reads a long stream comes here often.
            let token = inner.token();
            if self.again.last() != Some(&token) {
                self.again.push(token);
            }
        }
    }
}

/// What an event says, as far as it matters here.
#[derive(Clone, Copy, Debug)]
struct Ready {
    readable: bool,
    writable: bool,
    hung_up: bool,
    /// Nothing but bytes was reported: a short read on TCP has drained the socket.
    plain: bool,
}

impl Ready {
    const AGAIN: Self = Self { readable: true, writable: false, hung_up: false, plain: false };

    fn of(event: &Event) -> Self {
        let hung_up = event.is_read_closed() || event.is_hangup() || event.is_error();
        let plain = !hung_up && !event.is_priority();
        Self {
            readable: event.is_readable() || !plain,
            writable: event.is_writable() || hung_up,
            hung_up,
            plain,
        }
    }
}

/// The host itself: what all pollers of a loop share.
pub(crate) struct Net {
    pub(crate) options: Arc<Options>,
    /// The loop's own threads.
    pool: gopool::Pool,
    sched: OnceLock<Weak<Scheduler<Net>>>,
    /// Connections that a service's callbacks run for.
    served: AtomicUsize,
    draining: AtomicBool,
    /// And the listeners are gone: the roles may end.
    closed: AtomicBool,
    /// And not only what has nothing left to handle.
    forced: AtomicBool,
    next_seat: AtomicUsize,
    /// Set once every role has ended.
    stopped: std::sync::Mutex<bool>,
    changed: Condvar,
    listeners: std::sync::Mutex<Vec<Registered>>,
}

/// A listener in a poller's table.
struct Registered {
    seat: Weak<Seat<Net>>,
    token: Token,
    acceptor: Weak<Acceptor>,
}

impl Net {
    pub(crate) fn new(options: Arc<Options>) -> Result<Self, BuildError> {
        // Section 5 of the design: one thread per handler that waits, one per poller, and one for
        // a disconnect callback beside each.
        let threads = options.cap as usize + 2 * options.pollers;
        let pool = gopool::Pool::builder()
            .name(options.name.clone())
            .cap(threads)
            .scale_threshold(1)
            .queue_limit(threads.max(1024))
            .build()
            .map_err(|error| BuildError::Threads(error.to_string()))?;
        Ok(Self {
            options,
            pool,
            sched: OnceLock::new(),
            served: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            forced: AtomicBool::new(false),
            next_seat: AtomicUsize::new(0),
            stopped: std::sync::Mutex::new(false),
            changed: Condvar::new(),
            listeners: std::sync::Mutex::new(Vec::new()),
        })
    }

    /// A poller's two parts.
    pub(crate) fn poller(&self) -> Result<(Shared, Core), BuildError> {
        let poller = Poller::new().map_err(BuildError::Poller)?;
        let (slots, batch) = poller::slots(1 << 28);
        let shared = Shared {
            waker: poller.waker(),
            poller,
            slots,
            clock: Mutex::new(None),
            queued: Mutex::new(None),
            asides: Mutex::new(Asides::default()),
        };
        let core = Core {
            batch,
            events: Events::with_capacity(BATCH),
            cursor: 0,
            ready: VecDeque::new(),
            sated: VecDeque::new(),
            again: Vec::new(),
            walk: Vec::new(),
            resting: Vec::new(),
            read_budget: self.options.read_budget,
        };
        Ok((shared, core))
    }

    pub(crate) fn set_scheduler(&self, sched: &Arc<Scheduler<Self>>) {
        let _ = self.sched.set(Arc::downgrade(sched));
    }

    /// Whose turn it is to be given a connection.
    pub(crate) fn next_seat(&self, sched: &Scheduler<Self>) -> Arc<Seat<Self>> {
        // ORDERING: only counts around.
        let n = self.next_seat.fetch_add(1, Relaxed);
        sched.seat(n)
    }

    /// Brings a thread to a turn that has a place already.
    pub(crate) fn run_placed(&self, sched: &Arc<Scheduler<Self>>, work: Arc<Inner>) {
        let sched = Arc::clone(sched);
        // See `offer`.
        let _ = self.pool.go(move || sched.run_placed(work));
    }

    // ---- listeners ---------------------------------------------------------------------------

    /// Has `seat` accept from a listener.
    pub(crate) fn add_listener(
        &self,
        seat: &Arc<Seat<Self>>,
        acceptor: &Arc<Acceptor>,
    ) -> linkbuffer::Result<()> {
        // Under the lock of `remove_listeners`: no listener is left behind by a drain.
        let mut listeners = lock_std(&self.listeners);
        if self.is_draining() {
            return Err(linkbuffer::Error::Closed);
        }
        let slots = &seat.shared.slots;
        let token = slots
            .insert(Entry::Listener(Arc::clone(acceptor)))
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let registered = seat.shared.poller.register(&acceptor.listener, token, Interest::READABLE);
        if let Err(error) = registered {
            slots.remove(token);
            return Err(error.into());
        }
        let acceptor = Arc::downgrade(acceptor);
        listeners.push(Registered { seat: Arc::downgrade(seat), token, acceptor });
        Ok(())
    }

    /// Accepts no more. The listeners close as soon as their pollers let go of them.
    pub(crate) fn remove_listeners(&self) {
        // The lock is held throughout: who finds the list empty finds the listeners removed.
        for Registered { seat, token, acceptor } in lock_std(&self.listeners).drain(..) {
            let Some(seat) = seat.upgrade() else { continue };
            if let Some(acceptor) = acceptor.upgrade() {
                // It fails only where the listener was never registered.
                let _ = seat.shared.poller.deregister(&acceptor.listener);
            }
            seat.shared.slots.remove(token);
        }
    }

    // ---- counting what is served -------------------------------------------------------------

    /// One more connection is served. False: there are too many, or the loop shuts down.
    pub(crate) fn join(&self) -> bool {
        // ORDERING: the fence pairs with the one in `drain`: either this sees that the loop drains, or
        // `drain` sees the count.
        let before = self.served.fetch_add(1, AcqRel);
        fence(SeqCst);
        let max = self.options.max_connections.unwrap_or(usize::MAX);
        if before >= max || self.draining.load(Acquire) {
            self.left();
            return false;
        }
        true
    }

    /// One fewer.
    pub(crate) fn left(&self) {
        // ORDERING: AcqRel: who takes the count to zero comes after all others; the fence pairs with
        // the one in `drain` behind `closed`: of the last to leave and who closes the listeners, at
        // least one sees the other.
        let last = self.served.fetch_sub(1, AcqRel) == 1;
        fence(SeqCst);
        if last && self.closed.load(Acquire) {
            self.end();
        }
    }

    /// Tells a connection that has just entered a table what it may have missed.
    pub(crate) fn catch_up(&self, inner: &Inner) {
        // ORDERING: pairs with the fence in `drain`: either this sees the flags, or the driver
        // that drains its table sees the connection.
        fence(SeqCst);
        if self.forced.load(Relaxed) {
            inner.shared.life.ask_to_close();
        } else if self.draining.load(Relaxed) {
            inner.shared.life.drain();
        }
    }

    pub(crate) fn served(&self) -> usize {
        // ORDERING: pairs with the decrement in `left`.
        self.served.load(Acquire)
    }

    pub(crate) fn is_draining(&self) -> bool {
        // ORDERING: pairs with the swap in `drain`.
        self.draining.load(Acquire)
    }

    /// Nothing new is served from here on; what is there ends when it has nothing left to handle.
    pub(crate) fn drain(&self, sched: &Scheduler<Self>, at_once: bool) {
        // ORDERING: the fence pairs with those in `join` and `catch_up`.
        self.draining.store(true, Release);
        if at_once {
            self.forced.store(true, Release);
        }
        fence(SeqCst);
        self.remove_listeners();
        for seat in sched.seats() {
            seat.send(self, Command::Drain { at_once });
        }
        // ORDERING: the fence pairs with the one in `left`.
        self.closed.store(true, Release);
        fence(SeqCst);
        if self.served() == 0 {
            self.end();
        }
        if at_once {
            // Who serves need not wait for handlers that do not return.
            let _stopped = lock_std(&self.stopped);
            self.changed.notify_all();
        }
    }

    /// Lets the roles end, which they do when nothing is served.
    fn end(&self) {
        if let Some(sched) = self.sched.get().and_then(Weak::upgrade) {
            sched.end();
        }
    }

    /// Waits until closing is forced, or all has ended.
    pub(crate) fn wait_forced(&self) {
        let mut stopped = lock_std(&self.stopped);
        // ORDERING: pairs with the store in `drain`; whoever sets it takes the lock and notifies.
        while !*stopped && !self.forced.load(Acquire) {
            stopped = self.changed.wait(stopped).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Waits until nothing is served any more after a drain, and every role has ended. False: not
    /// by the deadline.
    pub(crate) fn wait_stopped(&self, deadline: Option<Instant>) -> bool {
        let mut stopped = lock_std(&self.stopped);
        while !*stopped {
            stopped = match deadline {
                None => self.changed.wait(stopped).unwrap_or_else(|e| e.into_inner()),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(sys::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.changed.wait_timeout(stopped, left).unwrap_or_else(|e| e.into_inner()).0
                }
            };
        }
        true
    }

    // ---- events ------------------------------------------------------------------------------

    fn event(
        &self,
        seat: &Arc<Seat<Self>>,
        core: &mut Core,
        token: Token,
        ready: Ready,
    ) -> Step<Arc<Inner>> {
        let inner = match core.batch.get(token) {
            None => return Step::Again,
            Some(Entry::Listener(acceptor)) => {
                let acceptor = Arc::clone(acceptor);
                self.accept(seat, core, token, &acceptor);
                return Step::Again;
            }
            Some(Entry::Connection(inner)) => match inner.upgrade() {
                Some(inner) => inner,
                None => return Step::Again,
            },
        };
        if ready.writable {
            inner.on_writable();
        }
        let gone = ready.hung_up && inner.shared.life.hang_up();
        if !inner.is_polled() || !ready.readable {
            return Step::Again;
        }
        // SAFETY: `advance` has the core of this poller, so this thread holds its role, outside
        // user code; and the token says that the connection is in its table.
        let fill = unsafe { inner.fill(core.read_budget, ready.plain) };
        if fill == Fill::More {
            core.again.push(token);
        }
        if fill != Fill::Nothing && inner.turn.claim() {
            return Step::Run(inner);
        }
        // Whoever runs callbacks now is told; what runs later asks `is_active`.
        if gone && inner.is_served() && inner.shared.life.is_opened() && inner.turn.is_taken() {
            let mut asides = lock(&seat.shared.asides);
            asides.due.push_back(inner);
            // Whoever runs one now runs this one behind it.
            return if asides.running { Step::Again } else { Step::Aside };
        }
        Step::Again
    }

    fn accept(&self, seat: &Arc<Seat<Self>>, core: &mut Core, token: Token, acceptor: &Acceptor) {
        for _ in 0..self.options.accept_batch {
            match acceptor.accept() {
                Ok(Some((fd, peer))) => {
                    let Some(sched) = self.sched.get().and_then(Weak::upgrade) else { return };
                    if !self.join() {
                        continue;
                    }
                    let home = self.next_seat(&sched);
                    match acceptor.admit(fd, peer, &sched, Arc::clone(&home)) {
                        Ok(inner) if Arc::ptr_eq(&home, seat) => core.ready.push_back(inner),
                        Ok(inner) => home.send(self, Command::Run(inner)),
                        Err(_) => self.left(),
                    }
                }
                Ok(None) => return,
                Err(error) => match sys::accept_failure(&error) {
                    AcceptFailure::Connection => {}
                    _ => {
                        // Nothing can be accepted for now, and the edge is used up.
                        if let Some(until) = sys::now().checked_add(ACCEPT_REST) {
                            core.resting.push((until, token));
                        }
                        return;
                    }
                },
            }
        }
        core.again.push(token);
    }

    /// Gives back the block that was sealed, or leaves that to the turn's owner. True: the turn is
    /// claimed, and is to be run.
    ///
    /// Nothing is to be handled, so this takes no place under the cap: it would queue there before
    /// those who have something.
    fn tidy(&self, inner: &Inner) -> bool {
        if !inner.turn.try_take() {
            return inner.turn.claim();
        }
        inner.with_session(|session| session.iter_mut().for_each(|session| session.release()));
        !inner.turn.finish()
    }

    fn drain_seat(&self, core: &mut Core, at_once: bool) {
        let mut ready = Vec::new();
        for entry in core.batch.iter() {
            let Entry::Connection(inner) = entry else { continue };
            let Some(inner) = inner.upgrade() else { continue };
            let life = &inner.shared.life;
            if at_once {
                life.ask_to_close();
                inner.wake_all();
            } else {
                life.drain();
            }
            if inner.is_served() && inner.turn.claim() {
                ready.push(inner);
            }
        }
        core.ready.extend(ready);
    }
}

impl Host for Net {
    type Core = Core;
    type Shared = Shared;
    type Work = Arc<Inner>;
    type Command = Command;
    type Watch = Rules;

    fn advance(&self, seat: &Arc<Seat<Self>>, core: &mut Core) -> Step<Arc<Inner>> {
        if let Some(event) = core.events.get(core.cursor) {
            core.cursor += 1;
            return self.event(seat, core, event.token(), Ready::of(&event));
        }
        if let Some(token) = core.walk.pop() {
            return self.event(seat, core, token, Ready::AGAIN);
        }
        core.ready.pop_front().map_or(Step::Empty, Step::Run)
    }

    fn receive(&self, seat: &Arc<Seat<Self>>, core: &mut Core, commands: &mut Vec<Command>) {
        for command in commands.drain(..) {
            match command {
                Command::Run(inner) => core.ready.push_back(inner),
                Command::Tidy(inner) => {
                    let Some(inner) = inner.upgrade() else { continue };
                    if inner.is_polled() && inner.lives_at(seat) {
                        // SAFETY: this thread holds the role of the poller whose inbox this is,
                        // which is the one that polls the connection.
                        unsafe { inner.seal_input() };
                    }
                    if inner.is_served() && self.tidy(&inner) {
                        core.ready.push_back(inner);
                    }
                }
                Command::Leave(inner, then) => {
                    inner.deregister();
                    then();
                }
                Command::Drain { at_once } => self.drain_seat(core, at_once),
            }
        }
    }

    fn finished(&self, core: &Core) -> bool {
        // A connection that is served may still need its poller, at least to be closed.
        core.ready.is_empty() && core.sated.is_empty() && self.served() == 0
    }

    fn has_leftovers(&self, core: &Core) -> bool {
        !core.again.is_empty() || !core.ready.is_empty() || !core.sated.is_empty()
    }

    fn poll(&self, seat: &Arc<Seat<Self>>, core: &mut Core, block: bool) {
        end_batch(core);
        core.cursor = 0;
        core.ready.append(&mut core.sated);
        let now = || sys::now();
        let next = core.resting.iter().map(|&(until, _)| until).min();
        let timeout = match next {
            _ if !block => Some(Duration::ZERO),
            None => None,
            Some(until) => Some(until.saturating_duration_since(now())),
        };
        if seat.shared.poller.wait(&mut core.events, timeout).is_err() {
            core.events.clear();
        }
        std::mem::swap(&mut core.walk, &mut core.again);
        if next.is_some() {
            let now = now();
            let walk = &mut core.walk;
            core.resting.retain(|&(until, token)| {
                let rests = until > now;
                if !rests {
                    walk.push(token);
                }
                rests
            });
        }
    }

    fn ending(&self, _: &Arc<Seat<Self>>, core: &mut Core) {
        for entry in core.batch.iter() {
            let Entry::Connection(inner) = entry else { continue };
            if let Some(inner) = inner.upgrade() {
                // One that was taken out of the loop: from here on its reader reads for itself.
                inner.let_go();
            }
        }
        // What was removed goes now: listeners close.
        end_batch(core);
    }

    fn too_late(&self, commands: Vec<Command>) {
        for command in commands {
            // Nothing is served here any more, so the others have nothing to do.
            if let Command::Leave(inner, then) = command {
                inner.deregister();
                then();
            }
        }
    }

    fn ended(&self) {
        *lock_std(&self.stopped) = true;
        self.changed.notify_all();
    }

    fn wake(&self, seat: &Seat<Self>) {
        // An eventfd cannot refuse 1: its counter is cleared long before it is full.
        let _ = seat.shared.waker.wake();
    }

    fn offer(&self, sched: &Arc<Scheduler<Self>>, seat: Arc<Seat<Self>>) {
        let sched = Arc::clone(sched);
        // The pool refuses only after its end, which comes after the end of every role.
        let _ = self.pool.go(move || sched.drive(seat));
    }

    fn turn(work: &Arc<Inner>) -> &Turn {
        &work.turn
    }

    fn is_idle(&self, work: &Arc<Inner>) -> bool {
        work.with_session(|session| session.as_ref().is_some_and(|session| session.is_idle()))
    }

    fn handle(&self, _: &At<Self>, work: &Arc<Inner>) -> Outcome {
        current::running(work, || {
            // Out of its place while it runs: a callback may take the connection and attach it
            // elsewhere, and then another thread puts the next session there.
            let Some(mut session) = work.with_session(Option::take) else { return Outcome::Over };
            let outcome = session.step(work);
            if outcome == Outcome::Over {
                // Taken with replies in the queue, or closed: they leave now, if they can.
                work.send_queued();
                current::nothing_queued(work);
                // What the user's service kept is dropped here, in the handler state. The turn,
                // and with it the place, may belong to somebody else by now.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(session)));
            } else {
                work.with_session(|place| *place = Some(session));
            }
            outcome
        })
    }

    fn aside(&self, seat: &Arc<Seat<Self>>) {
        loop {
            let work = {
                let mut asides = lock(&seat.shared.asides);
                let next = asides.due.pop_front();
                asides.running = next.is_some();
                next
            };
            let Some(work) = work else { return };
            // It is user code like any other, with all that it drops: a wait in it passes the role
            // on.
            current::running(&work, || {
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    if let Some(callback) = work.on_disconnect() {
                        callback(&work.handle());
                    }
                }));
            });
            let _ = catch_unwind(AssertUnwindSafe(|| drop(work)));
        }
    }

    fn rest(&self, at: &At<Self>, work: &Arc<Inner>) {
        work.send_queued();
        current::nothing_queued(work);
        // Blocks go back behind each request, so that the next one, of whatever connection, finds
        // them in the CPU's cache.
        // SAFETY: with the core, this thread holds the role of this connection's poller.
        let sealed = at.with_core_of(|seat| work.lives_at(seat), |_| unsafe { work.seal_input() });
        if sealed.is_none() && work.is_open() {
            work.command(Command::Tidy(Arc::downgrade(work)));
        } else {
            work.with_session(|session| session.iter_mut().for_each(|s| s.release()));
        }
    }

    fn later(&self, at: &At<Self>, work: Arc<Inner>) {
        if at.sched.mode == Mode::Pool {
            let Runner::Pool(pool) = &self.options.runner else { return };
            let sched = Arc::clone(&at.sched);
            let task = Arc::clone(&work);
            if pool.try_go(move || sched.run_apart(task)).is_err() {
                // The user's pool is full or closed. The connection cannot be served; its turn
                // is run here for its last callbacks only, which may wait like any others.
                work.give_up("the pool of the event loop's handlers refused a task".into());
                at.run(work);
            }
            return;
        }
        // What was queued must not wait for the other connections.
        work.send_queued();
        current::nothing_queued(&work);
        let here = at.with_core_of(
            |seat| work.lives_at(seat),
            |core| core.sated.push_back(Arc::clone(&work)),
        );
        if here.is_none() {
            work.command(Command::Run(Arc::clone(&work)));
        }
    }

    fn seated(&self, seat: &Seat<Self>) {
        *lock(&seat.shared.clock) = Some(ThreadClock::current());
        current::take_queued(seat);
    }

    fn scope(&self, at: &At<Self>, f: impl FnOnce()) {
        current::scope(at, f);
    }
}

/// Frees the slots of what was removed. A service may go with its listener, and may panic then.
fn end_batch(core: &mut Core) {
    let _ = catch_unwind(AssertUnwindSafe(|| core.batch.end()));
}

fn lock_std<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
