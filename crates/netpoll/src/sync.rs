//! The one door to atomics, cells, locks and parking: std's in a normal build, loom's under
//! `--cfg netpoll_loom`, so that the models check the code that ships.

#[cfg(netpoll_loom)]
pub(crate) use loom::{
    cell,
    sync::{Condvar, Mutex, MutexGuard, atomic},
    thread,
};
#[cfg(not(netpoll_loom))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard, atomic},
    thread,
};

#[cfg(netpoll_loom)]
pub(crate) use loom::thread_local;
#[cfg(not(netpoll_loom))]
pub(crate) use std::thread_local;

/// Parks for a while. Loom knows no time: there it only lets the others go on.
pub(crate) fn park_timeout(timeout: std::time::Duration) {
    #[cfg(not(netpoll_loom))]
    thread::park_timeout(timeout);
    #[cfg(netpoll_loom)]
    {
        let _ = timeout;
        thread::yield_now();
    }
}

/// Std's cell behind loom's interface.
#[cfg(not(netpoll_loom))]
pub(crate) mod cell {
    /// `std::cell::UnsafeCell`, with accesses that loom can track when it takes this one's place.
    #[derive(Debug, Default)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        /// Runs `f` on a pointer for exclusive use.
        #[inline]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

/// A figure for people: nothing is read through it, so loom need not see it.
#[allow(unreachable_pub)] // Public in the scheduler's counters, which models see.
#[derive(Debug, Default)]
pub struct Counter(std::sync::atomic::AtomicU64);

#[allow(unreachable_pub)] // As above.
impl Counter {
    /// One more.
    pub fn count(&self) {
        // ORDERING: publishes nothing.
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    /// So many more.
    pub fn add(&self, n: u64) {
        // ORDERING: as above.
        self.0.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        // ORDERING: as above.
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Locks, whatever a panicking holder left behind: what these locks guard is consistent between
/// any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
