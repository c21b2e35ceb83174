//! Atomics and cells: the standard library's, or loom's under `--cfg netpoll_loom`.

#[cfg(netpoll_loom)]
pub(crate) use loom::{cell::UnsafeCell, sync::atomic};

#[cfg(not(netpoll_loom))]
pub(crate) use std::sync::atomic;

#[cfg(not(netpoll_loom))]
pub(crate) use self::cell::UnsafeCell;

#[cfg(not(netpoll_loom))]
mod cell {
    /// The standard cell with loom's interface, so that the model checker can watch the accesses.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

/// The value of an atomic that only the caller's side stores to.
///
/// The model checker considers the latest access of an atomic only: a load of one's own value before each
/// store would hide from it that the other side has looked in between. So it is not told of this one.
#[inline(always)]
pub(crate) fn own(atomic: &atomic::AtomicUsize) -> usize {
    #[cfg(netpoll_loom)]
    // SAFETY: nobody else stores to it.
    return unsafe { atomic.unsync_load() };
    // ORDERING: Relaxed, one's own value.
    #[cfg(not(netpoll_loom))]
    atomic.load(atomic::Ordering::Relaxed)
}

/// A mistake that the model checker must notice, planted by `--cfg netpoll_mutant="NAME"`; without that cfg
/// only the right expression is compiled in. See `tests/mutants.txt`.
macro_rules! planted {
    ($name:literal, $wrong:expr, instead of $right:expr) => {{
        #[cfg(netpoll_mutant = $name)]
        {
            $wrong
        }
        #[cfg(not(netpoll_mutant = $name))]
        {
            $right
        }
    }};
}
pub(crate) use planted;

/// A number that no other call in this process returned.
///
/// Each thread takes them in batches. The counter is the standard library's in models too: nothing is
/// published through it, so there is nothing to check.
pub(crate) fn next_id() -> u64 {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU64, Ordering};

    const BATCH: u64 = 1 << 16;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local!(static OWN: Cell<u64> = const { Cell::new(0) });

    OWN.with(|own| {
        let mut id = own.get();
        if id % BATCH == 0 {
            // ORDERING: Relaxed, only the number itself matters.
            id = NEXT.fetch_add(BATCH, Ordering::Relaxed);
        }
        own.set(id + 1);
        id
    })
}
