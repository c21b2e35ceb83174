//! Feature `bytes`: `Buf`, `BufMut`, and `Bytes` in both directions without a copy.

use std::io::IoSlice;

use bytes::buf::UninitSlice;
use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::node::Piece;
use crate::{LinkBuffer, Owned, ReadHalf, Reader, Slice, WriteHalf, Writer};

macro_rules! buf {
    ($reader:ty) => {
        /// What is readable now. `copy_to_bytes` shares where the bytes lie together, and copies otherwise.
        ///
        /// `advance` consumes; blocks go back with the next [`release`](Reader::release).
        impl Buf for $reader {
            fn remaining(&self) -> usize {
                Reader::len(self)
            }

            fn chunk(&self) -> &[u8] {
                Reader::chunk(self)
            }

            fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
                self.fill_io_slices(to)
            }

            fn advance(&mut self, n: usize) {
                self.skip(n).expect("advance: no more than remaining");
            }

            fn copy_to_bytes(&mut self, n: usize) -> Bytes {
                Bytes::from(self.slice(n).expect("copy_to_bytes: no more than remaining"))
            }
        }
    };
}

buf!(ReadHalf);
buf!(LinkBuffer);

macro_rules! buf_mut {
    ($writer:ty, |$self:ident| $half:expr) => {
        /// What is put is pending until `flush`.
        ///
        /// # Panics
        ///
        /// If there is no memory.
        // SAFETY: `chunk_mut` is the writer's room, which stays where it is until it is written behind, and
        // `advance_mut` counts what was written there.
        unsafe impl BufMut for $writer {
            fn remaining_mut(&self) -> usize {
                usize::MAX - self.malloc_len()
            }

            fn chunk_mut(&mut $self) -> &mut UninitSlice {
                UninitSlice::uninit($half.tail_room().expect("room for bytes"))
            }

            unsafe fn advance_mut(&mut $self, n: usize) {
                // SAFETY: the caller wrote them.
                unsafe { $half.advance_tail(n) }
            }

            fn put_slice(&mut self, bytes: &[u8]) {
                self.write_binary(bytes).expect("room for bytes");
            }
        }
    };
}

buf_mut!(WriteHalf, |self| self);
buf_mut!(LinkBuffer, |self| self.split().1);

impl From<Bytes> for Owned {
    fn from(bytes: Bytes) -> Owned {
        Owned::Bytes(bytes)
    }
}

impl From<BytesMut> for Owned {
    fn from(bytes: BytesMut) -> Owned {
        Owned::Bytes(bytes.freeze())
    }
}

impl From<Bytes> for Slice {
    /// Shares the bytes.
    fn from(bytes: Bytes) -> Slice {
        Slice::from(Owned::Bytes(bytes))
    }
}

/// A piece as an owner of bytes.
struct Contiguous(Piece);

impl AsRef<[u8]> for Contiguous {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl Slice {
    /// The bytes, shared without a copy: one `Bytes` for each of the [`chunks`](Slice::chunks).
    ///
    /// ```
    /// use linkbuffer::Slice;
    /// let slice = Slice::from(bytes::Bytes::from_static(b"shared"));
    /// let parts: Vec<bytes::Bytes> = slice.into_bytes().collect();
    /// assert_eq!(parts, ["shared"]);
    /// ```
    pub fn into_bytes(self) -> impl ExactSizeIterator<Item = Bytes> {
        let count = self.pieces().len();
        (0..count).map(move |i| Bytes::from_owner(Contiguous(self.pieces()[i].clone())))
    }
}

impl From<Slice> for Bytes {
    /// Shares the bytes if they lie together, and copies them otherwise: see [`Slice::into_bytes`].
    fn from(slice: Slice) -> Bytes {
        match slice.pieces() {
            [] => Bytes::new(),
            [piece] => Bytes::from_owner(Contiguous(piece.clone())),
            _ => slice.to_vec().into(),
        }
    }
}
