//! Moments at which a poller's driver is to look at something: part of what moves with its role.
//!
//! An entry is a reason to look and nothing more. Whoever is looked at says whether its time has
//! come; if it has moved on meanwhile, it is entered again. So nothing is ever taken out of the
//! middle, and what happens all the time (a byte, a request) only notes when it was.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::LazyLock,
    time::{Duration, Instant},
};

use poller::sys;

/// A moment, in nanoseconds since the first that this process asked for, and never 0: it fits in an
/// atomic.
pub(crate) type Stamp = u64;

/// A moment that never comes.
pub(crate) const NEVER: Stamp = u64::MAX;

/// Below this, what is out of date is not worth looking for.
const FEW: usize = 64;

/// Now.
pub(crate) fn stamp() -> Stamp {
    static START: LazyLock<Instant> = LazyLock::new(sys::now);
    let start = *START;
    nanos(sys::now().saturating_duration_since(start)).max(1)
}

/// So much later. What is too far away never comes.
pub(crate) fn after(moment: Stamp, time: Duration) -> Stamp {
    moment.saturating_add(nanos(time))
}

/// So much earlier.
pub(crate) fn before(moment: Stamp, time: Duration) -> Stamp {
    moment.saturating_sub(nanos(time))
}

/// How long until then.
pub(crate) fn until(moment: Stamp) -> Duration {
    Duration::from_nanos(moment.saturating_sub(stamp()))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    heap: BinaryHeap<Reverse<(Stamp, K)>>,
    /// How many entries are too many to be all alive.
    crowded: usize,
}

impl<K: Ord> Timers<K> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), crowded: FEW }
    }

    /// Has `key` looked at when `at` is past. What `is_alive` denies may be forgotten by this, so
    /// that the dead never outnumber the living for long.
    pub(crate) fn insert(&mut self, at: Stamp, key: K, is_alive: impl Fn(Stamp, &K) -> bool) {
        if at == NEVER {
            return;
        }
        if self.heap.len() >= self.crowded {
            self.heap.retain(|Reverse((at, key))| is_alive(*at, key));
            self.crowded = (2 * self.heap.len()).max(FEW);
        }
        self.heap.push(Reverse((at, key)));
    }

    /// How long until something is due; `None`: nothing is entered. Asks the clock only where
    /// something is.
    pub(crate) fn wait(&self) -> Option<Duration> {
        let Reverse((at, _)) = self.heap.peek()?;
        Some(until(*at))
    }

    /// When the first is due.
    pub(crate) fn first(&self) -> Stamp {
        self.heap.peek().map_or(NEVER, |Reverse((at, _))| *at)
    }

    /// Takes out what is due, with the moment it was entered for.
    pub(crate) fn due(&mut self) -> Option<(Stamp, K)> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > stamp() {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(all(test, not(netpoll_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_order_and_never_early() {
        let mut timers = Timers::new();
        let start = stamp();
        let step = Duration::from_millis(2);
        for key in [3, 1, 2] {
            timers.insert(after(start, step * key), key, |_, _| true);
        }
        timers.insert(NEVER, 4, |_, _| true);
        let mut order = Vec::new();
        while let Some(wait) = timers.wait() {
            crate::sync::thread::sleep(wait);
            if let Some((at, key)) = timers.due() {
                assert_eq!(at, after(start, step * key));
                assert!(stamp() >= at);
                order.push(key);
            }
        }
        assert_eq!(order, [1, 2, 3]);
    }

    #[test]
    fn the_dead_do_not_gather() {
        let mut timers = Timers::new();
        let later = after(stamp(), Duration::from_secs(1000));
        for key in 0..100_000 {
            timers.insert(later, key, |_, &key| key % 1000 == 0);
            assert!(timers.heap.len() <= FEW + 2 * 100, "{}", timers.heap.len());
        }
        assert_eq!(timers.due(), None);
    }

    #[test]
    fn times_without_end() {
        assert_eq!(after(stamp(), Duration::MAX), NEVER);
        assert!(after(1, Duration::from_nanos(1)) == 2);
    }
}
