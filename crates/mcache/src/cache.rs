//! The public cache: the global one and private ones.

use std::fmt;
use std::ptr::NonNull;
use std::time::Duration;

use dirtmake::AllocError;

use crate::block::Block;
use crate::class::{Class, KEPT, LARGEST_KEPT};
#[cfg(not(netpoll_loom))]
use crate::config::Config;
use crate::config::{Builder, decay_nanos, kept_classes};
use crate::core::Core;
use crate::stats::Stats;
use crate::sync::Arc;
#[cfg(not(netpoll_loom))]
use crate::{local, reaper};

/// The cache behind [`malloc`].
#[cfg(not(netpoll_loom))]
pub(crate) static GLOBAL: Core = Core::new(Config::DEFAULT);

/// Where a block goes when it is dropped.
///
/// Under loom there are no thread-locals here: the global cache is the allocator, so that models of
/// other crates do not also explore this one, and the models of this one bring their stocks along.
#[derive(Clone)]
pub(crate) enum Home {
    Global,
    Private(Arc<Core>),
}

impl Home {
    /// Memory of this class, for the caller alone.
    pub(crate) fn take(&self, class: Class) -> Result<NonNull<u8>, AllocError> {
        #[cfg(not(netpoll_loom))]
        {
            let core = self.core();
            core.take(if core.keeps(class) { self.stock() } else { None }, class)
        }
        #[cfg(netpoll_loom)]
        match self {
            Home::Global => allocate_untracked(class),
            Home::Private(core) => core.take(None, class),
        }
    }

    /// Takes a block back, and the reference to its home with it.
    ///
    /// # Safety
    ///
    /// The block is of this class and home; the caller owns it and gives it up.
    #[inline]
    pub(crate) unsafe fn give(self, block: NonNull<u8>, class: Class) {
        // SAFETY: the caller's promise, in all cases.
        #[cfg(not(netpoll_loom))]
        unsafe {
            match self {
                Home::Global => {
                    if class.index() < KEPT {
                        if let Some(stock) = local::current() {
                            if stock.push(class.index(), block) {
                                return;
                            }
                        }
                    }
                    give_slowly(block, class);
                }
                Home::Private(core) => give_privately(core, block, class),
            }
        }
        // SAFETY: the caller's promise, in all cases.
        #[cfg(netpoll_loom)]
        unsafe {
            match self {
                Home::Global => std::alloc::dealloc(block.as_ptr(), class.layout()),
                Home::Private(core) => core.give(None, class, block),
            }
        }
    }

    /// Memory of the larger class `to` that begins with the first `len` bytes of `block`.
    ///
    /// # Safety
    ///
    /// The block is of the class `from` and of this home, with `len` initialised bytes; the caller
    /// owns it, and gives it up unless this is an error.
    pub(crate) unsafe fn exchange(
        &self,
        block: NonNull<u8>,
        from: Class,
        len: usize,
        to: Class,
    ) -> Result<NonNull<u8>, AllocError> {
        #[cfg(not(netpoll_loom))]
        if !self.core().keeps(from) && !self.core().keeps(to) && !self.core().scrubs() {
            // SAFETY: the caller's promise.
            return unsafe { self.core().enlarge(block, from, to) };
        }
        let new = self.take(to)?;
        // SAFETY: `len` bytes of the smaller block fit into the larger one, which is another.
        unsafe {
            std::ptr::copy_nonoverlapping(block.as_ptr(), new.as_ptr(), len);
            self.clone().give(block, from);
        }
        Ok(new)
    }

    /// Memory of this class belongs to the global cache from now on.
    #[inline]
    pub(crate) fn emigrate(&self, class: Class) {
        if let Home::Private(core) = self {
            #[cfg(not(netpoll_loom))]
            core.emigrate(class, &GLOBAL);
            #[cfg(netpoll_loom)]
            let _ = (core, class);
        }
    }

    #[cfg(not(netpoll_loom))]
    #[inline]
    pub(crate) fn core(&self) -> &Core {
        match self {
            Home::Global => &GLOBAL,
            Home::Private(core) => core,
        }
    }

