//! What a message may do to the connection that it is written to: add its own bytes, and no more.

use linkbuffer::{LinkBuffer, Owned, Placeholder, Reader, Reserve, Result, Writer};

use crate::{connection::WriteHalf, service::HandlerResult};

/// The writer that a message sees. What is pending in the connection is this message's alone,
/// because the one before was committed; so it can be dropped as a whole, whatever happened.
pub(super) struct Message<'a> {
    half: &'a mut WriteHalf,
    /// Nothing was done by half, so far.
    whole: bool,
}

impl<'a> Message<'a> {
    pub(super) fn new(half: &'a mut WriteHalf) -> Self {
        debug_assert_eq!(half.malloc_len(), 0, "a message begins with nothing pending");
        Self { half, whole: true }
    }

    /// Whether it may be sent. Not if something failed half way, even if the message went on.
    pub(super) fn check(&self) -> HandlerResult {
        if self.whole { Ok(()) } else { Err("a buffer was appended by half".into()) }
    }

    /// Makes the readable bytes of `other` pending here. Appended as they are they would count as
    /// flushed, and could not be dropped any more.
    fn take_flushed(&mut self, other: &mut LinkBuffer) -> Result<()> {
        while other.len() > 0 {
            let slice = other.slice(other.chunk().len())?;
            self.half.write_owned(Owned::Slice(slice))?;
            other.release();
        }
        Ok(())
    }
}

impl Writer for Message<'_> {
    fn malloc(&mut self, n: usize) -> Result<Reserve<'_>> {
        self.half.malloc(n)
    }

    fn placeholder(&mut self, n: usize) -> Result<Placeholder> {
        self.half.placeholder(n)
    }

    fn fill(&mut self, at: Placeholder, bytes: &[u8]) -> Result<()> {
        self.half.fill(at, bytes)
    }

    fn write_owned(&mut self, bytes: Owned) -> Result<()> {
        self.half.write_owned(bytes)
    }

    fn write_owned_direct(&mut self, bytes: Owned, remain: usize) -> Result<()> {
        self.half.write_owned_direct(bytes, remain)
    }

    fn append(&mut self, mut other: LinkBuffer) -> Result<()> {
        let taken = self.take_flushed(&mut other).and_then(|()| self.half.append(other));
        self.whole &= taken.is_ok();
        taken
    }

    fn malloc_ack(&mut self, n: usize) -> Result<()> {
        self.half.malloc_ack(n)
    }

    fn malloc_len(&self) -> usize {
        self.half.malloc_len()
    }

    /// The queue sends: this only says how much the message is.
    fn flush(&mut self) -> Result<usize> {
        Ok(self.half.malloc_len())
    }

    fn write_binary(&mut self, bytes: &[u8]) -> Result<()> {
        self.half.write_binary(bytes)
    }
}
