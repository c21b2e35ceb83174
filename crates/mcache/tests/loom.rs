//! Models of what threads share, on the shipped types:
//! `RUSTFLAGS="--cfg netpoll_loom" cargo test -p mcache --profile loom --test loom`
//!
//! Each is shown to fail with a planted mistake: `--cfg netpoll_mutant="…"`, see `mutants.txt`.

#![cfg(netpoll_loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use mcache::model::{Address, Local, Shared};

/// A few blocks, each with a cell that only its owner may touch: loom reports a block that two
/// threads have at a time, or that is passed on without its bytes being published.
struct Watched {
    shared: Shared,
    blocks: Vec<(Address, UnsafeCell<()>)>,
}

impl Watched {
    fn new(blocks_per_thread: usize, blocks: usize) -> Arc<Self> {
        let shared = Shared::new(blocks_per_thread);
        let blocks = (0..blocks).map(|_| (shared.malloc(), UnsafeCell::new(()))).collect();
        Arc::new(Watched { shared, blocks })
    }

    fn block(&self, at: usize) -> Address {
        self.blocks[at].0
    }

    /// The owner writes to the block.
    fn touch(&self, block: Address) {
        if let Some((_, cell)) = self.blocks.iter().find(|(address, _)| *address == block) {
            cell.with_mut(|_| ());
        }
    }

    fn malloc(&self, local: &Local<'_>) -> Address {
        let block = local.malloc();
        self.touch(block);
        block
    }

    fn free(&self, local: &Local<'_>, block: Address) {
        self.touch(block);
        // SAFETY: each model gives each block back once.
        unsafe { local.free(block) }
    }

    fn free_without_stock(&self, block: Address) {
        self.touch(block);
        // SAFETY: as above.
        unsafe { self.shared.free(block) }
    }

    /// Nothing is out, nothing got lost, and all of it goes back to the allocator.
    fn all_home(&self) {
        let (held, out) = self.shared.count();
        assert_eq!(out, 0, "lost");
        self.shared.trim();
        assert!(held >= self.blocks.len());
        assert_eq!(self.shared.count(), (0, 0));
    }
}

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 10_000;
    builder.check(f);
}

/// Another thread frees while this one allocates: the block comes at most once, with its bytes.
#[test]
fn remote_free_against_local_malloc() {
    model(|| {
        let cache = Watched::new(1, 1);
        let remote = {
            let cache = cache.clone();
            thread::spawn(move || cache.free_without_stock(cache.block(0)))
        };
        let local = cache.shared.enlist();
        let block = cache.malloc(&local);
        cache.free(&local, block);
        remote.join().unwrap();
        drop(local);
        cache.all_home();
    });
}

/// Two threads want blocks and the depot has two: they never get the same one.
#[test]
fn two_take_from_the_depot() {
    model(|| {
        let cache = Watched::new(0, 2);
        cache.free_without_stock(cache.block(0));
        cache.free_without_stock(cache.block(1));
        let other = {
            let cache = cache.clone();
            thread::spawn(move || {
                let block = cache.shared.malloc();
                cache.touch(block);
                block
            })
        };
        let block = cache.shared.malloc();
        cache.touch(block);
        let another = other.join().unwrap();
        assert_ne!(block, another);
        cache.free_without_stock(block);
        cache.free_without_stock(another);
        cache.all_home();
    });
}

/// Two threads free into the same slot of the depot: neither batch gets lost.
#[test]
fn two_put_into_the_depot() {
    model(|| {
        let cache = Watched::new(0, 2);
        let other = {
            let cache = cache.clone();
            thread::spawn(move || cache.free_without_stock(cache.block(0)))
        };
        cache.free_without_stock(cache.block(1));
        other.join().unwrap();
        cache.all_home();
    });
}

/// A thread ends and hands its stock back while another takes from the depot and enlists.
#[test]
fn thread_end_against_depot_pop() {
    model(|| {
        let cache = Watched::new(1, 1);
        let ending = {
            let cache = cache.clone();
            thread::spawn(move || {
                let local = cache.shared.enlist();
                cache.free(&local, cache.block(0));
            })
        };
        let block = cache.shared.malloc();
        cache.touch(block);
        let local = cache.shared.enlist();
        cache.free(&local, block);
        ending.join().unwrap();
        drop(local);
        cache.all_home();
    });
}

/// Two threads begin when one stock is free: only one gets it.
#[test]
fn two_adopt_a_stock() {
    model(|| {
        let cache = Watched::new(1, 0);
        drop(cache.shared.enlist());
        let begin = |cache: &Watched| {
            let local = cache.shared.enlist();
            let block = cache.malloc(&local);
            cache.free(&local, block);
        };
        let other = {
            let cache = cache.clone();
            thread::spawn(move || begin(&cache))
        };
        begin(&cache);
        other.join().unwrap();
        cache.all_home();
    });
}

/// One thread's bin overflows into the depot while another refills its own from there.
#[test]
fn batch_overflow_against_refill() {
    model(|| {
        let cache = Watched::new(1, 2);
        let freeing = {
            let cache = cache.clone();
            thread::spawn(move || {
                let local = cache.shared.enlist();
                cache.free(&local, cache.block(0));
                // Its stock is full: the older block goes.
                cache.free(&local, cache.block(1));
            })
        };
        let local = cache.shared.enlist();
        let first = cache.malloc(&local);
        cache.free(&local, first);
        freeing.join().unwrap();
        drop(local);
        cache.all_home();
    });
}

/// A stock is cleared out by another thread while its owner works on it.
#[test]
fn clearing_out_against_the_owner() {
    model(|| {
        let cache = Watched::new(1, 0);
        let other = {
            let cache = cache.clone();
            thread::spawn(move || cache.shared.trim())
        };
        let local = cache.shared.enlist();
        let block = local.malloc();
        // SAFETY: given back once, here and below.
        unsafe { local.free(block) };
        let block = local.malloc();
        // SAFETY: as above.
        unsafe { local.free(block) };
        other.join().unwrap();
        drop(local);
        cache.all_home();
    });
}
