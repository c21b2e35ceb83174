//! The owner of unzeroed memory and its initialised length.
//!
//! Rules:
//! D1. `ptr` is one allocation of the global allocator of layout (`cap`, `ALIGN`), owned by this
//!     value alone; with `cap == 0` it is dangling, aligned, and not allocated.
//! D2. The first `len` bytes are initialised, and `len <= cap`.
//! D3. `cap` rounded up to `ALIGN` is at most `isize::MAX`.

use std::alloc::{Layout, alloc, dealloc, realloc};
use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;
use std::slice;

use crate::{AllocError, Spare};

/// An owned buffer whose memory is not zeroed and whose first [`len`](Self::len) bytes are
/// initialised; only those can be read.
///
/// `ALIGN` is the alignment of its memory, a power of two: `Dirty` has 1 and turns into a `Vec`
/// without copying; `Dirty<4096>` starts at a page, see [`aligned`](Self::aligned).
///
/// What was not written cannot be read:
///
/// ```compile_fail,E0308
/// let mut buf = dirtmake::bytes(0, 16);
/// let unread: &[u8] = buf.spare(); // [MaybeUninit<u8>], not [u8]
/// ```
///
/// ```should_panic
/// let buf = dirtmake::bytes(16, 16);
/// let _ = buf[0]; // initialised length 0
/// ```
pub struct Dirty<const ALIGN: usize = 1> {
    ptr: NonNull<u8>,
    len: usize,
    asked: usize,
    cap: usize,
}

// SAFETY: the memory is owned by this value alone (D1), and bytes may be moved to another thread.
unsafe impl<const ALIGN: usize> Send for Dirty<ALIGN> {}
// SAFETY: through `&self` the initialised bytes are only read.
unsafe impl<const ALIGN: usize> Sync for Dirty<ALIGN> {}

impl Dirty {
    /// An empty buffer, without an allocation.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Dirty { ptr: NonNull::dangling(), len: 0, asked: 0, cap: 0 }
    }

    /// Room for `cap` bytes.
    ///
    /// # Panics
    ///
    /// As [`bytes`](crate::bytes()).
    #[inline]
    #[must_use]
    pub fn with_capacity(cap: usize) -> Self {
        Self::bytes(0, cap)
    }

    /// See [`bytes`](crate::bytes()).
    ///
    /// # Panics
    ///
    /// As [`bytes`](crate::bytes()).
    #[inline]
    #[must_use]
    #[track_caller]
    pub fn bytes(len: usize, cap: usize) -> Self {
        Self::aligned(len, cap)
    }

    /// See [`try_bytes`](crate::try_bytes).
    ///
    /// # Errors
    ///
    /// As [`try_bytes`](crate::try_bytes).
    #[inline]
    pub fn try_bytes(len: usize, cap: usize) -> Result<Self, AllocError> {
        Self::try_aligned(len, cap)
    }

    /// The initialised bytes as a `Vec` with this buffer's capacity; nothing is copied.
    #[inline]
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        let (ptr, len, cap) = self.into_raw_parts();
        // SAFETY: D1 with ALIGN 1 is the layout of a `Vec<u8>` of this capacity; D2 for the length.
        unsafe { Vec::from_raw_parts(ptr.as_ptr(), len, cap) }
    }

    /// The initialised bytes as a boxed slice; nothing is copied if the buffer is full, otherwise
    /// the allocator shrinks it, as it does for a `Vec`.
    #[inline]
    #[must_use]
    pub fn into_boxed_slice(self) -> Box<[u8]> {
        self.into_vec().into_boxed_slice()
    }
}

impl<const ALIGN: usize> Dirty<ALIGN> {
    const ALIGNMENT: usize = {
        assert!(ALIGN.is_power_of_two(), "ALIGN must be a power of two");
        ALIGN
    };

