//! What a codec writes to: a buffer, a connection, a wrapped `Vec` or a wrapped `std::io::Write`.

use crate::{LinkBuffer, Owned, Placeholder, Reserve, Result};

/// A sink of bytes in two steps: write what belongs together, then [`flush`](Writer::flush) it.
///
/// What is written is *pending* until `flush`. An error changes nothing, and nothing that was never written
/// can be flushed.
///
/// ```
/// use linkbuffer::{LinkBuffer, Reader, Writer, WriterExt};
///
/// let mut buf = LinkBuffer::new();
/// let head = buf.placeholder(4)?; // the length is not known yet
/// buf.write_string("name=")?;
/// buf.malloc(8)?.put_u32(1).put_u32(2); // in place
/// buf.write_bytes(vec![b'x'; 8192])?; // not copied
/// let body = buf.malloc_len() - 4;
/// buf.fill(head, &(body as u32).to_be_bytes())?;
/// assert_eq!(buf.flush()?, 4 + 5 + 8 + 8192);
/// assert_eq!(buf.next(4)?, [0, 0, 0x20, 13]);
/// # Ok::<(), linkbuffer::Error>(())
/// ```
pub trait Writer {
    /// Room for `n` bytes in place; each byte put there is pending at once.
    ///
    /// ```
    /// use linkbuffer::{LinkBuffer, Writer};
    /// let mut buf = LinkBuffer::new();
    /// buf.malloc(6)?.put_u16(7).put_slice(b"ab");
    /// assert_eq!(buf.malloc_len(), 4); // what was not put does not count
    /// # Ok::<(), linkbuffer::Error>(())
    /// ```
    ///
    /// The writer is borrowed until the last use of the room:
    ///
    /// ```compile_fail,E0499
    /// use linkbuffer::{LinkBuffer, Writer};
    /// let mut buf = LinkBuffer::new();
    /// let mut room = buf.malloc(4).unwrap();
    /// buf.write_byte(1).unwrap();
    /// room.put_u32(7);
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`](crate::Error::TooLarge) if so much memory cannot be had.
    #[doc(alias = "Malloc")]
    fn malloc(&mut self, n: usize) -> Result<Reserve<'_>>;

    /// Room for `n` bytes that are filled later, for a length in front of a body that is not written yet.
    /// They are pending from now on, and `flush` refuses while they are unfilled.
    ///
    /// It moves along with [`append`](Writer::append), and is filled in the writer it moved to.
    /// [`malloc_ack`](Writer::malloc_ack) before it forgets it.
    ///
    /// # Errors
    ///
    /// As [`malloc`](Writer::malloc).
    fn placeholder(&mut self, n: usize) -> Result<Placeholder>;

    /// Fills a placeholder.
    ///
    /// ```compile_fail,E0382
    /// use linkbuffer::{LinkBuffer, Writer};
    /// let mut buf = LinkBuffer::new();
    /// let head = buf.placeholder(2).unwrap();
    /// buf.fill(head, b"ab").unwrap();
    /// buf.fill(head, b"cd").unwrap(); // only once
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::BadPlaceholder`](crate::Error::BadPlaceholder) if `bytes` has another length, or the
    /// placeholder belongs to another writer or was forgotten.
    fn fill(&mut self, at: Placeholder, bytes: &[u8]) -> Result<()>;

    /// Writes bytes that are handed over: not copied from
    /// [`BINARY_INPLACE_THRESHOLD`](crate::BINARY_INPLACE_THRESHOLD) up. See [`WriterExt::write_bytes`].
    ///
    /// # Errors
    ///
    /// As [`malloc`](Writer::malloc).
    fn write_owned(&mut self, bytes: Owned) -> Result<()>;

    /// Inserts bytes that are handed over before the last `remain` pending ones. See
    /// [`WriterExt::write_direct`].
    ///
    /// # Errors
    ///
    /// [`Error::Remain`](crate::Error::Remain) if fewer than `remain` bytes are pending,
    /// [`Error::BadPlaceholder`](crate::Error::BadPlaceholder) if the place is inside an unfilled
    /// placeholder.
    fn write_owned_direct(&mut self, bytes: Owned, remain: usize) -> Result<()>;

    /// Takes over all bytes of `other`, in order and without a copy.
    ///
    /// Each byte keeps its own state. What `other` had flushed is not pending here either
    /// ([`malloc_len`](Writer::malloc_len) grows by `other.malloc_len()` only), survives `malloc_ack`, and
    /// goes out with the next [`flush`](Writer::flush), which counts it.
    ///
    /// ```
    /// use linkbuffer::{LinkBuffer, Reader, Writer};
    /// let mut first = LinkBuffer::new();
    /// first.write_binary(&[7; 100])?;
    /// assert_eq!(first.flush()?, 100);
    /// first.write_binary(&[8; 10])?; // and not flushed
    ///
    /// let mut second = LinkBuffer::new();
    /// second.write_binary(b"head")?;
    /// second.append(first)?;
    /// assert_eq!(second.malloc_len(), 4 + 10);
    /// second.malloc_ack(4)?; // drops the 10, not the 100
    /// assert_eq!(second.flush()?, 104);
    /// # Ok::<(), linkbuffer::Error>(())
    /// ```
    ///
    /// The other buffer is gone:
    ///
    /// ```compile_fail,E0382
    /// use linkbuffer::{LinkBuffer, Writer};
    /// let (mut a, mut b) = (LinkBuffer::new(), LinkBuffer::new());
    /// a.append(b).unwrap();
    /// b.write_byte(1).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// As [`malloc`](Writer::malloc).
    #[doc(alias = "Append")]
    fn append(&mut self, other: LinkBuffer) -> Result<()>;

