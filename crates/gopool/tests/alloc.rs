//! In steady state, small tasks cost no allocation. Alone in its process, since the allocator
//! counts for all threads.
#![cfg(not(netpoll_loom))]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use gopool::Pool;

struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: counts, and leaves the work to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        CALLS.fetch_add(1, SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn small_tasks_cost_no_allocation() {
    let pool = Pool::builder().cap(3).queue_limit(256).build().unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let total = |rounds: usize| rounds * 1_010;
    let round = || {
        // A burst beyond the queue limit, which waits for room, and a few that wake sleepers.
        for i in 0..1_010 {
            let (ran, ballast) = (Arc::clone(&ran), [i; 4]);
            pool.go(move || {
                assert_eq!(ballast[3], i);
                ran.fetch_add(1, SeqCst);
            })
            .unwrap();
            if i >= 1_000 {
                thread::sleep(Duration::from_micros(300));
            }
        }
    };
    let settle = |rounds| {
        while ran.load(SeqCst) < total(rounds) || pool.stats().parked < pool.worker_count() {
            thread::yield_now();
        }
    };

    // The cap is reached, so that no thread is started later.
    let barrier = Arc::new(std::sync::Barrier::new(4));
    for _ in 0..3 {
        let barrier = Arc::clone(&barrier);
        pool.go(move || {
            barrier.wait();
        })
        .unwrap();
    }
    barrier.wait();
    round();
    settle(1);

    let before = CALLS.load(SeqCst);
    for rounds in 2..12 {
        round();
        settle(rounds);
    }
    assert_eq!(CALLS.load(SeqCst) - before, 0);
    assert_eq!(pool.stats().threads_started, 3);

    // One word more than fits is boxed: the counter counts.
    let ballast = [1_usize; gopool::INLINE_TASK_SIZE / size_of::<usize>() + 1];
    pool.go(move || assert_eq!(ballast[6], 1)).unwrap();
    settle(11);
    assert!(CALLS.load(SeqCst) - before >= 2);
}
