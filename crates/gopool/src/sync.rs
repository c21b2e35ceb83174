//! Every atomic, cell, lock, thread and clock of this crate comes through this file, so that
//! loom can stand in for the real ones (`--cfg netpoll_loom`).

use std::time::{Duration, Instant};

#[cfg(netpoll_loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::{Arc, MutexGuard, atomic},
    thread::{Thread, current, yield_now},
};
#[cfg(not(netpoll_loom))]
pub(crate) use std::{
    sync::{Arc, MutexGuard, atomic},
    thread::{Thread, current, yield_now},
};

#[cfg(not(netpoll_loom))]
pub(crate) use self::cell::UnsafeCell;

#[cfg(not(netpoll_loom))]
mod cell {
    /// `std`'s cell with loom's interface.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        #[inline]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        #[inline]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

/// A mutex without poisoning: no user code runs under one, so a panic leaves nothing half done.
#[derive(Debug)]
pub(crate) struct Mutex<T>(Inner<T>);

#[cfg(netpoll_loom)]
type Inner<T> = loom::sync::Mutex<T>;
#[cfg(not(netpoll_loom))]
type Inner<T> = std::sync::Mutex<T>;

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A condition variable that waits up to a [`Deadline`].
#[derive(Debug)]
pub(crate) struct Condvar {
    #[cfg(netpoll_loom)]
    inner: loom::sync::Condvar,
    #[cfg(not(netpoll_loom))]
    inner: std::sync::Condvar,
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self { inner: Default::default() }
    }

    /// Returns on notification, at the deadline, or for no reason: callers look again.
    pub(crate) fn wait<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Deadline,
    ) -> MutexGuard<'a, T> {
        match deadline.remaining() {
            None => self.inner.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner()),
            Some(Duration::ZERO) => guard,
            Some(left) => {
                let waited = self.inner.wait_timeout(guard, left);
                waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0
            }
        }
    }

    pub(crate) fn notify_one(&self) {
        self.inner.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.inner.notify_all();
    }
}

/// A moment on the monotonic clock, or never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) const NEVER: Self = Self(None);

    /// `duration` from now; never, if the clock cannot express it.
    pub(crate) fn after(duration: Duration) -> Self {
        if duration == Duration::MAX {
            return Self::NEVER;
        }
        Self(Instant::now().checked_add(duration))
    }

    /// How long until then: `None` is forever, zero means that it has passed.
    pub(crate) fn remaining(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn has_passed(self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }
}

/// Sleeps until the thread is unparked, the deadline passes, or for no reason.
pub(crate) fn park(deadline: Deadline) {
    match deadline.remaining() {
        Some(Duration::ZERO) => {}
        #[cfg(not(netpoll_loom))]
        Some(left) => std::thread::park_timeout(left),
        #[cfg(not(netpoll_loom))]
        None => std::thread::park(),
        // Loom knows no time: what is not over yet never will be.
        #[cfg(netpoll_loom)]
        _ => loom::thread::park(),
    }
}

/// Starts a detached thread.
#[cfg(not(netpoll_loom))]
pub(crate) fn spawn(
    name: String,
    stack_size: Option<usize>,
    main: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let mut builder = std::thread::Builder::new().name(name);
    if let Some(bytes) = stack_size {
        builder = builder.stack_size(bytes);
    }
    builder.spawn(main).map(drop)
}

/// Starts a detached thread.
#[cfg(netpoll_loom)]
pub(crate) fn spawn(
    _name: String,
    _stack_size: Option<usize>,
    main: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    loom::thread::spawn(main);
    Ok(())
}

/// Waits a little longer each time for what another thread is about to do.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    #[cfg(not(netpoll_loom))]
    step: u32,
}

impl Backoff {
    /// Whether what is waited for may still come sooner than a sleeping thread would wake.
    #[cfg(not(netpoll_loom))]
    pub(crate) fn is_worthwhile(&self) -> bool {
        self.step < 10
    }

    #[cfg(netpoll_loom)]
    pub(crate) fn is_worthwhile(&self) -> bool {
        false
    }

    /// Spins a few times, then offers the processor to whoever is being waited for.
    #[cfg(not(netpoll_loom))]
    pub(crate) fn snooze(&mut self) {
        if self.step < 6 {
            for _ in 0..1_u32 << self.step {
                std::hint::spin_loop();
            }
        } else {
            yield_now();
        }
        self.step = self.step.saturating_add(1);
    }

    #[cfg(netpoll_loom)]
    pub(crate) fn snooze(&mut self) {
        yield_now();
    }
}

#[cfg(netpoll_loom)]
pub(crate) use loom::thread_local;
#[cfg(not(netpoll_loom))]
pub(crate) use std::thread_local;
