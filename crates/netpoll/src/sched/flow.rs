//! How much unread input a connection may hold: pausing at the limit, resuming below it.
//!
//! Two threads meet here: the driver, who reads the socket, and the reader, who consumes. A paused
//! socket is not read although it may have bytes, and being edge-triggered it will not report them
//! again by itself: whoever clears the pause re-arms it.
//!
//! - **F1** To pause: set `paused`, fence, look for room again. To resume: make room, fence, clear
//!   `paused`; whoever clears it re-arms (or reads on, where it is the driver itself).
//! - **F2** The pause is cleared by one side only: by swap.
//! - **F3** A wait for more than the limit raises the limit, and resumes by the same rule; else the
//!   bytes it waits for could never come.
//! - **F4** A reader may stop between the low mark and the limit because it needs more: the rest of a long
//!   message. So whoever comes to rest there resumes, though the release that led there did not.
//! - **F5** Where a budget refuses bytes, the same pause: set `paused`, fence, ask again. Whoever then gives
//!   bytes back, or needs more than it holds, resumes (`budget.rs`).

use crate::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    fence,
};

/// See the module's text.
#[derive(Debug)]
pub struct Flow {
    /// The limit in force, in bytes: the configured one, or more while somebody waits for more.
    limit: AtomicUsize,
    /// The low mark: a pause ends once no more than so many bytes are held. Never changed.
    low: u32,
    /// The driver stopped reading and will not go on by itself.
    paused: AtomicBool,
    /// The user asked for a pause.
    by_hand: AtomicBool,
}

impl Flow {
    /// Reading may go on until `limit` bytes (at least 1) are held, and again once no more than `low`
    /// are. No more of the two than a `u32` tells: an idle connection is to stay small.
    pub fn new(limit: usize, low: usize) -> Self {
        Self {
            limit: AtomicUsize::new(limit.max(1)),
            low: u32::try_from(low).unwrap_or(u32::MAX),
            paused: AtomicBool::new(false),
            by_hand: AtomicBool::new(false),
        }
    }

    /// Driver: how many bytes may be read now. 0: reading is paused, and will be re-armed.
    ///
    /// `occupied` tells what the buffer holds, loading the reader's counter afresh.
    #[inline]
    pub fn room(&self, occupied: impl Fn() -> usize) -> usize {
        let room = || {
            if self.by_hand.load(Acquire) {
                0
            } else {
                self.limit.load(Acquire).saturating_sub(occupied())
            }
        };
        loop {
            let n = room();
            if n > 0 {
                return n;
            }
            // ORDERING: the fence orders this before the second look (F1).
            self.paused.store(true, Relaxed);
            if cfg!(netpoll_mutant = "pause_without_recheck") {
                return 0;
            }
            fence(SeqCst);
            if room() == 0 {
                return 0;
            }
            // ORDERING: AcqRel: one of the two clears it (F2).
            if !self.paused.swap(false, AcqRel) {
                return 0; // The reader cleared it: it re-arms, and the socket reports again.
            }
        }
    }

    /// Driver: what `take` can have of a budget, in order to read it. 0: as in [`room`](Self::room).
    pub fn granted(&self, mut take: impl FnMut() -> usize) -> usize {
        let mut n = take();
        if n == 0 {
            // ORDERING: the fence orders this before the second look (F5).
            self.paused.store(true, Relaxed);
            fence(SeqCst);
            if !cfg!(netpoll_mutant = "refused_without_recheck") {
                n = take();
            }
        }
        // ORDERING: as in `room`. Who cleared it meanwhile has re-armed: one event for nothing.
        if n > 0 && self.paused.load(Relaxed) {
            self.paused.swap(false, AcqRel);
        }
        n
    }

    /// Reader: after a release that took the bytes held from `before` to `after`. True: the caller
    /// must re-arm the socket.
    #[inline]
    #[must_use]
    pub fn released(&self, before: usize, after: usize) -> bool {
        let low = self.low as usize;
        // Only a release that comes from the low mark or above can be the one that a pause waits
        // for. From the mark itself, too: while the last release went on, the driver may have
        // filled the buffer from there to the limit.
        before >= low && after <= low && self.resume()
    }

    /// Reader: at rest, holding nothing but `unread` bytes, until more comes. True: the caller must
    /// re-arm the socket (F4).
    #[inline]
    #[must_use]
    pub fn rests(&self, unread: usize) -> bool {
        // ORDERING: the reader's own; the driver does not change the limit.
        let limit = self.limit.load(Relaxed);
        // From the mark downwards, the release that went there has resumed. At the limit there is no room.
        let between = unread > self.low as usize && unread < limit;
        between && !cfg!(netpoll_mutant = "rest_keeps_pause") && self.resume()
    }

    /// Clears a pause. True: the caller must re-arm the socket.
    #[must_use]
    pub fn resume(&self) -> bool {
        #[cfg(not(netpoll_mutant = "resume_without_fence"))]
        fence(SeqCst);
        // ORDERING: the fence orders this load behind the room that the caller made (F1); the swap
        // decides who re-arms (F2).
        self.paused.load(Relaxed) && self.paused.swap(false, AcqRel)
    }

    /// Reader: about to wait until `need` bytes are held. True: the caller must re-arm (F3).
    #[must_use]
    pub fn raise(&self, need: usize) -> bool {
        if cfg!(netpoll_mutant = "wait_keeps_limit") {
            return false;
        }
        // ORDERING: release, for the driver's look in `room`; `resume` fences besides.
        if need > self.limit.load(Relaxed) {
            self.limit.store(need, Release);
        }
        self.resume()
    }

    /// Reader: the wait for more is over; `limit`, which it began with, is in force again.
    #[inline]
    pub fn restore(&self, limit: usize) {
        let limit = limit.max(1);
        // ORDERING: release, for the driver's look in `room`.
        if self.limit.load(Relaxed) != limit {
            self.limit.store(limit, Release);
        }
    }

    /// Pauses (`true`) or resumes reading by hand. True: the caller must re-arm the socket.
    #[must_use]
    pub fn pause_by_hand(&self, pause: bool) -> bool {
        // ORDERING: release, for the driver's look in `room`; `resume` fences besides.
        self.by_hand.store(pause, Release);
        !pause && self.resume()
    }

    /// Whether reading stands still.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Relaxed) || self.by_hand.load(Relaxed)
    }

    /// The limit in force, in bytes.
    pub fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }
}

#[cfg(all(test, not(netpoll_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_pause_that_came_during_a_release_ends_with_the_next() {
        let flow = Flow::new(8, 4);
        // Half is held; while the reader releases it the driver fills the rest, and pauses.
        assert_eq!(flow.room(|| 8), 0);
        assert!(!flow.released(4, 4) || flow.room(|| 4) > 0);
        // What is left is exactly half, and goes now: nothing else will end the pause.
        let _ = flow.released(4, 0);
        assert!(!flow.is_paused());
    }
}
