//! What the threads of one cache share: the depot, the list of stocks, the limits, the counts.
//!
//! Rules:
//! C1. `stocks` only grows while the core lives; a stock whose thread ended is taken over by a
//!     later one. So a stock can be looked at as long as the core is there.
//! C2. `reserved` is what the bins of all stocks have room for plus what lies in the depot, in
//!     bytes; it never exceeds the limit that held when it was last raised.
//! C3. `live` is what came from the allocator and has not gone back, in bytes.

use std::alloc::{Layout, alloc, dealloc, realloc};
use std::ptr::{self, NonNull};
use std::time::Duration;

use dirtmake::AllocError;

use crate::batch::{Batch, MAX_BATCH};
use crate::class::{Class, KEPT};
use crate::config::Config;
use crate::depot::Depot;
use crate::stats::Stats;
use crate::stock::{Inside, Stock, rounds};
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{const_unless_loom, relax, trim_allocator};

pub(crate) struct Core {
    depot: Depot,
    stocks: AtomicPtr<Stock>,
    enlisted: AtomicUsize,
    reserved: AtomicUsize,
    live: AtomicUsize,
    misses: AtomicU64,
    returned: AtomicU64,
    /// Bytes that ever went back to the allocator.
    gone: AtomicUsize,
    /// What the reaper saw: bytes that ever came from the allocator, at its last look.
    seen_come: AtomicUsize,
    /// What the reaper saw: `gone` when it last had the allocator let go of free memory.
    seen_gone: AtomicUsize,
    limit: AtomicUsize,
    thread_limit: AtomicUsize,
    /// How many classes are kept, from the smallest; at most `KEPT`.
    kept: AtomicUsize,
    /// 0 for never.
    decay_nanos: AtomicU64,
    scrub: bool,
    /// Whether the reaper knows this core; written under its lock.
    pub(crate) watched: AtomicBool,
}

/// Bytes for which the allocator is asked to let go of free memory.
const WORTH_TRIMMING: usize = 1 << 20;

/// Addresses on their way from one place to another.
type Hand = [NonNull<u8>; MAX_BATCH];
const EMPTY_HAND: Hand = [NonNull::dangling(); MAX_BATCH];

// Numbers that are only compared with limits or shown are Relaxed throughout this file: nothing is
// published by them.
const RELAXED: Ordering = Ordering::Relaxed;

impl Core {
    const_unless_loom! {
        pub(crate) fn new(config: Config) -> Self {
            Core {
                depot: Depot::new(),
                stocks: AtomicPtr::new(ptr::null_mut()),
                enlisted: AtomicUsize::new(0),
                reserved: AtomicUsize::new(0),
                live: AtomicUsize::new(0),
                misses: AtomicU64::new(0),
                returned: AtomicU64::new(0),
                gone: AtomicUsize::new(0),
                seen_come: AtomicUsize::new(0),
                seen_gone: AtomicUsize::new(0),
                limit: AtomicUsize::new(config.limit),
                thread_limit: AtomicUsize::new(config.thread_limit),
                kept: AtomicUsize::new(config.kept_classes()),
                decay_nanos: AtomicU64::new(config.decay_nanos()),
                scrub: config.scrub,
                watched: AtomicBool::new(false),
            }
        }
    }

    // Settings and numbers.

