//! Random operations against a map of what is out: live blocks are disjoint, large enough, and
//! nobody writes into them but their owner.

#![cfg(not(netpoll_loom))]

use std::collections::BTreeMap;

use mcache::{Block, Cache};

const CASES: u64 = if cfg!(miri) { 4 } else { 256 };
const OPERATIONS: usize = if cfg!(miri) { 60 } else { 500 };
/// Blocks out at a time, so that stocks and depot overflow and run dry in turn.
const LIVE: usize = 96;

/// A live block, and the byte it is filled with at both ends.
struct Held {
    block: Block,
    canary: u8,
}

#[derive(Default)]
struct Oracle {
    /// Start and end of what is live.
    ranges: BTreeMap<usize, usize>,
    held: Vec<Held>,
}

/// Writes the canary into the first and the last bytes.
fn mark(block: &mut Block, canary: u8) {
    let spare = block.spare();
    let len = spare.len();
    for byte in spare.iter_mut().take(64) {
        byte.write(canary);
    }
    for byte in &mut spare[len.saturating_sub(64)..] {
        byte.write(canary);
    }
}

fn check(held: &mut Held) {
    let len = held.block.capacity();
    let ptr = held.block.as_ptr();
    for at in (0..len.min(64)).chain(len.saturating_sub(64)..len) {
        // SAFETY: `mark` wrote these bytes.
        assert_eq!(unsafe { ptr.add(at).read() }, held.canary, "byte {at} of {len}");
    }
}

impl Oracle {
    fn enter(&mut self, mut block: Block, size: usize, canary: u8) {
        assert!(block.capacity().is_power_of_two() && block.capacity() >= size);
        assert!(block.is_empty() && block.asked() <= block.capacity());
        assert_eq!(block.as_ptr() as usize % 16, 0);
        self.add_range(&block);
        mark(&mut block, canary);
        self.held.push(Held { block, canary });
    }

    fn add_range(&mut self, block: &Block) {
        let start = block.as_ptr() as usize;
        let end = start + block.capacity();
        if let Some((_, &before)) = self.ranges.range(..end).next_back() {
            assert!(before <= start, "a block in the middle of another");
        }
        self.ranges.insert(start, end);
    }

    fn leave(&mut self, at: usize) -> Block {
        let mut held = self.held.swap_remove(at);
        check(&mut held);
        self.ranges.remove(&(held.block.as_ptr() as usize)).expect("known");
        held.block
    }
}

fn size(rng: &mut fastrand::Rng) -> usize {
    let power = rng.u32(0..if cfg!(miri) { 12 } else { 19 });
    rng.usize(0..=1 << power)
}

fn case(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    // Some caches are so small that everything overflows, some keep nothing.
    let limit = [64 << 20, 1 << 20, 64 << 10, 0][rng.usize(0..4)];
    let thread_limit = [8 << 20, 128 << 10, 4 << 10, 0][rng.usize(0..4)];
    let cache = Cache::builder()
        .limit(limit)
        .thread_limit(thread_limit)
        .keep(1 << rng.u32(0..20))
        .scrub(rng.u8(0..8) == 0)
        .decay(None)
        .build();
    let mut oracle = Oracle::default();
    for _ in 0..OPERATIONS {
        let canary = rng.u8(1..);
        match rng.u32(0..100) {
            0..45 if oracle.held.len() < LIVE => {
                let size = size(&mut rng);
                oracle.enter(cache.malloc(size), size, canary);
            }
            45..50 if oracle.held.len() < LIVE => {
                let (size, cap) = (size(&mut rng), size(&mut rng));
                oracle.enter(cache.malloc_with_capacity(size, cap), size.max(cap), canary);
            }
            // Runs of frees, so that bins overflow.
            50..60 => {
                for _ in 0..rng.usize(0..LIVE).min(oracle.held.len()) {
                    drop(oracle.leave(rng.usize(0..oracle.held.len())));
                }
            }
            60..64 if !oracle.held.is_empty() => {
                let mut block = oracle.leave(rng.usize(0..oracle.held.len()));
                if block.capacity() < 1 << 18 {
                    let capacity = block.capacity();
                    let n = capacity.min(64);
                    block.cursor().put_bytes(canary, n);
                    block.grow();
                    assert_eq!(block.capacity(), capacity * 2);
                    assert!(block.len() == n && block.iter().all(|&byte| byte == canary));
                    block.clear();
                }
                let capacity = block.capacity();
                oracle.enter(block, capacity, canary);
            }
            64..68 if !oracle.held.is_empty() => {
                // Out of the types and back, which moves a block to the global cache.
                let (ptr, capacity) = oracle.leave(rng.usize(0..oracle.held.len())).into_raw();
                // SAFETY: just given up.
                oracle.enter(unsafe { Block::from_raw(ptr, capacity) }, capacity, canary);
            }
            68..70 => {
                cache.trim();
                assert_eq!(cache.stats().bytes_held, 0);
            }
            70..72 => cache.hand_over(),
            72 => {
                // Freed by another thread, whose stock is handed back at its end.
                let n = rng.usize(0..=oracle.held.len().min(40));
                let blocks: Vec<Block> = (0..n).map(|_| oracle.leave(0)).collect();
                std::thread::spawn(move || drop(blocks)).join().expect("no panic");
            }
            _ if !oracle.held.is_empty() => drop(oracle.leave(rng.usize(0..oracle.held.len()))),
            _ => {}
        }
        let stats = cache.stats();
        assert!(stats.bytes_reserved <= limit && stats.bytes_held <= limit, "{stats:?}");
    }
    while !oracle.held.is_empty() {
        drop(oracle.leave(0));
    }
    let stats = cache.stats();
    assert_eq!(stats.bytes_out, 0, "{stats:?}");
}

#[test]
fn live_blocks_are_disjoint_and_theirs_alone() {
    for seed in 0..CASES {
        if let Err(panic) = std::panic::catch_unwind(|| case(seed)) {
            eprintln!("failed with seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
