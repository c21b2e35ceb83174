//! Atomics, cells and fences: the standard library's, or loom's under `cfg(netpoll_loom)`.

#[cfg(netpoll_loom)]
pub(crate) use loom::sync::atomic;
#[cfg(not(netpoll_loom))]
pub(crate) use std::sync::atomic;

// Loom's `Arc` has no `Weak`, and what is counted here is not what the models are about.
pub(crate) use std::sync::Arc;

#[cfg(netpoll_loom)]
pub(crate) use loom::cell::UnsafeCell;

/// For memory that loom need not watch, because an [`UnsafeCell`] stands for it.
pub(crate) use std::cell::UnsafeCell as RawUnsafeCell;

#[cfg(not(netpoll_loom))]
pub(crate) use std::thread;

/// `std::cell::UnsafeCell` with the interface of loom's.
#[cfg(not(netpoll_loom))]
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(netpoll_loom))]
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

/// A function that is `const`, except with loom, whose atomics cannot be made in constants.
macro_rules! const_unless_loom {
    ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => {
        #[cfg(not(netpoll_loom))]
        $(#[$meta])*
        $vis const fn $($rest)*

        #[cfg(netpoll_loom)]
        $(#[$meta])*
        $vis fn $($rest)*
    };
}
pub(crate) use const_unless_loom;

/// An array in which each element is the value of this expression.
macro_rules! each {
    ($value:expr; $n:expr) => {{
        #[cfg(not(netpoll_loom))]
        let array = [const { $value }; $n];
        #[cfg(netpoll_loom)]
        let array: [_; $n] = std::array::from_fn(|_| $value);
        array
    }};
}
pub(crate) use each;

/// What a loop does before it tries again.
#[inline]
pub(crate) fn relax() {
    #[cfg(netpoll_loom)]
    loom::thread::yield_now();
    #[cfg(not(netpoll_loom))]
    std::thread::yield_now();
}

/// The cheap half of an asymmetric pair of fences: a store before it and a load behind it are not
/// exchanged as seen by a thread that calls [`heavy_fence`].
///
/// It costs no instruction where `heavy_fence` makes the kernel issue the barrier; where it cannot
/// be had, `heavy_fence` says so and nobody relies on the pair.
#[inline(always)]
pub(crate) fn light_fence() {
    #[cfg(netpoll_mutant = "seize_without_fence")]
    return;
    #[cfg(not(netpoll_mutant = "seize_without_fence"))]
    {
        // Miri and loom have no membarrier, but know what it stands for.
        #[cfg(any(netpoll_loom, miri))]
        atomic::fence(atomic::Ordering::SeqCst);
        #[cfg(not(any(netpoll_loom, miri)))]
        atomic::compiler_fence(atomic::Ordering::SeqCst);
    }
}

/// The dear half of the pair: a full barrier on every running thread of the process. False if this
/// system has none; then nothing is ordered.
#[cfg(any(netpoll_loom, miri))]
pub(crate) fn heavy_fence() -> bool {
    atomic::fence(atomic::Ordering::SeqCst);
    true
}

/// The dear half of the pair: a full barrier on every running thread of the process. False if this
/// system has none; then nothing is ordered.
#[cfg(all(target_os = "linux", not(any(netpoll_loom, miri))))]
pub(crate) fn heavy_fence() -> bool {
    use std::sync::OnceLock;

    // linux/membarrier.h
    const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: membarrier takes integers and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    static REGISTERED: OnceLock<bool> = OnceLock::new();
    *REGISTERED.get_or_init(|| membarrier(REGISTER_PRIVATE_EXPEDITED))
        && membarrier(PRIVATE_EXPEDITED)
}

/// The dear half of the pair; this system has none.
#[cfg(not(any(target_os = "linux", netpoll_loom, miri)))]
pub(crate) fn heavy_fence() -> bool {
    false
}

/// Has the allocator give free memory back to the kernel, where it has to be told: glibc keeps what
/// lies below the last block in use, so one small allocation can pin a gibibyte. Elsewhere, and
/// where the program has another allocator, this does next to nothing.
pub(crate) fn trim_allocator() {
    // SAFETY: malloc_trim may be called at any time, by any thread.
    #[cfg(all(target_os = "linux", target_env = "gnu", not(any(netpoll_loom, miri))))]
    unsafe {
        libc::malloc_trim(0);
    }
}
