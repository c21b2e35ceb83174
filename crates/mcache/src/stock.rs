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
//! K3. The addresses from a bin's `base` to its `top` are free blocks of its class, and the stock's.
//! K4. `base <= top <= end <= base + rounds`, within `slots`; the sum of `end - base` times
//!     footprint is what the stock has reserved of the cache's limits.
//! K5. No allocator is called between `enter` and the end of [`Inside`].

use std::array;
use std::ptr::NonNull;

use crate::batch::MAX_BATCH;
use crate::class::{Class, KEPT};
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{RawUnsafeCell, UnsafeCell, heavy_fence, light_fence};

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

/// Where the address of a free block lies.
type Slot = NonNull<u8>;

/// A thread's free blocks. The alignment keeps the flags of two threads apart, also where lines
/// are fetched in pairs.
#[repr(C, align(128))]
pub(crate) struct Stock {
    active: AtomicBool,
    seized: AtomicBool,
    owned: AtomicBool,
    /// Calls of `find_idle`; written inside.
    searches: AtomicU32,
    /// Bytes for which room is reserved; written inside.
    reserved: AtomicUsize,
    /// Blocks that came from the depot straight to the user; written by the owner.
    refills: AtomicU64,
    /// Which slot of the depot its owner prefers.
    pub(crate) way: usize,
    /// The stock that was made before this one; set before this one is published.
    pub(crate) older: *const Stock,
    /// Stands for everything below in the models: loom watches who is inside.
    inside: UnsafeCell<()>,
    /// `pops` of each bin at the last search for idle ones; written inside.
    seen_by_owner: [AtomicU64; KEPT],
    /// Each bin at the reaper's last look.
    seen_by_reaper: [Seen; KEPT],
    bins: [Bin; KEPT],
    slots: RawUnsafeCell<[Slot; ALL_ROUNDS]>,
}

// SAFETY: what is not atomic is touched inside only (K2) or does not change.
unsafe impl Sync for Stock {}
// SAFETY: nothing in it belongs to a certain thread.
unsafe impl Send for Stock {}

/// A stack of free blocks of one class. Its ends are atomic for those who read statistics; writers
/// are inside.
#[repr(C)]
struct Bin {
    top: AtomicPtr<Slot>,
    end: AtomicPtr<Slot>,
    base: *mut Slot,
    /// Blocks handed out.
    pops: AtomicU64,
}

/// What somebody saw in a bin when they last looked.
struct Seen {
    len: AtomicUsize,
    pops: AtomicU64,
}

impl Bin {
    fn len(&self) -> usize {
        // ORDERING: Relaxed; exact for whoever is inside, a snapshot for others.
        self.distance(self.top.load(Ordering::Relaxed))
    }

    fn cap(&self) -> usize {
        // ORDERING: as in `len`.
        self.distance(self.end.load(Ordering::Relaxed))
    }

    fn distance(&self, to: *mut Slot) -> usize {
        (to as usize - self.base as usize) / size_of::<Slot>()
    }

    fn pops(&self) -> u64 {
        // ORDERING: as in `len`.
        self.pops.load(Ordering::Relaxed)
    }
}

impl Stock {
    /// Makes a stock with empty bins, owned by the caller.
    ///
    /// # Safety
    ///
    /// `at` is memory for a stock that the caller owns, and where it stays.
    pub(crate) unsafe fn init(at: NonNull<Stock>, way: usize) {
        // SAFETY: the field is within the caller's memory.
        let slots = unsafe { &raw mut (*at.as_ptr()).slots }.cast::<Slot>();
        let mut start = 0;
        let bins = array::from_fn(|index| {
            // SAFETY: all rounds together fill the slots.
            let base = unsafe { slots.add(start) };
            start += rounds(index);
            Bin {
                top: AtomicPtr::new(base),
                end: AtomicPtr::new(base),
                base,
                pops: AtomicU64::new(0),
            }
        });
        let stock = Stock {
            active: AtomicBool::new(false),
            seized: AtomicBool::new(false),
            owned: AtomicBool::new(true),
            searches: AtomicU32::new(0),
            reserved: AtomicUsize::new(0),
            refills: AtomicU64::new(0),
            way,
            older: std::ptr::null(),
            inside: UnsafeCell::new(()),
            seen_by_owner: array::from_fn(|_| AtomicU64::new(0)),
            seen_by_reaper: array::from_fn(|_| Seen {
                len: AtomicUsize::new(0),
                pops: AtomicU64::new(0),
            }),
            bins,
            slots: RawUnsafeCell::new([Slot::dangling(); ALL_ROUNDS]),
        };
        // SAFETY: the caller's memory.
        unsafe { at.write(stock) };
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
        // ORDERING: Relaxed, a number for statistics.
        self.bins.iter().map(Bin::pops).sum::<u64>() + self.refills.load(Ordering::Relaxed)
    }

