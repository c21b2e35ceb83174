//! Wake-ups: many become one, none is lost, and one that finds the poller awake costs no system
//! call.
//!
//! The state of a poller's wake-ups is two bits, changed by nothing but read-modify-writes, so
//! that all changes are totally ordered:
//!
//! | bits | means |
//! |---|---|
//! | `0` | nobody waits, nobody asked |
//! | `WAITING` | a thread is in [`wait`](crate::Poller::wait), perhaps asleep in the kernel |
//! | `NOTIFIED` | somebody asked while nobody waited; the next wait will not sleep |
//! | both | somebody asked while a thread waited; the first who asked writes to the eventfd |
//!
//! W1. Only the step from `WAITING` to both writes to the eventfd, after the step.
//! W2. A wait that starts with `NOTIFIED` set does not sleep.
//! W3. The end of a wait clears both bits in one step: whoever asked before it is served by this
//!     wait (its caller looks at its inbox next), whoever asks after it finds `0`.
//!
//! So a request is served by the wait that is under way (W1, W3) or by the next one (W2). A write
//! to the eventfd may come late, into a later wait: that one returns early, and nothing is lost.

use std::fmt;
use std::io;

use crate::sync::atomic::{AtomicU8, Ordering};
use crate::sync::{Arc, Counter};
use crate::sys::EventFd;

const WAITING: u8 = 1;
const NOTIFIED: u8 = 2;

/// How a wait starts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Nobody asked: the wait may sleep.
    Sleep,
    /// Somebody asked already: look, but do not sleep.
    Look,
    /// Another thread is waiting.
    Busy,
}

/// What a poller and its wakers share.
pub(crate) struct WakeUp {
    bits: AtomicU8,
    event: EventFd,
    /// How often `wake` was called, and how often that cost a system call.
    asked: Counter,
    written: Counter,
}

impl WakeUp {
    pub(crate) fn new() -> io::Result<WakeUp> {
        Ok(WakeUp {
            bits: AtomicU8::new(0),
            event: EventFd::new()?,
            asked: Counter::default(),
            written: Counter::default(),
        })
    }

    pub(crate) fn event(&self) -> &EventFd {
        &self.event
    }

    pub(crate) fn begin_wait(&self) -> Begin {
        // ORDERING: Acquire pairs with the Release in `wake`: a wait that finds the request does
        // not sleep, and its caller sees what the waker published. The order against `wake` is
        // that of read-modify-writes on one atomic, which needs no ordering.
        let before = self.bits.fetch_or(WAITING, Ordering::Acquire);
        if before & WAITING != 0 {
            Begin::Busy
        } else if before & NOTIFIED != 0 && !cfg!(netpoll_mutant = "begin-ignores-notified") {
            Begin::Look
        } else {
            Begin::Sleep
        }
    }

    /// Ends a wait that `begin_wait` let through. Whether somebody asked.
    pub(crate) fn end_wait(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `wake`: what was published before a request
        // that this clears is seen by who looks after the wait. Release pairs with the Acquire in
        // `begin_wait`: the next waiting thread comes after this one.
        let order = if cfg!(netpoll_mutant = "end-wait-relaxed") {
            Ordering::Relaxed
        } else {
            Ordering::AcqRel
        };
        self.bits.swap(0, order) & NOTIFIED != 0
    }

    fn wake(&self) -> io::Result<()> {
        self.asked.add(1);
        // ORDERING: Release pairs with the Acquire in `begin_wait` and `end_wait`, for what the
        // caller published. Also when the bit is set already: the swap that clears it then reads
        // from this read-modify-write or a later one, and so comes after the caller's writes.
        let before = if cfg!(netpoll_mutant = "wake-without-rmw")
            && self.bits.load(Ordering::Acquire) & NOTIFIED != 0
        {
            WAITING | NOTIFIED
        } else {
            self.bits.fetch_or(NOTIFIED, Ordering::Release)
        };
        if before == WAITING {
            self.written.add(1);
            self.event.signal()?;
        }
        Ok(())
    }

    /// How often somebody asked, and how often that cost a system call.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.asked.get(), self.written.get())
    }
}

/// Wakes the thread that waits in a [`Poller`](crate::Poller), from any thread.
///
/// Cheap to clone. It keeps working after the poller is gone, then without effect.
///
/// ```
/// use poller::{Events, Poller};
///
/// let poller = Poller::new()?;
/// let waker = poller.waker();
/// let thread = std::thread::spawn(move || waker.wake());
///
/// let mut events = Events::with_capacity(16);
/// poller.wait(&mut events, None)?; // would last forever without the waker
/// assert!(events.is_woken() && events.is_empty());
/// # thread.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Waker(Arc<WakeUp>);

impl Waker {
    pub(crate) fn new(shared: Arc<WakeUp>) -> Waker {
        Waker(shared)
    }

    /// Makes the wait that is under way return, or the next one not sleep.
    ///
    /// Requests coalesce: however many come before the waiting thread gets to run, they wake it
    /// once. Only the first that finds the poller waiting costs a system call. What a thread wrote
    /// before it called this is visible to whoever returns from the wait.
    ///
    /// # Errors
    ///
    /// Only when the kernel refuses to write to an eventfd, which it has no reason to.
    #[doc(alias = "Trigger")]
    pub fn wake(&self) -> io::Result<()> {
        self.0.wake()
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").finish_non_exhaustive()
    }
}
