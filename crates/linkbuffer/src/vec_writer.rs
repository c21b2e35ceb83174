//! Writing into a plain vector.

use crate::reader::Reader;
use crate::writer::forward_writer;
use crate::{LinkBuffer, Result, Writer};

/// A [`Writer`] into a borrowed `Vec`, for codecs that are also used on memory. A flush appends to the
/// vector; what was not flushed never gets there.
///
/// ```
/// use linkbuffer::{VecWriter, Writer};
/// let mut bytes = Vec::new();
/// let mut w = VecWriter::new(&mut bytes);
/// w.malloc(2)?.put_u16(1);
/// w.flush()?;
/// w.write_string("not flushed")?;
/// assert_eq!(bytes, [0, 1]);
/// # Ok::<(), linkbuffer::Error>(())
/// ```
#[derive(Debug)]
pub struct VecWriter<'a> {
    to: &'a mut Vec<u8>,
    pending: LinkBuffer,
}

impl<'a> VecWriter<'a> {
    /// Appends to `to`.
    pub fn new(to: &'a mut Vec<u8>) -> VecWriter<'a> {
        VecWriter { to, pending: LinkBuffer::new() }
    }

    /// Appends everything pending to the vector, and says how many bytes that was. See [`Writer::flush`].
    ///
    /// # Errors
    ///
    /// As [`Writer::flush`].
    pub fn flush(&mut self) -> Result<usize> {
        let n = self.pending.flush()?;
        self.to.reserve(n);
        while !self.pending.is_empty() {
            let chunk = self.pending.chunk();
            self.to.extend_from_slice(chunk);
            self.pending.skip(chunk.len())?;
        }
        self.pending.release();
        Ok(n)
    }
}

impl Writer for VecWriter<'_> {
    forward_writer!(self => self.pending);

    fn malloc_len(&self) -> usize {
        self.pending.malloc_len()
    }

    fn flush(&mut self) -> Result<usize> {
        VecWriter::flush(self)
    }
}
