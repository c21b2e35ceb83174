//! What a codec reads from: a buffer, a connection, a wrapped slice or a wrapped `std::io::Read`.

use crate::{Error, FollowedBy, Limit, Result, Slice, Tee, TeeSink};

/// A source of bytes that are read in place.
///
/// Methods that hand out bytes take `&self`, and [`release`](Reader::release) takes `&mut self`: several
/// pieces can be held at once, and the borrow checker ends them all at `release`.
///
/// Whether a call waits for bytes is the implementor's business: a [`LinkBuffer`](crate::LinkBuffer)
/// answers [`Error::NotEnough`] at once, a connection waits. On a reader that does not wait, peek a header
/// before consuming it: then a frame that is not whole yet leaves everything where it was.
///
/// For every method: an error changes nothing, `n = 0` is an empty success, and no `n` up to `usize::MAX`
/// panics or allocates before the bytes exist.
///
/// # Implementing it
///
/// Four methods are required; the others are built on them, and may be overridden where there is a better
/// way. An implementation that lies (about its length, say) makes its own users fail, never this crate
/// unsound.
///
/// ```
/// use linkbuffer::{LinkBuffer, Reader, Result, Writer};
///
/// /// Length-prefixed frames from anything: `None` until a whole one is there.
/// fn frame<R: Reader + ?Sized>(r: &R) -> Result<Option<&[u8]>> {
///     let Some(head) = r.len().checked_sub(4).map(|_| r.peek(4)).transpose()? else {
///         return Ok(None);
///     };
///     let n = u32::from_be_bytes(head.try_into().unwrap()) as usize;
///     if r.len() - 4 < n {
///         return Ok(None);
///     }
///     r.skip(4)?;
///     r.next(n).map(Some)
/// }
///
/// let mut buf = LinkBuffer::new();
/// buf.malloc(4)?.put_u32(5);
/// buf.write_binary(b"hel")?;
/// buf.flush()?;
/// assert_eq!(frame(&buf)?, None);
/// buf.write_binary(b"lo")?;
/// buf.flush()?;
/// assert_eq!(frame(&buf)?, Some(&b"hello"[..]));
/// # Ok::<(), linkbuffer::Error>(())
/// ```
pub trait Reader {
    /// The next `n` bytes, not consumed.
    ///
    /// In one block no byte is copied; across blocks they are copied once into a block that lives until
    /// [`release`](Reader::release), and repeated or growing peeks add to that block.
    ///
    /// # Errors
    ///
    /// [`Error::NotEnough`] or [`Error::Ended`] if fewer than `n` bytes are there.
    #[doc(alias = "Peek")]
    fn peek(&self, n: usize) -> Result<&[u8]>;

    /// Consumes `n` bytes without looking at them.
    ///
    /// # Errors
    ///
    /// As [`peek`](Reader::peek).
    #[doc(alias = "Skip")]
    fn skip(&self, n: usize) -> Result<()>;

    /// How many bytes are readable now.
    #[doc(alias = "Len")]
    fn len(&self) -> usize;

    /// Gives back everything consumed so far; bytes lent by this reader are no longer reachable then, which
    /// the borrow checker sees to.
    ///
    /// ```compile_fail,E0502
    /// use linkbuffer::{LinkBuffer, Reader, Writer};
    /// let mut buf = LinkBuffer::new();
    /// buf.write_binary(b"abc").unwrap();
    /// buf.flush().unwrap();
    /// let abc = buf.next(3).unwrap();
    /// buf.release();
    /// assert_eq!(abc, b"abc");
    /// ```
    #[doc(alias = "Release")]
    fn release(&mut self);

    /// The next `n` bytes, consumed. They stay where they are until [`release`](Reader::release).
    ///
    /// # Errors
    ///
    /// As [`peek`](Reader::peek).
    #[doc(alias = "Next")]
    fn next(&self, n: usize) -> Result<&[u8]> {
        let bytes = self.peek(n)?;
        self.skip(n)?;
        Ok(bytes)
    }

