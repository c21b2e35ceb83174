//! Options of a connection's socket that change while it lives.

use std::{io, os::fd::BorrowedFd, time::Duration};

use linkbuffer::{Error, Result};
use poller::sys::{self, Keepalive};

use super::handle::Handle;

/// What is set for all connections of a loop at once is in
/// [`Builder::socket_options`](crate::Builder::socket_options).
///
/// # Errors
///
/// Each of these fails with [`Error::Closed`] once the connection's socket is gone, and with
/// [`Error::Io`] where the kernel refuses. Those of TCP do nothing on other sockets.
impl Handle {
    /// Whether small writes leave at once, instead of being collected by TCP.
    pub fn set_nodelay(&self, on: bool) -> Result<()> {
        self.on_tcp(|fd| sys::set_nodelay(fd, on))
    }

    /// Has TCP probe a silent peer. `None`: it does not.
    pub fn set_keepalive(&self, keepalive: Option<Keepalive>) -> Result<()> {
        self.on_tcp(|fd| sys::set_keepalive(fd, keepalive))
    }

    /// How long sent bytes may stay unacknowledged before TCP gives up. `None`: the system's choice.
    pub fn set_user_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.on_tcp(|fd| sys::set_user_timeout(fd, timeout))
    }

    /// How many bytes the kernel buffers for sending.
    pub fn set_send_buffer(&self, bytes: usize) -> Result<()> {
        self.on_socket(|fd| sys::set_send_buffer(fd, bytes))
    }

    /// How many bytes the kernel buffers of what was received.
    pub fn set_recv_buffer(&self, bytes: usize) -> Result<()> {
        self.on_socket(|fd| sys::set_recv_buffer(fd, bytes))
    }

    /// What closing does with bytes that the kernel has taken and not sent: see
    /// [`SocketOptions::linger`](crate::SocketOptions::linger). `Some` of no time: they are thrown
    /// away, and the peer is told by a reset.
    pub fn set_socket_linger(&self, linger: Option<Duration>) -> Result<()> {
        self.on_socket(|fd| sys::set_linger(fd, linger))
    }

    fn on_tcp(&self, set: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>) -> Result<()> {
        self.on_socket(|fd| if sys::is_tcp(fd)? { set(fd) } else { Ok(()) })
    }

    fn on_socket(&self, set: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>) -> Result<()> {
        let inner = self.inner().ok_or(Error::Closed)?;
        Ok(set(inner.fd())?)
    }
}
