//! A budget for received bytes that any number of loops share.
//!
//! The driver of a connection asks before it reads, and gives back what the kernel did not fill; the
//! reader gives back what it releases. At the end of the budget a connection pauses as at its own
//! limit (`sched/flow.rs`), and stands in a line.
//!
//! - **M1** Bytes are taken before they are read, so nobody passes the budget by surprise.
//! - **M2** Who is refused marks the word that counts, in one step with a last look at it, and under
//!   the line's lock; who gives back sees in one step whether there is a mark. So one of the two
//!   sees the other: no resume is lost.
//! - **M3** One connection at a time, the **debtor**, may read past the budget: what it needs for its
//!   message, and no further. Without it, parts of messages could eat everything, and none could become
//!   whole.
//! - **M4** The right ends when the debt is paid, whoever gives back; and unused, by its holder's own doing:
//!   when that finds nothing to read, gives back, or ends. All others stay within the budget, so a
//!   debt is paid at the latest once the debtor has consumed what it holds.
//! - **M5** While anybody stands in line, somebody has the right: in debt, or resumed and with something to
//!   read. So whatever that one does, someone comes to look at the line again.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
};

use crate::sync::{
    Mutex,
    atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
    lock,
};

/// Somebody stands in line, or may read past the budget: who gives back has to look.
const MARK: usize = 1 << (usize::BITS - 1);
/// Sums of a few of these are taken.
const MOST: usize = usize::MAX / 4;
/// How much more is needed where nobody can say how much.
const STEP: usize = 2 << 10;
/// So many are resumed at once: nobody who gives back is to be held up by a long line.
const MANY: usize = 32;

/// A budget for received bytes: how many the connections of all loops that were given it may hold,
/// unread or not yet released, all of them together.
///
/// Clones are the same budget. Where it is used up, connections pause until others have given bytes back,
/// just as at their own [`input_limit`](crate::Builder::input_limit): their peers wait, nothing is
/// closed. An idle connection takes nothing of it.
///
/// One connection at a time may go beyond, so that it can finish a message when parts of many have
/// used up everything. So the bound is: **the budget, and one connection's own limit**, the larger of
/// `input_limit` and [`max_message`](crate::Builder::max_message). It has that right until it has given
/// back what it took beyond, or has ended; a peer that stops in the middle of a message then is ended
/// by [`frame_timeout`](crate::Builder::frame_timeout) or
/// [`read_timeout`](crate::Builder::read_timeout), so with a budget those should not be switched off.
/// One that is [paused by hand](crate::Handle::pause_read) beyond the budget keeps the right until it
/// goes on.
///
/// What it counts are bytes. Blocks of memory are a little larger than what is in them; and what a
/// handler keeps as a [`Slice`](crate::Slice) or copies is no longer counted once it is released.
/// Connections count where they came from: one that is dialed from a loop or accepted by it stays with
/// that loop's budget, as with its other options, when another loop is
/// [given](crate::EventLoop::attach) it.
///
/// ```
/// use netpoll::{EventLoop, MemoryBudget};
///
/// # fn main() -> Result<(), netpoll::BuildError> {
/// let budget = MemoryBudget::new(64 << 20);
/// let public = EventLoop::builder().memory_budget(budget.clone()).build()?;
/// let inner = EventLoop::builder().memory_budget(budget.clone()).build()?;
/// assert_eq!((budget.used(), budget.limit()), (0, 64 << 20));
/// # drop((public, inner));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryBudget {
    pool: Arc<Pool>,
}

impl MemoryBudget {
    /// A budget of so many bytes; at least 1, and at most a quarter of all there can be.
    pub fn new(bytes: usize) -> Self {
        let line = Line { waiting: BTreeMap::new(), last: 0, debtor: None };
        let limit = bytes.clamp(1, MOST);
        Self { pool: Arc::new(Pool { limit, word: AtomicUsize::new(0), line: Mutex::new(line) }) }
    }

    /// How many bytes are held now, with those that reads under way have asked for.
    pub fn used(&self) -> usize {
        // ORDERING: a figure for people.
        self.pool.word.load(Relaxed) & !MARK
    }

    /// How many there may be.
    pub fn limit(&self) -> usize {
        self.pool.limit
    }

