//! Connections as their users hold them: whole, or as a reading and a writing half.

mod callbacks;
mod detach;
#[allow(unreachable_pub)] // For the models.
pub mod ends;
pub(crate) mod handle;
pub(crate) mod inner;
mod read_half;
mod socket;
pub(crate) mod state;
pub(crate) mod wait;
mod write_half;

use std::{fmt, sync::Arc};

use linkbuffer::{Error, LinkBuffer, Owned, Placeholder, Reader, Reserve, Result, Slice, Writer};
use poller::sys::{self, Input};

use crate::trace::event;

pub(crate) use self::callbacks::{Served, Session};
use self::inner::Inner;
pub use self::{
    detach::Detached,
    handle::{ConnectionStats, Handle},
    read_half::ReadHalf,
    write_half::WriteHalf,
};

/// A stream between two peers, buffered both ways.
///
/// It is a [`Reader`] and a [`Writer`]. Their calls wait where a plain buffer would report too few
/// bytes or no room; a wait inside a handler holds up no other connection. What ends a wait, or
/// any call on a connection that is closed, is an [`Error`]; nothing panics.
///
/// A handler that writes what it reads begins with [`split`](Connection::split).
///
/// Dropping a connection closes it. In a handler only a `&mut Connection` is at hand: to close,
/// return an error or use [`Handle::close`]; to keep it, [`take`](Connection::take) it.
pub struct Connection {
    read: ReadHalf,
    write: WriteHalf,
}

impl Connection {
    pub(crate) fn new(
        inner: Arc<Inner>,
        reader: linkbuffer::ReadHalf,
        writer: linkbuffer::WriteHalf,
    ) -> Self {
        Self {
            read: ReadHalf::new(Arc::clone(&inner), reader),
            write: WriteHalf::new(inner, writer),
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        self.read.inner()
    }

    /// Where the two buffers lie, the input's first.
    pub(crate) fn buffers(&self) -> [*const (); 2] {
        [self.read.buffer().shared_at(), self.write.shared_at()]
    }

    /// The view of this connection that works from anywhere.
    pub fn handle(&self) -> Handle {
        self.inner().handle()
    }

    /// Both halves, borrowed: what one reads the other can write.
    pub fn split(&mut self) -> (&mut ReadHalf, &mut WriteHalf) {
        (&mut self.read, &mut self.write)
    }

    /// Both halves, owned, for two threads. The connection closes when both are dropped; dropping
    /// the write half flushes, and ends our half of the stream.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        self.write.set_split();
        (self.read, self.write)
    }

    /// Takes the connection out of the loop that runs its callbacks. None of them runs again: it
    /// closes when it is dropped, and a state that was kept for it is dropped when the callback
    /// returns. What is left in its place is a closed connection.
    ///
    /// `None` where it was taken before, or is closed.
    pub fn take(&mut self) -> Option<Connection> {
        let inner = Arc::clone(self.inner());
        if !self.read.is_live() || !self.write.is_live() || inner.shared.life.is_closing() {
            return None;
        }
        inner.home().sched.host.tally.taken.count();
        inner.leave_service();
        event!(DEBUG, id = inner.handle().id(), "taken");
        let read = self.read.take();
        let write = self.write.take();
        Some(Connection { read, write })
    }

    /// Takes the writing half away, for another thread. The loop goes on reading, and calling
    /// the handler; writing through what is left is an error.
    ///
    /// `None` where it was taken before, or is closed.
    pub fn take_write_half(&mut self) -> Option<WriteHalf> {
        let taken = self.write.is_live() && !self.inner().shared.life.is_closing();
        taken.then(|| {
            self.write.set_split();
            self.write.take()
        })
    }

    /// Whether a connection that was kept unused, as in a pool, can be used again: neither side has
    /// closed it, and nothing has come that nobody asked for. One system call; consumes nothing.
    pub fn is_healthy(&self) -> bool {
        let inner = self.inner();
        let live = self.read.is_live() && self.write.is_live();
        live && inner.shared.life.is_active()
            && self.read.buffer().is_empty()
            && matches!(sys::has_input(inner.fd()), Ok(Input::Nothing))
    }

    /// With framing, the length in bytes of the message that the handler was called for.
    pub fn message_len(&self) -> Option<usize> {
        self.read.message_len()
    }

    /// Consumes whatever is buffered.
    pub(crate) fn skip_buffered(&self) -> Result<()> {
        self.read.skip(self.read.len())
    }

    pub(crate) fn read_half(&mut self) -> &mut ReadHalf {
        &mut self.read
    }

    pub(crate) fn read_half_ref(&self) -> &ReadHalf {
        &self.read
    }

    pub(crate) fn was_taken(&self) -> bool {
        !self.read.is_live()
    }
}

impl Reader for Connection {
    fn peek(&self, n: usize) -> Result<&[u8]> {
        self.read.peek(n)
    }

    fn skip(&self, n: usize) -> Result<()> {
        self.read.skip(n)
    }

    fn len(&self) -> usize {
        self.read.len()
    }

    fn release(&mut self) {
        self.read.release();
    }

    fn next(&self, n: usize) -> Result<&[u8]> {
        self.read.next(n)
    }

    fn find(&self, delim: &[u8]) -> Result<usize> {
        self.read.find(delim)
    }

    fn try_next(&self, n: usize) -> Result<Option<&[u8]>> {
        self.read.try_next(n)
    }

    fn chunk(&self) -> &[u8] {
        self.read.chunk()
    }

    fn slice(&self, n: usize) -> Result<Slice> {
        self.read.slice(n)
    }

    fn is_ended(&self) -> bool {
        self.read.is_ended()
    }
}

impl Writer for Connection {
    fn malloc(&mut self, n: usize) -> Result<Reserve<'_>> {
        self.write.malloc(n)
    }

    fn placeholder(&mut self, n: usize) -> Result<Placeholder> {
        self.write.placeholder(n)
    }

    fn fill(&mut self, at: Placeholder, bytes: &[u8]) -> Result<()> {
        self.write.fill(at, bytes)
    }

    fn write_owned(&mut self, bytes: Owned) -> Result<()> {
        self.write.write_owned(bytes)
    }

    fn write_owned_direct(&mut self, bytes: Owned, remain: usize) -> Result<()> {
        self.write.write_owned_direct(bytes, remain)
    }

    fn append(&mut self, other: LinkBuffer) -> Result<()> {
        self.write.append(other)
    }

    fn malloc_ack(&mut self, n: usize) -> Result<()> {
        self.write.malloc_ack(n)
    }

    fn malloc_len(&self) -> usize {
        self.write.malloc_len()
    }

    fn flush(&mut self) -> Result<usize> {
        self.write.flush()
    }

    fn write_binary(&mut self, bytes: &[u8]) -> Result<()> {
        self.write.write_binary(bytes)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("handle", &self.handle()).finish_non_exhaustive()
    }
}

/// What a call on a half that was taken away says.
fn taken<T>() -> Result<T> {
    Err(Error::Closed)
}
