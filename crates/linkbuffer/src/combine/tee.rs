//! A reader that shows what is consumed to somebody else too.

use std::cell::RefCell;
use std::hash::Hasher;

use crate::{Error, Reader, Result, Slice, Writer};

/// Who sees the bytes that a [`Tee`] consumes: `&mut` any [`Writer`], [`tee_hasher`], [`tee_fn`].
pub trait TeeSink {
    /// Takes the next consumed bytes.
    ///
    /// # Errors
    ///
    /// Then the reader does not consume them, and passes the error on.
    fn take(&mut self, bytes: &[u8]) -> Result<()>;
}

impl<W: Writer + ?Sized> TeeSink for &mut W {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_binary(bytes)
    }
}

/// Made by [`tee_fn`].
#[derive(Debug)]
pub struct TeeFn<F>(F);

/// Lets a closure see the bytes.
///
/// ```
/// use linkbuffer::{ByteReader, Reader, ReaderExt, tee_fn};
/// let mut sum = 0_u32;
/// ByteReader::new(&[1, 2, 3]).tee(tee_fn(|b| sum += b.iter().map(|&b| u32::from(b)).sum::<u32>())).skip(3)?;
/// assert_eq!(sum, 6);
/// # Ok::<(), linkbuffer::Error>(())
/// ```
pub fn tee_fn<F: FnMut(&[u8])>(f: F) -> TeeFn<F> {
    TeeFn(f)
}

impl<F: FnMut(&[u8])> TeeSink for TeeFn<F> {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        (self.0)(bytes);
        Ok(())
    }
}

/// Made by [`tee_hasher`].
#[derive(Debug)]
pub struct TeeHasher<'a, H: ?Sized>(&'a mut H);

/// Lets a hasher see the bytes.
///
/// ```
/// use linkbuffer::{ByteReader, Reader, ReaderExt, tee_hasher};
/// use std::hash::{DefaultHasher, Hasher};
/// let (mut one, mut two) = (DefaultHasher::new(), DefaultHasher::new());
/// ByteReader::new(b"abc").tee(tee_hasher(&mut one)).skip(3)?;
/// two.write(b"abc");
/// assert_eq!(one.finish(), two.finish());
/// # Ok::<(), linkbuffer::Error>(())
/// ```
pub fn tee_hasher<H: Hasher + ?Sized>(hasher: &mut H) -> TeeHasher<'_, H> {
    TeeHasher(hasher)
}

impl<H: Hasher + ?Sized> TeeSink for TeeHasher<'_, H> {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write(bytes);
        Ok(())
    }
}

/// A reader whose consumed bytes a sink sees too, made by [`ReaderExt::tee`](crate::ReaderExt::tee).
///
/// The sink sees them once, in order, and in pieces of any length. What is only peeked it does not see.
#[derive(Debug)]
pub struct Tee<'a, R: ?Sized, T> {
    inner: &'a mut R,
    sink: RefCell<T>,
}

impl<'a, R: Reader + ?Sized, T: TeeSink> Tee<'a, R, T> {
    pub(crate) fn new(inner: &'a mut R, sink: T) -> Tee<'a, R, T> {
        Tee { inner, sink: RefCell::new(sink) }
    }

    /// Gives the sink back.
    pub fn into_sink(self) -> T {
        self.sink.into_inner()
    }

    fn show(&self, bytes: &[u8]) -> Result<()> {
        self.sink.borrow_mut().take(bytes)
    }
}

impl<R: Reader + ?Sized, T: TeeSink> Reader for Tee<'_, R, T> {
    fn peek(&self, n: usize) -> Result<&[u8]> {
        self.inner.peek(n)
    }

    /// Consumes, and shows, all or nothing.
    fn skip(&self, n: usize) -> Result<()> {
        self.show(self.inner.peek(n)?)?;
        self.inner.skip(n)
    }

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn release(&mut self) {
        self.inner.release();
    }

    fn chunk(&self) -> &[u8] {
        self.inner.chunk()
    }

    fn find(&self, delim: &[u8]) -> Result<usize> {
        self.inner.find(delim)
    }

    fn slice(&self, n: usize) -> Result<Slice> {
        // The sink may refuse, so it comes first.
        self.show(self.inner.peek(n)?)?;
        self.inner.slice(n)
    }

    fn is_ended(&self) -> bool {
        self.inner.is_ended()
    }

    fn read_byte(&self) -> Result<u8> {
        let byte = *self.next(1)?.first().ok_or(Error::NotEnough { requested: 1, available: 0 })?;
        Ok(byte)
    }
}
