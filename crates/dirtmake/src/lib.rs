//! Buffers of unzeroed memory with an initialised length.
//!
#![doc = include_str!("../README.md")]

mod dirty;
mod error;
mod interop;
mod read;
mod spare;

pub use dirty::Dirty;
pub use error::AllocError;
pub use read::copy_into;
pub use spare::Spare;

/// Room for `cap` bytes, of which the caller means to write `len`; nothing is zeroed.
///
/// The buffer is empty at first: its initialised length is 0 until something is written. `len`
/// is remembered as [`Dirty::asked`], and [`Dirty::fill_from`] reads exactly that much. A `cap`
/// below `len` counts as `len`.
///
/// # Panics
///
/// If the capacity exceeds `isize::MAX`. Where the allocator has no memory, this does what `Vec`
/// does: it calls [`std::alloc::handle_alloc_error`]. Where sizes come from a peer, use
/// [`try_bytes`].
///
/// # Examples
///
/// ```
/// let mut buf = dirtmake::bytes(5, 64);
/// assert_eq!((buf.len(), buf.asked(), buf.capacity()), (0, 5, 64));
/// buf.cursor().put_slice(b"hello");
/// assert_eq!(&buf[..], b"hello");
/// ```
#[doc(alias = "Bytes")]
#[inline]
#[must_use]
pub fn bytes(len: usize, cap: usize) -> Dirty {
    Dirty::bytes(len, cap)
}

/// [`bytes()`], with an error instead of a panic or an abort.
///
/// # Errors
///
/// [`AllocError`], which tells a size that can never be had from memory that ran out.
///
/// # Examples
///
/// ```
/// let err = dirtmake::try_bytes(usize::MAX, 0).unwrap_err();
/// assert!(err.is_too_large());
/// ```
#[inline]
pub fn try_bytes(len: usize, cap: usize) -> Result<Dirty, AllocError> {
    Dirty::try_bytes(len, cap)
}
