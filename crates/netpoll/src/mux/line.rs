//! Who may add, who sends, and who waits: the protocol of a queue, knowing nothing of connections.
//!
//! One word counts what was accepted and is not yet done with:
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | closed: nothing more is accepted |
//! | 1 to 24 | items |
//! | 25 to 63 | bytes that these items announced |
//!
//! - **M1** Accepting is one exchange of the word, which looks at the closed bit and at both
//!   limits. So no item is accepted after closing, and no limit is passed by a race; only the last
//!   item accepted may reach beyond the bytes, so that one larger than the limit gets through.
//! - **M2** Who was accepted puts the item into the list first, and calls the turn second. So each
//!   accepted item is seen by an owner of the turn, who sends it.
//! - **M3** Items leave the word when they are done with: sent, or known to be lost. So a word
//!   without items means that everything accepted has been, and after closing it stays so.
//! - **M4** The word only goes up by what was accepted and down by the same: nothing in here
//!   counts for ever, and nothing wraps.
//! - **M5** Who waits says so, fences, looks at the word, and sleeps; who changes it changes it,
//!   fences, and looks for waiters. One of the two sees the other's.

#![allow(unreachable_pub)] // Public for the models alone.

pub use super::list::Batch;
use super::list::List;
use crate::{
    sched::turn::Turn,
    sync::{
        Condvar, Mutex,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
            fence,
        },
        lock,
    },
};

const CLOSED: u64 = 1;
const ITEM: u64 = 1 << 1;
const BYTE: u64 = 1 << 25;
const ITEMS: u64 = BYTE - ITEM;

/// The most items that a line can be told to hold.
pub const MOST_ITEMS: usize = (1 << 24) - 1;
/// The most bytes. As much again is left in the word for the last item accepted.
pub const MOST_BYTES: usize = 1 << 38;

/// Why something was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A limit is reached.
    Full,
    /// The line is closed.
    Closed,
}

/// See the module's text.
#[derive(Debug)]
pub struct Line<T> {
    word: AtomicU64,
    max_items: u64,
    max_bytes: u64,
    list: List<T>,
    /// Who sends.
    turn: Turn,
    waiting: AtomicUsize,
    asleep: Mutex<()>,
    changed: Condvar,
}

impl<T> Line<T> {
    /// Nothing in it. Limits that are out of bounds are moved to the nearest bound.
    pub fn new(max_items: usize, max_bytes: usize) -> Self {
        Self {
            word: AtomicU64::new(0),
            max_items: max_items.clamp(1, MOST_ITEMS) as u64,
            max_bytes: max_bytes.clamp(1, MOST_BYTES) as u64,
            list: List::new(),
            turn: Turn::idle(),
            waiting: AtomicUsize::new(0),
            asleep: Mutex::new(()),
            changed: Condvar::new(),
        }
    }

    // ---- who adds --------------------------------------------------------------------------

    /// What an item of `bytes` announces in the word.
    fn charge(bytes: usize) -> u64 {
        ITEM + bytes.min(MOST_BYTES - 1) as u64 * BYTE
    }

    /// Accepts an item that the caller is about to put in (M1).
    ///
    /// # Errors
    ///
    /// Why it is not accepted.
    #[cfg(not(netpoll_mutant = "mux_accept_in_two_steps"))]
    #[inline]
    pub fn enter(&self, bytes: usize) -> Result<(), Stop> {
        // ORDERING: accepting publishes nothing (the list does). Acquire where it is refused
        // pairs with the release in `close`, behind which the reason was left.
        let accept = |word| self.accept(word, bytes);
        match self.word.fetch_update(Relaxed, Acquire, accept) {
            Ok(_) => Ok(()),
            Err(word) => Err(Self::stopped(word)),
        }
    }

    /// The mistake of looking first and counting later.
    #[cfg(netpoll_mutant = "mux_accept_in_two_steps")]
    pub fn enter(&self, bytes: usize) -> Result<(), Stop> {
        // ORDERING: as above.
        let word = self.word.load(Acquire);
        if self.accept(word, bytes).is_none() {
            return Err(Self::stopped(word));
        }
        self.word.fetch_add(Self::charge(bytes), Relaxed);
        Ok(())
    }

    fn accept(&self, word: u64, bytes: usize) -> Option<u64> {
        let (items, taken) = ((word & ITEMS) / ITEM, word / BYTE);
        let open = word & CLOSED == 0 && items < self.max_items && taken < self.max_bytes;
        open.then(|| word + Self::charge(bytes))
    }