    /// [`bytes`](crate::bytes()) whose memory starts at a multiple of `ALIGN`.
    ///
    /// # Panics
    ///
    /// As [`bytes`](crate::bytes()). An `ALIGN` that is no power of two does not compile.
    ///
    /// # Examples
    ///
    /// ```
    /// use dirtmake::Dirty;
    ///
    /// let page = Dirty::<4096>::aligned(0, 16384);
    /// assert_eq!(page.as_ptr() as usize % 4096, 0);
    /// ```
    ///
    /// ```compile_fail,E0080
    /// let page = dirtmake::Dirty::<4095>::aligned(0, 1);
    /// ```
    #[inline]
    #[must_use]
    #[track_caller]
    pub fn aligned(len: usize, cap: usize) -> Self {
        match Self::try_aligned(len, cap) {
            Ok(dirty) => dirty,
            Err(err) => err.raise(),
        }
    }

    /// [`aligned`](Self::aligned), with an error instead of a panic or an abort.
    ///
    /// # Errors
    ///
    /// As [`try_bytes`](crate::try_bytes).
    #[inline]
    pub fn try_aligned(len: usize, cap: usize) -> Result<Self, AllocError> {
        let cap = len.max(cap);
        if cap == 0 {
            return Ok(Self::dangling());
        }
        let layout = Self::layout(cap)?;
        // SAFETY: the layout is not of size 0.
        let ptr = NonNull::new(unsafe { alloc(layout) }).ok_or(AllocError::exhausted(cap))?;
        Ok(Dirty { ptr, len: 0, asked: len, cap })
    }

    fn dangling() -> Self {
        let ptr = NonNull::new(std::ptr::without_provenance_mut(Self::ALIGNMENT));
        // The alignment is a power of two, hence not null.
        Dirty { ptr: ptr.unwrap_or(NonNull::dangling()), len: 0, asked: 0, cap: 0 }
    }

    #[inline]
    fn layout(cap: usize) -> Result<Layout, AllocError> {
        Layout::from_size_align(cap, Self::ALIGNMENT).map_err(|_| AllocError::too_large(cap))
    }

