//! A stock: the free blocks that one thread keeps for itself.
//!
//! Per class there is a bin, a stack of addresses. Its owner works on it with plain loads and
//! stores. Somebody else may still clear it out while its owner does nothing (a thread that sleeps
//! must not sit on memory): the two exclude each other by a pair of flags and an asymmetric fence,
//! whose dear half only the rare intruder pays.
//!
//! ```text
//!  owner: active = true;  light fence;  seized?  ── no ──► work;  active = false
//!                                          └──── yes ────► active = false; do without the stock
//!  other: seized = true;  heavy fence;  active?  ── no ──► work;  seized = false
//!                                          └──── yes ────► seized = false; come again later
//! ```
//!
//! Rules:
//! K1. `owned` is true while a thread has the stock; only that thread calls `enter`.
//! K2. Bins are touched only between `enter` and the end of [`Inside`], of which there is one at a
//!     time: the two fences let at least one side see the other's flag.
//! K3. The first `len` addresses of a bin are free blocks of its class that the stock owns.
//! K4. `len <= cap <= rounds`, and the sum of `cap` times footprint is what the stock has reserved
//!     of the cache's limits.
//! K5. No allocator is called between `enter` and the end of [`Inside`].

use std::array;
use std::ptr::NonNull;

use crate::batch::MAX_BATCH;
use crate::class::{Class, KEPT};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{UnsafeCell, heavy_fence, light_fence};

/// What a bin may hold at most, unless two blocks are more.
const BIN_BYTES: usize = 4 << 20;

/// A bin that may not grow has the others searched for an idle one once in so many times, so that
/// "idle" means something.
const SEARCH_EVERY: u32 = 16;

/// The most blocks of a class in a bin.
pub(crate) const fn rounds(index: usize) -> usize {
    let fit = BIN_BYTES >> index;
    if fit > MAX_BATCH {
        MAX_BATCH
    } else if fit < 2 {
        2
    } else {
        fit
    }
}

const ALL_ROUNDS: usize = {
    let (mut sum, mut index) = (0, 0);
    while index < KEPT {
        sum += rounds(index);
        index += 1;
    }
    sum
};

/// A thread's free blocks. The alignment keeps the flags of two threads apart, also where lines
/// are fetched in pairs.
#[repr(align(128))]
pub(crate) struct Stock {
    active: AtomicBool,
    seized: AtomicBool,
    owned: AtomicBool,
    /// Which slot of the depot its owner prefers.
    pub(crate) way: usize,
    /// The stock that was made before this one; set before this one is published.
    pub(crate) older: *const Stock,
    /// Bytes for which `cap`s are reserved; written inside.
    reserved: AtomicUsize,
    /// Blocks that came from the depot straight to the user; written by the owner.
    refills: AtomicU64,
    /// Calls of `find_idle`; written inside.
    searches: AtomicU32,
    /// Stands for everything below in the models: loom watches who is inside.
    inside: UnsafeCell<()>,
    bins: [Bin; KEPT],
    slots: std::cell::UnsafeCell<[NonNull<u8>; ALL_ROUNDS]>,
}

// SAFETY: `slots` is only touched inside (K2), `older` does not change, the rest is atomic.
unsafe impl Sync for Stock {}
// SAFETY: nothing in it belongs to a certain thread.
unsafe impl Send for Stock {}

/// A stack of free blocks of one class. The numbers are atomic for those who read statistics;
/// writers are inside.
struct Bin {
    len: AtomicU32,
    cap: AtomicU32,
    /// Where in `slots` it begins.
    start: u32,
    /// `pops` when the owner last looked for bins to give up; inside.
    idle_at: AtomicU32,
    /// Blocks handed out.
    pops: AtomicU64,
    /// What the reaper saw when it last looked: `len` and `pops`.
    seen: [AtomicU64; 2],
}

