//! The writing half of a connection: the buffer's writer, and a `flush` that sends.

use std::{fmt, mem, sync::Arc};

use linkbuffer::{Error, LinkBuffer, Owned, Placeholder, Reserve, Result, Writer};

use super::{handle::Handle, inner::Inner, taken};
use crate::{current, trace::event};

/// Writes a connection. See [`Connection`](super::Connection) and
/// [`Connection::into_split`](super::Connection::into_split).
pub struct WriteHalf {
    inner: Arc<Inner>,
    buf: linkbuffer::WriteHalf,
    /// False for what `take` leaves behind.
    live: bool,
}

impl WriteHalf {
    pub(super) fn new(inner: Arc<Inner>, buf: linkbuffer::WriteHalf) -> Self {
        Self { inner, buf, live: true }
    }

    pub(super) fn shared_at(&self) -> *const () {
        self.buf.shared_at()
    }

    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// From here on dropping this half alone flushes and half-closes.
    pub(super) fn set_split(&self) {
        self.inner.set_split();
    }

    /// Moves this half out, and leaves a closed one.
    pub(super) fn take(&mut self) -> Self {
        let mut closed = Self::new(Arc::clone(&self.inner), LinkBuffer::new().into_split().1);
        closed.live = false;
        mem::replace(self, closed)
    }

    /// The view of this connection that works from anywhere.
    pub fn handle(&self) -> Handle {
        self.inner.handle()
    }

    /// Sends everything that is written, and says how many bytes that was.
    ///
    /// It tries the socket at once, from this thread, and waits for room for the rest. In a
    /// handler with more messages of its connection waiting, it may leave the bytes queued, to go
    /// out in one system call with those of the next; they leave at the latest when this thread
    /// waits, announces blocking, or has handled what is there. An error that such bytes meet is
    /// reported by the next call.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::Reset`] and other errors of the socket; [`Error::WriteTimeout`],
    /// after which the connection is done for; [`Error::UnfilledPlaceholder`].
    ///
    /// Under [`Runner::Inline`](crate::Runner::Inline) nothing waits: what the socket does not take
    /// leaves as it makes room, and a flush that would let more gather than the
    /// [output limit](crate::Builder::output_limit) fails with
    /// [`Error::WouldWait`], and leaves what is written as it is.
    pub fn flush(&mut self) -> Result<usize> {
        if !self.live {
            return taken();
        }
        let inner = &self.inner;
        inner.check_writable()?;
        self.check_backlog()?;
        let sent = if inner.may_queue() { None } else { inner.send_pending(&mut self.buf) };
        let n = match sent {
            Some(n) => n,
            None => {
                let n = self.buf.flush()?;
                inner.flushed(n);
                if inner.queues() && current::queue(inner) {
                    return Ok(n);
                }
                inner.push();
                // All of it leaves now: the block goes back as soon as it is sent.
                self.buf.seal();
                n
            }
        };
        if inner.unsent() > 0 {
            self.wait_for_room()?;
        }
        Ok(n)
    }

    /// The socket did not take all of it: waits until it has, or leaves that to the driver.
    #[cold]
    #[inline(never)]
    fn wait_for_room(&self) -> Result<()> {
        let inner = &self.inner;
        let target = inner.flushed(0);
        inner.check_sending()?;
        if current::before_wait().is_err() {
            inner.leave_to_driver();
            return Ok(());
        }
        let sent = inner.wait_sent(target);
        if inner.shared.life.is_broken() && inner.is_served() {
            // Its callbacks end it, also where it was not one of them that waited.
            inner.call();
        }
        sent
    }

    /// A handler that promised not to wait must not let without limit gather what it cannot send.
    fn check_backlog(&self) -> Result<()> {
        let unsent = self.inner.unsent();
        if unsent == 0 {
            return Ok(());
        }
        let backlog = unsent.saturating_add(self.buf.malloc_len() as u64);
        let too_much = backlog > self.limit() as u64 && current::is_inline();
        if too_much { Err(Error::WouldWait) } else { Ok(()) }
    }

