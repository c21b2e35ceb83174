//! The scheduler's host: real pollers, sockets, connections and threads.

#![allow(unsafe_code)] // Reading sockets is for the role's holder: each such place says why it is.

mod accepting;
pub(crate) mod ahead;
mod drain;
mod due;
pub(crate) mod habit;
mod host;
mod linger;
mod listeners;
mod pollers;
mod tally;
mod threads;

use std::{
    cell::Cell,
    collections::VecDeque,
    sync::{Arc, Condvar, OnceLock, Weak},
};

use poller::{
    Batch, Events, Group, Member, Poller, Slots, Token, Waker,
    sys::{EventFd, ThreadClock},
};

#[allow(unreachable_pub)] // The crate exports it.
pub use self::tally::Closes;
use self::{accepting::Accepting, ahead::Near, due::Due, listeners::Door, tally::Tally};
pub(crate) use self::{
    listeners::Rest,
    pollers::{Berth, Link},
};
use crate::{
    accept::Acceptor,
    config::{BuildError, MOST_POLLERS, Options},
    connection::inner::{Fill, Inner},
    sched::{Scheduler, queued::Queued},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize},
    },
    timers::Timers,
};

/// Events taken from the kernel at once.
const BATCH: usize = 256;

/// What a poller's token stands for.
pub(crate) enum Entry {
    Connection(Weak<Inner>, Near),
    /// One that is closed and has last bytes to send or to drop.
    Lingering(Box<Lingering>),
    Listener(Weak<Acceptor>),
}

/// See [`Entry`]. Boxed, since entries are kept as large as the largest.
pub(crate) struct Lingering {
    inner: Arc<Inner>,
    /// So many more bytes are dropped.
    left: Cell<usize>,
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
    /// A connection that was closed has last bytes: see `linger.rs`.
    Linger(Arc<Inner>),
    /// The clocks of this connection were changed. Weak, as in `Tidy`.
    Time(Weak<Inner>),
    /// Stop reading this connection, take it out of the table, and then call this.
    Leave(Arc<Inner>, Box<dyn FnOnce() + Send>),
    /// End every connection once no whole message is left of it, or at once.
    Drain { at_once: bool },
}

/// What any thread may see of a poller.
pub(crate) struct Shared {
    pub(crate) poller: Arc<Member<Link>>,
    waker: Waker,
    pub(crate) slots: Slots<Entry>,
    /// CPU clock of the thread that drives.
    pub(crate) clock: Mutex<Option<ThreadClock>>,
    /// When its driver is to look at something.
    pub(crate) due: Due,
    /// Whether handlers here mostly block.
    pub(crate) habit: habit::Habit,
    /// The connection whose handler left flushed bytes queued.
    pub(crate) queued: Queued<Arc<Inner>>,
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
    /// Turns that are claimed by the events behind the cursor: their sockets were read in a row.
    row: VecDeque<Arc<Inner>>,
    /// Turns that are claimed and wait to be run here.
    ready: VecDeque<Arc<Inner>>,
    /// Those of them that have used up their share: they are run behind the next poll, so that what
    /// has become ready meanwhile is not held up.
    sated: VecDeque<Arc<Inner>>,
    /// What stopped at a budget: looked at again after the next poll, which does not block.
    again: Vec<Token>,
    /// The ones of the last round.
    walk: Vec<Token>,
    /// When to look at what.
    timers: Timers<Token>,
    /// The first of them, for others.
    due: Due,
    /// Closed connections that have last bytes.
    lingering: usize,
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

/// The host itself: what all pollers of a loop share.
pub(crate) struct Net {
    pub(crate) options: Arc<Options>,
    /// The loop's own threads.
    pool: gopool::Pool,
    group: Group<Link>,
    waiting: threads::Waiting,
    sched: OnceLock<Weak<Scheduler<Net>>>,
    /// Connections that a service's callbacks run for.
    served: AtomicUsize,
    draining: AtomicBool,
    /// And the listeners are gone: the roles may end.
    closed: AtomicBool,
    /// And not only what has nothing left to handle.
    forced: AtomicBool,
    /// Set once every role has ended.
    stopped: std::sync::Mutex<bool>,
    changed: Condvar,
    /// Whoever changes the pollers or the listeners holds this.
    doors: std::sync::Mutex<Vec<Door>>,
    pub(crate) accepting: Accepting,
    pub(crate) tally: Tally,
    /// Signalled when closing is forced: whoever dials gives up.
    pub(crate) dials_off: EventFd,
}

impl Net {
    pub(crate) fn new(options: Arc<Options>) -> Result<Self, BuildError> {
        let pool = gopool::Pool::builder()
            .name(options.name.clone())
            .cap(options.threads(options.pollers))
            .scale_threshold(1)
            .queue_limit(options.threads(MOST_POLLERS))
            .build()
            .map_err(|error| BuildError::Threads(error.to_string()))?;
        Ok(Self {
            group: Group::new(options.balance),
            options,
            pool,
            waiting: threads::Waiting::default(),
            sched: OnceLock::new(),
            served: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            forced: AtomicBool::new(false),
            stopped: std::sync::Mutex::new(false),
            changed: Condvar::new(),
            doors: std::sync::Mutex::new(Vec::new()),
            accepting: Accepting::default(),
            tally: Tally::default(),
            dials_off: EventFd::new().map_err(BuildError::Poller)?,
        })
    }

    /// A poller's two parts.
    pub(crate) fn poller(&self) -> Result<(Shared, Core), BuildError> {
        let poller = Poller::new().map_err(BuildError::Poller)?;
        let (slots, batch) = poller::slots(1 << 28);
        let due = Due::new();
        let shared = Shared {
            waker: poller.waker(),
            poller: Member::new(poller, Link::new()),
            slots,
            clock: Mutex::new(None),
            due: due.clone(),
            habit: habit::Habit::new(),
            queued: Queued::new(),
            asides: Mutex::new(Asides::default()),
        };
        let core = Core {
            batch,
            events: Events::with_capacity(BATCH),
            cursor: 0,
            row: VecDeque::new(),
            ready: VecDeque::new(),
            sated: VecDeque::new(),
            again: Vec::new(),
            walk: Vec::new(),
            timers: Timers::new(),
            due,
            lingering: 0,
            read_budget: self.options.read_budget,
        };
        Ok((shared, core))
    }

    pub(crate) fn set_scheduler(&self, sched: &Arc<Scheduler<Self>>) {
        let _ = self.sched.set(Arc::downgrade(sched));
    }
}

fn lock_std<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