    /// The length through the first `delim`, consuming nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] on a reader that does not wait, [`Error::Ended`] (with `requested: 0`) if the
    /// stream ended without one.
    fn find(&self, delim: &[u8]) -> Result<usize> {
        let available = self.len();
        let found = crate::find::find(self.peek(available)?, delim);
        found.ok_or_else(|| match self.is_ended() {
            true => Error::Ended { requested: 0, available },
            false => Error::NotFound { available },
        })
    }

    /// The bytes through the first `delim`, consumed.
    ///
    /// # Errors
    ///
    /// As [`find`](Reader::find); what is there stays readable.
    #[doc(alias = "Until")]
    fn until(&self, delim: &[u8]) -> Result<&[u8]> {
        self.next(self.find(delim)?)
    }

    /// The next `n` bytes if they are here, `None` if they may still come; never waits.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if the stream ended with fewer.
    fn try_next(&self, n: usize) -> Result<Option<&[u8]>> {
        let ended = self.is_ended();
        let available = self.len();
        if available >= n {
            self.next(n).map(Some)
        } else if ended {
            Err(Error::Ended { requested: n, available })
        } else {
            Ok(None)
        }
    }

    /// The first bytes that lie together, not consumed: empty only if nothing is readable.
    ///
    /// For code that takes bytes as they come, however many: copying, hashing, `std::io`.
    fn chunk(&self) -> &[u8] {
        self.peek(self.len().min(4096)).unwrap_or(&[])
    }

    /// The next `n` bytes, consumed, as a shared [`Slice`] that outlives this reader and can be appended to
    /// any writer.
    ///
    /// The provided method copies; readers over linked blocks share instead.
    ///
    /// # Errors
    ///
    /// As [`peek`](Reader::peek).
    #[doc(alias = "Slice")]
    fn slice(&self, n: usize) -> Result<Slice> {
        let slice = Slice::from(self.peek(n)?.to_vec());
        self.skip(n)?;
        Ok(slice)
    }

    /// Whether the stream has ended behind what is readable now. Ask this before [`len`](Reader::len): then
    /// the length is the last one.
    fn is_ended(&self) -> bool {
        false
    }

    /// Whether nothing is readable now.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// [`next`](Reader::next), checked to be UTF-8.
    ///
    /// # Errors
    ///
    /// As [`peek`](Reader::peek), and [`Error::Utf8`]; neither consumes anything.
    fn next_str(&self, n: usize) -> Result<&str> {
        let text = std::str::from_utf8(self.peek(n)?)?;
        self.skip(n)?;
        Ok(text)
    }

    /// The next byte, consumed.
    ///
    /// # Errors
    ///
    /// As [`peek`](Reader::peek).
    #[doc(alias = "ReadByte")]
    fn read_byte(&self) -> Result<u8> {
        let byte = *self.peek(1)?.first().ok_or(Error::NotEnough { requested: 1, available: 0 })?;
        self.skip(1)?;
        Ok(byte)
    }

    /// The next `n` bytes, consumed, as an owned string.
    ///
    /// # Errors
    ///
    /// As [`next_str`](Reader::next_str).
    #[doc(alias = "ReadString")]
    fn read_string(&self, n: usize) -> Result<String> {
        self.next_str(n).map(str::to_owned)
    }

    /// The next `n` bytes, consumed, as an owned vector.
    ///
    /// # Errors
    ///
    /// As [`peek`](Reader::peek).
    #[doc(alias = "ReadBinary")]
    fn read_binary(&self, n: usize) -> Result<Vec<u8>> {
        self.next(n).map(<[u8]>::to_vec)
    }
}

/// The generic forms of [`Reader`], for every reader, trait objects included.
pub trait ReaderExt: Reader {
    /// The next `N` bytes, consumed, as an array: `u32::from_be_bytes(r.read_array()?)`.
    ///
    /// # Errors
    ///
    /// As [`Reader::peek`].
    fn read_array<const N: usize>(&self) -> Result<[u8; N]> {
        let bytes = self.peek(N)?;
        // A reader from elsewhere may hand out another number of bytes than it was asked for.
        let array = bytes
            .try_into()
            .map_err(|_| Error::NotEnough { requested: N, available: bytes.len() })?;
        self.skip(N)?;
        Ok(array)
    }

