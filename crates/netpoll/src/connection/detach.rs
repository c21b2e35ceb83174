//! Out of the loop altogether: back to a descriptor.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
};

use linkbuffer::{Error, Reader, Result};

use super::{Connection, inner::Inner};
use crate::{current, net_host::Command, sync::atomic::Ordering::Relaxed};

/// What was a connection. See [`Connection::detach`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Detached {
    /// The socket. It is still non-blocking.
    pub socket: OwnedFd,
    /// What had been received and not consumed: it comes before whatever the socket has.
    pub unread: Vec<u8>,
}

impl Connection {
    /// Turns the connection back into a socket, for code that does its own reading and writing.
    ///
    /// What was written is sent first; this may wait as [`flush`](super::WriteHalf::flush) does.
    /// For its handles the connection is closed then, and their close callbacks run. In a handler
    /// it is as if it had been [taken](Self::take): no further callback runs. What is left in its
    /// place is a closed connection.
    ///
    /// ```
    /// use std::{io::Read, os::unix::net::UnixStream};
    /// use netpoll::{EventLoop, Reader, Writer};
    ///
    /// let event_loop = EventLoop::new()?;
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let mut ours = event_loop.dialer().adopt(ours)?;
    /// let mut theirs = event_loop.dialer().adopt(theirs)?;
    /// ours.write_binary(b"hello")?;
    /// ours.flush()?;
    ///
    /// theirs.next(1)?;
    /// let detached = theirs.detach()?;
    /// assert_eq!(detached.unread, b"ello");
    /// drop(ours);
    /// assert_eq!(UnixStream::from(detached.socket).read(&mut [0])?, 0);
    /// # Ok::<(), netpoll::BoxError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] where it is closed, or a half of it was taken away; the errors of `flush`;
    /// [`Error::WouldWait`] where an inline handler's output cannot be sent at once. The connection
    /// stays as it is then.
    pub fn detach(&mut self) -> Result<Detached> {
        if !self.read.is_live() || !self.write.is_live() {
            return Err(Error::Closed);
        }
        let inner = Arc::clone(self.inner());
        // ORDERING: this thread's own note for its next `flush`, which is this one.
        inner.may_queue.store(false, Relaxed);
        self.write.flush()?;
        if inner.unsent() > 0 {
            return Err(Error::WouldWait);
        }
        let socket = inner.fd().try_clone_to_owned()?;
        inner.leave_poller()?;
        let conn = self.take().ok_or(Error::Closed)?;
        let unread = conn.next(conn.len())?.to_vec();
        inner.abandon();
        Ok(Detached { socket, unread })
    }
}

impl Inner {
    /// Nobody else reads its socket when this returns, and no event reaches it.
    fn leave_poller(self: &Arc<Self>) -> Result<()> {
        if !self.is_polled() {
            self.deregister();
            return Ok(());
        }
        let leave = |inner: &Inner| {
            inner.deregister();
            inner.let_go();
        };
        if current::aside(self, |_| leave(self)).is_some() {
            return Ok(());
        }
        // Another thread drives its poller, and may be reading at this moment.
        current::before_wait()?;
        let (send, left) = mpsc::channel();
        let inner = Arc::clone(self);
        let then = move || {
            leave(&inner);
            let _ = send.send(());
        };
        self.command(Command::Leave(Arc::clone(self), Box::new(then)));
        left.recv().map_err(|_| Error::Closed)
    }
}
