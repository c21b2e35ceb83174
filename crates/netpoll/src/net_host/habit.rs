//! Whether the handlers of a poller mostly block, so that its role had better be passed on before one
//! of them runs.
//!
//! A rescue costs the other connections the time until the watchdog is sure, a few hundred
//! microseconds. Where one handler in a hundred blocks, that is cheaper than to wake a thread for
//! each; where nearly all do, hardly anything else would happen. So blocking is counted against
//! coming back soon: past a threshold the role is passed on first, as
//! [`block_in_place`](crate::block_in_place) does, until handlers come back soon again.
//!
//! It is a guess, and never wrong in more than time: updates may be lost between two threads.

use std::time::{Duration, Instant};

use poller::sys::{self, ThreadClock};

use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// What a handler that blocked weighs against one that came back soon. The score grows where more
/// than one in so many blocks.
const WEIGHT: u32 = 16;
/// From here on the role is passed on first.
const THRESHOLD: u32 = 32 * WEIGHT;
/// The score grows no further, so that it falls soon enough.
const MOST: u32 = 2 * THRESHOLD;
/// What comes back within this has not blocked.
const SOON: Duration = Duration::from_micros(200);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Habit(AtomicU32);

impl Habit {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Whether handlers mostly block.
    #[inline]
    pub(crate) fn is_to_block(&self) -> bool {
        // ORDERING: here and below a score, which guards nothing.
        self.0.load(Relaxed) >= THRESHOLD
    }

    /// A handler blocked.
    pub(crate) fn blocked(&self) {
        self.0.store(self.0.load(Relaxed).saturating_add(WEIGHT).min(MOST), Relaxed);
    }

    /// A handler came back soon.
    #[inline]
    pub(crate) fn came_back(&self) {
        let score = self.0.load(Relaxed);
        if score > 0 {
            self.0.store(score - 1, Relaxed);
        }
    }
}

/// A handler before which the role was passed on: nobody watches it but this.
pub(super) struct Watched {
    clock: ThreadClock,
    since: Instant,
    cpu_then: Duration,
}

impl Watched {
    /// The calling thread is about to run it.
    pub(super) fn begin() -> Self {
        let clock = ThreadClock::current();
        Self { clock, since: sys::now(), cpu_then: clock.cpu_time() }
    }

    /// It has returned, on the same thread.
    pub(super) fn end(self, habit: &Habit) {
        let elapsed = sys::now().saturating_duration_since(self.since);
        let burnt = self.clock.cpu_time().saturating_sub(self.cpu_then);
        // One that burns is no worse off with the role: see the watchdog's rules.
        if elapsed >= SOON && burnt < elapsed / 2 { habit.blocked() } else { habit.came_back() }
    }
}

#[cfg(all(test, not(netpoll_loom)))]
mod tests {
    use super::*;
    use crate::sync::thread;

    #[test]
    fn one_in_a_hundred_is_no_habit_but_one_in_two_is() {
        let habit = Habit::new();
        for n in 0..100_000 {
            if n % 100 == 0 {
                habit.blocked()
            } else {
                habit.came_back()
            }
            assert!(!habit.is_to_block());
        }
        for _ in 0..40 {
            habit.blocked();
            habit.came_back();
        }
        assert!(habit.is_to_block());
        for _ in 0..MOST {
            habit.came_back();
        }
        assert!(!habit.is_to_block());
        habit.came_back();
    }

    #[test]
    fn sleeping_is_told_from_burning() {
        let habit = Habit::new();
        let watched = Watched::begin();
        thread::sleep(Duration::from_millis(2));
        watched.end(&habit);
        assert_eq!(habit.0.load(Relaxed), WEIGHT);
        let watched = Watched::begin();
        watched.end(&habit);
        assert_eq!(habit.0.load(Relaxed), WEIGHT - 1);
    }
}
