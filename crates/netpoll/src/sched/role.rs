//! The driver role of one poller: who may touch its epoll batch, and who takes it over.
//!
//! One word, `epoch << 3 | state`. Exactly one thread holds the role at a time, as a [`Hold`],
//! which cannot be copied. What the role guards (the batch, its cursor, the slots, the write side
//! of the input buffer of every connection of that poller) is called its *core*.
//!
//! ```text
//!  VACANT ──take──▶ DRIVING ──sleep──▶ ASLEEP          epochs grow at take, enter, renew
//!    ▲               │  ▲ ▲──awake──────┘              and vacate, so that a look that sees
//!    │          enter│  │leave (compare-exchange)      the same epoch twice saw the same
//!    │               ▼  │                              handler, and a late return fails
//!    └──pass,seize──HANDLER ─renew─▶ HANDLER         DRIVING ──end──▶ ENDED
//! ```
//!
//! Invariants:
//!
//! - **R1** Only the holder writes the word, except for `seize`, and only by compare-exchange out
//!   of HANDLER. In every other state the word belongs to the holder, who stores it.
//! - **R2** The core is touched in DRIVING and ASLEEP only, by the holder. In HANDLER user code
//!   runs, and the core may change hands at any moment.
//! - **R3** Leaving HANDLER, in whatever direction, is a compare-exchange against the epoch that
//!   this thread entered with. Where it fails, the role was taken: the [`Hold`] is gone.
//! - **R4** A vacated role is offered by whoever vacated it, exactly once, and taken exactly once.
//! - **R5** Before the kernel, the holder stores ASLEEP, fences, and looks at its inbox once more;
//!   who fills an inbox fences, and then wakes a poller that is ASLEEP.
//! - **R6** A success of `is_kept` is a read-modify-write: what the thread did before it is visible to
//!   whoever takes the role later. (A load could be older than that.)

use std::num::NonZeroU64;

use crate::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    fence,
};

const STATE_BITS: u32 = 3;
const STATE_MASK: u64 = (1 << STATE_BITS) - 1;

/// What the thread that holds the role is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum State {
    /// Reading sockets, taking events off the batch.
    Driving = 0,
    /// Running user code, which may last.
    Handler = 1,
    /// Nobody: the role is on offer.
    Vacant = 2,
    /// Waiting in the kernel.
    Asleep = 3,
    /// Never driven again.
    Ended = 4,
}

/// One look at a role from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look(u64);

impl Look {
    fn of(epoch: u64, state: State) -> Self {
        Self(epoch << STATE_BITS | state as u64)
    }

    /// The state at the moment of the look.
    pub fn state(self) -> State {
        match self.0 & STATE_MASK {
            0 => State::Driving,
            1 => State::Handler,
            2 => State::Vacant,
            3 => State::Asleep,
            _ => State::Ended,
        }
    }

    fn epoch(self) -> u64 {
        self.0 >> STATE_BITS
    }
}

/// Proof that this thread holds the role. It is consumed by whatever may lose it.
#[derive(Debug)]
pub struct Hold {
    /// Of the first take it is 1; so one word says whether a thread has a hold, and which.
    epoch: NonZeroU64,
}

impl Hold {
    fn word(&self, state: State) -> u64 {
        Look::of(self.epoch.get(), state).0
    }
}

/// The word itself. See the module's text for who may do what.
#[derive(Debug)]
pub struct Role {
    word: AtomicU64,
    /// The word that the watchdog has seen, and will compare with.
    suspected: AtomicU64,
}

impl Role {
    /// A role that is vacant and waits for its first [`Role::take`].
    pub fn vacant() -> Self {
        let word = Look::of(0, State::Vacant).0;
        Self { word: AtomicU64::new(word), suspected: AtomicU64::new(word) }
    }

    /// Vacant → driving. To be called once per vacancy, by whoever the offer reached (R4).
    pub fn take(&self) -> Hold {
        // ORDERING: Acquire pairs with the release half of the compare-exchange in `vacate`: what
        // the last holder did to the core is visible.
        let seen = Look(self.word.load(Acquire));
        debug_assert_eq!(seen.state(), State::Vacant, "R4: an offer is taken once");
        let hold = Hold { epoch: NonZeroU64::MIN.saturating_add(seen.epoch()) };
        self.store(&hold, State::Driving);
        hold
    }

    /// Driving → handler: from here on the core may change hands.
    #[inline]
    pub fn enter(&self, hold: &mut Hold) {
        hold.epoch = hold.epoch.saturating_add(1);
        self.store(hold, State::Handler);
    }

    /// Handler → driving, or nothing where the role was taken meanwhile (R3).
    #[inline]
    pub fn leave(&self, hold: Hold) -> Option<Hold> {
        let from = hold.word(State::Handler);
        let to = hold.word(State::Driving);
        // ORDERING: nobody has touched the core since `enter` if this succeeds, so it need not
        // acquire anything; AcqRel keeps the core's accesses that follow behind it.
        self.word.compare_exchange(from, to, AcqRel, Relaxed).is_ok().then_some(hold)
    }

    /// Watchdog: it will compare with this look.
    pub fn suspect(&self, seen: Look) {
        // ORDERING: what sees it late lets a handler pass for the one before it, for that long.
        self.suspected.store(seen.0, Relaxed);
    }