impl Stock {
    pub(crate) fn new(way: usize) -> Self {
        let mut start = 0;
        let bins = array::from_fn(|index| {
            let bin = Bin {
                len: AtomicU32::new(0),
                cap: AtomicU32::new(0),
                start,
                idle_at: AtomicU32::new(0),
                pops: AtomicU64::new(0),
                seen: array::from_fn(|_| AtomicU64::new(0)),
            };
            start += rounds(index) as u32;
            bin
        });
        Stock {
            active: AtomicBool::new(false),
            seized: AtomicBool::new(false),
            owned: AtomicBool::new(true),
            way,
            older: std::ptr::null(),
            reserved: AtomicUsize::new(0),
            refills: AtomicU64::new(0),
            searches: AtomicU32::new(0),
            inside: UnsafeCell::new(()),
            bins,
            slots: std::cell::UnsafeCell::new([NonNull::dangling(); ALL_ROUNDS]),
        }
    }

    /// Takes over a stock whose thread ended (K1).
    pub(crate) fn adopt(&self) -> bool {
        #[cfg(netpoll_mutant = "adopt_in_two_steps")]
        {
            let free = !self.owned.load(Ordering::Acquire);
            if free {
                self.owned.store(true, Ordering::Relaxed);
            }
            return free;
        }
        // ORDERING: Acquire pairs with the Release in `disown`: the last owner is gone.
        #[cfg(not(netpoll_mutant = "adopt_in_two_steps"))]
        self.owned.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Leaves the stock to the next thread.
    pub(crate) fn disown(&self) {
        // ORDERING: Release pairs with the Acquire in `adopt`: everything of this thread is over.
        self.owned.store(false, Ordering::Release);
    }

    /// Whether a thread has it; a snapshot.
    pub(crate) fn is_owned(&self) -> bool {
        // ORDERING: Relaxed, a number for statistics.
        self.owned.load(Ordering::Relaxed)
    }

    /// Begins work on the bins; for the owner. None while somebody else clears them out.
    #[inline(always)]
    pub(crate) fn enter(&self) -> Option<Inside<'_>> {
        // ORDERING: Relaxed; the fence orders this store before the load (K2).
        self.active.store(true, Ordering::Relaxed);
        light_fence();
        // ORDERING: Acquire pairs with the Release in `Inside::drop` of the intruder: its changes
        // to the bins are seen.
        if self.seized.load(Ordering::Acquire) {
            self.active.store(false, Ordering::Relaxed);
            return None;
        }
        Some(Inside { stock: self, flag: &self.active })
    }

