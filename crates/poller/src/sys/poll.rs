//! `ppoll`: one thread waits for a few descriptors without registering them anywhere.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

use super::clock::{retry_until, timespec};
use super::errno::check;
use crate::event::Interest;

/// A descriptor to wait for, and then what became ready on it.
#[repr(transparent)]
pub struct PollFd<'fd> {
    raw: libc::pollfd,
    /// The descriptor stays open for as long as this lives.
    fd: PhantomData<BorrowedFd<'fd>>,
}

// SAFETY of `ppoll` rests on this: the kernel reads and writes pollfds.
const _: () = assert!(size_of::<PollFd<'_>>() == size_of::<libc::pollfd>());

impl<'fd> PollFd<'fd> {
    /// Waits for `interest` on `fd` ([`EXCLUSIVE`](Interest::EXCLUSIVE) has no meaning here).
    pub fn new(fd: BorrowedFd<'fd>, interest: Interest) -> PollFd<'fd> {
        let pairs = [
            (Interest::READABLE, libc::POLLIN),
            (Interest::WRITABLE, libc::POLLOUT),
            (Interest::RDHUP, libc::POLLRDHUP),
            (Interest::PRI, libc::POLLPRI),
        ];
        let wanted = pairs.iter().filter(|(asked, _)| interest.contains(*asked));
        let events = wanted.fold(0, |bits, (_, bit)| bits | bit);
        let raw = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
        PollFd { raw, fd: PhantomData }
    }

    /// Whether anything at all became ready, errors and hang-ups included.
    pub fn is_ready(&self) -> bool {
        self.raw.revents != 0
    }

    /// Reading will not block.
    pub fn is_readable(&self) -> bool {
        self.has(libc::POLLIN)
    }

    /// Writing will not block, or a connection attempt has been decided.
    pub fn is_writable(&self) -> bool {
        self.has(libc::POLLOUT)
    }

    /// The peer sends nothing more.
    pub fn is_read_closed(&self) -> bool {
        self.has(libc::POLLRDHUP | libc::POLLHUP)
    }

    /// Both directions are closed.
    pub fn is_hangup(&self) -> bool {
        self.has(libc::POLLHUP)
    }

    /// An error is pending.
    pub fn is_error(&self) -> bool {
        self.has(libc::POLLERR | libc::POLLNVAL)
    }

    fn has(&self, bits: i16) -> bool {
        self.raw.revents & bits != 0
    }
}

impl fmt::Debug for PollFd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollFd")
            .field("fd", &self.raw.fd)
            .field("events", &format_args!("{:#x}", self.raw.events))
            .field("revents", &format_args!("{:#x}", self.raw.revents))
            .finish()
    }
}

/// Waits until one of `fds` is ready or `timeout` is over (`None`: without limit), and says how many
/// are ready. Never early; signal handlers do not end it.
///
/// # Errors
///
/// [`InvalidInput`](io::ErrorKind::InvalidInput) for more descriptors than the process may have
/// open, and [`OutOfMemory`](io::ErrorKind::OutOfMemory).
pub fn ppoll(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<usize> {
    let count = fds.len() as libc::nfds_t;
    let first = fds.as_mut_ptr().cast::<libc::pollfd>();
    let ready = retry_until(timeout, |left| {
        let time = left.map(timespec);
        let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: `first` is `count` valid pollfds; `time` is null or outlives the call; no signal
        // mask is given.
        check(unsafe { libc::ppoll(first, count, time, ptr::null()) })
    })?;
    Ok(ready as usize)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::{EventFd, now};

    #[test]
    fn timeouts_are_never_early() {
        let event = EventFd::new().unwrap();
        for nanos in [1, 1_000, 999_999, 1_000_001, 3_000_000] {
            let timeout = Duration::from_nanos(nanos);
            let start = now();
            let mut fds = [PollFd::new(event.as_fd(), Interest::READABLE)];
            assert_eq!(ppoll(&mut fds, Some(timeout)).unwrap(), 0);
            assert!(start.elapsed() >= timeout);
            assert!(!fds[0].is_ready());
        }
    }
}
