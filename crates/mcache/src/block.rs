//! A block: memory of a cache, owned like a `Box`, that goes home when it is dropped.
//!
//! Rules:
//! B1. `ptr` is memory of `class.layout()` from the global allocator, owned by this value alone.
//! B2. The first `len` bytes are initialised; `len` and `asked` are at most `class.capacity()`.

use std::borrow::{Borrow, BorrowMut};
use std::fmt;
use std::io::{self, Read};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

use dirtmake::{AllocError, Spare};

use crate::cache::Home;
use crate::class::Class;

/// Unzeroed memory from a cache, with a power of two as its capacity and an initialised length;
/// only the initialised bytes can be read.
///
/// Dropping a block gives it back, from whichever thread. Moving a block does not move its memory.
/// Memory is aligned to 16 bytes.
///
/// A block cannot be given back twice, nor in part, nor used afterwards:
///
/// ```compile_fail,E0382
/// let block = mcache::malloc(10);
/// drop(block);
/// drop(block);
/// ```
///
/// ```compile_fail,E0505
/// let mut block = mcache::malloc(10);
/// block.cursor().put_slice(b"hello");
/// let part = &block[1..3];
/// drop(block);
/// println!("{part:?}");
/// ```
///
/// ```compile_fail,E0507
/// let block = mcache::malloc(10);
/// let part: [u8] = *block;
/// ```
///
/// ```compile_fail,E0599
/// let block = mcache::malloc(10);
/// let twice = block.clone();
/// ```
///
/// What was not written cannot be read:
///
/// ```compile_fail,E0308
/// let mut block = mcache::malloc(10);
/// let unread: &[u8] = block.spare(); // [MaybeUninit<u8>], not [u8]
/// ```
pub struct Block {
    ptr: NonNull<u8>,
    len: usize,
    asked: usize,
    class: Class,
    /// Taken when the block ends.
    home: ManuallyDrop<Home>,
}

// SAFETY: the memory is owned by this value alone (B1), and a home takes blocks from any thread.
unsafe impl Send for Block {}
// SAFETY: through `&self` the initialised bytes are only read.
unsafe impl Sync for Block {}

impl Block {
    /// # Safety
    ///
    /// `ptr` is memory of `class` that nobody else owns (B1), and `asked` fits into it.
    #[inline]
    pub(crate) unsafe fn new(ptr: NonNull<u8>, class: Class, asked: usize, home: Home) -> Self {
        debug_assert!(asked <= class.capacity());
        Block { ptr, len: 0, asked, class, home: ManuallyDrop::new(home) }
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

    /// Bytes this block has room for: a power of two.
    #[inline]
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.class.capacity()
    }

    /// The size that was asked for, at most the capacity: what the caller means to write.
    #[inline]
    #[must_use]
    pub const fn asked(&self) -> usize {
        self.asked
    }

    /// Changes the size that [`missing`](Self::missing) counts from.
    ///
    /// # Panics
    ///
    /// If it exceeds the capacity.
    #[inline]
    #[track_caller]
    pub fn set_asked(&mut self, size: usize) {
        assert!(
            size <= self.capacity(),
            "asked for {size} bytes of a block of {}",
            self.capacity()
        );
        self.asked = size;
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
        self.class.capacity() - self.len
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

    /// The memory behind the initialised bytes, for a system call to write into; then
    /// [`set_len`](Self::set_len) or [`advance`](Self::advance).
    #[inline]
    #[must_use]
    pub fn spare(&mut self) -> &mut [MaybeUninit<u8>] {
        let room = self.room();
        // SAFETY: within the allocation (B1, B2); `MaybeUninit` may be uninitialised.
        unsafe { slice::from_raw_parts_mut(self.ptr.as_ptr().add(self.len).cast(), room) }
    }

    /// A cursor that appends to the initialised bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut block = mcache::malloc(100);
    /// block.cursor().put_u16(5).put_slice(b"hello");
    /// assert_eq!(&block[2..], b"hello");
    /// ```
    #[inline]
    #[must_use]
    pub fn cursor(&mut self) -> Spare<'_> {
        let room = self.room();
        // SAFETY: as in `spare`; the room directly follows what `len` counts (B2), and the two
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
        debug_assert!(len <= self.capacity());
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

    /// Reads until `max` more bytes are there or the stream ends, without zeroing first; says how
    /// many came. At most the room that is left is read.
    ///
    /// The bytes are copied once, through a small buffer on the stack.
    ///
    /// # Errors
    ///
    /// What the reader reports; the bytes before it are kept. Interrupted reads are tried again.
    pub fn read_from<R: Read + ?Sized>(&mut self, reader: &mut R, max: usize) -> io::Result<usize> {
        let before = self.len;
        dirtmake::copy_into(reader, &mut self.cursor(), max)?;
        Ok(self.len - before)
    }

    /// Reads until the size that was [`asked`](Self::asked) for is there.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] if the stream ends first, and what the reader reports; the
    /// bytes that came are kept.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut block = mcache::malloc(5);
    /// block.fill_from(&mut &b"hello, world"[..])?;
    /// assert_eq!(&block[..], b"hello");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn fill_from<R: Read + ?Sized>(&mut self, reader: &mut R) -> io::Result<()> {
        self.read_from(reader, self.missing())?;
        if self.missing() > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Moves the initialised bytes to a block of the next class: twice the capacity.
    ///
    /// # Panics
    ///
    /// As [`malloc`](crate::malloc).
    ///
    /// # Examples
    ///
    /// ```
    /// let mut block = mcache::malloc(5);
    /// block.cursor().put_slice(b"hello");
    /// block.grow();
    /// assert_eq!((&block[..], block.capacity()), (&b"hello"[..], 16));
    /// ```
    #[track_caller]
    pub fn grow(&mut self) {
        if let Err(err) = self.try_grow() {
            err.raise();
        }
    }

    /// [`grow`](Self::grow), with an error instead of a panic or an abort.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; the block is unchanged.
    pub fn try_grow(&mut self) -> Result<(), AllocError> {
        let class =
            self.class.next().ok_or(AllocError::too_large(self.capacity().saturating_mul(2)))?;
        self.move_to(class)
    }

    /// Makes room for `additional` more bytes, moving to the class that holds them if need be.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; the block is unchanged.
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), AllocError> {
        if additional <= self.room() {
            return Ok(());
        }
        let needed = self.len.checked_add(additional).ok_or(AllocError::too_large(usize::MAX))?;
        self.move_to(Class::holding(needed)?)
    }