    /// Reads at most `n` bytes of this reader, and reports a stream that ends before them as an error.
    ///
    /// ```
    /// use linkbuffer::{ByteReader, Error, Reader, ReaderExt};
    /// let mut bytes = ByteReader::new(b"body, and more");
    /// let body = bytes.limit(4);
    /// assert_eq!(body.next(4)?, b"body");
    /// assert!(matches!(body.next(1), Err(Error::LimitReached { requested: 1, limit: 0 })));
    /// assert_eq!(bytes.next(5)?, b", and");
    /// # Ok::<(), Error>(())
    /// ```
    fn limit(&mut self, n: usize) -> Limit<'_, Self> {
        Limit::new(self, n)
    }

    /// Shows every byte that is consumed to `sink` too: a [`Writer`](crate::Writer), a hasher
    /// ([`tee_hasher`](crate::tee_hasher)) or a closure ([`tee_fn`](crate::tee_fn)).
    ///
    /// ```
    /// use linkbuffer::{ByteReader, LinkBuffer, Reader, ReaderExt, Writer};
    /// let mut copy = LinkBuffer::new();
    /// let mut bytes = ByteReader::new(b"hello");
    /// bytes.tee(&mut copy).skip(5)?;
    /// copy.flush()?;
    /// assert_eq!(copy.next(5)?, b"hello");
    /// # Ok::<(), linkbuffer::Error>(())
    /// ```
    fn tee<T: TeeSink>(&mut self, sink: T) -> Tee<'_, Self, T> {
        Tee::new(self, sink)
    }

    /// Reads `second` where this reader ends.
    ///
    /// ```
    /// use linkbuffer::{ByteReader, Reader, ReaderExt};
    /// let mut one = ByteReader::new(b"one, ");
    /// let mut two = ByteReader::new(b"two");
    /// assert_eq!(one.followed_by(&mut two).next(8)?, b"one, two");
    /// # Ok::<(), linkbuffer::Error>(())
    /// ```
    fn followed_by<'a, S: Reader + ?Sized>(
        &'a mut self,
        second: &'a mut S,
    ) -> FollowedBy<'a, Self, S> {
        FollowedBy::new(self, second)
    }
}

impl<R: Reader + ?Sized> ReaderExt for R {}

macro_rules! forward_reader {
    ($self:ident => $target:expr) => {
        #[inline]
        fn peek(&$self, n: usize) -> Result<&[u8]> {
            $target.peek(n)
        }
        #[inline]
        fn skip(&$self, n: usize) -> Result<()> {
            $target.skip(n)
        }
        #[inline]
        fn len(&$self) -> usize {
            $target.len()
        }
        #[inline]
        fn next(&$self, n: usize) -> Result<&[u8]> {
            $target.next(n)
        }
        #[inline]
        fn find(&$self, delim: &[u8]) -> Result<usize> {
            $target.find(delim)
        }
        #[inline]
        fn until(&$self, delim: &[u8]) -> Result<&[u8]> {
            $target.until(delim)
        }
        #[inline]
        fn try_next(&$self, n: usize) -> Result<Option<&[u8]>> {
            $target.try_next(n)
        }
        #[inline]
        fn chunk(&$self) -> &[u8] {
            $target.chunk()
        }
        #[inline]
        fn slice(&$self, n: usize) -> Result<Slice> {
            $target.slice(n)
        }
        #[inline]
        fn is_ended(&$self) -> bool {
            $target.is_ended()
        }
        #[inline]
        fn is_empty(&$self) -> bool {
            $target.is_empty()
        }
        #[inline]
        fn next_str(&$self, n: usize) -> Result<&str> {
            $target.next_str(n)
        }
        #[inline]
        fn read_byte(&$self) -> Result<u8> {
            $target.read_byte()
        }
        #[inline]
        fn read_string(&$self, n: usize) -> Result<String> {
            $target.read_string(n)
        }
        #[inline]
        fn read_binary(&$self, n: usize) -> Result<Vec<u8>> {
            $target.read_binary(n)
        }
    };
}
pub(crate) use forward_reader;

impl<R: Reader + ?Sized> Reader for Box<R> {
    forward_reader!(self => (**self));

    fn release(&mut self) {
        (**self).release();
    }
}
