//! Where atomics, locks and shared pointers come from: the standard library, or the model
//! checker's stand-ins under `--cfg netpoll_loom`.

#[cfg(netpoll_loom)]
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(netpoll_loom)]
pub(crate) use loom::{cell, lazy_static, sync::Condvar, sync::atomic};

#[cfg(not(netpoll_loom))]
pub(crate) use std::sync::atomic;
#[cfg(not(netpoll_loom))]
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use std::sync::PoisonError;

/// The standard cell with the model checker's two ways in.
#[cfg(not(netpoll_loom))]
pub(crate) mod cell {
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> UnsafeCell<T> {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

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

/// Locks. What the locks of this crate guard is valid between any two statements, so a panic
/// elsewhere is no reason to refuse it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for reading; see [`lock`].
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for writing; see [`lock`].
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// A statistic: it orders nothing and nothing is published by it, so it is relaxed throughout, and
/// the model checker is spared looking at it.
#[derive(Debug, Default)]
pub(crate) struct Counter(std::sync::atomic::AtomicU64);

impl Counter {
    /// Adds `n`, from any thread.
    pub(crate) fn add(&self, n: u64) {
        // ORDERING: Relaxed throughout this type, as its comment says.
        self.0.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    }

    /// Adds `n` where one thread at a time does: no read-modify-write.
    pub(crate) fn add_alone(&self, n: u64) {
        // ORDERING: as in `add`.
        self.0.store(self.get().wrapping_add(n), std::sync::atomic::Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        // ORDERING: as in `add`.
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}
