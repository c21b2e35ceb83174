//! The public cache.

use std::alloc::{alloc, dealloc};
use std::ptr::NonNull;

use dirtmake::AllocError;

use crate::block::Block;
use crate::class::Class;

/// Where a block goes when it is dropped.
#[derive(Clone)]
pub(crate) enum Home {
    Global,
}

impl Home {
    #[inline]
    pub(crate) fn take(&self, class: Class) -> Result<NonNull<u8>, AllocError> {
        // SAFETY: the layout is not of size 0.
        NonNull::new(unsafe { alloc(class.layout()) })
            .ok_or(AllocError::exhausted(class.footprint()))
    }

    /// # Safety
    ///
    /// `ptr` is memory of `class` that nobody uses any more.
    #[inline]
    pub(crate) unsafe fn give(&self, ptr: NonNull<u8>, class: Class) {
        // SAFETY: from `alloc` of the same layout.
        unsafe { dealloc(ptr.as_ptr(), class.layout()) }
    }

    /// Memory of the class `to` with the first `len` bytes of `ptr`, which is given back.
    pub(crate) fn exchange(
        &self,
        ptr: NonNull<u8>,
        from: Class,
        len: usize,
        to: Class,
    ) -> Result<NonNull<u8>, AllocError> {
        let new = self.take(to)?;
        // SAFETY: `len` bytes of the smaller block fit into the larger one; they are two.
        unsafe {
            std::ptr::copy_nonoverlapping(ptr.as_ptr(), new.as_ptr(), len);
            self.give(ptr, from);
        }
        Ok(new)
    }

    /// Memory of this class leaves for the global cache.
    #[inline]
    pub(crate) fn emigrate(&self, _class: Class) {}
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
#[inline]
pub fn try_malloc(size: usize) -> Result<Block, AllocError> {
    try_malloc_with_capacity(size, size)
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
    match try_malloc_with_capacity(size, cap) {
        Ok(block) => block,
        Err(err) => err.raise(),
    }
}

/// [`malloc_with_capacity`], with an error instead of a panic or an abort.
///
/// # Errors
///
/// As [`try_malloc`].
#[inline]
pub fn try_malloc_with_capacity(size: usize, cap: usize) -> Result<Block, AllocError> {
    let class = Class::holding(size.max(cap))?;
    let ptr = Home::Global.take(class)?;
    // SAFETY: memory of this class, from the cache to us alone.
    Ok(unsafe { Block::new(ptr, class, size, Home::Global) })
}