    fn stopped(word: u64) -> Stop {
        if word & CLOSED == 0 { Stop::Full } else { Stop::Closed }
    }

    /// As [`Line::enter`], and waits for room.
    ///
    /// # Errors
    ///
    /// The line is closed.
    pub fn enter_waiting(&self, bytes: usize) -> Result<(), Stop> {
        self.wait(|| match self.enter(bytes) {
            Err(Stop::Full) => None,
            decided => Some(decided),
        })
    }

    /// Puts an accepted item in (M2). True: the caller has the turn now, and sends.
    #[must_use]
    pub fn push(&self, item: T) -> bool {
        if cfg!(netpoll_mutant = "mux_call_before_push") {
            let claimed = self.turn.claim();
            self.list.push(item);
            return claimed;
        }
        self.list.push(item);
        self.turn.claim()
    }

    /// Takes the turn if nobody seems to have it, for an accepted item that the caller then sends
    /// itself, behind all that is in the list.
    #[inline]
    #[must_use]
    pub fn claim_idle(&self) -> bool {
        !self.turn.is_taken() && self.turn.claim()
    }

    // ---- who has the turn ------------------------------------------------------------------

    /// Begins to look. Everything that called before this is seen by the [`Line::take`] after it.
    #[inline]
    pub fn begin(&self) {
        self.turn.begin();
    }

    /// Takes the items that are there, oldest first.
    #[inline]
    pub fn take(&self) -> Batch<T> {
        self.list.take()
    }

    /// Puts an accepted item in, for the turn's owner that comes after the caller.
    pub fn put_back(&self, item: T) {
        self.list.push(item);
    }

    /// These many items, which announced so many bytes each, are done with (M3).
    pub fn done(&self, done: Done) {
        if done.0 != 0 {
            // ORDERING: release, for who finds the word empty in `wait_empty`: what was done with
            // the items comes before.
            self.word.fetch_sub(done.0, Release);
            self.wake();
        }
    }

    /// Gives the turn back. False: something came, the caller still has it, and begins again.
    #[inline]
    #[must_use]
    pub fn finish(&self) -> bool {
        self.turn.finish()
    }

    // ---- who closes ------------------------------------------------------------------------

    /// From here on nothing is accepted. True the first time.
    pub fn close(&self) -> bool {
        // ORDERING: release, for who is refused: what was done before is visible there.
        let first = self.word.fetch_or(CLOSED, AcqRel) & CLOSED == 0;
        self.wake();
        first
    }

    /// Whether nothing is accepted any more.
    pub fn is_closed(&self) -> bool {
        // ORDERING: pairs with `close`.
        self.word.load(Acquire) & CLOSED != 0
    }

    /// Items that were accepted and are not done with.
    pub fn len(&self) -> usize {
        // ORDERING: pairs with `done`.
        ((self.word.load(Acquire) & ITEMS) / ITEM) as usize
    }

    /// Waits until everything that was accepted is done with.
    pub fn wait_empty(&self) {
        self.wait(|| (self.len() == 0).then_some(()));
    }

    // ---- waiting ---------------------------------------------------------------------------

    fn wait<R>(&self, mut done: impl FnMut() -> Option<R>) -> R {
        // ORDERING: the fence orders it before the look (M5).
        self.waiting.fetch_add(1, Relaxed);
        fence(SeqCst);
        let mut guard = lock(&self.asleep);
        let result = loop {
            match done() {
                Some(result) => break result,
                None => {
                    guard =
                        self.changed.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
                }
            }
        };
        drop(guard);
        // ORDERING: who still sees the old number wakes nobody.
        self.waiting.fetch_sub(1, Relaxed);
        result
    }

    fn wake(&self) {
        #[cfg(not(netpoll_mutant = "mux_wake_without_fence"))]
        fence(SeqCst);
        // ORDERING: ordered by the fence (M5).
        if self.waiting.load(Relaxed) > 0 {
            // Who looked before the change has gone to sleep once the lock is free.
            drop(lock(&self.asleep));
            self.changed.notify_all();
        }
    }
}

/// A sum of items that are done with.
#[derive(Debug, Default)]
pub struct Done(u64);

impl Done {
    /// One more, which had announced so many bytes.
    pub fn add(&mut self, bytes: usize) {
        self.0 += Line::<()>::charge(bytes);
    }

    /// Whether none was added.
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }
}
