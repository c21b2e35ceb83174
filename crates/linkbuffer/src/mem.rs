//! Where block memory comes from: mcache, or under the model checker the plain allocator, so that models
//! explore this crate's interleavings only.

use std::ptr::NonNull;

use crate::{Error, Result};

/// Memory of at least `size` bytes, 16-byte aligned from 64 bytes up, and how many bytes it has: a power
/// of two.
#[cfg(not(netpoll_loom))]
#[inline]
pub(crate) fn alloc(size: usize) -> Result<(NonNull<u8>, usize)> {
    match mcache::try_malloc(size) {
        Ok(block) => Ok(block.into_raw()),
        Err(_) => Err(Error::TooLarge { requested: size }),
    }
}

/// # Safety
///
/// `ptr` and `capacity` came from [`alloc`], and nobody uses the memory any more.
#[cfg(not(netpoll_loom))]
#[inline]
pub(crate) unsafe fn free(ptr: NonNull<u8>, capacity: usize) {
    // SAFETY: the caller's promise; `alloc` took them from `into_raw`.
    drop(unsafe { mcache::Block::from_raw(ptr, capacity) });
}

#[cfg(netpoll_loom)]
pub(crate) use self::plain::{alloc, free};

#[cfg(netpoll_loom)]
pub(crate) mod plain {
    use super::*;
    use std::alloc::{Layout, alloc as get, dealloc};
    use std::sync::atomic::{AtomicIsize, Ordering};

    /// Blocks that are out; models assert that it ends at zero.
    pub(crate) static LIVE: AtomicIsize = AtomicIsize::new(0);

    pub(crate) fn alloc(size: usize) -> Result<(NonNull<u8>, usize)> {
        let capacity = size.max(64).next_power_of_two();
        let layout = Layout::from_size_align(capacity, 16).unwrap();
        LIVE.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the layout is not empty.
        NonNull::new(unsafe { get(layout) })
            .map(|ptr| (ptr, capacity))
            .ok_or(Error::TooLarge { requested: size })
    }

    pub(crate) unsafe fn free(ptr: NonNull<u8>, capacity: usize) {
        LIVE.fetch_sub(1, Ordering::SeqCst);
        // SAFETY: the caller's promise; this is the layout of `alloc`.
        unsafe { dealloc(ptr.as_ptr(), Layout::from_size_align(capacity, 16).unwrap()) };
    }
}
