//! A table of what tokens stand for: filled and emptied by any thread, read by the one that handles
//! events, recycled between batches.
//!
//! Values live in slots, slots in pages that never move:
//!
//! ```text
//!              pages: 64, 128, 256 … slots           a slot
//!  Table ──┬─▶ [ 0  1  2 … 63 ]                      state: generation << 2 | LIVE / RETIRED / FREE
//!          ├─▶ [ 64 65 … 191 ]                       next:  link of the free or the retired list
//!          └─▶ …                                     value
//! ```
//!
//! One life of a slot, and who may do each step:
//!
//! ```text
//!  FREE, g ──insert: any thread, owns the slot──▶ LIVE, g ──remove: any thread, one wins──▶
//!  RETIRED, g ──end_batch: the batch's owner──▶ FREE, g + 1
//! ```
//!
//! S1. A slot's value is written while the slot is FREE, by the thread that took it off the free
//!     list; nobody else looks at a FREE slot's value. LIVE is stored after the value (Release).
//! S2. Only `Batch` hands out references, only to values of LIVE slots, after an Acquire load.
//! S3. A value is moved out or dropped only by `Batch::end(&mut self)`, when no reference of S2 can
//!     be alive, or with the table, when nobody is left.
//! S4. `remove` is a compare-exchange from LIVE with the token's generation, so of two threads that
//!     remove the same token one wins, and a late one never hits the next tenant.
//! S5. The retired list is only pushed to, and taken as a whole: its compare-exchange cannot mistake
//!     an old head for a new one.

use std::error;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;

use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use crate::sync::cell::UnsafeCell;
use crate::sync::{Arc, Mutex, lock};
use crate::token::Token;

/// The first page has this many slots, each further one twice as many.
const FIRST_PAGE: u32 = if cfg!(netpoll_loom) { 2 } else { 64 };
/// All pages together have room for more slots than `MAX_SLOTS`.
const PAGES: usize = if cfg!(netpoll_loom) { 2 } else { 26 };
const MAX_SLOTS: u32 = 1 << 31;
/// The end of a list.
const NONE: u32 = u32::MAX;

/// What a slot's state says in its low bits; the generation is above.
const FREE: u64 = 0;
const LIVE: u64 = 1;
const RETIRED: u64 = 2;

const fn state(generation: u32, what: u64) -> u64 {
    (generation as u64) << 2 | what
}

/// A table with room for `limit` values at a time.
///
/// The [`Slots`] are for everybody who adds and removes; the one [`Batch`] is for whoever handles
/// events. Memory is taken as the table fills, and kept for reuse until both are gone: about 24
/// bytes and the value for each slot that was ever in use at the same time.
///
/// ```
/// let (slots, mut batch) = poller::slots(1000);
/// let token = slots.insert("one").unwrap();
///
/// assert_eq!(batch.get(token), Some(&"one"));
/// slots.remove(token);
/// assert_eq!(batch.get(token), None); // a late event of the same batch
/// batch.end();
///
/// let next = slots.insert("two").unwrap();
/// assert_eq!((next.slot(), batch.get(token)), (token.slot(), None)); // a later one
/// assert_eq!(batch.get(next), Some(&"two"));
/// ```
///
/// # Panics
///
/// When `limit` is over 2³¹.
pub fn slots<T>(limit: u32) -> (Slots<T>, Batch<T>) {
    assert!(limit <= MAX_SLOTS, "a table has room for 2^31 values at most");
    let table = Arc::new(Table {
        pages: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
        free: Mutex::new(FreeList { head: NONE, untouched: 0, limit, used: 0 }),
        retired: AtomicU32::new(NONE),
    });
    (Slots(Arc::clone(&table)), Batch { table, values: PhantomData })
}

/// The side of a [table](slots()) that adds and removes, for any number of threads.
///
/// Cheap to clone.
pub struct Slots<T>(Arc<Table<T>>);

/// The side of a [table](slots()) that looks up what events are for, and recycles what was removed.
///
/// There is one per table. Whoever has it handles the events; it can move to another thread between
/// two of them. References that [`get`](Self::get) gave out end before [`end`](Self::end):
///
/// ```compile_fail,E0502
/// let (slots, mut batch) = poller::slots(10);
/// let value = batch.get(slots.insert(5).unwrap());
/// batch.end();
/// println!("{value:?}");
/// ```
pub struct Batch<T> {
    table: Arc<Table<T>>,
    /// It gives out `&T`, so it can be shared only if values can.
    values: PhantomData<T>,
}

struct Table<T> {
    pages: [AtomicPtr<Slot<T>>; PAGES],
    free: Mutex<FreeList>,
    /// The head of the list of retired slots.
    retired: AtomicU32,
}

// SAFETY: values are put in by one thread and dropped by another, so `T: Send`. Only a `Batch` gives
// `&T`, while nobody changes the value (S1, S3); its `PhantomData` asks for `T: Sync` where it is
// shared.
unsafe impl<T: Send> Send for Table<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Table<T> {}

