//! Options of a connection's socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use poller::sys;
pub use poller::sys::Keepalive;

/// Options of a connection's socket: for accepted ones through
/// [`ListenerOptions`](super::ListenerOptions), for dialed ones through
/// [`ConnectOptions`](super::ConnectOptions).
///
/// ```
/// use std::time::Duration;
/// use netpoll::{Keepalive, SocketOptions};
///
/// let options = SocketOptions::new()
///     .keepalive(Keepalive {
///         idle: Duration::from_secs(60),
///         interval: Duration::from_secs(10),
///         count: 3,
///     })
///     .send_buffer(256 * 1024);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    nodelay: bool,
    keepalive: Option<Keepalive>,
    user_timeout: Option<Duration>,
    send_buffer: Option<usize>,
    recv_buffer: Option<usize>,
    linger: Option<Duration>,
}

/// Small writes leave at once; everything else is the system's.
impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions {
            nodelay: true,
            keepalive: None,
            user_timeout: None,
            send_buffer: None,
            recv_buffer: None,
            linger: None,
        }
    }
}

impl SocketOptions {
    /// The defaults.
    pub fn new() -> SocketOptions {
        SocketOptions::default()
    }

    /// Whether small writes leave at once (the default) instead of being collected by TCP, which
    /// waits for acknowledgements meanwhile.
    #[must_use]
    pub fn nodelay(mut self, on: bool) -> Self {
        self.nodelay = on;
        self
    }

    /// Has TCP probe a silent peer, so that one that is gone without a word is noticed. Default:
    /// off.
    #[must_use]
    pub fn keepalive(mut self, keepalive: impl Into<Option<Keepalive>>) -> Self {
        self.keepalive = keepalive.into();
        self
    }

    /// How long sent bytes may stay unacknowledged before TCP gives up. Default: the system's,
    /// about a quarter of an hour.
    #[must_use]
    pub fn user_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.user_timeout = timeout.into();
        self
    }

    /// How many bytes the kernel buffers for sending. Default: the kernel adapts it.
    #[must_use]
    pub fn send_buffer(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.send_buffer = bytes.into();
        self
    }

    /// How many bytes the kernel buffers of what was received. Default: the kernel adapts it.
    #[must_use]
    pub fn recv_buffer(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.recv_buffer = bytes.into();
        self
    }

    /// What closing does with bytes that TCP has not sent yet. Default: the kernel goes on sending
    /// in the background. Zero: they are thrown away and the connection is reset. Anything else
    /// makes the thread that closes wait, up to that long.
    #[must_use]
    pub fn linger(mut self, linger: impl Into<Option<Duration>>) -> Self {
        self.linger = linger.into();
        self
    }

    /// Sets the options on a stream socket. Those of TCP are passed over on other sockets. On a
    /// listener, the connections that it accepts will have them.
    ///
    /// # Errors
    ///
    /// When `fd` is no socket.
    pub fn apply(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.apply_to(fd, sys::is_tcp(fd)?)
    }

    /// [`apply`](Self::apply) to a new socket, of which it is known whether it is TCP.
    pub(super) fn apply_to(&self, fd: impl AsFd, tcp: bool) -> io::Result<()> {
        let fd = fd.as_fd();
        if tcp {
            if self.nodelay {
                sys::set_nodelay(fd, true)?;
            }
            if let Some(keepalive) = self.keepalive {
                sys::set_keepalive(fd, Some(keepalive))?;
            }
            if let Some(timeout) = self.user_timeout {
                sys::set_user_timeout(fd, Some(timeout))?;
            }
        }
        if let Some(bytes) = self.send_buffer {
            sys::set_send_buffer(fd, bytes)?;
        }
        if let Some(bytes) = self.recv_buffer {
            sys::set_recv_buffer(fd, bytes)?;
        }
        if let Some(linger) = self.linger {
            sys::set_linger(fd, Some(linger))?;
        }
        Ok(())
    }
}