    /// Begins work on the bins of another thread. None while that thread is at it, or a third one,
    /// or where the system lacks the barrier that this takes.
    pub(crate) fn seize(&self) -> Option<Inside<'_>> {
        // ORDERING: Acquire pairs with the Release in `Inside::drop` of an earlier intruder.
        if self.seized.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return None;
        }
        // ORDERING: Acquire pairs with the Release in `Inside::drop` of the owner: its changes to
        // the bins are seen. The fence orders the store above before this load (K2).
        if !heavy_fence() || self.active.load(Ordering::Acquire) {
            // ORDERING: Release for the Acquire above, though nothing was changed.
            self.seized.store(false, Ordering::Release);
            return None;
        }
        Some(Inside { stock: self, flag: &self.seized })
    }

    /// Takes a block; the common case of allocation.
    #[inline(always)]
    pub(crate) fn pop(&self, index: usize) -> Option<NonNull<u8>> {
        self.enter()?.pop(index)
    }

    /// Keeps a block; the common case of freeing. False if the bin is full.
    ///
    /// # Safety
    ///
    /// The block is of the class `index`, and if this is true it belongs to the stock (K3).
    #[inline(always)]
    pub(crate) unsafe fn push(&self, index: usize, block: NonNull<u8>) -> bool {
        match self.enter() {
            // SAFETY: the caller's promise.
            Some(mut inside) => unsafe { inside.push(index, block) },
            None => false,
        }
    }

    /// Counts a block that came from the depot straight to the user; for the owner.
    pub(crate) fn count_refill(&self) {
        // ORDERING: Relaxed, a number for statistics; only the owner writes it.
        self.refills.store(self.refills.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Blocks handed out so far; a snapshot.
    pub(crate) fn hits(&self) -> u64 {
        // ORDERING: Relaxed, numbers for statistics.
        let pops: u64 = self.bins.iter().map(|bin| bin.pops.load(Ordering::Relaxed)).sum();
        pops + self.refills.load(Ordering::Relaxed)
    }

    /// Bytes in its bins; a snapshot.
    pub(crate) fn held(&self) -> usize {
        let bytes = |(index, bin): (usize, &Bin)| {
            // ORDERING: Relaxed, numbers for statistics.
            bin.len.load(Ordering::Relaxed) as usize * Class::at(index).footprint()
        };
        self.bins.iter().enumerate().map(bytes).sum()
    }

    /// How many blocks of the class nobody wanted since the last call, and whether the bin was used
    /// at all; for the reaper alone.
    pub(crate) fn unused(&self, index: usize) -> Unused {
        let bin = &self.bins[index];
        // ORDERING: Relaxed throughout, an estimate by a single thread.
        let (len, pops) = (bin.len.load(Ordering::Relaxed), bin.pops.load(Ordering::Relaxed));
        let was = bin.seen[0].swap(u64::from(len), Ordering::Relaxed);
        let wanted = pops.wrapping_sub(bin.seen[1].swap(pops, Ordering::Relaxed));
        Unused {
            // At least `was - wanted` lay there all the time.
            blocks: was.saturating_sub(wanted).min(u64::from(len)) as usize,
            room: wanted == 0 && bin.cap.load(Ordering::Relaxed) > len,
        }
    }

    /// Whether the bin has blocks or room reserved for them; a snapshot.
    pub(crate) fn is_reserved(&self, index: usize) -> bool {
        // ORDERING: Relaxed, a hint that saves seizing.
        self.bins[index].cap.load(Ordering::Relaxed) > 0
    }
}

/// What the reaper finds in a bin.
pub(crate) struct Unused {
    /// Blocks that lay there all the time.
    pub(crate) blocks: usize,
    /// Whether there is room reserved in a bin that hands out nothing.
    pub(crate) room: bool,
}

/// The right to work on the bins of a stock (K2).
pub(crate) struct Inside<'a> {
    stock: &'a Stock,
    flag: &'a AtomicBool,
}

impl Drop for Inside<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // ORDERING: Release pairs with the Acquires in `enter` and `seize`: the bins are as we
        // left them.
        #[cfg(not(netpoll_mutant = "leave_relaxed"))]
        self.flag.store(false, Ordering::Release);
        #[cfg(netpoll_mutant = "leave_relaxed")]
        self.flag.store(false, Ordering::Relaxed);
    }
}

