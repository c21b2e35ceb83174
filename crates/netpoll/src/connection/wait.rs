//! How a thread waits: parked, or in `ppoll` where the socket itself is to wake it too.
//!
//! Each thread has one waker of each kind, made at its first wait and kept, so that waiting
//! allocates nothing in steady state.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    task::{Wake, Waker},
    time::Instant,
};

use poller::{
    Interest,
    sys::{self, EventFd, PollFd},
};

use crate::{
    sched::slot::Slot,
    sync::thread::{self, Thread},
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

struct Signal(EventFd);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // An eventfd cannot refuse 1: its counter is cleared long before it is full.
        let _ = self.0.signal();
    }
}

crate::sync::thread_local! {
    static PARKED: Waker = Waker::from(Arc::new(Unpark(thread::current())));
}
thread_local! {
    static POLLING: RefCell<Option<(Arc<Signal>, Waker)>> = const { RefCell::new(None) };
}

/// The earlier of two moments, where `None` never comes.
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Parks the calling thread until `done` says something, or the deadline is past. Whoever makes
/// `done` true notifies `slot` with at least `want`. What is done at the deadline counts.
#[allow(unreachable_pub)] // Public for the models alone.
pub fn park_until<T>(
    slot: &Slot,
    want: usize,
    deadline: impl Fn() -> Option<Instant>,
    mut done: impl FnMut() -> Option<T>,
) -> Option<T> {
    PARKED.with(|waker| {
        let result = loop {
            slot.register(want, waker);
            if let Some(result) = done() {
                break Some(result);
            }
            match deadline() {
                None => thread::park(),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(sys::now());
                    if left.is_zero() {
                        break if cfg!(netpoll_mutant = "deadline_without_last_look") {
                            None
                        } else {
                            done()
                        };
                    }
                    crate::sync::park_timeout(left);
                }
            }
        };
        slot.clear();
        result
    })
}

/// Waits in `ppoll` until `fd` is ready for `interest`, or `slot` is notified; the caller looks for
/// itself which it was. `skip` is asked once after registering, and true ends the wait at once.
/// False: the deadline, which is looked at after registering too, is past.
///
/// # Errors
///
/// Whatever the kernel says of making an eventfd or of waiting.
pub(crate) fn poll_until(
    fd: BorrowedFd<'_>,
    interest: Interest,
    slot: &Slot,
    deadline: impl Fn() -> Option<Instant>,
    skip: impl FnOnce() -> bool,
) -> io::Result<bool> {
    POLLING.with(|cell| {
        let mut cell = cell.borrow_mut();
        if cell.is_none() {
            let signal = Arc::new(Signal(EventFd::new()?));
            *cell = Some((Arc::clone(&signal), Waker::from(signal)));
        }
        let Some((signal, waker)) = &*cell else { return Ok(true) };
        slot.register(1, waker);
        let left = deadline().map(|deadline| deadline.saturating_duration_since(sys::now()));
        let result = if skip() {
            Ok(true)
        } else if left.is_some_and(|left| left.is_zero()) {
            Ok(false)
        } else {
            let mut fds =
                [PollFd::new(fd, interest), PollFd::new(signal.0.as_fd(), Interest::READABLE)];
            let result = sys::ppoll(&mut fds, left);
            if fds[1].is_ready() {
                // It cannot fail: what is readable can be read.
                let _ = signal.0.clear();
            }
            // Whether time ran out is for the next look.
            result.map(|_| true)
        };
        slot.clear();
        result
    })
}
