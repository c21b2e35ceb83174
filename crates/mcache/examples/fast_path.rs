//! The path of a block that this thread gave back before, for those who want to read the machine
//! code: see "What it costs" in the README.

use std::hint::black_box;

/// One block taken and given back.
#[unsafe(no_mangle)]
#[inline(never)]
pub fn mcache_round(size: usize) {
    let mut block = mcache::malloc(size);
    // SAFETY: at least one byte.
    unsafe { black_box(block.as_mut_ptr()).write(1) };
}

fn main() {
    for _ in 0..300_000_000 {
        mcache_round(black_box(4096));
    }
    println!("{:?}", mcache::Cache::global().stats());
}