    /// [`try_reserve`](Self::try_reserve) that ends as [`malloc`](crate::malloc) does.
    ///
    /// # Panics
    ///
    /// As [`malloc`](crate::malloc).
    #[track_caller]
    pub fn reserve(&mut self, additional: usize) {
        if let Err(err) = self.try_reserve(additional) {
            err.raise();
        }
    }

    fn move_to(&mut self, class: Class) -> Result<(), AllocError> {
        debug_assert!(class > self.class);
        // SAFETY: B1, B2; on success the new memory takes its place.
        self.ptr = unsafe { self.home.exchange(self.ptr, self.class, self.len, class)? };
        self.class = class;
        Ok(())
    }

    /// Gives up the memory as pointer and capacity; [`from_raw`](Self::from_raw) takes it back.
    ///
    /// The cache counts it as handed out until then. A block of a private cache leaves that cache
    /// and its rules (scrubbing among them) for good.
    #[inline]
    #[must_use = "the memory leaks unless it is taken back"]
    pub fn into_raw(self) -> (NonNull<u8>, usize) {
        let mut this = ManuallyDrop::new(self);
        let capacity = this.capacity();
        this.home.emigrate(this.class);
        // SAFETY: `this` is never used or dropped afterwards.
        unsafe { ManuallyDrop::drop(&mut this.home) };
        (this.ptr, capacity)
    }

    /// Takes memory back as a block of the global cache, with initialised length 0.
    ///
    /// # Safety
    ///
    /// `ptr` and `capacity` come from [`into_raw`](Self::into_raw), and nobody else owns them.
    #[inline]
    #[must_use]
    pub unsafe fn from_raw(ptr: NonNull<u8>, capacity: usize) -> Block {
        let class = Class::of_capacity(capacity);
        // SAFETY: the caller hands over memory of this class (B1).
        unsafe { Block::new(ptr, class, capacity, Home::Global) }
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: B1; the value ends here, so its memory and its home are ours to give away.
        unsafe { ManuallyDrop::take(&mut self.home).give(self.ptr, self.class) }
    }
}

impl Deref for Block {
    type Target = [u8];

    /// The initialised bytes.
    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: B2.
        unsafe { slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for Block {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: B2, and `&mut self` makes the borrow unique.
        unsafe { slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for Block {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for Block {
    #[inline]
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl Borrow<[u8]> for Block {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl BorrowMut<[u8]> for Block {
    #[inline]
    fn borrow_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl io::Write for Block {
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

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("len", &self.len)
            .field("asked", &self.asked)
            .field("capacity", &self.capacity())
            .finish()
    }
}

#[cfg(feature = "bytes")]
// SAFETY: `chunk_mut` is memory of this block behind its initialised bytes, and `remaining_mut`
// its length; both only change by `advance_mut`.
unsafe impl bytes::BufMut for Block {
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
