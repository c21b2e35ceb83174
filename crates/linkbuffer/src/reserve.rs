//! Room to write into, in place.

use std::mem::MaybeUninit;

/// Reserved room: a cursor over memory that is not written yet.
///
/// Each `put` counts in its writer at once, and what is not put is simply not part of the stream. It has no
/// destructor, so the borrow of the writer ends with its last use.
///
/// Every `put` panics if the room is used up: asking for enough is the caller's job, as indexing is.
///
/// ```
/// use linkbuffer::{LinkBuffer, Reader, Writer};
/// let mut buf = LinkBuffer::new();
/// let mut room = buf.malloc(7)?;
/// room.put_u32(1).put_slice(b"ab");
/// assert_eq!(room.remaining(), 1);
/// assert_eq!(buf.flush()?, 6);
/// # Ok::<(), linkbuffer::Error>(())
/// ```
pub struct Reserve<'a> {
    /// What is left of it.
    room: &'a mut [MaybeUninit<u8>],
    /// How much it was.
    size: usize,
    /// The writer's count of pending bytes, which moves with `done`.
    pending: &'a mut usize,
}

impl<'a> Reserve<'a> {
    /// For implementors of [`Writer`](crate::Writer): room whose puts are added to `pending`.
    pub fn new(room: &'a mut [MaybeUninit<u8>], pending: &'a mut usize) -> Reserve<'a> {
        Reserve { size: room.len(), room, pending }
    }

    /// How many bytes can still be put.
    pub fn remaining(&self) -> usize {
        self.room.len()
    }

    /// How many bytes were put.
    pub fn written(&self) -> usize {
        self.size - self.room.len()
    }

    /// The room that is left, for code that fills memory itself: a system call, an encoder. Say afterwards
    /// with [`advance`](Reserve::advance) how much was filled.
    pub fn spare(&mut self) -> &mut [MaybeUninit<u8>] {
        self.room
    }

    /// Counts `n` bytes that were filled through [`spare`](Reserve::spare).
    ///
    /// # Panics
    ///
    /// If `n` is more than is left.
    ///
    /// # Safety
    ///
    /// The first `n` bytes of `spare()` must have been written.
    pub unsafe fn advance(&mut self, n: usize) -> &mut Self {
        assert!(n <= self.remaining(), "advance by {n} with {} left", self.remaining());
        self.take(n);
        self
    }

    /// The next `n` bytes of the room, which the caller writes.
    #[inline]
    fn take(&mut self, n: usize) -> &mut [MaybeUninit<u8>] {
        match std::mem::take(&mut self.room).split_at_mut_checked(n) {
            Some((now, later)) => {
                self.room = later;
                *self.pending += n;
                now
            }
            None => full(n),
        }
    }

    /// Puts a copy of `bytes`.
    ///
    /// # Panics
    ///
    /// If they do not fit.
    #[inline]
    pub fn put_slice(&mut self, bytes: &[u8]) -> &mut Self {
        let to = self.take(bytes.len());
        // SAFETY: `to` is exclusively borrowed and exactly as long as `bytes`.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_mut_ptr().cast(), bytes.len())
        };
        self
    }

    /// Puts `count` times `byte`.
    ///
    /// # Panics
    ///
    /// If they do not fit.
    pub fn put_bytes(&mut self, byte: u8, count: usize) -> &mut Self {
        self.take(count).fill(MaybeUninit::new(byte));
        self
    }
}

#[cold]
#[inline(never)]
fn full(n: usize) -> ! {
    panic!("{n} bytes put into a reservation with less room left")
}

macro_rules! put_numbers {
    ($($be:ident $le:ident $t:ident,)*) => {
        /// Numbers, big-endian as on the network, or little-endian with `_le`. All panic if the room is used up.
        impl Reserve<'_> {$(
            #[doc = concat!("Puts a big-endian `", stringify!($t), "`.")]
            #[inline]
            pub fn $be(&mut self, value: $t) -> &mut Self {
                self.put_slice(&value.to_be_bytes())
            }
            #[doc = concat!("Puts a little-endian `", stringify!($t), "`.")]
            #[inline]
            pub fn $le(&mut self, value: $t) -> &mut Self {
                self.put_slice(&value.to_le_bytes())
            }
        )*

            /// Puts a byte.
            #[inline]
            pub fn put_u8(&mut self, value: u8) -> &mut Self {
                self.put_slice(&[value])
            }

            /// Puts a signed byte.
            #[inline]
            pub fn put_i8(&mut self, value: i8) -> &mut Self {
                self.put_slice(&value.to_be_bytes())
            }
        }
    };
}

put_numbers! {
    put_u16 put_u16_le u16, put_u32 put_u32_le u32, put_u64 put_u64_le u64, put_u128 put_u128_le u128,
    put_i16 put_i16_le i16, put_i32 put_i32_le i32, put_i64 put_i64_le i64, put_i128 put_i128_le i128,
    put_f32 put_f32_le f32, put_f64 put_f64_le f64,
}

impl std::fmt::Debug for Reserve<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reserve")
            .field("written", &self.written())
            .field("remaining", &self.remaining())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_put() {
        let mut room = [MaybeUninit::uninit(); 12];
        let mut pending = 5;
        let mut r = Reserve::new(&mut room, &mut pending);
        r.put_u16(0x0102).put_u16_le(0x0102).put_bytes(9, 3).put_i8(-1);
        assert_eq!((r.written(), r.remaining()), (8, 4));
        r.spare()[0].write(7);
        // SAFETY: the line above wrote that byte.
        unsafe { r.advance(1) };
        assert_eq!(pending, 5 + 9);
        // SAFETY: nine bytes were put.
        let put: Vec<u8> = room[..9].iter().map(|b| unsafe { b.assume_init() }).collect();
        assert_eq!(put, [1, 2, 2, 1, 9, 9, 9, 255, 7]);
    }

    #[test]
    #[should_panic(expected = "4 bytes put into a reservation with less room left")]
    fn panics_when_full() {
        Reserve::new(&mut [MaybeUninit::uninit(); 3], &mut 0).put_u32(1);
    }

    #[test]
    #[should_panic(expected = "advance by")]
    fn refuses_to_advance_too_far() {
        // SAFETY: it panics.
        unsafe { Reserve::new(&mut [MaybeUninit::uninit(); 3], &mut 0).advance(usize::MAX) };
    }
}
