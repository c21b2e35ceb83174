//! Threads that end, threads that sleep, and what is kept meanwhile.

#![cfg(not(netpoll_loom))]

use std::cell::RefCell;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mcache::{Block, Cache};

/// Waits, with an end, until something holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "still not: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn quiet() -> mcache::Builder {
    Cache::builder().decay(None)
}

#[test]
fn a_thread_that_ends_hands_its_stock_back() {
    let cache = quiet().build();
    let blocks: Vec<Block> = (0..10).map(|_| cache.malloc(1000)).collect();
    thread::spawn(move || drop(blocks)).join().unwrap();
    let stats = cache.stats();
    assert_eq!((stats.threads, stats.bytes_held, stats.bytes_out), (1, 10 * 1024, 0));
    // All of them are there for this thread.
    let blocks: Vec<Block> = (0..10).map(|_| cache.malloc(1000)).collect();
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses), (10, 10));
    drop(blocks);
    // The next thread takes over the stock of the first.
    let clone = cache.clone();
    thread::spawn(move || drop(clone.malloc(1))).join().unwrap();
    assert_eq!(cache.stats().threads, 1);
}

#[test]
fn blocks_come_and_go_while_a_thread_ends() {
    struct Late(Option<Block>);

    impl Drop for Late {
        fn drop(&mut self) {
            self.0 = None;
            let mut block = mcache::malloc(300);
            block.cursor().put_slice(b"late");
            assert_eq!(&block[..], b"late");
            drop(Cache::builder().build().malloc(300));
        }
    }

    thread_local! {
        static BEFORE: RefCell<Late> = const { RefCell::new(Late(None)) };
        static AFTER: RefCell<Late> = const { RefCell::new(Late(None)) };
    }

    thread::spawn(|| {
        // Destructors of thread-locals run in an order that nobody promises: have one on each side.
        BEFORE.with(|late| late.borrow_mut().0 = None);
        let block = mcache::malloc(200);
        BEFORE.with(|late| late.borrow_mut().0 = Some(block));
        AFTER.with(|late| late.borrow_mut().0 = Some(mcache::malloc(200)));
    })
    .join()
    .unwrap();
}

#[test]
fn a_private_cache_lives_as_long_as_its_blocks() {
    let cache = quiet().build();
    let mut block = cache.malloc(64);
    drop(cache.malloc(64));
    drop(cache);
    block.cursor().put_slice(b"still there");
    thread::spawn(move || drop(block)).join().unwrap();
}

#[test]
fn nothing_is_kept_beyond_the_limits() {
    let cache = quiet().limit(1 << 20).thread_limit(64 << 10).build();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..if cfg!(miri) { 2 } else { 50 } {
                    let size = 100 << (round % 8);
                    let blocks: Vec<Block> = (0..100).map(|_| cache.malloc(size)).collect();
                    drop(blocks);
                    let stats = cache.stats();
                    assert!(stats.bytes_reserved <= 1 << 20, "{stats:?}");
                }
            });
        }
    });
    let stats = cache.stats();
    assert_eq!(stats.bytes_out, 0, "{stats:?}");
    assert!(stats.bytes_held <= 1 << 20, "{stats:?}");
    cache.set_limit(10_000);
    let stats = cache.stats();
    assert!(stats.bytes_held <= 10_000, "{stats:?}");
}

#[test]
fn blocks_too_large_to_keep_go_straight_back() {
    let cache = quiet().keep(1 << 20).build();
    drop(cache.malloc(1 << 20));
    assert_eq!(cache.stats().bytes_held, 1 << 20);
    let mut block = cache.malloc((1 << 20) + 1);
    block.cursor().put_slice(b"moved, not copied by us");
    block.grow();
    assert_eq!((block.capacity(), &block[..5]), (4 << 20, &b"moved"[..]));
    assert_eq!(cache.stats().bytes_out, 4 << 20);
    drop(block);
    assert_eq!(cache.stats().bytes_held, 1 << 20);
}