struct Slot<T> {
    state: AtomicU64,
    next: AtomicU32,
    value: UnsafeCell<MaybeUninit<T>>,
}

struct FreeList {
    head: u32,
    /// Slots from here on were never used.
    untouched: u32,
    limit: u32,
    /// Slots that are not free.
    used: u32,
}

impl<T> Slots<T> {
    /// Puts `value` into a free slot, whose token it returns.
    ///
    /// # Errors
    ///
    /// Gives the value back when the table is full. Removed values count until the batch ends.
    pub fn insert(&self, value: T) -> Result<Token, Full<T>> {
        let Some(index) = self.0.take_free() else {
            return Err(Full(value));
        };
        let slot = self.0.slot(index).expect("a slot of the free list exists");
        // ORDERING: the free list's lock ordered this after the end of the slot's last life.
        let generation = (slot.state.load(Ordering::Relaxed) >> 2) as u32;
        // SAFETY: S1: the slot is FREE and off the list, so nobody else touches the value.
        slot.value.with_mut(|cell| unsafe { (*cell).write(value) });
        // ORDERING: Release publishes the value (S1) to the Acquire in `Batch::get` and `remove`.
        let order = if cfg!(netpoll_mutant = "insert-relaxed") {
            Ordering::Relaxed
        } else {
            Ordering::Release
        };
        slot.state.store(state(generation, LIVE), order);
        Ok(Token::new(index, generation))
    }

