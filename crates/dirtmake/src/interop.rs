//! Traits of the standard library, and of `bytes` behind its feature.

use std::borrow::{Borrow, BorrowMut};
use std::io;
use std::ops::{Deref, DerefMut};

use crate::Dirty;

impl Default for Dirty {
    /// An empty buffer, without an allocation.
    fn default() -> Self {
        Dirty::new()
    }
}

impl<const ALIGN: usize> Deref for Dirty<ALIGN> {
    type Target = [u8];

    /// The initialised bytes.
    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl<const ALIGN: usize> DerefMut for Dirty<ALIGN> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

impl<const ALIGN: usize> AsRef<[u8]> for Dirty<ALIGN> {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<const ALIGN: usize> AsMut<[u8]> for Dirty<ALIGN> {
    #[inline]
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl<const ALIGN: usize> Borrow<[u8]> for Dirty<ALIGN> {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl<const ALIGN: usize> BorrowMut<[u8]> for Dirty<ALIGN> {
    #[inline]
    fn borrow_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl From<Vec<u8>> for Dirty {
    /// Takes the memory over; nothing is copied.
    fn from(vec: Vec<u8>) -> Self {
        let mut vec = std::mem::ManuallyDrop::new(vec);
        let (len, cap) = (vec.len(), vec.capacity());
        let Some(ptr) = std::ptr::NonNull::new(vec.as_mut_ptr()) else { unreachable!() };
        // SAFETY: a `Vec<u8>` has exactly this layout, its first `len` bytes are initialised, and
        // `ManuallyDrop` leaves the ownership to us.
        unsafe { Dirty::from_raw_parts(ptr, len, cap) }
    }
}

impl From<Dirty> for Vec<u8> {
    fn from(dirty: Dirty) -> Self {
        dirty.into_vec()
    }
}

impl From<Dirty> for Box<[u8]> {
    fn from(dirty: Dirty) -> Self {
        dirty.into_boxed_slice()
    }
}

impl<const ALIGN: usize> io::Write for Dirty<ALIGN> {
    /// Writes what fits into the capacity, which does not grow; `Ok(0)` when nothing does.
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.cursor().write(bytes)
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "bytes")]
// SAFETY: `chunk_mut` is memory of this buffer behind its initialised bytes, and `remaining_mut`
// its length; both only change by `advance_mut`.
unsafe impl<const ALIGN: usize> bytes::BufMut for Dirty<ALIGN> {
    #[inline]
    fn remaining_mut(&self) -> usize {
        self.room()
    }

    #[inline]
    unsafe fn advance_mut(&mut self, cnt: usize) {
        assert!(cnt <= self.room(), "advanced by {cnt} bytes with room for {}", self.room());
        // SAFETY: the caller initialised them.
        unsafe { self.advance(cnt) }
    }

    #[inline]
    fn chunk_mut(&mut self) -> &mut bytes::buf::UninitSlice {
        self.spare().into()
    }
}
