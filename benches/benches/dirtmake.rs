//! What does zeroing cost, and what does leaving it out cost?
//!
//! `cargo bench -p benches --bench dirtmake`

#![allow(missing_docs)] // criterion's macros make public functions

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const SIZES: [(usize, &str); 3] = [(4 << 10, "4KiB"), (64 << 10, "64KiB"), (1 << 20, "1MiB")];

/// Made, first byte written, dropped: the price of the memory.
fn make(c: &mut Criterion) {
    let mut group = c.benchmark_group("dirtmake_make");
    for (size, name) in SIZES {
        group.bench_function(BenchmarkId::new("dirtmake", name), |b| {
            b.iter(|| {
                let mut buf = dirtmake::bytes(0, black_box(size));
                buf.spare()[0].write(1);
                black_box(buf.as_mut_ptr());
            });
        });
        group.bench_function(BenchmarkId::new("with_capacity", name), |b| {
            b.iter(|| {
                let mut buf = Vec::<u8>::with_capacity(black_box(size));
                buf.spare_capacity_mut()[0].write(1);
                black_box(buf.as_mut_ptr());
            });
        });
        group.bench_function(BenchmarkId::new("vec_zeroed", name), |b| {
            b.iter(|| {
                let mut buf = vec![0_u8; black_box(size)];
                buf[0] = 1;
                black_box(buf.as_mut_ptr());
            });
        });
    }
}

/// Made, filled from a source, dropped: what a program that reads does.
fn fill(c: &mut Criterion) {
    let source = vec![7_u8; 1 << 20];
    let mut group = c.benchmark_group("dirtmake_fill");
    for (size, name) in SIZES {
        let source = &source[..size];
        group.bench_function(BenchmarkId::new("dirtmake", name), |b| {
            b.iter(|| {
                let mut buf = dirtmake::bytes(0, black_box(size));
                buf.cursor().put_slice(black_box(source));
                black_box(buf.as_ptr());
            });
        });
        group.bench_function(BenchmarkId::new("with_capacity", name), |b| {
            b.iter(|| {
                let mut buf = Vec::<u8>::with_capacity(black_box(size));
                buf.extend_from_slice(black_box(source));
                black_box(buf.as_ptr());
            });
        });
        group.bench_function(BenchmarkId::new("vec_zeroed", name), |b| {
            b.iter(|| {
                let mut buf = vec![0_u8; black_box(size)];
                buf.copy_from_slice(black_box(source));
                black_box(buf.as_ptr());
            });
        });
        // Memory that was used before, as a program's heap soon is: zeroing it is work for the
        // processor, for the kernel has no fresh zero pages to offer.
        group.bench_function(BenchmarkId::new("zeroed_again", name), |b| {
            let mut buf = vec![0_u8; size];
            b.iter(|| {
                buf.fill(0);
                black_box(buf.as_mut_ptr());
                buf.copy_from_slice(black_box(source));
                black_box(buf.as_ptr());
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(900));
    targets = make, fill
}
criterion_main!(benches);