/// In-flight memory is not touched here: `examples/decay.rs` does that and shows resident memory.
#[test]
#[cfg(target_pointer_width = "64")]
fn of_a_gibibyte_in_flight_the_limit_stays_and_then_nothing() {
    let cache = Cache::builder().decay(Some(Duration::from_millis(50))).build();
    let count = if cfg!(miri) { 16 } else { 1 << 14 };
    let blocks: Vec<Block> = (0..count).map(|_| cache.malloc(64 << 10)).collect();
    assert_eq!(cache.stats().bytes_out, count * (64 << 10));
    drop(blocks);
    let stats = cache.stats();
    assert!(stats.bytes_held <= 64 << 20, "{stats:?}");
    assert_eq!(stats.bytes_out, 0);
    // This thread does nothing with the cache meanwhile.
    if cfg!(any(target_os = "linux", miri)) {
        eventually("all of it gone", || cache.stats().bytes_held == 0);
        assert_eq!(cache.stats().bytes_reserved, 0);
    }
}

#[test]
#[cfg(any(target_os = "linux", miri))]
fn what_a_sleeping_thread_keeps_decays_too() {
    let cache = Cache::builder().decay(Some(Duration::from_millis(20))).build();
    let (wake, sleep) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let sleeper = thread::spawn({
        let cache = cache.clone();
        move || {
            drop(cache.malloc(5000));
            tell.send(cache.stats().bytes_held).unwrap();
            sleep.recv().unwrap();
            // And the stock works again.
            drop(cache.malloc(5000));
            drop(cache.malloc(5000));
        }
    });
    assert_eq!(told.recv().unwrap(), 8192);
    eventually("the sleeper's block gone", || cache.stats().bytes_held == 0);
    wake.send(()).unwrap();
    sleeper.join().unwrap();
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses), (1, 2));
}

#[test]
fn what_is_used_does_not_decay() {
    let cache = Cache::builder().decay(Some(Duration::from_millis(20))).build();
    let end = Instant::now() + Duration::from_millis(if cfg!(miri) { 40 } else { 200 });
    while Instant::now() < end {
        drop(cache.malloc(100));
    }
    // Being descheduled for a decay time is possible, all the time is not.
    assert!(cache.stats().misses < 20, "{:?}", cache.stats());
}

#[test]
fn many_threads_pass_blocks_around() {
    let rounds = if cfg!(miri) { 20 } else { 5_000 };
    let cache =
        Cache::builder().thread_limit(16 << 10).decay(Some(Duration::from_millis(1))).build();
    let (send, receive) = mpsc::sync_channel::<Block>(64);
    thread::scope(|scope| {
        for thread in 0..3_u8 {
            let (cache, send) = (&cache, send.clone());
            scope.spawn(move || {
                for round in 0..rounds {
                    let mut block = cache.malloc(1 << (round % 12));
                    let n = block.capacity();
                    block.cursor().put_bytes(thread, n);
                    send.send(block).unwrap();
                }
            });
        }
        drop(send);
        scope.spawn(|| {
            for block in receive {
                assert!(block.iter().all(|&byte| byte == block[0]));
            }
        });
    });
    assert_eq!(cache.stats().bytes_out, 0, "{:?}", cache.stats());
}

#[test]
fn scrubbed_blocks_come_back_as_zeros() {
    let cache = quiet().scrub(true).build();
    let mut block = cache.malloc(4096);
    block.cursor().put_bytes(7, 4096);
    let at = block.as_ptr();
    drop(block);
    let block = cache.malloc(4096);
    assert_eq!(block.as_ptr(), at);
    // SAFETY: `scrub` wrote all of it; without a stock's or depot's links, for it was in neither's.
    let bytes = unsafe { std::slice::from_raw_parts(at, 4096) };
    assert!(bytes.iter().all(|&byte| byte == 0));
}
