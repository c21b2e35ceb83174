//! What two threads get done, each on its own, compared with one: for mcache, and for a loop that
//! touches no memory at all, which shows what this machine has to give (two hyper-threads of one
//! core are not two cores).
//!
//! `cargo run --release -p mcache --example scaling`
//!
//! Short rounds in turns, and of each the best: others on the machine can only make one slower.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 150;
const STEPS: u64 = 200_000;

fn blocks() {
    for _ in 0..STEPS {
        let mut block = mcache::malloc(black_box(4096));
        // SAFETY: at least one byte.
        unsafe { black_box(block.as_mut_ptr()).write(1) };
    }
}

fn arithmetic() {
    let mut x = black_box(1_u64);
    for _ in 0..STEPS {
        for _ in 0..3 {
            x = black_box(x.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        }
    }
}

/// Time per step when so many threads do the same at a time.
fn round(threads: usize, work: fn()) -> Duration {
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        let run = || {
            work();
            start.wait();
            let begin = Instant::now();
            work();
            begin.elapsed()
        };
        let runs: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        runs.into_iter().map(|run| run.join().expect("no panic")).max().expect("a thread")
    })
}

fn main() {
    let kinds: [(&str, fn()); 2] = [("arithmetic", arithmetic), ("mcache", blocks)];
    let mut best = [[Duration::MAX; 2]; 2];
    for _ in 0..ROUNDS {
        for (best, (_, work)) in best.iter_mut().zip(kinds) {
            for (best, threads) in best.iter_mut().zip(1..) {
                *best = round(threads, work).min(*best);
            }
        }
    }
    for ([one, two], (name, _)) in best.into_iter().zip(kinds) {
        let ns = |time: Duration| time.as_nanos() as f64 / STEPS as f64;
        let times = 2.0 * ns(one) / ns(two);
        println!(
            "{name:>10}: {:.2} ns alone, {:.2} ns beside another: {times:.2} times the throughput",
            ns(one),
            ns(two)
        );
    }
}
