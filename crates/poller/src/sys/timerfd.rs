//! A descriptor that becomes readable when its time has come.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use super::errno::check;

/// An alarm behind a descriptor: readable from its moment on, until it is set again.
///
/// ```
/// use std::os::fd::AsFd;
/// use std::time::Duration;
/// use poller::Interest;
/// use poller::sys::{PollFd, TimerFd, ppoll};
///
/// let alarm = TimerFd::new()?;
/// alarm.set(Some(Duration::from_millis(1)))?;
/// let mut fds = [PollFd::new(alarm.as_fd(), Interest::READABLE)];
/// assert_eq!(ppoll(&mut fds, None)?, 1);
/// alarm.set(None)?;
/// assert_eq!(ppoll(&mut fds, Some(Duration::ZERO))?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TimerFd {
    fd: OwnedFd,
}

impl TimerFd {
    /// One that is not set.
    ///
    /// # Errors
    ///
    /// When the process or the system is out of descriptors or memory.
    pub fn new() -> io::Result<TimerFd> {
        let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: the kernel just made this descriptor, and nobody else knows it.
        Ok(TimerFd { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Sets it to so much later than now, whatever it was set to; `None`: it is unset. From any
    /// thread; who waits for it is woken at the new moment.
    ///
    /// # Errors
    ///
    /// None that the kernel documents for a valid timerfd.
    pub fn set(&self, after: Option<Duration>) -> io::Result<()> {
        // Nothing at all would unset it.
        let after = after.map_or(Duration::ZERO, |after| after.max(Duration::from_nanos(1)));
        let it_value = libc::timespec {
            tv_sec: after.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: after.subsec_nanos().into(),
        };
        let it_interval = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::itimerspec { it_interval, it_value };
        // SAFETY: the kernel reads one whole itimerspec, and is asked to write nothing.
        check(unsafe {
            libc::timerfd_settime(self.fd.as_raw_fd(), 0, &raw const value, ptr::null_mut())
        })
        .map(drop)
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
