//! A gibibyte in flight, all of it touched and freed, then quiet: what is kept, and what is
//! resident, second by second.
//!
//! `cargo run --release -p mcache --example decay -- 10`, with the decay time in seconds.

use std::time::{Duration, Instant};

use mcache::Cache;

fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).unwrap_or(0) >> 10
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(10);
    let cache = Cache::global();
    cache.set_decay(Some(Duration::from_secs(seconds)));
    for size in [4 << 10, 64 << 10, 1 << 20] {
        let blocks: Vec<_> = (0..(1 << 30) / size)
            .map(|_| {
                let mut block = mcache::malloc(size);
                block.cursor().put_bytes(1, size);
                block
            })
            .collect();
        println!(
            "blocks of {size}: {} MiB out, {} MiB resident",
            cache.stats().bytes_out >> 20,
            resident_mib()
        );
        drop(blocks);
        let freed = Instant::now();
        while freed.elapsed() < Duration::from_secs(seconds + 1) {
            println!(
                "  {:>4.1} s after: {:>3} MiB held, {:>4} MiB resident",
                freed.elapsed().as_secs_f64(),
                cache.stats().bytes_held >> 20,
                resident_mib()
            );
            std::thread::sleep(Duration::from_millis(1000 * seconds / 4));
        }
        println!(
            "  then: {} MiB held, {} MiB resident",
            cache.stats().bytes_held >> 20,
            resident_mib()
        );
    }
}
