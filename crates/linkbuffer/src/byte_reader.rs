//! Reading a plain slice.

use std::cell::Cell;

use crate::{Error, Reader, Result};

/// A [`Reader`] over borrowed bytes, for codecs that are also used on memory.
///
/// ```
/// use linkbuffer::{ByteReader, Reader};
/// let r = ByteReader::new(b"key=value");
/// assert_eq!(r.until(b"=")?, b"key=");
/// assert_eq!(r.next(5)?, b"value");
/// assert!(r.next(1).unwrap_err().is_closed());
/// # Ok::<(), linkbuffer::Error>(())
/// ```
#[derive(Clone)]
pub struct ByteReader<'a> {
    bytes: &'a [u8],
    at: Cell<usize>,
}

impl<'a> ByteReader<'a> {
    /// Reads `bytes` from their beginning.
    pub fn new<B: AsRef<[u8]> + ?Sized>(bytes: &'a B) -> ByteReader<'a> {
        ByteReader { bytes: bytes.as_ref(), at: Cell::new(0) }
    }

    /// What is not consumed yet. Lives as long as the bytes, not only as long as this reader.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at.get()..]
    }
}

impl Reader for ByteReader<'_> {
    fn peek(&self, n: usize) -> Result<&[u8]> {
        let rest = self.rest();
        rest.get(..n).ok_or(Error::Ended { requested: n, available: rest.len() })
    }

    fn skip(&self, n: usize) -> Result<()> {
        self.peek(n)?;
        self.at.set(self.at.get() + n);
        Ok(())
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.at.get()
    }

    /// Nothing to give back.
    fn release(&mut self) {}

    fn chunk(&self) -> &[u8] {
        self.rest()
    }

    fn is_ended(&self) -> bool {
        true
    }
}

impl std::fmt::Debug for ByteReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByteReader").field("len", &self.len()).finish()
    }
}
