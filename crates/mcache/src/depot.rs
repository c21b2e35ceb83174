//! The depot: free blocks that no thread holds, in batches.
//!
//! Per class there are a few slots, each a list of batches. To do anything with a list, a thread
//! first takes the whole of it out with one swap, so that it owns what it looks at; then it puts
//! back what it does not want. There is no moment at which two threads follow the same link, hence
//! no ABA and nothing to reclaim late: blocks can go back to the allocator at any time. The price:
//! while a list is out, others find the slot empty and go on to the next one, or to the allocator.
//!
//! Nobody waits for anybody: a thread that stalls with a list in its hand keeps that list from the
//! others, and nothing else.

use std::ptr;

use crate::batch::{Batch, Carrier, join, split};
use crate::class::{Class, KEPT};
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use crate::sync::{const_unless_loom, each};

/// Slots of a class: threads start at different ones.
#[cfg(not(netpoll_loom))]
const WAYS: usize = 4;
#[cfg(netpoll_loom)]
const WAYS: usize = 1;

/// How often a search is repeated while the class is not empty, only out of its slots.
#[cfg(not(netpoll_loom))]
const PATIENCE: usize = 4;
#[cfg(netpoll_loom)]
const PATIENCE: usize = 1;

pub(crate) struct Depot {
    shelves: [Shelf; KEPT],
}

/// What there is of one class.
#[repr(align(64))]
pub(crate) struct Shelf {
    slots: [AtomicPtr<Carrier>; WAYS],
    /// Blocks in the slots, or about to be.
    blocks: AtomicUsize,
    /// Blocks ever taken out.
    taken: AtomicUsize,
    /// What the reaper saw when it last looked: `blocks` and `taken`.
    seen: [AtomicUsize; 2],
}

impl Depot {
    const_unless_loom! {
        pub(crate) fn new() -> Self {
            Depot { shelves: each!(Shelf::new(); KEPT) }
        }
    }

    /// The shelf of a class that is kept.
    pub(crate) fn shelf(&self, class: Class) -> &Shelf {
        &self.shelves[class.index()]
    }
}

impl Shelf {
    const_unless_loom! {
        fn new() -> Self {
            Shelf {
                slots: each!(AtomicPtr::new(ptr::null_mut()); WAYS),
                blocks: AtomicUsize::new(0),
                taken: AtomicUsize::new(0),
                seen: each!(AtomicUsize::new(0); 2),
            }
        }
    }

    /// Blocks here; a snapshot.
    pub(crate) fn blocks(&self) -> usize {
        // ORDERING: Relaxed, a number for statistics and estimates.
        self.blocks.load(Ordering::Relaxed)
    }

    /// Puts a batch into the slot of this way.
    pub(crate) fn put(&self, way: usize, batch: Batch) {
        // Counted before it can be taken, so that the count does not fall below zero.
        // ORDERING: Relaxed, as in `blocks`.
        self.blocks.fetch_add(batch.len(), Ordering::Relaxed);
        self.put_list(way % WAYS, batch.into_list());
    }

    fn put_list(&self, slot: usize, mut list: *mut Carrier) {
        let slot = &self.slots[slot];
        loop {
            // ORDERING: Release pairs with the Acquire swaps here and in `take`: whoever gets the
            // list sees the links in it. Relaxed on failure: what is there is not looked at.
            #[cfg(not(netpoll_mutant = "put_relaxed"))]
            let release = Ordering::Release;
            #[cfg(netpoll_mutant = "put_relaxed")]
            let release = Ordering::Relaxed;
            #[cfg(netpoll_mutant = "put_over_another")]
            return slot.store(list, release);
            #[cfg(not(netpoll_mutant = "put_over_another"))]
            if slot.compare_exchange(ptr::null_mut(), list, release, Ordering::Relaxed).is_ok() {
                return;
            }
            // ORDERING: Acquire, to see the links of the list that is now ours as well.
            let other = slot.swap(ptr::null_mut(), Ordering::Acquire);
            if !other.is_null() {
                // SAFETY: the swap made us the owner of the other list (T1).
                list = unsafe { join(list, other) };
            }
        }
    }

    /// Takes a batch, beginning the search at the slot of this way.
    pub(crate) fn take(&self, way: usize) -> Option<Batch> {
        for _ in 0..PATIENCE {
            // ORDERING: Relaxed, a hint: a search in vain costs an allocation, no more.
            if self.blocks.load(Ordering::Relaxed) == 0 {
                return None;
            }
            for i in 0..WAYS {
                let at = (way + i) % WAYS;
                if let Some(batch) = self.take_from(at) {
                    // ORDERING: Relaxed, as in `blocks`.
                    self.blocks.fetch_sub(batch.len(), Ordering::Relaxed);
                    self.taken.fetch_add(batch.len(), Ordering::Relaxed);
                    return Some(batch);
                }
            }
            std::hint::spin_loop();
        }
        None
    }

    fn take_from(&self, at: usize) -> Option<Batch> {
        let slot = &self.slots[at];
        // ORDERING: Relaxed, a hint that saves the swap of an empty slot.
        if slot.load(Ordering::Relaxed).is_null() {
            return None;
        }
        // ORDERING: Acquire pairs with the Release in `put_list`: the links are seen.
        #[cfg(not(any(netpoll_mutant = "take_relaxed", netpoll_mutant = "take_in_two_steps")))]
        let list = slot.swap(ptr::null_mut(), Ordering::Acquire);
        #[cfg(netpoll_mutant = "take_relaxed")]
        let list = slot.swap(ptr::null_mut(), Ordering::Relaxed);
        #[cfg(netpoll_mutant = "take_in_two_steps")]
        let list = {
            let list = slot.load(Ordering::Acquire);
            slot.store(ptr::null_mut(), Ordering::Relaxed);
            list
        };
        if list.is_null() {
            return None;
        }
        // SAFETY: the swap made us the owner of the list (T1).
        let (batch, rest) = unsafe { split(list) };
        if !rest.is_null() {
            self.put_list(at, rest);
        }
        Some(batch)
    }

    /// How many blocks nobody wanted since the last call; for the reaper alone.
    pub(crate) fn unused(&self) -> usize {
        // ORDERING: Relaxed throughout, an estimate by a single thread.
        let (blocks, taken) =
            (self.blocks.load(Ordering::Relaxed), self.taken.load(Ordering::Relaxed));
        let was = self.seen[0].swap(blocks, Ordering::Relaxed);
        let wanted = taken.wrapping_sub(self.seen[1].swap(taken, Ordering::Relaxed));
        // At least `was - wanted` lay here all the time.
        was.saturating_sub(wanted).min(blocks)
    }
}
