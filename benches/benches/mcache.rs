//! What does a block cost, and what does it cost elsewhere?
//!
//! `cargo bench -p benches --features c-peers --bench mcache`

#![allow(missing_docs)] // criterion's macros make public functions

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const SIZES: [(usize, &str); 5] =
    [(64, "64B"), (1 << 10, "1KiB"), (4 << 10, "4KiB"), (64 << 10, "64KiB"), (1 << 20, "1MiB")];

/// Something that hands out memory by size and takes it back; it may be shared.
trait Source: Sync {
    const NAME: &'static str;

    /// At least `size` bytes.
    fn take(&self, size: usize) -> *mut u8;

    /// # Safety
    ///
    /// `ptr` is from `take` with the same size, and not used any more.
    unsafe fn give(&self, ptr: *mut u8, size: usize);

    /// A block taken, touched and given back.
    #[inline(always)]
    fn round(&self, size: usize) {
        let ptr = self.take(black_box(size));
        // SAFETY: at least one byte, just taken.
        unsafe {
            black_box(ptr).write(1);
            self.give(ptr, size);
        }
    }
}

struct Mcache;

impl Source for Mcache {
    const NAME: &'static str = "mcache";

    #[inline(always)]
    fn take(&self, size: usize) -> *mut u8 {
        mcache::malloc(size).into_raw().0.as_ptr()
    }

    #[inline(always)]
    unsafe fn give(&self, ptr: *mut u8, size: usize) {
        // SAFETY: the sizes here are powers of two, hence the capacity.
        drop(unsafe { mcache::Block::from_raw(std::ptr::NonNull::new_unchecked(ptr), size) });
    }

    #[inline(always)]
    fn round(&self, size: usize) {
        let mut block = mcache::malloc(black_box(size));
        // SAFETY: at least one byte.
        unsafe { black_box(block.as_mut_ptr()).write(1) };
        drop(block);
    }
}

struct Heap<A>(A);

macro_rules! heap {
    ($allocator:ty, $name:literal) => {
        impl Source for Heap<$allocator> {
            const NAME: &'static str = $name;

            #[inline(always)]
            fn take(&self, size: usize) -> *mut u8 {
                // SAFETY: not of size 0; 8 is a power of two.
                unsafe { self.0.alloc(Layout::from_size_align_unchecked(size, 8)) }
            }

            #[inline(always)]
            unsafe fn give(&self, ptr: *mut u8, size: usize) {
                // SAFETY: the caller's promise, and the layout of `take`.
                unsafe { self.0.dealloc(ptr, Layout::from_size_align_unchecked(size, 8)) }
            }
        }
    };
}

heap!(System, "system");
#[cfg(feature = "c-peers")]
heap!(mimalloc::MiMalloc, "mimalloc");
#[cfg(feature = "c-peers")]
heap!(tikv_jemallocator::Jemalloc, "jemalloc");

fn one<S: Source>(c: &mut Criterion, source: &S) {
    let mut group = c.benchmark_group("mcache_one_thread");
    for (size, name) in SIZES {
        group.bench_function(BenchmarkId::new(S::NAME, name), |b| b.iter(|| source.round(size)));
    }
}

#[cfg(feature = "peers")]
/// Object pools hold objects of one size each, so each size has its own.
fn one_pool(c: &mut Criterion) {
    use opool::PoolAllocator;

    struct Buffers(usize);
    impl PoolAllocator<Vec<u8>> for Buffers {
        fn allocate(&self) -> Vec<u8> {
            Vec::with_capacity(self.0)
        }
    }

    let mut group = c.benchmark_group("mcache_one_thread");
    for (size, name) in SIZES {
        let pool = object_pool::Pool::new(64, || Vec::<u8>::with_capacity(size));
        group.bench_function(BenchmarkId::new("object-pool", name), |b| {
            b.iter(|| {
                let mut buf = pool.pull(|| Vec::with_capacity(size));
                // SAFETY: at least one byte.
                unsafe { black_box(buf.as_mut_ptr()).write(1) };
            });
        });
        let pool = opool::Pool::new_prefilled(64, Buffers(size));
        group.bench_function(BenchmarkId::new("opool", name), |b| {
            b.iter(|| {
                let mut buf = pool.get();
                // SAFETY: at least one byte.
                unsafe { black_box(buf.as_mut_ptr()).write(1) };
            });
        });
    }
}

