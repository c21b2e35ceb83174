//! Counts the allocations of a program that knows nothing of it, by `LD_PRELOAD`.
//!
//! `NETPOLL_ALLOCS` names a file of 8 bytes, in which the count is kept for whoever maps or reads it.
//! Programs that allocate without libc's `malloc` cannot be counted.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(old: *mut c_void, size: usize) -> *mut c_void;
    fn __libc_memalign(align: usize, size: usize) -> *mut c_void;
}

/// Where the count is before the file is mapped, and if it cannot be.
static SPARE: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

fn count() {
    // ORDERING: Relaxed throughout: only the sum matters, and whoever reads it waits long before.
    let count = COUNT.load(Ordering::Relaxed);
    // SAFETY: null, or the mapping made by `start`, which lives as long as the process.
    let count = unsafe { count.as_ref() }.unwrap_or(&SPARE);
    count.fetch_add(1, Ordering::Relaxed);
}

/// Maps the file; the loader calls it before `main`.
extern "C" fn start() {
    // SAFETY: called by the loader while there is one thread; the mapping is shared and 8 bytes long,
    // as the file is.
    unsafe {
        let path = libc::getenv(c"NETPOLL_ALLOCS".as_ptr());
        if path.is_null() {
            return;
        }
        let fd = libc::open(path, libc::O_RDWR | libc::O_CLOEXEC);
        if fd < 0 {
            return;
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let at = libc::mmap(ptr::null_mut(), 8, protection, libc::MAP_SHARED, fd, 0);
        libc::close(fd);
        if at != libc::MAP_FAILED {
            COUNT.store(at.cast(), Ordering::Relaxed);
        }
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

/// # Safety
/// That of `malloc(3)`, as for all below.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    count();
    // SAFETY: the caller's.
    unsafe { __libc_malloc(size) }
}

/// # Safety
/// That of `calloc(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn calloc(items: usize, size: usize) -> *mut c_void {
    count();
    // SAFETY: the caller's.
    unsafe { __libc_calloc(items, size) }
}

/// # Safety
/// That of `realloc(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(old: *mut c_void, size: usize) -> *mut c_void {
    count();
    // SAFETY: the caller's.
    unsafe { __libc_realloc(old, size) }
}

/// # Safety
/// That of `aligned_alloc(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    count();
    // SAFETY: the caller's.
    unsafe { __libc_memalign(align, size) }
}

/// # Safety
/// That of `posix_memalign(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int {
    count();
    // SAFETY: the caller's.
    let at = unsafe { __libc_memalign(align, size) };
    if at.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller's: `out` takes the result.
    unsafe { *out = at };
    0
}
