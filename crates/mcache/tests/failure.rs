//! Every allocation that mcache makes fails once: an error, nothing changed, nothing leaked.

#![cfg(not(any(netpoll_loom, miri)))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::thread;

use mcache::{Block, Cache};

/// Fails the allocation of this thread that its countdown points at.
struct Failing;

thread_local! {
    static COUNTDOWN: Cell<Option<usize>> = const { Cell::new(None) };
    static ONCE: Cell<bool> = const { Cell::new(false) };
}

/// Bytes that are allocated, in the whole process.
static LIVE: AtomicIsize = AtomicIsize::new(0);

fn fails_now() -> bool {
    COUNTDOWN.with(|countdown| match countdown.get() {
        None => false,
        Some(0) => {
            if ONCE.with(Cell::get) {
                countdown.set(None);
            }
            true
        }
        Some(n) => {
            countdown.set(Some(n - 1));
            false
        }
    })
}

// SAFETY: the system's allocator, or nothing.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails_now() {
            return std::ptr::null_mut();
        }
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if fails_now() {
            return std::ptr::null_mut();
        }
        LIVE.fetch_add(size as isize - layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Failing = Failing;

fn cache() -> Cache {
    // No reaper: starting a thread is the standard library's business, which aborts without memory.
    Cache::builder().decay(None).build()
}

/// Has the standard library set up what it needs for the thread-locals of this thread.
fn warm_up() {
    static WARM: LazyLock<Cache> = LazyLock::new(cache);
    drop(WARM.malloc(1));
}

/// Takes all paths: hit, depot, miss, growth, too large to keep. Says how many errors there were.
fn work(cache: &Cache, blocks: &mut Vec<Block>) -> usize {
    let mut errors = 0;
    for size in [10, 1000, 100_000, 1 << 20, 9 << 20, 20 << 20] {
        for _ in 0..3 {
            let Ok(mut block) =
                cache.try_malloc(size).inspect_err(|err| assert!(!err.is_too_large()))
            else {
                errors += 1;
                continue;
            };
            block.cursor().put_slice(b"kept");
            let before = (block.as_ptr(), block.capacity());
            match block.try_grow() {
                Ok(()) => assert_eq!(block.capacity(), before.1 * 2),
                Err(_) => {
                    assert_eq!((block.as_ptr(), block.capacity()), before);
                    errors += 1;
                }
            }
            assert_eq!(&block[..], b"kept");
            blocks.push(block);
        }
        blocks.truncate(2);
        cache.hand_over();
    }
    blocks.clear();
    errors
}

/// The same, in which one allocation fails, alone or with all that follow.
fn work_with(cache: &Cache, fail_at: Option<usize>, once: bool) -> usize {
    let mut blocks = Vec::with_capacity(64);
    ONCE.with(|cell| cell.set(once));
    COUNTDOWN.with(|countdown| countdown.set(fail_at));
    let errors = work(cache, &mut blocks);
    COUNTDOWN.with(|countdown| countdown.set(None));
    errors
}

#[test]
fn every_failing_allocation_is_an_error() {
    let run = |fail_at: Option<usize>, once: bool| {
        let cache = cache();
        thread::spawn(move || {
            warm_up();
            let errors = work_with(&cache, fail_at, once);
            assert_eq!(cache.stats().bytes_out, 0);
            cache.trim();
            assert_eq!(cache.stats().bytes_held, 0);
            assert_eq!(cache.stats().bytes_reserved, 0);
            errors
        })
        .join()
        .expect("no panic")
    };
    // The harness's own thread may allocate beside it, once: a leak comes back at every run.
    let run_without_leak = |fail_at: usize, once: bool| {
        for _ in 0..3 {
            let before = LIVE.load(Ordering::Relaxed);
            let errors = run(Some(fail_at), once);
            if LIVE.load(Ordering::Relaxed) == before {
                return errors;
            }
        }
        panic!("leaked, failing at {fail_at}, once: {once}");
    };
    assert_eq!(run(None, false), 0);
    let mut failed = 0;
    for fail_at in 0.. {
        let errors = run_without_leak(fail_at, false);
        failed += run_without_leak(fail_at, true);
        if errors == 0 {
            // The work has no more allocations than that.
            break;
        }
    }
    assert!(failed > 20, "{failed}");
}
