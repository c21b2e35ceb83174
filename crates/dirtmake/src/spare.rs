//! A cursor over memory that is not written yet.
//!
//! Rules:
//! S1. `*len` is the initialised length of the owner of `room`, whose first `at` bytes it counts.
//! S2. `at` only grows, and only over bytes that were written first; `*len` grows with it.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;

/// A cursor that appends to the initialised part of a buffer.
///
/// Each put counts at once, in the buffer it came from. There is no destructor, so the borrow ends
/// with the last use. Every `put_*` panics beyond the room; [`io::Write`] writes what fits.
///
/// # Examples
///
/// ```
/// let mut buf = dirtmake::bytes(0, 16);
/// buf.cursor().put_u32(7).put_slice(b"payload");
/// assert_eq!(&buf[..], b"\0\0\0\x07payload");
/// ```
pub struct Spare<'a> {
    room: &'a mut [MaybeUninit<u8>],
    at: usize,
    len: &'a mut usize,
}

impl<'a> Spare<'a> {
    /// A cursor over `room` that counts what it writes in `len`; for owners of buffers.
    ///
    /// # Safety
    ///
    /// `room` directly follows the initialised bytes that `*len` counts: after k bytes of it were
    /// written, `*len + k` must be a true initialised length of the owner.
    #[inline]
    pub unsafe fn new(room: &'a mut [MaybeUninit<u8>], len: &'a mut usize) -> Self {
        Spare { room, at: 0, len }
    }

    /// Bytes that still fit.
    #[inline]
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.room.len() - self.at
    }

    /// Bytes written through this cursor.
    #[inline]
    #[must_use]
    pub fn written(&self) -> usize {
        self.at
    }

    /// What is still free, for a system call to write into; then [`advance`](Self::advance).
    #[inline]
    #[must_use]
    pub fn spare(&mut self) -> &mut [MaybeUninit<u8>] {
        &mut self.room[self.at..]
    }

    /// Counts `n` more bytes as written.
    ///
    /// # Safety
    ///
    /// The first `n` bytes of [`spare`](Self::spare) are initialised, and `n` is at most its length.
    #[inline]
    pub unsafe fn advance(&mut self, n: usize) -> &mut Self {
        debug_assert!(n <= self.remaining());
        self.at += n;
        *self.len += n;
        self
    }

    /// Appends `bytes`.
    ///
    /// # Panics
    ///
    /// If they do not fit; nothing is written then.
    #[inline]
    #[track_caller]
    pub fn put_slice(&mut self, bytes: &[u8]) -> &mut Self {
        let n = bytes.len();
        if n > self.remaining() {
            no_room(n, self.remaining());
        }
        let to = self.spare().as_mut_ptr().cast::<u8>();
        // SAFETY: `to` has room for n bytes (checked above), and `bytes` cannot overlap it, for it
        // is borrowed mutably. So the first n bytes are initialised, as `advance` wants.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, n);
            self.advance(n)
        }
    }

    /// Appends `n` times the byte `value`.
    ///
    /// # Panics
    ///
    /// If they do not fit; nothing is written then.
    #[inline]
    #[track_caller]
    pub fn put_bytes(&mut self, value: u8, n: usize) -> &mut Self {
        if n > self.remaining() {
            no_room(n, self.remaining());
        }
        let to = self.spare().as_mut_ptr().cast::<u8>();
        // SAFETY: `to` has room for n bytes (checked above), which are initialised afterwards.
        unsafe {
            to.write_bytes(value, n);
            self.advance(n)
        }
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn no_room(wanted: usize, room: usize) -> ! {
    panic!("no room for {wanted} bytes: {room} left");
}

macro_rules! put_numbers {
    ($($t:ident $be:ident $le:ident $ne:ident)*) => { impl Spare<'_> { $(
        #[doc = concat!("Appends a `", stringify!($t), "`, most significant byte first.")]
        ///
        /// # Panics
        ///
        /// If it does not fit; nothing is written then.
        #[inline]
        #[track_caller]
        pub fn $be(&mut self, value: $t) -> &mut Self {
            self.put_slice(&value.to_be_bytes())
        }

        #[doc = concat!("Appends a `", stringify!($t), "`, least significant byte first.")]
        ///
        /// # Panics
        ///
        /// If it does not fit; nothing is written then.
        #[inline]
        #[track_caller]
        pub fn $le(&mut self, value: $t) -> &mut Self {
            self.put_slice(&value.to_le_bytes())
        }

        #[doc = concat!("Appends a `", stringify!($t), "` in this machine's byte order.")]
        ///
        /// # Panics
        ///
        /// If it does not fit; nothing is written then.
        #[inline]
        #[track_caller]
        pub fn $ne(&mut self, value: $t) -> &mut Self {
            self.put_slice(&value.to_ne_bytes())
        }
    )* } };
}

put_numbers! {
    u16 put_u16 put_u16_le put_u16_ne
    u32 put_u32 put_u32_le put_u32_ne
    u64 put_u64 put_u64_le put_u64_ne
    u128 put_u128 put_u128_le put_u128_ne
    i16 put_i16 put_i16_le put_i16_ne
    i32 put_i32 put_i32_le put_i32_ne
    i64 put_i64 put_i64_le put_i64_ne
    i128 put_i128 put_i128_le put_i128_ne
    f32 put_f32 put_f32_le put_f32_ne
    f64 put_f64 put_f64_le put_f64_ne
}

impl Spare<'_> {
    /// Appends one byte.
    ///
    /// # Panics
    ///
    /// If it does not fit.
    #[inline]
    #[track_caller]
    pub fn put_u8(&mut self, value: u8) -> &mut Self {
        self.put_slice(&[value])
    }

    /// Appends one signed byte.
    ///
    /// # Panics
    ///
    /// If it does not fit.
    #[inline]
    #[track_caller]
    pub fn put_i8(&mut self, value: i8) -> &mut Self {
        self.put_slice(&value.to_ne_bytes())
    }
}

impl io::Write for Spare<'_> {
    /// Writes what fits; `Ok(0)` when nothing does.
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.remaining());
        self.put_slice(&bytes[..n]);
        Ok(n)
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Spare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spare")
            .field("written", &self.written())
            .field("remaining", &self.remaining())
            .finish()
    }
}