    /// The account of one connection, which `owner` resumes.
    #[allow(unreachable_pub)] // For the models.
    pub fn charge(&self, owner: Weak<dyn Resume>) -> Charge {
        Charge {
            pool: Arc::clone(&self.pool),
            owner,
            held: AtomicUsize::new(0),
            need: AtomicUsize::new(STEP),
            message: AtomicUsize::new(0),
            place: AtomicU64::new(0),
        }
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget")
            .field("used", &self.used())
            .field("limit", &self.limit())
            .finish()
    }
}

/// What stands in line.
#[allow(unreachable_pub)] // For the models.
pub trait Resume: Send + Sync {
    /// Ends its pause.
    fn resume(&self);
    /// Whether there is something that it could read now.
    fn has_more(&self) -> bool;
}

struct Pool {
    limit: usize,
    /// Bytes that are taken, and the mark (M2).
    word: AtomicUsize,
    line: Mutex<Line>,
}

struct Line {
    /// By their places, the oldest first.
    waiting: BTreeMap<u64, Weak<dyn Resume>>,
    /// The last place given; the first is 1.
    last: u64,
    debtor: Option<Debtor>,
}

/// Who may read past the budget (M3).
struct Debtor {
    who: Id,
    /// It has done so.
    owes: bool,
}

/// Which connection: where it lies, which nobody else does before it has given up its right.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Id(usize);

fn id(owner: &Weak<dyn Resume>) -> Id {
    Id(Weak::as_ptr(owner).cast::<()>().addr())
}

impl Line {
    fn is_debtor(&self, who: Id) -> bool {
        self.debtor.as_ref().is_some_and(|debtor| debtor.who == who)
    }

    /// The next has the right, if nobody has.
    fn next_debtor(&mut self) -> Option<Weak<dyn Resume>> {
        if self.debtor.is_some() {
            return None;
        }
        let (_, next) = self.waiting.pop_first()?;
        self.debtor = Some(Debtor { who: id(&next), owes: false });
        Some(next)
    }
}

impl Pool {
    /// Up to `want` bytes, as far as the budget goes.
    fn take(&self, want: usize) -> usize {
        let mut word = self.word.load(Relaxed);
        loop {
            let n = want.min(self.limit.saturating_sub(word & !MARK));
            if n == 0 {
                return 0;
            }
            // ORDERING: acquire pairs with the release of who gave the bytes back.
            match self.word.compare_exchange_weak(word, word + n, AcqRel, Relaxed) {
                Ok(_) => return n,
                Err(now) => word = now,
            }
        }
    }

    fn give_back(&self, n: usize, by: Id) {
        // ORDERING: release for `take`. With the mark, M2: the word's own order decides.
        let before = self.word.fetch_sub(n, AcqRel);
        debug_assert!(before & !MARK >= n, "more was given back than taken");
        if before & MARK != 0 {
            self.settle(by);
        }
    }

    /// `by` has given back, or wants nothing now: lets others go on.
    #[cold]
    fn settle(&self, mut by: Id) {
        loop {
            let mut line = lock(&self.line);
            // ORDERING: acquire pairs with `give_back`; of the debtor's own bytes this thread knows.
            let used = self.word.load(Acquire) & !MARK;
            if used > self.limit {
                return; // The debtor has still to pay (M4).
            }
            if line.debtor.as_ref().is_some_and(|debtor| debtor.owes || debtor.who == by) {
                line.debtor = None;
            }
            // Half is free: several may look for themselves. One goes on surely (M5).
            let many = if used <= self.limit / 2 { MANY } else { 0 };
            let many: Vec<_> = (0..many).map_while(|_| Some(line.waiting.pop_first()?.1)).collect();
            let one = line.next_debtor();
            if line.debtor.is_none() && line.waiting.is_empty() {
                // ORDERING: marks come and go under the lock.
                self.word.fetch_and(!MARK, AcqRel);
            }
            drop(line);
            // Outside the lock: the last user of a connection may be among them.
            for one in many.iter().filter_map(Weak::upgrade) {
                one.resume();
            }
            let Some(one) = one else { return };
            by = id(&one);
            if let Some(one) = one.upgrade() {
                one.resume();
                if one.has_more() {
                    return;
                }
            }
            // It has nothing to read, and stands in line again when it has: the right is the next one's.
        }
    }
}

