//! The reading half of a connection: the buffer's reader, and waiting where it has too little.

use std::{cell::Cell, fmt, mem, sync::Arc};

use linkbuffer::{Error, LinkBuffer, Reader, Result, Slice};

use super::{handle::Handle, inner::Inner, taken};
use crate::{current, sync::atomic::Ordering::Relaxed, trace::event};

/// No message bounds the reader.
const UNBOUNDED: usize = usize::MAX;
/// Messages of a run are released together, up to so many bytes.
const RELEASED_AT: usize = 4 << 10;

/// Reads a connection. See [`Connection`](super::Connection) and
/// [`Connection::into_split`](super::Connection::into_split).
pub struct ReadHalf {
    inner: Arc<Inner>,
    buf: linkbuffer::ReadHalf,
    /// The whole length of the message that the handler was called for, or `UNBOUNDED`.
    message: usize,
    /// Consumed since the handler was called.
    consumed: Cell<usize>,
    /// False for what `take` leaves behind.
    live: bool,
}

impl ReadHalf {
    pub(super) fn new(inner: Arc<Inner>, buf: linkbuffer::ReadHalf) -> Self {
        Self { inner, buf, message: UNBOUNDED, consumed: Cell::new(0), live: true }
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// Moves this half out, and leaves a closed one.
    pub(super) fn take(&mut self) -> Self {
        let mut closed = Self::new(Arc::clone(&self.inner), LinkBuffer::new().into_split().0);
        closed.live = false;
        let mut half = mem::replace(self, closed);
        half.unbind();
        // What earlier messages left held would count against its waits.
        half.release();
        // What it flushes is sent at once.
        // ORDERING: see `begin`.
        half.inner.may_queue.store(false, Relaxed);
        half
    }

    /// The view of this connection that works from anywhere.
    pub fn handle(&self) -> Handle {
        self.inner.handle()
    }

    /// With framing, the length in bytes of the message that the handler was called for.
    pub fn message_len(&self) -> Option<usize> {
        (self.message != UNBOUNDED).then_some(self.message)
    }

    // ---- for the loop ----------------------------------------------------------------------

    /// The buffer, whatever message bounds this reader.
    pub(super) fn buffer(&self) -> &linkbuffer::ReadHalf {
        &self.buf
    }

    /// A handler is about to be called for a message of that many of the `unread` bytes, or for
    /// whatever is there.
    #[inline]
    pub(super) fn begin(&mut self, message: Option<usize>, unread: usize) {
        if message.is_none() {
            // It may wait, and what is held counts against that.
            self.release();
        }
        self.message = message.unwrap_or(UNBOUNDED);
        self.consumed.set(0);
        // As much again behind this message: probably a whole one.
        let queue = message.is_some_and(|len| unread >= len.saturating_mul(2));
        // ORDERING: this thread's own note for its next `flush`.
        self.inner.may_queue.store(queue, Relaxed);
    }

    /// The handler has returned: what it left of its message is skipped, what is consumed goes,
    /// unless it is little: then it goes when nothing is left to be handled. How much was consumed.
    #[inline]
    pub(super) fn finish(&mut self) -> usize {
        let (consumed, to_release) = match self.message_len() {
            Some(len) => {
                if self.left() > 0 {
                    self.skip_left();
                }
                (len, RELEASED_AT)
            }
            None => (self.consumed.get(), 1),
        };
        self.unbind();
        // ORDERING: see `begin`.
        self.inner.may_queue.store(false, Relaxed);
        if self.buf.held() >= to_release {
            self.release();
        }
        self.inner.restore_limit();
        consumed
    }

    /// Nothing is handled before more comes: what is consumed goes, and what is left is no reason to
    /// stop reading below the limit.
    #[inline]
    pub(super) fn rest(&mut self, input: Option<&mut linkbuffer::WriteHalf>) {
        match input {
            // Who lends it sees to its block.
            Some(input) => self.release_by(|buf| buf.release_and_seal(input)),
            None => self.release(),
        }
        self.inner.rests(self.buf.len());
    }

    /// Gives back what is consumed by `release`.
    #[inline]
    fn release_by(&mut self, release: impl FnOnce(&mut linkbuffer::ReadHalf)) {
        let held = self.buf.held();
        release(&mut self.buf);
        if held == 0 {
            return;
        }
        self.inner.give_back(held);
        let after = self.buf.len();
        if self.inner.flow.released(after + held, after) {
            self.inner.rearm();
        }
    }

    /// The handler has not read all of its message.
    #[inline(never)]
    fn skip_left(&self) {
        let skipped = self.buf.skip(self.left());
        debug_assert!(skipped.is_ok(), "the whole message was there");
    }

    fn unbind(&mut self) {
        self.message = UNBOUNDED;
        self.consumed.set(0);
    }

    /// What is left of the message, or `UNBOUNDED`.
    #[inline]
    fn left(&self) -> usize {
        if self.message == UNBOUNDED { UNBOUNDED } else { self.message - self.consumed.get() }
    }

    // ---- waiting ---------------------------------------------------------------------------

    /// Returns when `n` bytes can be had from the buffer.
    #[inline]
    fn need(&self, n: usize) -> Result<()> {
        if n > self.left() {
            return Err(Error::BeyondMessage { requested: n, available: self.left() });
        }
        if self.buf.len() >= n { Ok(()) } else { self.wait(n) }
    }

    #[cold]
    fn wait(&self, n: usize) -> Result<()> {
        if !self.live {
            return taken();
        }
        let inner = &self.inner;
        let limit = inner.options().max_message.max(inner.options().input_limit);
        let held = self.buf.held();
        if n > limit.saturating_sub(held) {
            // What is held counts: a wait that only `release` could end would hang.
            event!(
                DEBUG,
                id = inner.handle().id(),
                requested = n,
                limit,
                "the input limit is reached"
            );
            return Err(Error::LimitReached { requested: n, limit });
        }
        if self.look(n)?.is_some() {
            return Ok(());
        }
        // The thread that drives this poller reads for itself before it hands over.
        current::aside(inner, |core| core.read_for(inner));
        if self.look(n)?.is_some() {
            return Ok(());
        }
        current::before_wait()?;
        inner.wait_readable(n + held, || self.look(n).transpose())?
    }

    /// One look, not waiting: enough is there, or no more can come, or neither.
    fn look(&self, n: usize) -> Result<Option<()>> {
        let ended = self.buf.is_ended();
        let available = self.buf.len();
        if available >= n {
            return Ok(Some(()));
        }
        let life = &self.inner.shared.life;
        if life.is_closing() {
            return Err(Error::Closed);
        }
        if ended {
            return Err(match self.inner.fault() {
                Some(fault) => fault,
                None => Error::Ended { requested: n, available },
            });
        }
        Ok(None)
    }

    #[inline]
    fn count(&self, n: usize) {
        let consumed = self.consumed.get() + n;
        self.consumed.set(consumed);
        if self.message != UNBOUNDED {
            return;
        }
        // As much again is there: probably another whole message.
        // ORDERING: this thread's own note for its next `flush`.
        self.inner.may_queue.store(self.buf.len() >= consumed, Relaxed);
    }
}

impl Reader for ReadHalf {
    fn peek(&self, n: usize) -> Result<&[u8]> {
        self.need(n)?;
        self.buf.peek(n)
    }