    /// Removes what `token` stands for: from now on [`Batch::get`] finds nothing. The value itself
    /// is dropped when the batch [ends](Batch::end), since events of it may be in work.
    ///
    /// Whether there was something to remove: of several calls for the same token, one says so.
    pub fn remove(&self, token: Token) -> bool {
        let Some(slot) = self.0.slot(token.slot()) else {
            return false;
        };
        let live = state(token.generation(), LIVE);
        let retired = state(token.generation(), RETIRED);
        let removed = if cfg!(netpoll_mutant = "remove-without-generation") {
            let now = slot.state.load(Ordering::Acquire);
            let retired = now & !3 | RETIRED;
            now & 3 == LIVE
                && slot
                    .state
                    .compare_exchange(now, retired, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
        } else {
            // ORDERING: Acquire pairs with the store in `insert`, and hands the value on through
            // the Release of `push_retired` to `Batch::end`. A failure reads nothing else.
            slot.state.compare_exchange(live, retired, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        if removed {
            self.0.push_retired(token.slot(), slot);
        }
        removed
    }

    /// How many values are in the table, with those that were removed from the batch under way.
    pub fn len(&self) -> usize {
        lock(&self.0.free).used as usize
    }

    /// Whether no value is in the table.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Batch<T> {
    /// What `token` stands for; `None` if that was removed, however late the event and whoever has
    /// the slot now.
    #[inline]
    pub fn get(&self, token: Token) -> Option<&T> {
        let slot = self.table.slot(token.slot())?;
        // ORDERING: Acquire pairs with the Release in `insert`: a LIVE slot's value is there (S1).
        let now = slot.state.load(Ordering::Acquire);
        let wanted = if cfg!(netpoll_mutant = "get-without-generation") {
            now & !3 | LIVE
        } else {
            state(token.generation(), LIVE)
        };
        if now != wanted {
            return None;
        }
        // SAFETY: S1: LIVE values are initialised. S3: nobody drops or moves it while `self` is
        // borrowed.
        Some(slot.value.with(|cell| unsafe { (*cell).assume_init_ref() }))
    }

    /// The values in the table now, in the order of their slots. One that is inserted meanwhile may
    /// be missing.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let used = lock(&self.table.free).untouched;
        (0..used).filter_map(|index| {
            let slot = self.table.slot(index)?;
            // ORDERING: Acquire as in `get`: the value of a LIVE slot is visible.
            let now = slot.state.load(Ordering::Acquire);
            // SAFETY: S1 and S3, as in `get`.
            (now & 3 == LIVE).then(|| slot.value.with(|cell| unsafe { (*cell).assume_init_ref() }))
        })
    }

    /// Ends a batch of events: drops the values that were removed, and makes their slots free for
    /// new tenants with new tokens. Costs one load when there were none. How many there were.
    ///
    /// If dropping a value panics, what is left of the batch stays until the table is dropped.
    pub fn end(&mut self) -> usize {
        // ORDERING: only whether to bother; what is missed now comes with the next batch.
        if self.table.retired.load(Ordering::Relaxed) == NONE {
            return 0;
        }
        // ORDERING: Acquire pairs with the Release in `push_retired`: the links, and the values as
        // their removers saw them.
        let first = self.table.retired.swap(NONE, Ordering::Acquire);
        let mut count = 0;
        let mut last = first;
        let mut next = first;
        while let Some(slot) = (next != NONE).then(|| self.table.slot(next)).flatten() {
            // SAFETY: S3: retired, so initialised, and `&mut self`: no reference is out. The slot is
            // FREE before the value is dropped, so nothing drops it again, even if that panics.
            let value = slot.value.with_mut(|cell| unsafe { (*cell).assume_init_read() });
            // ORDERING: only this thread changes a RETIRED slot; the free list's lock below
            // publishes the new state to whoever takes the slot. A `get` or `remove` with an old
            // token finds the wrong generation or no LIVE, whichever value it reads.
            let generation = (slot.state.load(Ordering::Relaxed) >> 2) as u32;
            let renewed = if cfg!(netpoll_mutant = "end-keeps-generation") {
                generation
            } else {
                generation.wrapping_add(1)
            };
            slot.state.store(state(renewed, FREE), Ordering::Relaxed);
            last = next;
            // ORDERING: published by the Acquire above.
            next = slot.next.load(Ordering::Relaxed);
            count += 1;
            drop(value);
        }
        self.table.put_free(first, last, count);
        count as usize
    }
}

impl<T> Table<T> {
    #[inline]
    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        let (page, offset) = place(index)?;
        // ORDERING: Acquire pairs with the Release in `take_free`: the page's slots are made.
        let first = self.pages[page].load(Ordering::Acquire);
        if first.is_null() {
            return None;
        }
        // SAFETY: a page that is not null has `FIRST_PAGE << page` slots, of which `offset` is one
        // by `place`, and lives until the table is dropped.
        Some(unsafe { &*first.add(offset) })
    }

    /// Takes a slot off the free list, or one that was never used.
    fn take_free(&self) -> Option<u32> {
        let mut free = lock(&self.free);
        let index = free.head;
        if index != NONE {
            let slot = self.slot(index)?;
            // ORDERING: links of the free list change under its lock only.
            free.head = slot.next.load(Ordering::Relaxed);
            free.used += 1;
            return Some(index);
        }
        let index = free.untouched;
        if index >= free.limit {
            return None;
        }
        let (page, offset) = place(index)?;
        if offset == 0 {
            let slots: Box<[Slot<T>]> = (0..page_len(page)).map(|_| Slot::new()).collect();
            // ORDERING: Release publishes the new slots to the Acquire in `slot`.
            self.pages[page].store(Box::into_raw(slots).cast(), Ordering::Release);
        }
        free.untouched += 1;
        free.used += 1;
        Some(index)
    }

    /// Puts a chain of `count` slots on the free list.
    fn put_free(&self, first: u32, last: u32, count: u32) {
        let mut free = lock(&self.free);
        if let Some(slot) = self.slot(last) {
            // ORDERING: links of the free list change under its lock only.
            slot.next.store(free.head, Ordering::Relaxed);
            free.head = first;
            free.used -= count;
        }
    }

    fn push_retired(&self, index: u32, slot: &Slot<T>) {
        // ORDERING: the compare-exchange decides; this is a first guess.
        let mut head = self.retired.load(Ordering::Relaxed);
        loop {
            // ORDERING: published by the Release below.
            slot.next.store(head, Ordering::Relaxed);
            let order = if cfg!(netpoll_mutant = "retire-relaxed") {
                Ordering::Relaxed
            } else {
                Ordering::Release
            };
            // ORDERING: Release publishes the link, and that this thread is done with the slot, to
            // the Acquire in `Batch::end`. S5 for the failure: nothing is read but the head.
            match self.retired.compare_exchange_weak(head, index, order, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

impl<T> Slot<T> {
    fn new() -> Slot<T> {
        Slot {
            state: AtomicU64::new(state(0, FREE)),
            next: AtomicU32::new(NONE),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }
}

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        for (page, first) in self.pages.iter().enumerate() {
            // ORDERING: the last `Arc` is gone: nobody else is left (S3), here and below.
            let first = first.load(Ordering::Relaxed);
            if first.is_null() {
                return;
            }
            // SAFETY: made by `Box::into_raw` in `take_free` with this length, and only freed here.
            let slots =
                unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(first, page_len(page))) };
            for slot in &slots {
                if slot.state.load(Ordering::Relaxed) & 3 != FREE {
                    // SAFETY: S1: LIVE and RETIRED values are initialised. S3.
                    slot.value.with_mut(|cell| unsafe { (*cell).assume_init_drop() });
                }
            }
        }
    }
}

/// The page of a slot, and the place in it; `None` beyond the last page.
#[inline]
fn place(index: u32) -> Option<(usize, usize)> {
    let shifted = index.checked_add(FIRST_PAGE)?;
    let page = (shifted.ilog2() - FIRST_PAGE.ilog2()) as usize;
    let offset = (shifted - (FIRST_PAGE << page)) as usize;
    (page < PAGES).then_some((page, offset))
}

fn page_len(page: usize) -> usize {
    (FIRST_PAGE as usize) << page
}

impl<T> Clone for Slots<T> {
    fn clone(&self) -> Slots<T> {
        Slots(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Slots<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}

/// The table had no room; holds the value that was refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the table of registrations is full")
    }
}

impl<T> error::Error for Full<T> {}

#[cfg(all(test, not(netpoll_loom)))]
mod tests;