    /// This thread's stock.
    #[cfg(not(netpoll_loom))]
    fn stock(&self) -> Option<&crate::stock::Stock> {
        match self {
            Home::Global => local::global(),
            Home::Private(core) => local::private(core),
        }
    }
}

#[cfg(netpoll_loom)]
fn allocate_untracked(class: Class) -> Result<NonNull<u8>, AllocError> {
    // SAFETY: the layout is not of size 0.
    let block = NonNull::new(unsafe { std::alloc::alloc(class.layout()) });
    block.ok_or(AllocError::exhausted(class.capacity()))
}

/// # Safety
///
/// As [`Home::give`].
#[cfg(not(netpoll_loom))]
#[cold]
#[inline(never)]
unsafe fn give_slowly(block: NonNull<u8>, class: Class) {
    let stock = if GLOBAL.keeps(class) { local::global() } else { None };
    // SAFETY: the caller's promise.
    unsafe { GLOBAL.give(stock, class, block) }
    reaper::watch(&Home::Global);
}

/// # Safety
///
/// As [`Home::give`].
#[cfg(not(netpoll_loom))]
#[inline(never)]
unsafe fn give_privately(core: Arc<Core>, block: NonNull<u8>, class: Class) {
    // SAFETY: the caller's promise.
    unsafe {
        if core.scrubs() {
            scrub(block, class);
        }
        let stock = if core.keeps(class) { local::private(&core) } else { None };
        if let Some(stock) = stock {
            if stock.push(class.index(), block) {
                return;
            }
        }
        core.give(stock, class, block);
    }
    reaper::watch(&Home::Private(core));
}

/// Overwrites all of a block with zeros, in a way that is not optimised away.
///
/// # Safety
///
/// The block is of this class, and the caller's.
#[cfg(not(netpoll_loom))]
unsafe fn scrub(block: NonNull<u8>, class: Class) {
    let words = block.cast::<u64>();
    for at in 0..class.footprint() / size_of::<u64>() {
        // SAFETY: within the block, whose alignment and size are multiples of 16.
        unsafe { words.add(at).write_volatile(0) }
    }
}

/// A cache of unzeroed memory: the global one, or one with its own settings and its own memory.
///
/// A handle: clones are the same cache. A private cache lives until its last handle and its last
/// block are gone, then everything it kept goes back to the allocator. Threads find their stock of
/// a private cache by a search among the private caches they use, and each of its blocks counts a
/// reference: a few nanoseconds more than the global cache, whose common path has neither.
///
/// # Examples
///
/// ```
/// let cache = mcache::Cache::builder().limit(16 << 20).build();
/// let block = cache.malloc(3000);
/// assert_eq!(block.capacity(), 4096);
/// assert_eq!(cache.stats().bytes_out, 4096);
/// ```
#[derive(Clone)]
pub struct Cache {
    home: Home,
}

impl Cache {
    /// The cache behind [`malloc`] and the other functions.
    #[must_use]
    pub const fn global() -> Cache {
        Cache { home: Home::Global }
    }

    /// A private cache: its settings, then [`build`](Builder::build).
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn with_home(home: Home) -> Cache {
        Cache { home }
    }

    /// [`malloc`] from this cache.
    ///
    /// # Panics
    ///
    /// As [`malloc`].
    #[must_use]
    #[track_caller]
    pub fn malloc(&self, size: usize) -> Block {
        self.malloc_with_capacity(size, size)
    }

    /// [`try_malloc`] from this cache.
    ///
    /// # Errors
    ///
    /// As [`try_malloc`].
    #[inline]
    pub fn try_malloc(&self, size: usize) -> Result<Block, AllocError> {
        self.try_malloc_with_capacity(size, size)
    }

    /// [`malloc_with_capacity`] from this cache.
    ///
    /// # Panics
    ///
    /// As [`malloc`].
    #[inline]
    #[must_use]
    #[track_caller]
    pub fn malloc_with_capacity(&self, size: usize, cap: usize) -> Block {
        match self.try_malloc_with_capacity(size, cap) {
            Ok(block) => block,
            Err(err) => err.raise(),
        }
    }