/// What one connection has taken of a budget. All of it goes back when this is dropped.
#[allow(unreachable_pub)] // For the models.
pub struct Charge {
    pool: Arc<Pool>,
    owner: Weak<dyn Resume>,
    /// Bytes taken: in the input, or to be read into it now.
    held: AtomicUsize,
    /// How many it needs to hold in order to go on: so far it may go as the debtor.
    need: AtomicUsize,
    /// How long the framing said that the message is, for the next [`rests`](Self::rests).
    message: AtomicUsize,
    /// Where it stands in line, or has stood; 0 where it surely does not. Only the driver changes it,
    /// under the line's lock.
    place: AtomicU64,
}

#[allow(unreachable_pub)] // For the models.
impl Charge {
    /// Driver: takes up to `want` bytes in order to read them. 0: it has to pause, and is resumed when
    /// there is something, or by its own reader when that needs more.
    #[inline]
    pub fn take(&self, want: usize) -> usize {
        let n = self.pool.take(want);
        // ORDERING: the driver's own; for `held`, see `give_back`.
        if n == 0 || self.place.load(Relaxed) != 0 {
            return self.take_in_line(want, n);
        }
        self.held.fetch_add(n, Relaxed);
        n
    }

    #[cold]
    fn take_in_line(&self, want: usize, mut n: usize) -> usize {
        let (pool, me) = (&self.pool, id(&self.owner));
        let mut passes = false;
        let mut line = lock(&pool.line);
        if n == 0 {
            // M2. The look behind it sees whatever was given back by who saw no mark.
            if !cfg!(netpoll_mutant = "refused_without_mark") {
                pool.word.fetch_or(MARK, AcqRel);
            }
            n = pool.take(want);
        }
        if n == 0 {
            // ORDERING: the reader resumes behind a change of either (`Flow::granted`).
            let need = self.need.load(Relaxed).saturating_sub(self.held.load(Relaxed)).min(want);
            let first = line.debtor.is_none() && line.waiting.is_empty();
            if need == 0 {
                // What it holds is enough: once that is consumed, its reader resumes it.
                passes = line.is_debtor(me);
            } else if first || line.is_debtor(me) {
                line.debtor = Some(Debtor { who: me, owes: true });
                // ORDERING: the look before has acquired.
                pool.word.fetch_add(need, AcqRel);
                n = need;
            } else if !line.waiting.contains_key(&self.place.load(Relaxed)) {
                line.last += 1;
                self.place.store(line.last, Relaxed);
                let place = line.last;
                line.waiting.insert(place, Weak::clone(&self.owner));
            }
        }
        if n > 0 {
            self.held.fetch_add(n, Relaxed);
            line.waiting.remove(&self.place.load(Relaxed));
            self.place.store(0, Relaxed);
        }
        drop(line);
        if passes {
            pool.settle(me);
        }
        n
    }

    /// Driver or reader: so many of what was taken are not needed any more.
    #[inline]
    pub fn give_back(&self, n: usize) {
        if n > 0 {
            // ORDERING: only a sum; what it guards is counted by `word`.
            self.held.fetch_sub(n, Relaxed);
            self.pool.give_back(n, id(&self.owner));
        }
    }

    /// It does not want more for now, whatever it was refused.
    pub fn leave(&self) {
        // ORDERING: who was refused on another thread leaves with the connection's end at the latest.
        if self.pool.word.load(Acquire) & MARK != 0 {
            lock(&self.pool.line).waiting.remove(&self.place.load(Relaxed));
            if !cfg!(netpoll_mutant = "unused_right_kept") {
                self.pool.settle(id(&self.owner));
            }
        }
    }

    /// Reader: goes on when `n` bytes are held, unread and unreleased together. The caller resumes.
    pub fn needs(&self, n: usize) {
        // ORDERING: the fence of the resume that follows orders them (F5).
        let held = self.held.load(Relaxed);
        // Where only one more is asked for, nobody knows how many it takes.
        self.need.store(if n > held + 1 { n } else { held + STEP }, Relaxed);
    }

    /// Reader: the message that has begun is `n` bytes long.
    pub fn begins(&self, n: usize) {
        // ORDERING: the turn's owner's own.
        self.message.store(n, Relaxed);
    }

    /// Reader: at rest with so many bytes unread, and nothing unreleased. The caller resumes.
    pub fn rests(&self, unread: usize) {
        // ORDERING: as above.
        self.needs(self.message.swap(0, Relaxed).max(unread + 1));
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charge").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // ORDERING: nobody else has it.
        self.give_back(self.held.load(Relaxed));
        self.leave();
    }
}