    /// Bytes that are initialised and can be read.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written yet.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes this buffer has memory for.
    #[inline]
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.cap
    }

    /// The length that was asked for when the buffer was made: what the caller means to write.
    #[inline]
    #[must_use]
    pub const fn asked(&self) -> usize {
        self.asked
    }

    /// Changes the length that [`missing`](Self::missing) counts from.
    ///
    /// # Panics
    ///
    /// If it exceeds the capacity.
    #[inline]
    #[track_caller]
    pub fn set_asked(&mut self, len: usize) {
        assert!(len <= self.cap, "asked for {len} bytes of a buffer of {}", self.cap);
        self.asked = len;
    }

    /// Bytes still to be written before what was [`asked`](Self::asked) for is there.
    #[inline]
    #[must_use]
    pub const fn missing(&self) -> usize {
        self.asked.saturating_sub(self.len)
    }

    /// Bytes that still fit.
    #[inline]
    #[must_use]
    pub const fn room(&self) -> usize {
        self.cap - self.len
    }

    /// The start of the memory, valid for reads of [`len`](Self::len) bytes.
    #[inline]
    #[must_use]
    pub const fn as_ptr(&self) -> *const u8 {
        self.ptr.as_ptr()
    }

    /// The start of the memory, valid for writes of [`capacity`](Self::capacity) bytes.
    #[inline]
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// The initialised bytes.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: D2.
        unsafe { slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }

    /// The initialised bytes, to be changed.
    #[inline]
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: D2, and `&mut self` makes the borrow unique.
        unsafe { slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }

    /// The memory behind the initialised bytes, for a system call to write into; then
    /// [`set_len`](Self::set_len) or [`advance`](Self::advance).
    ///
    /// # Examples
    ///
    /// ```
    /// let mut buf = dirtmake::bytes(0, 8);
    /// buf.spare()[0].write(b'x'); // or recv(fd, buf.spare().as_mut_ptr().cast(), …)
    /// // SAFETY: one byte was written.
    /// unsafe { buf.advance(1) };
    /// assert_eq!(&buf[..], b"x");
    /// ```
    #[inline]
    #[must_use]
    pub fn spare(&mut self) -> &mut [MaybeUninit<u8>] {
        let room = self.room();
        // SAFETY: within the allocation (D1, D2); `MaybeUninit` may be uninitialised.
        unsafe { slice::from_raw_parts_mut(self.ptr.as_ptr().add(self.len).cast(), room) }
    }

    /// A cursor that appends to the initialised bytes.
    #[inline]
    #[must_use]
    pub fn cursor(&mut self) -> Spare<'_> {
        let room = self.room();
        // SAFETY: as in `spare`; the room directly follows what `len` counts (D2), and the two
        // borrows are of different places.
        unsafe {
            let spare = slice::from_raw_parts_mut(self.ptr.as_ptr().add(self.len).cast(), room);
            Spare::new(spare, &mut self.len)
        }
    }

    /// Sets the initialised length.
    ///
    /// # Safety
    ///
    /// The first `len` bytes are initialised, and `len` is at most the capacity.
    #[inline]
    pub unsafe fn set_len(&mut self, len: usize) {
        debug_assert!(len <= self.cap);
        self.len = len;
    }

    /// Counts `n` more bytes as initialised.
    ///
    /// # Safety
    ///
    /// The first `n` bytes of [`spare`](Self::spare) are initialised, and `n` is at most its length.
    #[inline]
    pub unsafe fn advance(&mut self, n: usize) {
        debug_assert!(n <= self.room());
        self.len += n;
    }

    /// Keeps the first `len` bytes; no effect if there are fewer.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Forgets the initialised bytes and keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Makes room for `additional` more bytes, at least doubling the capacity if it must grow.
    ///
    /// # Panics
    ///
    /// As [`bytes`](crate::bytes()).
    #[track_caller]
    pub fn reserve(&mut self, additional: usize) {
        if let Err(err) = self.try_reserve(additional) {
            err.raise();
        }
    }

    /// [`reserve`](Self::reserve), with an error instead of a panic or an abort.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; the buffer is unchanged.
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), AllocError> {
        if additional <= self.room() {
            return Ok(());
        }
        let needed = self.len.checked_add(additional).ok_or(AllocError::too_large(usize::MAX))?;
        Self::layout(needed)?;
        // D3 holds for `needed`; where twice the capacity is too much, `needed` must do.
        let cap = needed.max(self.cap.saturating_mul(2));
        let cap = if Self::layout(cap).is_ok() { cap } else { needed };
        let new = if self.cap == 0 {
            // SAFETY: `cap >= additional > 0`.
            unsafe { alloc(Self::layout(cap)?) }
        } else {
            // SAFETY: D1; `cap` is not 0 and a valid size for this alignment (checked above).
            unsafe { realloc(self.ptr.as_ptr(), Self::layout(self.cap)?, cap) }
        };
        self.ptr = NonNull::new(new).ok_or(AllocError::exhausted(cap))?;
        self.cap = cap;
        Ok(())
    }

    /// Gives up the memory as pointer, initialised length and capacity;
    /// [`from_raw_parts`](Self::from_raw_parts) takes it back.
    #[inline]
    #[must_use = "the memory leaks unless it is taken back"]
    pub fn into_raw_parts(self) -> (NonNull<u8>, usize, usize) {
        let this = ManuallyDrop::new(self);
        (this.ptr, this.len, this.cap)
    }

    /// Takes memory back.
    ///
    /// # Safety
    ///
    /// `ptr` and `cap` come from [`into_raw_parts`](Self::into_raw_parts) of the same `ALIGN`, or
    /// from the global allocator with that layout, and nobody else owns them. The first `len` bytes
    /// are initialised, and `len <= cap`.
    #[inline]
    #[must_use]
    pub unsafe fn from_raw_parts(ptr: NonNull<u8>, len: usize, cap: usize) -> Self {
        debug_assert!(len <= cap);
        Dirty { ptr, len, asked: cap, cap }
    }
}

impl<const ALIGN: usize> Drop for Dirty<ALIGN> {
    #[inline]
    fn drop(&mut self) {
        if self.cap != 0 {
            // SAFETY: D1; the layout was valid when the memory was allocated with it (D3).
            unsafe {
                let layout = Layout::from_size_align_unchecked(self.cap, Self::ALIGNMENT);
                dealloc(self.ptr.as_ptr(), layout);
            }
        }
    }
}

impl<const ALIGN: usize> fmt::Debug for Dirty<ALIGN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dirty")
            .field("len", &self.len)
            .field("asked", &self.asked)
            .field("capacity", &self.cap)
            .field("align", &ALIGN)
            .finish()
    }
}
