//! A buffer with one owner: both halves in one place.

use std::io::IoSlice;
use std::mem::MaybeUninit;

use crate::node::{HEADER, TINY};
use crate::reader::forward_reader;
use crate::writer::forward_writer;
use crate::{Owned, ReadHalf, Reader, Result, Slice, WriteHalf, Writer, chain};

const BLOCK_SIZE: usize = 4096;

/// A byte buffer of linked blocks: written at one end, read in place at the other.
///
/// It is a [`Reader`] and a [`Writer`], and it does not wait: too few bytes are an error at once.
/// [`split`](LinkBuffer::split) lends its halves, [`into_split`](LinkBuffer::into_split) gives them away, to
/// two threads if need be.
///
/// ```
/// use linkbuffer::{LinkBuffer, Reader, ReaderExt, Writer};
/// let mut buf = LinkBuffer::new();
/// buf.malloc(9)?.put_u32(5).put_slice(b"hello");
/// assert_eq!(buf.flush()?, 9);
///
/// let n = u32::from_be_bytes(buf.read_array()?);
/// assert_eq!(buf.next(n as usize)?, b"hello");
/// buf.release();
/// # Ok::<(), linkbuffer::Error>(())
/// ```
///
/// # What does not compile
///
/// Bytes that outlive the buffer, or that are held while it is given away:
///
/// ```compile_fail,E0515
/// use linkbuffer::{LinkBuffer, Reader};
/// fn first() -> &'static [u8] {
///     let buf = LinkBuffer::new();
///     buf.next(1).unwrap()
/// }
/// ```
///
/// ```compile_fail,E0505
/// use linkbuffer::{LinkBuffer, Reader, Writer};
/// let (mut a, b) = (LinkBuffer::new(), LinkBuffer::new());
/// let held = b.next(0).unwrap();
/// a.append(b).unwrap();
/// assert!(held.is_empty());
/// ```
///
/// Writing through the whole while a half is lent, or bytes of it are:
///
/// ```compile_fail,E0499
/// use linkbuffer::{LinkBuffer, Reader, Writer};
/// let mut buf = LinkBuffer::new();
/// let (r, _w) = buf.split();
/// buf.write_byte(1).unwrap();
/// r.next(1).unwrap();
/// ```
///
/// ```compile_fail,E0502
/// use linkbuffer::{LinkBuffer, Reader, Writer};
/// let mut buf = LinkBuffer::new();
/// let held = buf.next(0).unwrap();
/// buf.write_byte(1).unwrap(); // for this there is `split`
/// assert!(held.is_empty());
/// ```
///
/// Sharing it, booked room kept beyond its acknowledgement, and a combinator kept beyond its reader:
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>(_: T) {}
/// shared(linkbuffer::LinkBuffer::new());
/// ```
///
/// ```compile_fail,E0499
/// let mut buf = linkbuffer::LinkBuffer::new();
/// let room = buf.book(1).unwrap();
/// unsafe { buf.book_ack(1) };
/// room[0].write(7);
/// ```
///
/// ```compile_fail,E0505
/// use linkbuffer::{LinkBuffer, Reader, ReaderExt};
/// let mut buf = LinkBuffer::new();
/// let limited = buf.limit(4);
/// drop(buf);
/// assert!(limited.is_empty());
/// ```
pub struct LinkBuffer {
    read: ReadHalf,
    write: WriteHalf,
}

impl LinkBuffer {
    /// An empty buffer that takes blocks of 4 KiB, the first with the first write.
    #[doc(alias = "NewLinkBuffer")]
    pub fn new() -> LinkBuffer {
        LinkBuffer::with_block_size(BLOCK_SIZE)
    }

    /// An empty buffer that takes blocks of `size` bytes, a little of which is for bookkeeping, or larger
    /// ones for what does not fit. A power of two serves best.
    ///
    /// # Panics
    ///
    /// If there is no memory for 128 bytes.
    pub fn with_block_size(size: usize) -> LinkBuffer {
        let room = match size {
            0..TINY => size.max(1),
            _ => size - HEADER,
        };
        let (head, tail) = chain::chain(room).expect("memory for an empty buffer");
        LinkBuffer { read: ReadHalf::new(head), write: WriteHalf::new(tail) }
    }

    /// Lends the halves, to read while writing.
    ///
    /// ```
    /// use linkbuffer::{LinkBuffer, Reader, Writer};
    /// let mut buf = LinkBuffer::new();
    /// let (r, w) = buf.split();
    /// w.write_string("ping")?;
    /// w.flush()?;
    /// let ping = r.next(4)?;
    /// w.write_binary(ping)?;
    /// # Ok::<(), linkbuffer::Error>(())
    /// ```
    pub fn split(&mut self) -> (&mut ReadHalf, &mut WriteHalf) {
        (&mut self.read, &mut self.write)
    }

    /// Gives the halves away. Each can go to a thread of its own.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        (self.read, self.write)
    }

    /// See [`WriteHalf::book`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn book(&mut self, min: usize) -> Result<&mut [MaybeUninit<u8>]> {
        self.write.book(min)
    }

    /// See [`WriteHalf::book_ack`].
    ///
    /// # Safety
    ///
    /// As there.
    pub unsafe fn book_ack(&mut self, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.write.book_ack(n) }
    }

    /// See [`WriteHalf::occupied`].
    pub fn occupied(&self) -> usize {
        self.write.occupied()
    }

    /// See [`WriteHalf::seal`].
    pub fn seal(&mut self) {
        self.write.seal();
    }

    /// See [`WriteHalf::end`].
    pub fn end(&mut self) {
        self.write.end();
    }

    /// See [`ReadHalf::held`].
    pub fn held(&self) -> usize {
        self.read.held()
    }

    /// See [`ReadHalf::fill_io_slices`].
    pub fn fill_io_slices<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        self.read.fill_io_slices(to)
    }

    /// Makes everything pending readable, and says how many bytes that was. See [`Writer::flush`].
    ///
    /// # Errors
    ///
    /// As [`Writer::flush`].
    #[inline]
    pub fn flush(&mut self) -> Result<usize> {
        self.write.flush()
    }
}

impl Default for LinkBuffer {
    fn default() -> LinkBuffer {
        LinkBuffer::new()
    }
}

impl From<Slice> for LinkBuffer {
    /// A buffer in which the slice is readable, without a copy.
    ///
    /// # Panics
    ///
    /// If there is no memory for a few hundred bytes.
    fn from(slice: Slice) -> LinkBuffer {
        let mut buf = LinkBuffer::new();
        buf.write
            .link(Owned::Slice(slice))
            .and_then(|()| buf.flush())
            .expect("memory for small headers");
        buf
    }
}

impl Reader for LinkBuffer {
    forward_reader!(self => self.read);

    #[inline]
    fn release(&mut self) {
        let alone = self.read.head.is_other_end_of(&self.write.chain);
        self.read.release_alone(alone);
        if alone {
            self.write.rewind(&mut self.read.head);
        }
    }
}

impl Writer for LinkBuffer {
    forward_writer!(self => self.write);

    #[inline]
    fn malloc_len(&self) -> usize {
        self.write.malloc_len()
    }

    #[inline]
    fn flush(&mut self) -> Result<usize> {
        self.write.flush()
    }
}

impl std::fmt::Debug for LinkBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkBuffer")
            .field("len", &self.read.len())
            .field("held", &self.read.held())
            .field("malloc_len", &self.write.malloc_len())
            .finish()
    }
}
