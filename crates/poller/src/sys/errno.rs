//! From a return value to a result, and what failures mean.

use std::io;

use libc::{c_int, c_long};

/// The result of a call that reports failure as -1.
#[inline]
pub(super) fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The result of a call that returns a size, or -1.
#[inline]
pub(super) fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The result of `libc::syscall`, which reports failure as -1.
///
/// The calls of every request go through it, and not through the libc's functions of their names:
/// those are cancellation points, and cost two atomic operations each wherever there are threads.
#[inline]
pub(super) fn check_long(result: c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Makes a call again for as long as a signal handler interrupts it. Only for calls that have done
/// nothing when they report `EINTR` and that do not wait for a time.
#[inline]
pub(super) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            result => return result,
        }
    }
}

/// An error of another kind than the errno suggests, with the errno's error as its source.
pub(super) fn explain(kind: io::ErrorKind, what: &'static str, source: io::Error) -> io::Error {
    io::Error::new(kind, Explained { what, source })
}

#[derive(Debug)]
struct Explained {
    what: &'static str,
    source: io::Error,
}

impl std::fmt::Display for Explained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl std::error::Error for Explained {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// What a failed [`accept`](super::accept) says about the next one; see [`accept_failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AcceptFailure {
    /// No connection is waiting. An edge will tell when there is.
    Empty,
    /// This one connection failed; the next may be fine at once.
    Connection,
    /// The process or the system has no descriptor or memory left for a connection. It stays in the
    /// queue; accept again when there is room.
    Exhausted,
    /// The listener itself is of no use any more.
    Listener,
}

/// Sorts an error of [`accept`](super::accept) by what to do next.
///
/// ```
/// use poller::sys::{AcceptFailure, accept_failure};
///
/// let out_of_descriptors = std::io::Error::from_raw_os_error(24); // EMFILE
/// assert_eq!(accept_failure(&out_of_descriptors), AcceptFailure::Exhausted);
/// ```
pub fn accept_failure(error: &io::Error) -> AcceptFailure {
    let Some(errno) = error.raw_os_error() else {
        return AcceptFailure::Listener;
    };
    match errno {
        libc::EAGAIN => AcceptFailure::Empty,
        // The peer gave up while it was queued, or a firewall refused it (EPERM).
        libc::ECONNABORTED | libc::EINTR | libc::EPERM => AcceptFailure::Connection,
        // Linux reports errors that are already pending on the new connection as errors of
        // accept(2): these say nothing about the listener.
        libc::ENETDOWN
        | libc::EPROTO
        | libc::ENOPROTOOPT
        | libc::EHOSTDOWN
        | libc::ENONET
        | libc::EHOSTUNREACH
        | libc::ENETUNREACH
        | libc::ENETRESET
        | libc::ECONNRESET
        | libc::ETIMEDOUT
        // Protocols on top of sockets (SOCKS, SCTP) have been seen to add these two.
        | libc::ESOCKTNOSUPPORT
        | libc::EPROTONOSUPPORT => AcceptFailure::Connection,
        // EMFILE: the process, ENFILE: the system; ENOBUFS, ENOMEM: memory, mostly of the socket's
        // own accounting; ENOSR is its name on streams.
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::ENOSR => {
            AcceptFailure::Exhausted
        }
        // EINVAL: not listening (any more: shutdown does that too). EBADF, ENOTSOCK, EOPNOTSUPP:
        // never was a listener. EFAULT cannot be. What is unknown must not become a busy loop.
        _ => AcceptFailure::Listener,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_hides_interruptions_only() {
        let mut left = 3;
        let result = retry(|| {
            if left == 0 {
                return Ok(7);
            }
            left -= 1;
            Err(io::Error::from_raw_os_error(libc::EINTR))
        });
        assert_eq!((result.unwrap(), left), (7, 0));
        let result: io::Result<()> = retry(|| Err(io::Error::from_raw_os_error(libc::EBADF)));
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn accept_failures_are_sorted() {
        let sorted = |errno| accept_failure(&io::Error::from_raw_os_error(errno));
        assert_eq!(sorted(libc::EAGAIN), AcceptFailure::Empty);
        assert_eq!(sorted(libc::EMFILE), AcceptFailure::Exhausted);
        assert_eq!(sorted(libc::EHOSTUNREACH), AcceptFailure::Connection);
        assert_eq!(sorted(libc::EINVAL), AcceptFailure::Listener);
        assert_eq!(accept_failure(&io::Error::other("x")), AcceptFailure::Listener);
    }
}