    /// [`try_malloc_with_capacity`] from this cache.
    ///
    /// # Errors
    ///
    /// As [`try_malloc`].
    pub fn try_malloc_with_capacity(&self, size: usize, cap: usize) -> Result<Block, AllocError> {
        let class = Class::holding(size.max(cap))?;
        let ptr = self.home.take(class)?;
        // SAFETY: memory of this class and home, from the cache to us alone.
        Ok(unsafe { Block::new(ptr, class, size, self.home.clone()) })
    }
}

#[cfg(not(netpoll_loom))]
impl Cache {
    /// What the cache holds and has done; cheap enough to be read every second, by any thread.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = mcache::Cache::builder().build();
    /// drop(cache.malloc(100));
    /// drop(cache.malloc(100));
    /// let stats = cache.stats();
    /// assert_eq!((stats.hits, stats.misses), (1, 1));
    /// assert_eq!((stats.bytes_held, stats.bytes_out), (128, 0));
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.home.core().stats()
    }

    /// Gives everything that is kept and free back to the allocator; says how many bytes that was.
    ///
    /// This reaches the depot, the stock of this thread, and on Linux the stocks of other threads,
    /// except of those that are in the middle of an operation.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = mcache::Cache::builder().build();
    /// drop(cache.malloc(100));
    /// cache.trim();
    /// assert_eq!(cache.stats().bytes_held, 0);
    /// ```
    pub fn trim(&self) -> usize {
        let before = self.home.core().stats().bytes_held;
        self.home.core().trim(self.home.stock());
        before.saturating_sub(self.home.core().stats().bytes_held)
    }

    /// Hands what this thread keeps for itself to all threads; for a thread that is about to do
    /// something else for long. Where the reaper cannot reach into the stock of an idle thread (see
    /// the crate's page), this is what keeps it from sitting on memory.
    pub fn hand_over(&self) {
        if let Some(stock) = self.home.stock() {
            self.home.core().hand_over(stock);
        }
    }

    /// Changes what is kept at most, in bytes, as [`Builder::limit`]; trims if it is more now.
    pub fn set_limit(&self, bytes: usize) {
        self.home.core().set_limit(bytes);
        if self.home.core().is_over_limit() {
            self.trim();
        }
    }

    /// Changes what a thread keeps at most, in bytes, as [`Builder::thread_limit`]; threads that
    /// keep more come down by decay.
    pub fn set_thread_limit(&self, bytes: usize) {
        self.home.core().set_thread_limit(bytes);
    }

    /// Changes the largest block that is kept, as [`Builder::keep`]; larger ones that are kept
    /// already go by decay.
    pub fn set_keep(&self, bytes: usize) {
        self.home.core().set_kept(kept_classes(bytes));
    }

    /// Changes how long a block may lie unused, as [`Builder::decay`].
    pub fn set_decay(&self, time: Option<Duration>) {
        self.home.core().set_decay_nanos(decay_nanos(time));
        reaper::reconsider(&self.home);
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.home {
            Home::Global => "global",
            Home::Private(_) => "private",
        };
        let mut debug = f.debug_struct("Cache");
        debug.field("kind", &name);
        #[cfg(not(netpoll_loom))]
        debug.field("stats", &self.stats());
        debug.finish()
    }
}

/// A block with room for `size` bytes, and initialised length 0; its capacity is the power of two
/// above.
///
/// # Panics
///
/// If `size` exceeds 2^45. Where the allocator has no memory, this does what `Vec` does: it calls
/// [`std::alloc::handle_alloc_error`]. Where sizes come from a peer, use [`try_malloc`].
///
/// # Examples
///
/// ```
/// let mut block = mcache::malloc(1000);
/// assert_eq!((block.len(), block.capacity()), (0, 1024));
/// block.cursor().put_slice(b"hello");
/// assert_eq!(&block[..], b"hello");
/// ```
#[doc(alias = "Malloc")]
#[inline]
#[must_use]
#[track_caller]
pub fn malloc(size: usize) -> Block {
    malloc_with_capacity(size, size)
}