    /// Bytes in its bins; a snapshot.
    pub(crate) fn held(&self) -> usize {
        let bytes = |(index, bin): (usize, &Bin)| bin.len() * Class::at(index).footprint();
        self.bins.iter().enumerate().map(bytes).sum()
    }

    /// How much of a bin nobody wanted since the last call; for the reaper alone.
    pub(crate) fn unused(&self, index: usize) -> Unused {
        let (bin, seen) = (&self.bins[index], &self.seen_by_reaper[index]);
        let (len, pops) = (bin.len(), bin.pops());
        // ORDERING: Relaxed, the notes of a single thread.
        let was = seen.len.swap(len, Ordering::Relaxed);
        let wanted = pops.wrapping_sub(seen.pops.swap(pops, Ordering::Relaxed));
        Unused {
            // At least `was - wanted` lay there all the time.
            blocks: was.saturating_sub(usize::try_from(wanted).unwrap_or(usize::MAX)).min(len),
            room: wanted == 0 && bin.cap() > len,
        }
    }

    /// Whether the bin has blocks or room reserved for them; a snapshot.
    pub(crate) fn is_reserved(&self, index: usize) -> bool {
        self.bins[index].cap() > 0
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
    pub(crate) fn pop(&mut self, index: usize) -> Option<NonNull<u8>> {
        self.touch();
        let bin = &self.stock.bins[index];
        // ORDERING: Relaxed throughout; whoever is inside writes, others only count.
        let top = bin.top.load(Ordering::Relaxed);
        if top == bin.base {
            return None;
        }
        // SAFETY: K3, K4; lowering `top` hands the block to the caller.
        let block = unsafe {
            let top = top.sub(1);
            bin.top.store(top, Ordering::Relaxed);
            top.read()
        };
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
        let top = bin.top.load(Ordering::Relaxed);
        if top == bin.end.load(Ordering::Relaxed) {
            return false;
        }
        // SAFETY: below `end`, hence within the bin (K4).
        unsafe {
            top.write(block);
            bin.top.store(top.add(1), Ordering::Relaxed);
        }
        true
    }

    /// Blocks in the bin.
    pub(crate) fn len(&self, index: usize) -> usize {
        self.stock.bins[index].len()
    }

    /// Blocks that the bin has room for.
    pub(crate) fn cap(&self, index: usize) -> usize {
        self.stock.bins[index].cap()
    }

    /// Changes the room of a bin to something between its `len` and its `rounds` (K4); the caller
    /// has reserved it, or releases what this returns: the bytes by which the room shrank.
    pub(crate) fn set_cap(&mut self, index: usize, cap: usize) -> usize {
        self.touch();
        assert!(cap >= self.len(index) && cap <= rounds(index));
        let footprint = Class::at(index).footprint();
        let (bin, was) = (&self.stock.bins[index], self.cap(index));
        // ORDERING: as in `pop`.
        // SAFETY: within the bin (K4).
        bin.end.store(unsafe { bin.base.add(cap) }, Ordering::Relaxed);
        let reserved = self.reserved() - was * footprint + cap * footprint;
        self.stock.reserved.store(reserved, Ordering::Relaxed);
        was.saturating_sub(cap) * footprint
    }

    /// Bytes reserved by all bins.
    pub(crate) fn reserved(&self) -> usize {
        // ORDERING: as in `pop`.
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
        let len = bin.len();
        let n = n.min(len);
        // ORDERING: as in `pop`.
        // SAFETY: K3; the rest moves down, within the bin.
        unsafe {
            std::ptr::copy_nonoverlapping(bin.base, out.as_mut_ptr(), n);
            std::ptr::copy(bin.base.add(n), bin.base, len - n);
            bin.top.store(bin.base.add(len - n), Ordering::Relaxed);
        }
        n
    }

    /// A bin with room reserved that handed out nothing since the last search, for the sake of the
    /// bin `index`, if that one may still grow. Only one call in [`SEARCH_EVERY`] searches.
    pub(crate) fn find_idle(&mut self, index: usize) -> Option<usize> {
        self.touch();
        // ORDERING: as in `pop`, throughout.
        let calls = self.stock.searches.load(Ordering::Relaxed).wrapping_add(1);
        self.stock.searches.store(calls, Ordering::Relaxed);
        if self.cap(index) == rounds(index) || calls % SEARCH_EVERY != 0 {
            return None;
        }
        let mut idle = None;
        for (at, (bin, seen)) in self.stock.bins.iter().zip(&self.stock.seen_by_owner).enumerate() {
            if seen.load(Ordering::Relaxed) != bin.pops() {
                seen.store(bin.pops(), Ordering::Relaxed);
            } else if at != index && bin.cap() > 0 {
                // The largest class is the likeliest to make enough room.
                idle = Some(at);
            }
        }
        idle
    }
}
