//! Who is doing what: three counts in one word, so that they always agree.
//!
//! ```text
//!   | searching: 21 bits | parked: 21 bits | workers: 21 bits |
//! ```
//!
//! `workers` are all that are alive; `parked` of them sleep; `searching` are awake without a
//! task, those being woken or started included. The rest run tasks.

use std::fmt;

use crate::sync::atomic::{AtomicU64, Ordering};

const BITS: u32 = 21;
const MASK: u64 = (1 << BITS) - 1;

/// More threads than any system starts, and they fit their field twice.
pub(crate) const MAX_WORKERS: usize = 1 << (BITS - 1);

const WORKER: u64 = 1;
const PARKED: u64 = 1 << BITS;
const SEARCHING: u64 = 1 << (2 * BITS);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts(u64);

impl Counts {
    pub(crate) fn workers(self) -> usize {
        (self.0 & MASK) as usize
    }

    pub(crate) fn parked(self) -> usize {
        (self.0 >> BITS & MASK) as usize
    }

    pub(crate) fn searching(self) -> usize {
        (self.0 >> (2 * BITS)) as usize
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counts")
            .field("workers", &self.workers())
            .field("parked", &self.parked())
            .field("searching", &self.searching())
            .finish()
    }
}

/// What can happen to a worker. Each is one addition: the fields never carry into each other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// A thread is started; it is born searching.
    Start,
    /// It could not be started after all, or a searching worker leaves.
    SearcherLeaves,
    /// A parked worker leaves.
    SleeperLeaves,
    /// A worker leaves after its task.
    WorkerLeaves,
    /// A worker found nothing more to do.
    Search,
    /// A searching worker found a task.
    Find,
    /// A searching worker lies down.
    Park,
    /// A parked worker is woken, or gets up by itself.
    Wake,
}

impl Change {
    const fn delta(self) -> u64 {
        match self {
            Change::Start => WORKER + SEARCHING,
            Change::SearcherLeaves => (WORKER + SEARCHING).wrapping_neg(),
            Change::SleeperLeaves => (WORKER + PARKED).wrapping_neg(),
            Change::WorkerLeaves => WORKER.wrapping_neg(),
            Change::Search => SEARCHING,
            Change::Find => SEARCHING.wrapping_neg(),
            Change::Park => PARKED.wrapping_sub(SEARCHING),
            Change::Wake => SEARCHING - PARKED,
        }
    }
}

#[derive(Debug)]
pub(crate) struct AtomicCounts(AtomicU64);

impl AtomicCounts {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[inline]
    pub(crate) fn load(&self) -> Counts {
        // ORDERING: Relaxed: the counts publish nothing; who must not miss a change fences.
        Counts(self.0.load(Ordering::Relaxed))
    }

    /// Makes the change and says how things were before.
    pub(crate) fn apply(&self, change: Change) -> Counts {
        // ORDERING: Relaxed: as in `load`.
        Counts(self.0.fetch_add(change.delta(), Ordering::Relaxed))
    }
}

#[cfg(all(test, not(netpoll_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_life() {
        let counts = AtomicCounts::new();
        let seen = |counts: &AtomicCounts| {
            let now = counts.load();
            (now.workers(), now.parked(), now.searching())
        };
        for (change, expected) in [
            (Change::Start, (1, 0, 1)),
            (Change::Start, (2, 0, 2)),
            (Change::Find, (2, 0, 1)),
            (Change::Park, (2, 1, 0)),
            (Change::Wake, (2, 0, 1)),
            (Change::SearcherLeaves, (1, 0, 0)),
            (Change::Search, (1, 0, 1)),
            (Change::Park, (1, 1, 0)),
            (Change::SleeperLeaves, (0, 0, 0)),
            (Change::Start, (1, 0, 1)),
            (Change::Find, (1, 0, 0)),
            (Change::WorkerLeaves, (0, 0, 0)),
        ] {
            counts.apply(change);
            assert_eq!(seen(&counts), expected, "{change:?}");
        }
        assert_eq!(
            format!("{:?}", counts.load()),
            "Counts { workers: 0, parked: 0, searching: 0 }"
        );
    }
}