/// [`malloc`], with an error instead of a panic or an abort.
///
/// # Errors
///
/// [`AllocError`], which tells a size that can never be had from memory that ran out.
///
/// # Examples
///
/// ```
/// assert!(mcache::try_malloc(usize::MAX).unwrap_err().is_too_large());
/// ```
#[inline]
pub fn try_malloc(size: usize) -> Result<Block, AllocError> {
    try_malloc_with_capacity(size, size)
}

/// [`try_malloc`] and [`Block::into_raw`] in one, for who keeps the memory in a structure of their own:
/// its address, and its capacity. [`Block::from_raw`] takes it back.
///
/// # Errors
///
/// As [`try_malloc`].
///
/// # Examples
///
/// ```
/// let (ptr, capacity) = mcache::try_malloc_raw(100)?;
/// assert_eq!(capacity, 128);
/// // SAFETY: it came from `try_malloc_raw`, and is used no more.
/// drop(unsafe { mcache::Block::from_raw(ptr, capacity) });
/// # Ok::<(), mcache::AllocError>(())
/// ```
#[inline]
pub fn try_malloc_raw(size: usize) -> Result<(NonNull<u8>, usize), AllocError> {
    match kept_raw(size) {
        Some(kept) => Ok(kept),
        None => not_kept_raw(size),
    }
}

/// [`try_malloc_raw`] from what this thread keeps for itself; `None` where that would take more, and
/// nothing is tried. For a fast path that is to stay small, beside one that takes `try_malloc_raw`.
///
/// # Examples
///
/// ```
/// drop(mcache::malloc(100));
/// let (ptr, capacity) = mcache::kept_raw(100).expect("what was given back a moment ago");
/// assert_eq!(capacity, 128);
/// // SAFETY: it came from `kept_raw`, and is used no more.
/// drop(unsafe { mcache::Block::from_raw(ptr, capacity) });
/// ```
#[inline]
#[must_use = "the memory leaks unless it is taken back"]
pub fn kept_raw(size: usize) -> Option<(NonNull<u8>, usize)> {
    // The compiler sees through the block: this is no more than taking an address.
    kept(size, size).map(Block::into_raw)
}

/// [`malloc`] for `size` bytes now and `cap` later: the capacity is the power of two above both.
///
/// # Panics
///
/// As [`malloc`].
#[inline]
#[must_use]
#[track_caller]
pub fn malloc_with_capacity(size: usize, cap: usize) -> Block {
    match kept(size, cap) {
        Some(block) => block,
        None => match not_kept(size, cap) {
            Ok(block) => block,
            Err(err) => err.raise(),
        },
    }
}

/// [`malloc_with_capacity`], with an error instead of a panic or an abort.
///
/// # Errors
///
/// As [`try_malloc`].
#[inline]
pub fn try_malloc_with_capacity(size: usize, cap: usize) -> Result<Block, AllocError> {
    match kept(size, cap) {
        Some(block) => Ok(block),
        None => not_kept(size, cap),
    }
}

/// A block that this thread keeps: the common path, for itself so that it stays small.
#[inline]
fn kept(size: usize, cap: usize) -> Option<Block> {
    #[cfg(not(netpoll_loom))]
    if size.max(cap) <= LARGEST_KEPT {
        let class = Class::holding(size.max(cap)).ok()?;
        let block = local::current()?.pop(class.index())?;
        // SAFETY: memory of this class, from the global cache to us alone.
        return Some(unsafe { Block::new(block, class, size, Home::Global) });
    }
    let _ = (size, cap);
    None
}

#[cold]
#[inline(never)]
fn not_kept_raw(size: usize) -> Result<(NonNull<u8>, usize), AllocError> {
    not_kept(size, size).map(Block::into_raw)
}

#[cold]
#[inline(never)]
fn not_kept(size: usize, cap: usize) -> Result<Block, AllocError> {
    Cache::global().try_malloc_with_capacity(size, cap)
}