    fn skip(&self, n: usize) -> Result<()> {
        self.need(n)?;
        self.buf.skip(n)?;
        self.count(n);
        Ok(())
    }

    /// What can be read without waiting: up to the end of the message, where one bounds this.
    fn len(&self) -> usize {
        self.buf.len().min(self.left())
    }

    fn release(&mut self) {
        self.release_by(Reader::release);
        if self.live && self.buf.is_empty() {
            self.inner.seal_unpolled();
        }
    }

    fn next(&self, n: usize) -> Result<&[u8]> {
        self.need(n)?;
        let bytes = self.buf.next(n)?;
        self.count(n);
        Ok(bytes)
    }

    fn find(&self, delim: &[u8]) -> Result<usize> {
        let left = self.left();
        loop {
            let available = match self.buf.find(delim) {
                Ok(len) if len <= left => return Ok(len),
                Ok(_) => left,
                Err(Error::NotFound { available } | Error::Ended { available, .. }) => available,
                Err(error) => return Err(error),
            };
            if available >= left {
                return Err(Error::BeyondMessage {
                    requested: left.saturating_add(1),
                    available: left,
                });
            }
            match self.wait(available.saturating_add(1)) {
                // What is sought is a delimiter, not a number of bytes.
                Err(Error::Ended { available, .. }) => {
                    return Err(Error::Ended { requested: 0, available });
                }
                other => other?,
            }
        }
    }

    fn try_next(&self, n: usize) -> Result<Option<&[u8]>> {
        if n > self.left() {
            return Err(Error::BeyondMessage { requested: n, available: self.left() });
        }
        if self.look(n)?.is_none() {
            if self.live {
                self.inner.read_now();
            }
            if self.look(n)?.is_none() {
                self.inner.needs(n.saturating_add(self.buf.held()));
                return Ok(None);
            }
        }
        self.next(n).map(Some)
    }

    fn chunk(&self) -> &[u8] {
        let chunk = self.buf.chunk();
        &chunk[..chunk.len().min(self.left())]
    }

    fn slice(&self, n: usize) -> Result<Slice> {
        self.need(n)?;
        let slice = self.buf.slice(n)?;
        self.count(n);
        Ok(slice)
    }

    /// Whether nothing can come behind what is readable now: the peer ended its stream, or a
    /// message bounds this reader.
    fn is_ended(&self) -> bool {
        self.message != UNBOUNDED || self.buf.is_ended()
    }
}

impl Drop for ReadHalf {
    fn drop(&mut self) {
        if self.live {
            // What still comes behind that goes with the connection.
            self.inner.give_back(self.buf.held() + self.buf.len());
            self.inner.wants_nothing();
            self.inner.drop_half();
        }
    }
}

impl fmt::Debug for ReadHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadHalf").field("len", &self.len()).finish_non_exhaustive()
    }
}