/// Keeps this thread on one processor, so that two threads are not measured on the same one.
fn pin(processor: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: a valid set; where the processor does not exist, the call fails and changes nothing.
    unsafe {
        let mut set = std::mem::zeroed::<libc::cpu_set_t>();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = processor;
}

/// Time for `iters` rounds on each of so many threads.
fn side_by_side<S: Source>(source: &S, threads: usize, size: usize, iters: u64) -> Duration {
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        let (source, start) = (&source, &start);
        let run = |processor| {
            pin(processor);
            // Each thread fetches its stock first.
            source.round(size);
            start.wait();
            let begin = Instant::now();
            for _ in 0..iters {
                source.round(size);
            }
            begin.elapsed()
        };
        let runs: Vec<_> = (0..threads).map(|at| scope.spawn(move || run(at))).collect();
        runs.into_iter().map(|run| run.join().expect("no panic")).max().expect("a thread")
    })
}

fn two<S: Source>(c: &mut Criterion, source: &S) {
    let mut group = c.benchmark_group("mcache_threads");
    for threads in [1, 2] {
        let id = BenchmarkId::new(S::NAME, threads);
        group.bench_function(id, |b| {
            b.iter_custom(|iters| side_by_side(source, threads, 4096, iters))
        });
    }
}

/// One thread takes, another gives back, through a ring of plain slots.
fn pipe<S: Source>(source: &S, size: usize, iters: u64) -> Duration {
    let ring: Vec<AtomicPtr<u8>> = (0..256).map(|_| AtomicPtr::default()).collect();
    let start = Barrier::new(2);
    let backoff = |tries: &mut u32| {
        *tries += 1;
        if *tries % 64 == 0 { thread::yield_now() } else { std::hint::spin_loop() }
    };
    thread::scope(|scope| {
        let consumer = scope.spawn(|| {
            pin(1);
            start.wait();
            for at in 0..iters as usize {
                let slot = &ring[at % ring.len()];
                let mut tries = 0;
                let ptr = loop {
                    let ptr = slot.load(Ordering::Acquire);
                    if !ptr.is_null() {
                        break ptr;
                    }
                    backoff(&mut tries);
                };
                slot.store(std::ptr::null_mut(), Ordering::Release);
                // SAFETY: from the producer, through the slot.
                unsafe {
                    black_box(ptr.read());
                    source.give(ptr, size);
                }
            }
        });
        let producer = || {
            pin(0);
            start.wait();
            let begin = Instant::now();
            for at in 0..iters as usize {
                let ptr = source.take(black_box(size));
                // SAFETY: at least one byte, just taken.
                unsafe { ptr.write(1) };
                let slot = &ring[at % ring.len()];
                let mut tries = 0;
                while !slot.load(Ordering::Acquire).is_null() {
                    backoff(&mut tries);
                }
                slot.store(ptr, Ordering::Release);
            }
            begin
        };
        let begin = scope.spawn(producer).join().expect("no panic");
        consumer.join().expect("no panic");
        begin.elapsed()
    })
}

fn pipeline<S: Source>(c: &mut Criterion, source: &S) {
    let mut group = c.benchmark_group("mcache_pipeline");
    for (size, name) in [(64, "64B"), (4096, "4KiB")] {
        group.bench_function(BenchmarkId::new(S::NAME, name), |b| {
            b.iter_custom(|iters| pipe(source, size, iters));
        });
    }
}

fn each(c: &mut Criterion, source: &impl Source) {
    one(c, source);
    two(c, source);
    pipeline(c, source);
}

fn all(c: &mut Criterion) {
    each(c, &Mcache);
    each(c, &Heap(System));
    #[cfg(feature = "c-peers")]
    {
        each(c, &Heap(mimalloc::MiMalloc));
        each(c, &Heap(tikv_jemallocator::Jemalloc));
    }
    #[cfg(feature = "peers")]
    one_pool(c);
}

criterion_group! {
    name = benches;
    // Some forty measurements in about a minute.
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(900));
    targets = all
}
criterion_main!(benches);
