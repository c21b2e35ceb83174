//! Where block memory comes from: mcache, or under the model checker the plain allocator, so that models
//! explore this crate's interleavings only.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::{Error, Result};

/// Memory of at least `size` bytes, 16-byte aligned from 64 bytes up, and how many bytes it has: a power
/// of two.
#[cfg(not(netpoll_loom))]
#[inline]
pub(crate) fn alloc(size: usize) -> Result<(NonNull<u8>, usize)> {
    mcache::try_malloc_raw(size).map_err(|_| Error::TooLarge { requested: size })
}

/// [`alloc`] if this thread has such memory at hand.
#[cfg(not(netpoll_loom))]
#[inline]
pub(crate) fn kept(size: usize) -> Option<(NonNull<u8>, usize)> {
    mcache::kept_raw(size)
}

/// # Safety
///
/// `ptr` and `capacity` came from [`alloc`], and nobody uses the memory any more.
#[cfg(not(netpoll_loom))]
#[inline]
pub(crate) unsafe fn free(ptr: NonNull<u8>, capacity: usize) {
    // SAFETY: the caller's promise; `alloc` took them from `try_malloc_raw`.
    drop(unsafe { mcache::Block::from_raw(ptr, capacity) });
}

/// A value in a block of its own: a `Box` that costs no allocation in the steady state.
pub(crate) struct Boxed<T>(NonNull<Boxing<T>>);

struct Boxing<T> {
    value: T,
    capacity: usize,
}

// SAFETY: it owns the value.
unsafe impl<T: Send> Send for Boxed<T> {}

impl<T> Boxed<T> {
    /// # Errors
    ///
    /// There is no memory for it.
    pub(crate) fn new(value: T) -> Result<Boxed<T>> {
        const { assert!(size_of::<Boxing<T>>() > 32 && align_of::<T>() <= 16) };
        let (block, capacity) = alloc(size_of::<Boxing<T>>())?;
        let at = block.cast();
        // SAFETY: the block is ours, has at least 64 bytes, and so is aligned.
        unsafe { at.write(Boxing { value, capacity }) };
        Ok(Boxed(at))
    }
}

impl<T> Deref for Boxed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: ours, written by `new`.
        unsafe { &self.0.as_ref().value }
    }
}

impl<T> DerefMut for Boxed<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut self.0.as_mut().value }
    }
}

impl<T> Drop for Boxed<T> {
    fn drop(&mut self) {
        // SAFETY: ours, and not used again; the memory came from `alloc`.
        unsafe {
            let Boxing { value, capacity } = self.0.read();
            drop(value);
            free(self.0.cast(), capacity);
        }
    }
}

#[cfg(netpoll_loom)]
pub(crate) use self::plain::{alloc, free, kept, live};

#[cfg(netpoll_loom)]
pub(crate) mod plain {
    use super::*;
    use std::alloc::{Layout, alloc as get, dealloc};
    use std::cell::Cell;

    // The model checker runs all threads of a model on one thread of the system.
    std::thread_local!(static LIVE: Cell<isize> = const { Cell::new(0) });

    /// Blocks that are out, those of buffers, nodes and slices alike.
    pub(crate) fn live() -> isize {
        LIVE.get()
    }

    pub(crate) fn alloc(size: usize) -> Result<(NonNull<u8>, usize)> {
        let capacity = size.max(64).next_power_of_two();
        let layout = Layout::from_size_align(capacity, 16).unwrap();
        LIVE.set(LIVE.get() + 1);
        // SAFETY: the layout is not empty.
        NonNull::new(unsafe { get(layout) })
            .map(|ptr| (ptr, capacity))
            .ok_or(Error::TooLarge { requested: size })
    }

    pub(crate) fn kept(size: usize) -> Option<(NonNull<u8>, usize)> {
        alloc(size).ok()
    }

    pub(crate) unsafe fn free(ptr: NonNull<u8>, capacity: usize) {
        LIVE.set(LIVE.get() - 1);
        // SAFETY: the caller's promise; this is the layout of `alloc`.
        unsafe { dealloc(ptr.as_ptr(), Layout::from_size_align(capacity, 16).unwrap()) };
    }
}