    pub(crate) fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, RELAXED);
    }

    pub(crate) fn set_thread_limit(&self, bytes: usize) {
        self.thread_limit.store(bytes, RELAXED);
    }

    pub(crate) fn set_kept(&self, classes: usize) {
        self.kept.store(classes, RELAXED);
    }

    pub(crate) fn set_decay_nanos(&self, nanos: u64) {
        self.decay_nanos.store(nanos, RELAXED);
    }

    /// How long something may lie unused; none for ever.
    pub(crate) fn decay_time(&self) -> Option<Duration> {
        match self.decay_nanos.load(RELAXED) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    pub(crate) fn scrubs(&self) -> bool {
        self.scrub
    }

    /// Whether blocks of this class are kept at all.
    pub(crate) fn keeps(&self, class: Class) -> bool {
        class.index() < self.kept.load(RELAXED)
    }

    pub(crate) fn reserved(&self) -> usize {
        self.reserved.load(RELAXED)
    }

    pub(crate) fn is_over_limit(&self) -> bool {
        self.reserved() > self.limit.load(RELAXED)
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = Stats {
            misses: self.misses.load(RELAXED),
            returned: self.returned.load(RELAXED),
            bytes_reserved: self.reserved(),
            ..Stats::default()
        };
        for stock in self.stocks() {
            stats.hits += stock.hits();
            stats.bytes_held += stock.held();
            stats.threads += usize::from(stock.is_owned());
        }
        for class in (0..KEPT).map(Class::at) {
            stats.bytes_held += self.depot.shelf(class).blocks() * class.footprint();
        }
        stats.bytes_out = self.live.load(RELAXED).saturating_sub(stats.bytes_held);
        stats
    }

    // The allocator.

    fn allocate(&self, class: Class) -> Result<NonNull<u8>, AllocError> {
        // SAFETY: the layout is not of size 0.
        let block = NonNull::new(unsafe { alloc(class.layout()) });
        let block = block.ok_or(AllocError::exhausted(class.capacity()))?;
        self.misses.fetch_add(1, RELAXED);
        self.live.fetch_add(class.footprint(), RELAXED);
        Ok(block)
    }

    /// # Safety
    ///
    /// The caller owns the block, and gives it up.
    unsafe fn deallocate(&self, class: Class, block: NonNull<u8>) {
        self.returned.fetch_add(1, RELAXED);
        self.gone.fetch_add(class.footprint(), RELAXED);
        self.live.fetch_sub(class.footprint(), RELAXED);
        // SAFETY: every block came from `alloc` with the layout of its class.
        unsafe { dealloc(block.as_ptr(), class.layout()) }
    }

    /// A larger block with the same bytes, for classes that are not kept; the block itself remains
    /// the caller's on an error.
    ///
    /// # Safety
    ///
    /// The caller owns the block, and on success gives it up.
    pub(crate) unsafe fn enlarge(
        &self,
        block: NonNull<u8>,
        from: Class,
        to: Class,
    ) -> Result<NonNull<u8>, AllocError> {
        // SAFETY: as in `deallocate`; the new size is valid for the alignment (`Class::layout`).
        let new = unsafe { realloc(block.as_ptr(), from.layout(), to.footprint()) };
        let new = NonNull::new(new).ok_or(AllocError::exhausted(to.capacity()))?;
        self.misses.fetch_add(1, RELAXED);
        self.returned.fetch_add(1, RELAXED);
        self.gone.fetch_add(from.footprint(), RELAXED);
        self.live.fetch_add(to.footprint() - from.footprint(), RELAXED);
        Ok(new)
    }

    /// A block of this class belongs to another cache from now on.
    pub(crate) fn emigrate(&self, class: Class, to: &Core) {
        self.live.fetch_sub(class.footprint(), RELAXED);
        to.live.fetch_add(class.footprint(), RELAXED);
    }

    // The limit (C2).

    fn reserve(&self, bytes: usize) -> bool {
        let limit = self.limit.load(RELAXED);
        let more = |now: usize| now.checked_add(bytes).filter(|&sum| sum <= limit);
        self.reserved.fetch_update(RELAXED, RELAXED, more).is_ok()
    }

    fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.reserved.fetch_sub(bytes, RELAXED);
        }
    }

    // What the fast path of a stock could not do.

    /// A block from the stock, the depot or the allocator.
    pub(crate) fn take(
        &self,
        stock: Option<&Stock>,
        class: Class,
    ) -> Result<NonNull<u8>, AllocError> {
        if self.keeps(class) {
            let kept = stock.and_then(|stock| stock.pop(class.index()));
            if let Some(block) = kept.or_else(|| self.refill(stock, class)) {
                return Ok(block);
            }
        }
        self.allocate(class)
    }

    /// A block from the depot; what else is in its batch goes to the stock.
    fn refill(&self, stock: Option<&Stock>, class: Class) -> Option<NonNull<u8>> {
        let way = stock.map_or(0, |stock| stock.way);
        let batch = self.depot.shelf(class).take(way)?;
        let mut hand = EMPTY_HAND;
        let n = batch.unbind(&mut hand);
        let (&block, rest) = hand[..n].split_last()?;
        let mut released = class.footprint();
        let mut put = 0;
        if let Some(stock) = stock {
            stock.count_refill();
            if let Some(mut inside) = stock.enter() {
                let index = class.index();
                let missing = (inside.len(index) + rest.len()).saturating_sub(inside.cap(index));
                // These blocks are paid for by the depot's reservation, which moves with them.
                let widened = self.widen(&mut inside, index, missing, |_| true);
                while put < rest.len() {
                    // SAFETY: of this class and ours.
                    if !unsafe { inside.push(index, rest[put]) } {
                        break;
                    }
                    put += 1;
                }
                released += put * class.footprint() - widened * class.footprint();
            }
        }
        if let left @ [_, ..] = &rest[put..] {
            // Their reservation is still the depot's.
            // SAFETY: of this class, distinct and ours.
            self.depot.shelf(class).put(way, unsafe { Batch::bind(class, left) });
        }
        self.release(released);
        Some(block)
    }

    /// Raises the room of a bin by up to `blocks`, as far as its rounds and the thread's limit
    /// allow and the bytes are paid for; says by how many.
    fn widen(
        &self,
        inside: &mut Inside<'_>,
        index: usize,
        blocks: usize,
        pay: impl Fn(usize) -> bool,
    ) -> usize {
        let footprint = Class::at(index).footprint();
        let cap = inside.cap(index);
        let budget = self.thread_limit.load(RELAXED).saturating_sub(inside.reserved());
        let more = blocks.min(rounds(index) - cap).min(budget / footprint);
        if more == 0 || !pay(more * footprint) {
            return 0;
        }
        inside.set_cap(index, cap + more);
        more
    }

    /// Keeps a block or gives it to the allocator.
    ///
    /// # Safety
    ///
    /// The block is of this class and cache; the caller owns it and gives it up.
    pub(crate) unsafe fn give(&self, stock: Option<&Stock>, class: Class, block: NonNull<u8>) {
        if !self.keeps(class) {
            // SAFETY: the caller's promise.
            return unsafe { self.deallocate(class, block) };
        }
        let index = class.index();
        let mut hand = EMPTY_HAND;
        // What leaves the stock to make room; the block itself if it does not get in.
        let (mut from, mut n) = (class, 0);
        let mut kept = false;
        if let Some(mut inside) = stock.and_then(Stock::enter) {
            // Twice the room each time, so that only what is really used takes much of the limit.
            if inside.len(index) == inside.cap(index) {
                let wish = inside.cap(index).max(1);
                if self.widen(&mut inside, index, wish, |bytes| self.reserve(bytes)) == 0 {
                    if let Some(idle) = inside.find_idle(index) {
                        from = Class::at(idle);
                        n = inside.take_oldest(idle, MAX_BATCH, &mut hand);
                        self.release(inside.set_cap(idle, 0));
                        self.widen(&mut inside, index, wish, |bytes| self.reserve(bytes));
                    } else {
                        n = inside.take_oldest(index, inside.cap(index).div_ceil(2), &mut hand);
                    }
                }
            }
            // SAFETY: the caller's promise.
            kept = unsafe { inside.push(index, block) };
        }
        let way = stock.map_or(0, |stock| stock.way);
        // SAFETY: the addresses are distinct blocks of these classes, and ours: they left the
        // stock, or never got in.
        unsafe {
            self.deposit(way, from, &hand[..n]);
            if !kept {
                self.deposit(way, class, &[block]);
            }
        }
    }

    /// Puts blocks into the depot as far as the limit allows, the others back to the allocator.
    ///
    /// # Safety
    ///
    /// They are distinct blocks of this class; the caller owns them and gives them up.
    unsafe fn deposit(&self, way: usize, class: Class, blocks: &[NonNull<u8>]) {
        if blocks.is_empty() {
            return;
        }
        if self.reserve(blocks.len() * class.footprint()) {
            // SAFETY: the caller's promise.
            self.depot.shelf(class).put(way, unsafe { Batch::bind(class, blocks) });
            return;
        }
        for &block in blocks {
            // SAFETY: the caller's promise.
            unsafe { self.deallocate(class, block) };
        }
    }

    // Threads come and go.

    /// A stock for this thread: one whose thread ended, or a new one. None without memory.
    ///
    /// It is the caller's until [`retire`](Self::retire), and valid as long as the core (C1).
    pub(crate) fn enlist(&self) -> Option<NonNull<Stock>> {
        if let Some(stock) = self.stocks().find(|stock| stock.adopt()) {
            return Some(NonNull::from(stock));
        }
        let way = self.enlisted.fetch_add(1, RELAXED);
        // SAFETY: the layout is not of size 0.
        let stock = NonNull::new(unsafe { alloc(Layout::new::<Stock>()) })?.cast::<Stock>();
        // SAFETY: fresh memory of this layout, which stays here as long as the core (C1).
        unsafe { Stock::init(stock, way) };
        let mut newest = self.stocks.load(RELAXED);
        loop {
            // SAFETY: nobody else knows the stock before the exchange.
            unsafe { (*stock.as_ptr()).older = newest };
            // ORDERING: Release pairs with the Acquire in `stocks`: the stock is seen complete.
            match self.stocks.compare_exchange(newest, stock.as_ptr(), Ordering::Release, RELAXED) {
                Ok(_) => return Some(stock),
                Err(now) => newest = now,
            }
        }
    }

    /// Takes a thread's stock back: its blocks go to the depot, and a later thread may have it.
    pub(crate) fn retire(&self, stock: &Stock) {
        #[cfg(netpoll_mutant = "disown_before_clearing")]
        stock.disown();
        self.hand_over(stock);
        #[cfg(not(netpoll_mutant = "disown_before_clearing"))]
        stock.disown();
    }

    /// Moves everything in the caller's own stock to the depot.
    pub(crate) fn hand_over(&self, stock: &Stock) {
        for index in (0..KEPT).filter(|&index| stock.is_reserved(index)) {
            let mut hand = EMPTY_HAND;
            let n = loop {
                // Whoever is clearing it out is soon done.
                let Some(mut inside) = stock.enter() else {
                    relax();
                    continue;
                };
                let n = inside.take_oldest(index, MAX_BATCH, &mut hand);
                self.release(inside.set_cap(index, 0));
                break n;
            };
            // SAFETY: the blocks left the stock, so they are ours, and of this class.
            unsafe { self.deposit(stock.way, Class::at(index), &hand[..n]) };
        }
    }

    fn stocks(&self) -> impl Iterator<Item = &Stock> {
        // ORDERING: Acquire pairs with the Release in `enlist`, also for the older stocks: each
        // exchange continues the release sequences of those before it.
        let mut next = self.stocks.load(Ordering::Acquire).cast_const();
        std::iter::from_fn(move || {
            // SAFETY: C1.
            let stock = unsafe { next.as_ref() }?;
            next = stock.older;
            Some(stock)
        })
    }

    // What lies unused goes back to the allocator.

    /// Gives back everything that can be reached: the depot, the caller's own stock, and the stocks
    /// of threads that are not in the middle of something. Says how many bytes that was.
    pub(crate) fn trim(&self, own: Option<&Stock>) -> usize {
        if let Some(own) = own {
            self.hand_over(own);
        }
        let mut freed = 0;
        for stock in self.stocks() {
            for index in (0..KEPT).filter(|&index| stock.is_reserved(index)) {
                freed += self.clear_out(stock, index, usize::MAX);
            }
        }
        for class in (0..KEPT).map(Class::at) {
            freed += self.clear_shelf(class, usize::MAX);
        }
        self.seen_gone.store(self.gone.load(RELAXED), RELAXED);
        trim_allocator();
        freed
    }

    /// Gives back what lay unused since the last call; for the reaper alone.
    pub(crate) fn decay(&self) {
        for stock in self.stocks() {
            for index in 0..KEPT {
                let unused = stock.unused(index);
                if unused.blocks > 0 || unused.room {
                    self.clear_out(stock, index, unused.blocks);
                }
            }
        }
        for class in (0..KEPT).map(Class::at) {
            let unused = self.depot.shelf(class).unused();
            self.clear_shelf(class, unused);
        }
        if self.is_time_to_trim() {
            trim_allocator();
        }
    }

    /// Whether much went back to the allocator and little came from it since the last look: then it
    /// is worth its while to let go of memory, and few have to wait meanwhile.
    fn is_time_to_trim(&self) -> bool {
        let gone = self.gone.load(RELAXED);
        let come = self.live.load(RELAXED).wrapping_add(gone);
        let came = come.wrapping_sub(self.seen_come.swap(come, RELAXED));
        let went = gone.wrapping_sub(self.seen_gone.load(RELAXED));
        let yes = went >= WORTH_TRIMMING && came <= went / 16;
        if yes {
            self.seen_gone.store(gone, RELAXED);
        }
        yes
    }

    /// Gives back up to `n` blocks of a bin and the room it does not need.
    fn clear_out(&self, stock: &Stock, index: usize, n: usize) -> usize {
        let mut hand = EMPTY_HAND;
        let Some(mut inside) = stock.seize() else { return 0 };
        let n = inside.take_oldest(index, n.min(MAX_BATCH), &mut hand);
        let left = inside.len(index);
        self.release(inside.set_cap(index, left));
        drop(inside);
        let class = Class::at(index);
        for &block in &hand[..n] {
            // SAFETY: it left the stock, so it is ours, and of this class.
            unsafe { self.deallocate(class, block) };
        }
        n * class.footprint()
    }

    /// Gives back up to `n` blocks of the depot.
    fn clear_shelf(&self, class: Class, n: usize) -> usize {
        let shelf = self.depot.shelf(class);
        let mut freed = 0;
        let mut hand = EMPTY_HAND;
        while freed < n {
            let Some(batch) = shelf.take(0) else { break };
            let len = batch.unbind(&mut hand);
            let out = len.min(n - freed);
            self.release(out * class.footprint());
            if out < len {
                // SAFETY: distinct blocks of this class, ours; their reservation remains.
                shelf.put(0, unsafe { Batch::bind(class, &hand[out..len]) });
            }
            for &block in &hand[..out] {
                // SAFETY: of this class, and ours.
                unsafe { self.deallocate(class, block) };
            }
            freed += out;
        }
        freed * class.footprint()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Nobody has a block or a stock of this core any more, so nothing is busy or seized.
        let mut next = self.stocks.load(RELAXED);
        while let Some(stock) = NonNull::new(next) {
            // SAFETY: C1; it came from `alloc` in `enlist`, and is neither read nor freed again.
            unsafe {
                self.hand_over(stock.as_ref());
                next = stock.as_ref().older.cast_mut();
                stock.drop_in_place();
                dealloc(stock.as_ptr().cast(), Layout::new::<Stock>());
            }
        }
        for class in (0..KEPT).map(Class::at) {
            self.clear_shelf(class, usize::MAX);
        }
    }
}
