//! `epoll`: registrations, and waits that are never early.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use super::clock::retry_until;
use super::errno::{check, check_long, explain};
use crate::event::{Interest, Ready};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::token::Token;

/// An event as the kernel writes it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct RawEvent(libc::epoll_event);

// SAFETY of `wait` rests on this: the kernel writes epoll_events, the vector holds RawEvents.
const _: () = assert!(size_of::<RawEvent>() == size_of::<libc::epoll_event>());

impl RawEvent {
    #[inline]
    pub(crate) fn token(&self) -> Token {
        Token::from_raw(self.0.u64)
    }

    #[inline]
    pub(crate) fn ready(&self) -> Ready {
        let bits = self.0.events;
        let any = |wanted: i32| bits & wanted as u32 != 0;
        Ready {
            readable: any(libc::EPOLLIN),
            writable: any(libc::EPOLLOUT),
            rdhup: any(libc::EPOLLRDHUP),
            hangup: any(libc::EPOLLHUP),
            error: any(libc::EPOLLERR),
            priority: any(libc::EPOLLPRI),
        }
    }
}

/// An epoll instance. All its registrations are edge-triggered.
#[derive(Debug)]
pub(crate) struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel just made this descriptor, and nobody else knows it.
        Ok(Epoll { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    pub(crate) fn add(&self, fd: BorrowedFd, token: Token, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    pub(crate) fn modify(
        &self,
        fd: BorrowedFd,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    pub(crate) fn delete(&self, fd: BorrowedFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, Token::from_raw(0), Interest::NONE)
    }

    fn control(
        &self,
        operation: i32,
        fd: BorrowedFd,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events: bits(interest), u64: token.raw() };
        // SAFETY: `event` is valid for the call, both descriptors are open while borrowed.
        let result = check(unsafe {
            libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd.as_raw_fd(), &mut event)
        });
        match result {
            Ok(_) => Ok(()),
            Err(error) => Err(match error.raw_os_error() {
                // Would read as a lack of rights.
                Some(libc::EPERM) => explain(
                    io::ErrorKind::Unsupported,
                    "files of this kind are always ready and cannot be watched",
                    error,
                ),
                // Would read as a full disk.
                Some(libc::ENOSPC) => explain(
                    io::ErrorKind::QuotaExceeded,
                    "the user's limit on epoll watches is reached",
                    error,
                ),
                // Would read as a loop of symbolic links.
                Some(libc::ELOOP) => explain(
                    io::ErrorKind::InvalidInput,
                    "pollers watch each other in a circle, or too deep",
                    error,
                ),
                // EEXIST, ENOENT, ENOMEM, EINVAL say what they are; EBADF cannot be.
                _ => error,
            }),
        }
    }

    /// Waits, and fills `events` up to its capacity from its start.
    pub(crate) fn wait(
        &self,
        events: &mut Vec<RawEvent>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        events.clear();
        let count = retry_until(timeout, |left| self.wait_once(events, left))?;
        // SAFETY: the kernel wrote `count` events from the vector's start, no more than its
        // capacity, which `wait_once` passed on.
        unsafe { events.set_len(count) };
        Ok(())
    }

    fn wait_once(
        &self,
        events: &mut Vec<RawEvent>,
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        let room = i32::try_from(events.capacity()).unwrap_or(i32::MAX);
        let first = events.as_mut_ptr().cast::<libc::epoll_event>();
        // Forever and not at all are exact in milliseconds too, without a structure to copy.
        let (millis, whole) = match timeout {
            None => (-1, true),
            Some(Duration::ZERO) => (0, true),
            Some(timeout) => match self.wait_nanos(first, room, timeout) {
                Some(result) => return result,
                None => millis_up(timeout),
            },
        };
        // SAFETY: `first` has room for `room` events, by the vector's capacity; no signal mask is
        // given.
        let count = check_long(unsafe {
            let (fd, no_mask) = (self.fd.as_raw_fd(), ptr::null::<libc::sigset_t>());
            libc::syscall(libc::SYS_epoll_pwait, fd, first, room, millis, no_mask, 0_usize)
        })?;
        if count == 0 && !whole {
            return Err(io::Error::from_raw_os_error(libc::EINTR));
        }
        Ok(count)
    }

    /// Waits with a timeout in nanoseconds; `None` where the kernel has no such call.
    ///
    /// `first` must have room for `room` events.
    fn wait_nanos(
        &self,
        first: *mut libc::epoll_event,
        room: i32,
        timeout: Duration,
    ) -> Option<io::Result<usize>> {
        /// The kernel's own layout, with 64-bit seconds on every architecture.
        #[repr(C)]
        struct KernelTimespec {
            seconds: i64,
            nanos: i64,
        }
        // ORDERING: one fact about the kernel, which nothing else hangs on.
        static MISSING: AtomicBool = AtomicBool::new(false);
        if MISSING.load(Ordering::Relaxed) {
            return None;
        }
        let time = KernelTimespec {
            seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            nanos: i64::from(timeout.subsec_nanos()),
        };
        // SAFETY: the caller passes room for `room` events; `time` has the kernel's layout and
        // lives through the call; no signal mask is given.
        let result = check_long(unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                first,
                room,
                &time as *const KernelTimespec,
                ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        });
        match &result {
            // ENOSYS: before Linux 5.11. EPERM is what some sandboxes say to calls that they do not
            // know; epoll_pwait2 itself never does.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                MISSING.store(true, Ordering::Relaxed);
                None
            }
            _ => Some(result),
        }
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whole milliseconds, rounded up so that no wait is early, and whether that is the whole timeout:
/// the call takes no more than 24 days at a time, and whoever waits longer goes on as after a signal.
fn millis_up(timeout: Duration) -> (i32, bool) {
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    i32::try_from(millis).map_or((i32::MAX, false), |millis| (millis, true))
}

fn bits(interest: Interest) -> u32 {
    let pairs = [
        (Interest::READABLE, libc::EPOLLIN),
        (Interest::WRITABLE, libc::EPOLLOUT),
        (Interest::RDHUP, libc::EPOLLRDHUP),
        (Interest::PRI, libc::EPOLLPRI),
        (Interest::EXCLUSIVE, libc::EPOLLEXCLUSIVE),
    ];
    let wanted = pairs.iter().filter(|(asked, _)| interest.contains(*asked));
    wanted.fold(libc::EPOLLET as u32, |bits, (_, bit)| bits | *bit as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_never_early() {
        assert_eq!(millis_up(Duration::from_nanos(1)), (1, true));
        assert_eq!(millis_up(Duration::from_millis(5)), (5, true));
        assert_eq!(millis_up(Duration::from_nanos(5_000_001)), (6, true));
        assert_eq!(millis_up(Duration::MAX), (i32::MAX, false));
    }
}