impl Inside<'_> {
    #[inline(always)]
    fn touch(&self) {
        // For loom: a second thread in here is a data race.
        self.stock.inside.with_mut(|_| ());
    }

    #[inline(always)]
    fn slot(&self, bin: &Bin, at: usize) -> *mut NonNull<u8> {
        debug_assert!(at < ALL_ROUNDS - bin.start as usize);
        // SAFETY: bins lie side by side in `slots`, and `at < rounds` (K4).
        unsafe { self.stock.slots.get().cast::<NonNull<u8>>().add(bin.start as usize + at) }
    }

    #[inline(always)]
    pub(crate) fn pop(&mut self, index: usize) -> Option<NonNull<u8>> {
        self.touch();
        let bin = &self.stock.bins[index];
        // ORDERING: Relaxed throughout; whoever is inside writes, others only count.
        let len = bin.len.load(Ordering::Relaxed).checked_sub(1)?;
        // SAFETY: K3; shortening `len` hands the block to the caller.
        let block = unsafe { self.slot(bin, len as usize).read() };
        bin.len.store(len, Ordering::Relaxed);
        bin.pops.store(bin.pops.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Some(block)
    }

    /// # Safety
    ///
    /// The block is of the class `index`, and if this is true it belongs to the stock (K3).
    #[inline(always)]
    pub(crate) unsafe fn push(&mut self, index: usize, block: NonNull<u8>) -> bool {
        self.touch();
        let bin = &self.stock.bins[index];
        // ORDERING: as in `pop`.
        let len = bin.len.load(Ordering::Relaxed);
        if len >= bin.cap.load(Ordering::Relaxed) {
            return false;
        }
        // SAFETY: below `cap`, hence below `rounds` (K4).
        unsafe { self.slot(bin, len as usize).write(block) };
        bin.len.store(len + 1, Ordering::Relaxed);
        true
    }

    /// Blocks in the bin.
    pub(crate) fn len(&self, index: usize) -> usize {
        self.stock.bins[index].len.load(Ordering::Relaxed) as usize
    }

    /// Blocks that the bin has room for.
    pub(crate) fn cap(&self, index: usize) -> usize {
        self.stock.bins[index].cap.load(Ordering::Relaxed) as usize
    }

    /// Changes the room of a bin to something between `len` and `rounds` (K4); the caller has
    /// reserved it, or releases what this returns: the bytes by which the room shrank.
    pub(crate) fn set_cap(&mut self, index: usize, cap: usize) -> usize {
        self.touch();
        debug_assert!(cap >= self.len(index) && cap <= rounds(index));
        let footprint = Class::at(index).footprint();
        let was = self.cap(index);
        self.stock.bins[index].cap.store(cap as u32, Ordering::Relaxed);
        let reserved = self.reserved() - was * footprint + cap * footprint;
        self.stock.reserved.store(reserved, Ordering::Relaxed);
        was.saturating_sub(cap) * footprint
    }

    /// Bytes reserved by all bins.
    pub(crate) fn reserved(&self) -> usize {
        self.stock.reserved.load(Ordering::Relaxed)
    }

    /// Moves the `n` blocks that were put in first out of the bin; they are the coldest.
    pub(crate) fn take_oldest(
        &mut self,
        index: usize,
        n: usize,
        out: &mut [NonNull<u8>; MAX_BATCH],
    ) -> usize {
        self.touch();
        let bin = &self.stock.bins[index];
        let len = self.len(index);
        let n = n.min(len);
        let first = self.slot(bin, 0);
        // SAFETY: K3; the rest moves down, within the bin.
        unsafe {
            std::ptr::copy_nonoverlapping(first, out.as_mut_ptr(), n);
            std::ptr::copy(first.add(n), first, len - n);
        }
        bin.len.store((len - n) as u32, Ordering::Relaxed);
        n
    }

    /// A bin with room reserved that handed out nothing since the last search, for the sake of the
    /// bin `index`, if that one may still grow. Only one call in [`SEARCH_EVERY`] searches.
    pub(crate) fn find_idle(&mut self, index: usize) -> Option<usize> {
        self.touch();
        let calls = self.stock.searches.load(Ordering::Relaxed).wrapping_add(1);
        self.stock.searches.store(calls, Ordering::Relaxed);
        if self.cap(index) == rounds(index) || calls % SEARCH_EVERY != 0 {
            return None;
        }
        let mut idle = None;
        for (at, bin) in self.stock.bins.iter().enumerate() {
            let pops = bin.pops.load(Ordering::Relaxed) as u32;
            if bin.idle_at.load(Ordering::Relaxed) != pops {
                bin.idle_at.store(pops, Ordering::Relaxed);
            } else if at != index && bin.cap.load(Ordering::Relaxed) > 0 {
                // The largest class is the likeliest to make enough room.
                idle = Some(at);
            }
        }
        idle
    }
}