    /// Handler → the next handler. Where the watchdog has looked at this one, the next is another one
    /// to it; or nothing, where the role was taken meanwhile (R3).
    #[cfg(not(netpoll_mutant = "renew_without_cas"))]
    #[inline]
    pub fn renew(&self, hold: Hold) -> Option<Hold> {
        let from = hold.word(State::Handler);
        // ORDERING: see `suspect`.
        if self.suspected.load(Relaxed) != from {
            return Some(hold);
        }
        let next = Hold { epoch: hold.epoch.saturating_add(1) };
        let to = next.word(State::Handler);
        // ORDERING: release, as `store` on entering a handler; nothing is acquired.
        self.word.compare_exchange(from, to, AcqRel, Relaxed).is_ok().then_some(next)
    }

    /// The mistake of entering the next handler as if from DRIVING.
    #[cfg(netpoll_mutant = "renew_without_cas")]
    pub fn renew(&self, mut hold: Hold) -> Option<Hold> {
        self.enter(&mut hold);
        Some(hold)
    }

    /// Handler → vacant by the handler's own thread. True: the caller must offer the role (R4).
    #[cfg(not(netpoll_mutant = "pass_without_cas"))]
    #[must_use]
    pub fn pass(&self, hold: Hold) -> bool {
        self.vacate(Look::of(hold.epoch.get(), State::Handler))
    }

    /// The mistake of storing the word on the way out.
    #[cfg(netpoll_mutant = "pass_without_cas")]
    pub fn pass(&self, hold: Hold) -> bool {
        // ORDERING: as in `store`.
        self.word.store(Look::of(hold.epoch.get() + 1, State::Vacant).0, Release);
        true
    }

    /// Handler → vacant by the watchdog, if nothing happened since its look. True: the caller must
    /// offer the role (R4).
    #[must_use]
    pub fn seize(&self, seen: Look) -> bool {
        seen.state() == State::Handler && self.vacate(seen)
    }

    fn vacate(&self, from: Look) -> bool {
        let to = Look::of(from.epoch() + 1, State::Vacant);
        // ORDERING: release, for whoever takes the role next: `take` acquires it.
        self.word.compare_exchange(from.0, to.0, AcqRel, Relaxed).is_ok()
    }

    /// Driving → asleep. The caller looks at its inbox once more before it blocks (R5).
    #[inline]
    pub fn sleep(&self, hold: &Hold) {
        self.store(hold, State::Asleep);
        // ORDERING: pairs with the fence in `wants_wake`: either the filler of the inbox sees
        // ASLEEP, or this thread sees what it filled in.
        #[cfg(not(netpoll_mutant = "sleep_without_fence"))]
        fence(SeqCst);
    }

    /// Asleep → driving. The fence pairs with the watchdog's before it goes to sleep: either it
    /// sees that this poller drives, or the caller, who looks next, sees its flag.
    #[inline]
    pub fn awake(&self, hold: &Hold) {
        self.store(hold, State::Driving);
        #[cfg(not(netpoll_mutant = "awake_without_fence"))]
        fence(SeqCst);
    }

    /// Driving → ended.
    pub fn end(&self, hold: Hold) {
        self.store(&hold, State::Ended);
    }

    /// After filling the poller's inbox: must it be woken? (R5)
    pub fn wants_wake(&self) -> bool {
        fence(SeqCst);
        // ORDERING: the fence orders this load after the filling of the inbox; nothing is read
        // through the word.
        Look(self.word.load(Relaxed)).state() == State::Asleep
    }

    /// In the handler state: whether nobody has taken the role from `hold` so far. Whoever takes it
    /// later sees what the calling thread has done before this (R6).
    #[cfg(not(netpoll_mutant = "kept_by_load"))]
    #[inline]
    pub fn is_kept(&self, hold: &Hold) -> bool {
        let word = hold.word(State::Handler);
        // ORDERING: release, for the acquire half of the exchange in `vacate`; nothing is acquired.
        self.word.compare_exchange(word, word, Release, Relaxed).is_ok()
    }

    /// The mistake of a look that may be older than what the caller did.
    #[cfg(netpoll_mutant = "kept_by_load")]
    pub fn is_kept(&self, hold: &Hold) -> bool {
        // ORDERING: none that would help.
        self.word.load(Acquire) == hold.word(State::Handler)
    }

    /// What the role looks like now.
    pub fn look(&self) -> Look {
        // ORDERING: pairs with the release in `store`, so that a look is not older than what the
        // holder published before.
        Look(self.word.load(Acquire))
    }

    #[inline]
    fn store(&self, hold: &Hold, state: State) {
        // ORDERING: release, for `seize` followed by `take`: the next holder sees the core as
        // this one left it when it entered its handler.
        self.word.store(hold.word(state), Release);
    }
}

#[cfg(all(test, not(netpoll_loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_was_looked_at_goes_on_as_another() {
        let role = Role::vacant();
        let mut hold = role.take();
        role.enter(&mut hold);
        let look = role.look();
        let hold = role.renew(hold).unwrap();
        assert_eq!(role.look(), look, "nobody has looked");
        role.suspect(look);
        let hold = role.renew(hold).unwrap();
        assert_ne!(role.look(), look);
        assert!(!role.seize(look), "that one has returned");
        role.suspect(role.look());
        assert!(role.seize(role.look()));
        assert!(role.renew(hold).is_none());
    }
}