    /// Keeps the first `n` pending bytes and drops the others.
    ///
    /// # Errors
    ///
    /// [`Error::MallocAck`](crate::Error::MallocAck) if fewer than `n` are pending,
    /// [`Error::BadPlaceholder`](crate::Error::BadPlaceholder) if that would cut an unfilled placeholder.
    #[doc(alias = "MallocAck")]
    fn malloc_ack(&mut self, n: usize) -> Result<()>;

    /// How many bytes are pending: written or kept by a placeholder, and not yet flushed.
    #[doc(alias = "MallocLen")]
    fn malloc_len(&self) -> usize;

    /// Makes everything pending readable, or sends it, and says how many bytes that was: the pending ones
    /// and those that came flushed with [`append`](Writer::append).
    ///
    /// # Errors
    ///
    /// [`Error::UnfilledPlaceholder`](crate::Error::UnfilledPlaceholder) while one is unfilled;
    /// [`Error::ReaderGone`](crate::Error::ReaderGone) if nobody is left to read.
    #[doc(alias = "Flush")]
    fn flush(&mut self) -> Result<usize>;

    /// Writes a copy of `bytes`.
    ///
    /// # Errors
    ///
    /// As [`malloc`](Writer::malloc).
    #[doc(alias = "WriteBinary")]
    fn write_binary(&mut self, bytes: &[u8]) -> Result<()> {
        self.malloc(bytes.len())?.put_slice(bytes);
        Ok(())
    }

    /// Writes one byte.
    ///
    /// # Errors
    ///
    /// As [`malloc`](Writer::malloc).
    #[doc(alias = "WriteByte")]
    fn write_byte(&mut self, byte: u8) -> Result<()> {
        self.malloc(1)?.put_u8(byte);
        Ok(())
    }

    /// Writes a copy of `text`.
    ///
    /// # Errors
    ///
    /// As [`malloc`](Writer::malloc).
    #[doc(alias = "WriteString")]
    fn write_string(&mut self, text: &str) -> Result<()> {
        self.write_binary(text.as_bytes())
    }
}

/// The generic forms of [`Writer`], for every writer, trait objects included.
pub trait WriterExt: Writer {
    /// Writes bytes that are handed over: a `Vec`, a boxed or shared slice, a `String`, a `&'static` slice,
    /// an mcache block, a [`Slice`](crate::Slice).
    ///
    /// From [`BINARY_INPLACE_THRESHOLD`](crate::BINARY_INPLACE_THRESHOLD) up they are not copied; below, a
    /// copy costs less than keeping track of them.
    ///
    /// # Errors
    ///
    /// As [`Writer::malloc`].
    #[doc(alias("WriteBinary", "WriteString"))]
    fn write_bytes(&mut self, bytes: impl Into<Owned>) -> Result<()> {
        self.write_owned(bytes.into())
    }

    /// Inserts bytes that are handed over before the last `remain` pending ones.
    ///
    /// ```
    /// use linkbuffer::{LinkBuffer, Reader, Writer, WriterExt};
    /// let mut buf = LinkBuffer::new();
    /// buf.write_string("head|tail")?;
    /// buf.write_direct("body|", 4)?;
    /// buf.flush()?;
    /// assert_eq!(buf.next_str(14)?, "head|body|tail");
    /// # Ok::<(), linkbuffer::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Writer::write_owned_direct`].
    #[doc(alias = "WriteDirect")]
    fn write_direct(&mut self, bytes: impl Into<Owned>, remain: usize) -> Result<()> {
        self.write_owned_direct(bytes.into(), remain)
    }
}

impl<W: Writer + ?Sized> WriterExt for W {}

macro_rules! forward_writer {
    ($self:ident => $target:expr) => {
        #[inline]
        fn malloc(&mut $self, n: usize) -> Result<$crate::Reserve<'_>> {
            $target.malloc(n)
        }
        #[inline]
        fn placeholder(&mut $self, n: usize) -> Result<$crate::Placeholder> {
            $target.placeholder(n)
        }
        #[inline]
        fn fill(&mut $self, at: $crate::Placeholder, bytes: &[u8]) -> Result<()> {
            $target.fill(at, bytes)
        }
        #[inline]
        fn write_owned(&mut $self, bytes: $crate::Owned) -> Result<()> {
            $target.write_owned(bytes)
        }
        #[inline]
        fn write_owned_direct(&mut $self, bytes: $crate::Owned, remain: usize) -> Result<()> {
            $target.write_owned_direct(bytes, remain)
        }
        #[inline]
        fn append(&mut $self, other: $crate::LinkBuffer) -> Result<()> {
            $target.append(other)
        }
        #[inline]
        fn malloc_ack(&mut $self, n: usize) -> Result<()> {
            $target.malloc_ack(n)
        }
        #[inline]
        fn write_binary(&mut $self, bytes: &[u8]) -> Result<()> {
            $target.write_binary(bytes)
        }
        #[inline]
        fn write_byte(&mut $self, byte: u8) -> Result<()> {
            $target.write_byte(byte)
        }
        #[inline]
        fn write_string(&mut $self, text: &str) -> Result<()> {
            $target.write_string(text)
        }
    };
}
pub(crate) use forward_writer;

impl<W: Writer + ?Sized> Writer for &mut W {
    forward_writer!(self => (**self));

    fn malloc_len(&self) -> usize {
        (**self).malloc_len()
    }
    fn flush(&mut self) -> Result<usize> {
        (**self).flush()
    }
}

impl<W: Writer + ?Sized> Writer for Box<W> {
    forward_writer!(self => (**self));

    fn malloc_len(&self) -> usize {
        (**self).malloc_len()
    }
    fn flush(&mut self) -> Result<usize> {
        (**self).flush()
    }
}
