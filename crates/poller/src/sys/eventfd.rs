//! A descriptor that becomes readable when somebody says so.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::errno::{check, check_size, retry};

/// A counter behind a descriptor: readable once signalled, until cleared.
///
/// ```
/// use std::os::fd::AsFd;
/// use std::time::Duration;
/// use poller::Interest;
/// use poller::sys::{EventFd, PollFd, ppoll};
///
/// let event = EventFd::new()?;
/// event.signal()?;
/// event.signal()?;
/// let mut fds = [PollFd::new(event.as_fd(), Interest::READABLE)];
/// assert_eq!(ppoll(&mut fds, Some(Duration::ZERO))?, 1);
/// assert!(event.clear()?);
/// assert!(!event.clear()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    /// One that is not signalled.
    ///
    /// # Errors
    ///
    /// When the process or the system is out of descriptors or memory.
    pub fn new() -> io::Result<EventFd> {
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
        // SAFETY: the kernel just made this descriptor, and nobody else knows it.
        Ok(EventFd { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Makes it readable; from any thread.
    ///
    /// # Errors
    ///
    /// None that the kernel documents for a valid eventfd.
    pub fn signal(&self) -> io::Result<()> {
        let one = 1_u64;
        let result = retry(|| {
            // SAFETY: the 8 bytes of `one` are readable.
            check_size(unsafe {
                libc::write(self.fd.as_raw_fd(), (&raw const one).cast(), size_of::<u64>())
            })
        });
        match result {
            // 2⁶⁴ − 2 signals without a clear: it is as readable as it gets.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result.map(drop),
        }
    }

    /// Makes it unreadable again. Whether it had been signalled.
    ///
    /// # Errors
    ///
    /// None that the kernel documents for a valid eventfd.
    pub fn clear(&self) -> io::Result<bool> {
        let mut count = 0_u64;
        let result = retry(|| {
            // SAFETY: the 8 bytes of `count` are writable, and any bits are a u64.
            check_size(unsafe {
                libc::read(self.fd.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>())
            })
        });
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            result => result.map(|_| true),
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
