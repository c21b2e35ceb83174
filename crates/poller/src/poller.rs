//! One epoll instance: registrations from any thread, waiting by one.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
#[cfg(not(netpoll_loom))]
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::event::{Events, Interest};
use crate::sync::{Arc, Counter};
use crate::sys::Epoll;
use crate::token::Token;
use crate::waker::{Begin, WakeUp, Waker};

/// Watches descriptors and reports which became ready.
///
/// Registrations are edge-triggered: an event says that something *became* ready since the last
/// event, so read (or write, or accept) until [`WouldBlock`](io::ErrorKind::WouldBlock) before
/// waiting for the next one.
///
/// Every method takes `&self`. Descriptors may be registered and wakers used from any thread, also
/// while another thread waits; [`wait`](Self::wait) itself is for one thread at a time.
///
/// ```
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
/// use poller::{Events, Interest, Poller, Token};
///
/// let (mut near, far) = UnixStream::pair()?;
/// let poller = Poller::new()?;
/// poller.register(&far, Token::new(7, 0), Interest::READABLE)?;
///
/// near.write_all(b"hello")?;
/// let mut events = Events::with_capacity(64);
/// poller.wait(&mut events, None)?;
///
/// let event = events.iter().next().unwrap();
/// assert_eq!(event.token(), Token::new(7, 0));
/// assert!(event.is_readable());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Poller {
    epoll: Epoll,
    wake: Arc<WakeUp>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    waits: Counter,
    idle_waits: Counter,
    events: Counter,
    registered: Counter,
    deregistered: Counter,
}

/// What a [`Poller`] did since it was made; see [`Poller::stats`].
///
/// The numbers are read one after another while the poller goes on, so they need not add up to the
/// last digit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Waits that returned.
    pub waits: u64,
    /// Waits that returned without an event: timed out, or woken.
    pub idle_waits: u64,
    /// Events that were reported, without those of the waker.
    pub events: u64,
    /// Descriptors registered.
    pub registered: u64,
    /// Descriptors deregistered. Those that left by being closed are not counted.
    pub deregistered: u64,
    /// Calls of [`Waker::wake`].
    pub wakes: u64,
    /// Calls of [`Waker::wake`] that cost a system call.
    pub wake_syscalls: u64,
}

impl Poller {
    /// A poller with nothing registered.
    ///
    /// # Errors
    ///
    /// When the process or the system is out of descriptors or memory.
    pub fn new() -> io::Result<Poller> {
        let epoll = Epoll::new()?;
        let wake = Arc::new(WakeUp::new()?);
        // Edge-triggered as all: each write to the eventfd reports it again, so nothing ever has to
        // be read from it.
        epoll.add(wake.event().as_fd(), Token::WAKER, Interest::READABLE)?;
        Ok(Poller { epoll, wake, counters: Counters::default() })
    }

    /// Starts watching `fd`, whose events will carry `token`.
    ///
    /// What is ready already is reported by the next wait. The registration ends with
    /// [`deregister`](Self::deregister), or when the last descriptor of the open file is closed.
    ///
    /// # Errors
    ///
    /// - [`AlreadyExists`](io::ErrorKind::AlreadyExists): `fd` is registered here; use
    ///   [`modify`](Self::modify).
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): the token is `u64::MAX`, `fd` is this
    ///   poller, or [`EXCLUSIVE`](Interest::EXCLUSIVE) with more than reading and writing.
    /// - [`Unsupported`](io::ErrorKind::Unsupported): files of this kind are always ready, so the
    ///   kernel does not watch them (a regular file, a directory).
    /// - [`QuotaExceeded`](io::ErrorKind::QuotaExceeded): the user's limit on watches is reached
    ///   (`/proc/sys/fs/epoll/max_user_watches`).
    /// - [`OutOfMemory`](io::ErrorKind::OutOfMemory).
    pub fn register(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        check(token)?;
        self.epoll.add(fd.as_fd(), token, interest)?;
        self.counters.registered.add(1);
        Ok(())
    }

    /// Changes token and interest of a registered descriptor, and re-arms it: what is ready now is
    /// reported again, even if nothing changed.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) when `fd` is not registered here, otherwise as
    /// [`register`](Self::register). An exclusive registration cannot be changed
    /// ([`InvalidInput`](io::ErrorKind::InvalidInput)).
    pub fn modify(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        check(token)?;
        self.epoll.modify(fd.as_fd(), token, interest)
    }

    /// Stops watching `fd`.
    ///
    /// Events that a wait already took from the kernel are still in its batch: that is what the
    /// generation in a [`Token`] is for.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) when `fd` is not registered here.
    pub fn deregister(&self, fd: impl AsFd) -> io::Result<()> {
        self.epoll.delete(fd.as_fd())?;
        self.counters.deregistered.add(1);
        Ok(())
    }

    /// Waits until something is ready, somebody [wakes](Waker::wake) it, or `timeout` is over, and
    /// says how many events there are.
    ///
    /// `None` waits without limit, zero only looks. A timeout is never early: it lasts at least as
    /// long as it says, to the nanosecond where the kernel can (Linux 5.11), else to the next
    /// millisecond. Signal handlers that run meanwhile do not end the wait. Being woken shows as
    /// [`Events::is_woken`] and counts as no event.
    ///
    /// # Errors
    ///
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) when another thread waits on this poller.
    #[doc(alias = "Wait")]
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        events.clear();
        let timeout = match self.wake.begin_wait() {
            Begin::Sleep => timeout,
            Begin::Look => Some(Duration::ZERO),
            Begin::Busy => {
                let busy = "another thread waits on this poller";
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, busy));
            }
        };
        let result = self.epoll.wait(events.buffer(), timeout);
        events.remove_waker();
        self.counters.count_wait(events.len());
        events.set_woken(self.wake.end_wait());
        result.map(|()| events.len())
    }

    /// A handle that wakes this poller from any thread.
    pub fn waker(&self) -> Waker {
        Waker::new(Arc::clone(&self.wake))
    }

    /// What this poller did since it was made.
    pub fn stats(&self) -> Stats {
        let (wakes, wake_syscalls) = self.wake.counts();
        Stats {
            waits: self.counters.waits.get(),
            idle_waits: self.counters.idle_waits.get(),
            events: self.counters.events.get(),
            registered: self.counters.registered.get(),
            deregistered: self.counters.deregistered.get(),
            wakes,
            wake_syscalls,
        }
    }
}

impl Counters {
    /// Counts a wait; called before the wait ends for `WakeUp`, so by one thread at a time.
    fn count_wait(&self, events: usize) {
        self.waits.add_alone(1);
        if events == 0 {
            self.idle_waits.add_alone(1);
        }
        self.events.add_alone(events as u64);
    }
}

/// The descriptor of the epoll instance, readable while something is ready: a poller can be watched
/// by another one.
// A model has no pollers that watch pollers.
#[cfg(not(netpoll_loom))]
impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

fn check(token: Token) -> io::Result<()> {
    if token == Token::WAKER {
        let reserved = "the token u64::MAX belongs to the poller";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reserved));
    }
    Ok(())
}