    /// Whether `n` more bytes may be written before the next flush.
    #[inline]
    fn check_room(&self, n: usize) -> Result<()> {
        let limit = self.limit();
        if n > limit.saturating_sub(self.buf.malloc_len()) {
            event!(
                DEBUG,
                id = self.inner.handle().id(),
                requested = n,
                "the output limit is reached"
            );
            return Err(Error::LimitReached { requested: n, limit });
        }
        Ok(())
    }

    /// The most that may be written and not flushed.
    #[inline]
    fn limit(&self) -> usize {
        self.inner.options().most_output()
    }

    /// Makes what is written part of the stream, and says how many bytes that was. They leave with
    /// the next [`send`](Self::send).
    pub(crate) fn commit(&mut self) -> Result<usize> {
        let n = self.buf.flush()?;
        self.inner.flushed(n);
        Ok(n)
    }

    /// Sends what was committed, as far as the socket takes it, and never waits. If something is
    /// left: what to [`wait_sent`](Self::wait_sent) for.
    pub(crate) fn send(&mut self) -> Result<Option<u64>> {
        if !self.live {
            return taken();
        }
        let inner = &self.inner;
        inner.check_writable()?;
        inner.push();
        self.buf.seal();
        if inner.unsent() == 0 {
            return Ok(None);
        }
        inner.check_writable()?;
        Ok(Some(inner.flushed(0)))
    }

    /// Waits until the kernel has taken what was committed at a [`send`](Self::send).
    pub(crate) fn wait_sent(&self, target: u64) -> Result<()> {
        self.inner.wait_sent(target)
    }
}

/// What would make more than the [output limit](crate::Builder::output_limit) pending is refused
/// with [`Error::LimitReached`], and loses nothing: flush, and write it then. Memory that is handed
/// over (slices, owned values, buffers) counts, but is not refused: it is there already.
impl Writer for WriteHalf {
    fn malloc(&mut self, n: usize) -> Result<Reserve<'_>> {
        self.check_room(n)?;
        self.buf.malloc(n)
    }

    fn placeholder(&mut self, n: usize) -> Result<Placeholder> {
        self.check_room(n)?;
        self.buf.placeholder(n)
    }

    fn fill(&mut self, at: Placeholder, bytes: &[u8]) -> Result<()> {
        self.buf.fill(at, bytes)
    }

    fn write_owned(&mut self, bytes: Owned) -> Result<()> {
        self.buf.write_owned(bytes)
    }

    fn write_owned_direct(&mut self, bytes: Owned, remain: usize) -> Result<()> {
        self.buf.write_owned_direct(bytes, remain)
    }

    fn append(&mut self, other: LinkBuffer) -> Result<()> {
        self.buf.append(other)
    }

    fn malloc_ack(&mut self, n: usize) -> Result<()> {
        self.buf.malloc_ack(n)
    }

    fn malloc_len(&self) -> usize {
        self.buf.malloc_len()
    }

    fn flush(&mut self) -> Result<usize> {
        WriteHalf::flush(self)
    }

    fn write_binary(&mut self, bytes: &[u8]) -> Result<()> {
        self.check_room(bytes.len())?;
        self.buf.write_binary(bytes)
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        if !self.live {
            return;
        }
        if self.inner.is_split() {
            // Nobody is left to hear of an error; a peer that does not read is waited for only
            // as long as closing lingers. Who has closed it sees to what was flushed before.
            if !self.inner.shared.life.is_closing() {
                if let Ok(n) = self.buf.flush() {
                    self.inner.flushed(n);
                    self.inner.send_rest();
                }
            }
            self.inner.shutdown_write();
        }
        self.inner.drop_half();
    }
}

impl fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteHalf").field("pending", &self.malloc_len()).finish_non_exhaustive()
    }
}
