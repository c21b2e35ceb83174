//! The first bytes of a reader.

use std::cell::Cell;

use crate::{Error, Reader, Result, Slice};

/// At most so many bytes of a reader, made by [`ReaderExt::limit`](crate::ReaderExt::limit).
///
/// A read beyond the limit is [`Error::LimitReached`]; a stream that ends before it is [`Error::Ended`] as
/// ever, and so tells a whole body from a short one. To require that everything was read, see
/// [`remaining`](Limit::remaining).
#[derive(Debug)]
pub struct Limit<'a, R: ?Sized> {
    inner: &'a mut R,
    left: Cell<usize>,
}

impl<'a, R: Reader + ?Sized> Limit<'a, R> {
    pub(crate) fn new(inner: &'a mut R, n: usize) -> Limit<'a, R> {
        Limit { inner, left: Cell::new(n) }
    }

    /// How many bytes may still be read.
    pub fn remaining(&self) -> usize {
        self.left.get()
    }

    fn check(&self, n: usize) -> Result<()> {
        match self.left.get() {
            limit if n > limit => Err(Error::LimitReached { requested: n, limit }),
            _ => Ok(()),
        }
    }

    fn consumed(&self, n: usize) {
        self.left.set(self.left.get() - n);
    }
}

impl<R: Reader + ?Sized> Reader for Limit<'_, R> {
    fn peek(&self, n: usize) -> Result<&[u8]> {
        self.check(n)?;
        self.inner.peek(n)
    }

    fn next(&self, n: usize) -> Result<&[u8]> {
        self.check(n)?;
        let bytes = self.inner.next(n)?;
        self.consumed(n);
        Ok(bytes)
    }

    fn skip(&self, n: usize) -> Result<()> {
        self.check(n)?;
        self.inner.skip(n)?;
        self.consumed(n);
        Ok(())
    }

    fn len(&self) -> usize {
        self.inner.len().min(self.left.get())
    }

    fn release(&mut self) {
        self.inner.release();
    }

    fn chunk(&self) -> &[u8] {
        let chunk = self.inner.chunk();
        &chunk[..chunk.len().min(self.left.get())]
    }

    fn find(&self, delim: &[u8]) -> Result<usize> {
        let limit = self.left.get();
        // Within what is here the inner reader need not wait, and a match beyond the limit is none of ours.
        loop {
            let ended = self.is_ended();
            let available = self.inner.len().min(limit);
            if let Some(n) = crate::find::find(self.inner.peek(available)?, delim) {
                return Ok(n);
            }
            if available == limit {
                return Err(Error::LimitReached { requested: limit.saturating_add(1), limit });
            }
            if ended {
                return Err(Error::Ended { requested: 0, available });
            }
            // Waits where the inner reader waits, and fails where it does not.
            match self.inner.peek(available + 1) {
                Ok(_) => {}
                Err(Error::NotEnough { available, .. }) => {
                    return Err(Error::NotFound { available });
                }
                Err(Error::Ended { available, .. }) => {
                    return Err(Error::Ended { requested: 0, available });
                }
                Err(other) => return Err(other),
            }
        }
    }

    fn slice(&self, n: usize) -> Result<Slice> {
        self.check(n)?;
        let slice = self.inner.slice(n)?;
        self.consumed(n);
        Ok(slice)
    }

    fn is_ended(&self) -> bool {
        self.left.get() == 0 || self.inner.is_ended()
    }
}
