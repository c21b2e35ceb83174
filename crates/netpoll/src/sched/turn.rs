//! A connection's turn: who runs its handlers, so that they never overlap and no event is lost.
//!
//! | bits | meaning |
//! |---|---|
//! | none | idle: nobody looks at the connection |
//! | BUSY | queued or running: its owner will look |
//! | BUSY, MARK | and something came since the owner last began to look |
//!
//! - **T1** Who publishes (bytes, an end, a wish to close) publishes first and claims second: that
//!   takes an idle turn, and marks a busy one.
//! - **T2** The owner clears the mark first and looks second.
//! - **T3** A turn is given back by compare-exchange from unmarked only: a mark that came since
//!   the last look sends the owner around once more.
//!
//! The same word serves the sender of a connection's output: who may write to the socket.

use crate::sync::atomic::{
    AtomicU8,
    Ordering::{AcqRel, Acquire, Relaxed},
};

const BUSY: u8 = 1;
const MARK: u8 = 2;

/// See the module's text.
#[derive(Debug)]
pub struct Turn(AtomicU8);

impl Turn {
    /// Free to be claimed.
    pub fn idle() -> Self {
        Self(AtomicU8::new(0))
    }

    /// Already owned by whoever makes it: no event overtakes the first callback.
    pub fn taken() -> Self {
        Self(AtomicU8::new(BUSY))
    }

    /// Idle → busy, or a mark for the owner. True: the caller owns the turn now, and must see to
    /// it that it is run.
    #[inline]
    #[must_use]
    pub fn claim(&self) -> bool {
        // An idle turn needs no mark: what was done before is the new owner's own doing.
        // ORDERING: release publishes what was done before (T1) to the owner's `begin`; acquire
        // takes over what the last owner left, published by `finish`.
        self.try_take() || self.0.fetch_or(BUSY | MARK, AcqRel) & BUSY == 0
    }

    /// Idle → busy, without a mark: for who has nothing to be handled, and only needs what belongs
    /// to the owner. What comes meanwhile makes `finish` fail, as ever.
    #[inline]
    #[must_use]
    pub fn try_take(&self) -> bool {
        // ORDERING: as in `claim`; nothing is published to an owner.
        self.0.compare_exchange(0, BUSY, Acquire, Relaxed).is_ok()
    }

    /// The owner begins to look (T2).
    #[inline]
    pub fn begin(&self) {
        // ORDERING: acquire pairs with the release of every `claim` whose mark this clears. A mark
        // that the load does not see yet makes `finish` fail (T3).
        if self.0.load(Relaxed) & MARK != 0 {
            self.0.fetch_and(!MARK, AcqRel);
        }
    }

    /// Gives the turn back. False: something came, the caller still owns it and begins again (T3).
    #[cfg(not(netpoll_mutant = "mark_not_honoured"))]
    #[inline]
    #[must_use]
    pub fn finish(&self) -> bool {
        // ORDERING: release hands everything the owner did to the next `claim`.
        self.0.compare_exchange(BUSY, 0, AcqRel, Acquire).is_ok()
    }

    /// The mistake of letting go whatever came.
    #[cfg(netpoll_mutant = "mark_not_honoured")]
    pub fn finish(&self) -> bool {
        // ORDERING: as above.
        self.0.store(0, crate::sync::atomic::Ordering::Release);
        true
    }

    /// Whether somebody owns it at this moment.
    pub fn is_taken(&self) -> bool {
        // ORDERING: pairs with `claim`; only for assertions.
        self.0.load(Acquire) & BUSY != 0
    }
}
