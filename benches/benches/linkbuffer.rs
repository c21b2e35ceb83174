//! What does a byte buffer cost, for frames, proxies, scattered messages and between two threads, and what do
//! others cost?
//!
//! `cargo bench -p benches --features peers --bench linkbuffer`

#![allow(missing_docs)] // criterion's macros make public functions

use std::collections::VecDeque;
use std::hint::black_box;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use linkbuffer::{LinkBuffer, Reader, ReaderExt, Writer, WriterExt};

const BODY: [u8; 16 << 10] = [7; 16 << 10];

/// A buffer of length-prefixed frames: `count` are written and flushed, then all are read and given back.
trait Frames: Default {
    const NAME: &'static str;

    fn write(&mut self, body: &[u8]);

    /// Reads the header, and then the body, which is looked at where the buffer has it.
    fn read(&mut self);

    fn flush(&mut self) {}

    fn release(&mut self) {}
}

#[derive(Default)]
struct Ours(LinkBuffer);

impl Frames for Ours {
    const NAME: &'static str = "linkbuffer";

    #[inline(always)]
    fn write(&mut self, body: &[u8]) {
        let mut room = self.0.malloc(4 + body.len()).unwrap();
        room.put_u32(body.len() as u32).put_slice(body);
    }

    #[inline(always)]
    fn read(&mut self) {
        let n = u32::from_be_bytes(self.0.read_array().unwrap());
        black_box(self.0.next(n as usize).unwrap());
    }

    #[inline(always)]
    fn flush(&mut self) {
        self.0.flush().unwrap();
    }

    #[inline(always)]
    fn release(&mut self) {
        self.0.release();
    }
}

/// The bytes copied into a fixed array and out of it: what no buffer that copies can beat.
struct Copies {
    array: Box<[u8; 64 << 10]>,
    out: Box<[u8; 64 << 10]>,
    write: usize,
    read: usize,
}

impl Default for Copies {
    fn default() -> Copies {
        Copies { array: Box::new([0; 64 << 10]), out: Box::new([0; 64 << 10]), write: 0, read: 0 }
    }
}

impl Frames for Copies {
    const NAME: &'static str = "copy-in-and-out";

    #[inline(always)]
    fn write(&mut self, body: &[u8]) {
        let to = &mut self.array[self.write..][..4 + body.len()];
        to[..4].copy_from_slice(&(body.len() as u32).to_be_bytes());
        to[4..].copy_from_slice(body);
        self.write += 4 + body.len();
    }

    #[inline(always)]
    fn read(&mut self) {
        let from = &black_box(&self.array)[self.read..];
        let n = u32::from_be_bytes(from[..4].try_into().unwrap()) as usize;
        self.out[..4 + n].copy_from_slice(&from[..4 + n]);
        black_box(&self.out);
        self.read += 4 + n;
    }

    #[inline(always)]
    fn release(&mut self) {
        (self.write, self.read) = (0, 0);
    }
}

#[derive(Default)]
struct VecCursor(Vec<u8>, usize);

impl Frames for VecCursor {
    const NAME: &'static str = "vec-cursor";

    #[inline(always)]
    fn write(&mut self, body: &[u8]) {
        self.0.extend_from_slice(&(body.len() as u32).to_be_bytes());
        self.0.extend_from_slice(body);
    }

    #[inline(always)]
    fn read(&mut self) {
        let from = &black_box(&self.0)[self.1..];
        let n = u32::from_be_bytes(from[..4].try_into().unwrap()) as usize;
        black_box(&from[4..4 + n]);
        self.1 += 4 + n;
    }

    #[inline(always)]
    fn release(&mut self) {
        self.0.drain(..self.1);
        self.1 = 0;
    }
}

#[derive(Default)]
struct Deque(VecDeque<u8>, Vec<u8>);

impl Frames for Deque {
    const NAME: &'static str = "vecdeque";

    #[inline(always)]
    fn write(&mut self, body: &[u8]) {
        self.0.extend((body.len() as u32).to_be_bytes());
        self.0.extend(body);
    }

    #[inline(always)]
    fn read(&mut self) {
        let mut head = [0; 4];
        std::io::Read::read_exact(&mut self.0, &mut head).unwrap();
        self.1.resize(u32::from_be_bytes(head) as usize, 0);
        // It has its bytes in up to two places, so a message must be copied out.
        std::io::Read::read_exact(&mut self.0, &mut self.1).unwrap();
        black_box(&self.1);
    }
}

#[cfg(feature = "peers")]
mod peers {
    use bytes::{Buf, BufMut, BytesMut};

    use super::*;

    fn put(to: &mut BytesMut, body: &[u8]) {
        to.put_u32(body.len() as u32);
        to.put_slice(body);
    }

    /// Each message is handed out.
    #[derive(Default)]
    pub(crate) struct Split(BytesMut);

    impl Frames for Split {
        const NAME: &'static str = "bytesmut-split_to";

        #[inline(always)]
        fn write(&mut self, body: &[u8]) {
            put(&mut self.0, body);
        }

        #[inline(always)]
        fn read(&mut self) {
            let n = self.0.get_u32();
            black_box(self.0.split_to(n as usize));
        }
    }

    /// Each message is borrowed.
    #[derive(Default)]
    pub(crate) struct Advance(BytesMut);

    impl Frames for Advance {
        const NAME: &'static str = "bytesmut-advance";

        #[inline(always)]
        fn write(&mut self, body: &[u8]) {
            put(&mut self.0, body);
        }

        #[inline(always)]
        fn read(&mut self) {
            let n = self.0.get_u32() as usize;
            black_box(&self.0[..n]);
            self.0.advance(n);
        }
    }

    /// It has no reading side of its own: its buffer is read as a `BytesMut`.
    pub(crate) struct Linked(linkedbytes::LinkedBytes);

    impl Default for Linked {
        fn default() -> Linked {
            Linked(linkedbytes::LinkedBytes::with_capacity(8 << 10))
        }
    }

    impl Frames for Linked {
        const NAME: &'static str = "linkedbytes";

        #[inline(always)]
        fn write(&mut self, body: &[u8]) {
            put(self.0.bytes_mut(), body);
        }

        #[inline(always)]
        fn read(&mut self) {
            let bytes = self.0.bytes_mut();
            let n = bytes.get_u32() as usize;
            black_box(&bytes[..n]);
            bytes.advance(n);
        }
    }

    /// 64 KiB received in 4 KiB reads, handed over in one piece, and gathered.
    pub(crate) fn proxy_linkedbytes(
        c: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    ) {
        let mut from = BytesMut::with_capacity(1 << 20);
        c.bench_function(BenchmarkId::new("linkedbytes", PROXIED), |b| {
            b.iter(|| {
                let mut out = linkedbytes::LinkedBytes::with_capacity(1);
                for _ in 0..16 {
                    from.reserve(4096);
                    // SAFETY: the room is there; as after a system call, its bytes count as written.
                    unsafe {
                        touch(from.spare_capacity_mut().as_mut_ptr().cast());
                        from.set_len(4096);
                    }
                    out.insert(from.split().freeze());
                }
                black_box(out.io_slice().len())
            });
        });
    }

    pub(crate) fn ring(name: &str, size: usize, c: &mut Criterion) {
        let mut group = c.benchmark_group("linkbuffer/threads");
        group.throughput(Throughput::Bytes(size as u64)).sample_size(20);
        group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
        group.bench_function(BenchmarkId::new(name, size), |b| {
            b.iter_custom(|count| match name {
                "rtrb" => rtrb(size, count),
                _ => ringbuf(size, count),
            });
        });
    }

    fn rtrb(size: usize, count: u64) -> Duration {
        let (mut to, mut from) = rtrb::RingBuffer::<u8>::new(WINDOW);
        let mut to_read = BODY;
        between(
            count,
            move || {
                if to.slots() < size {
                    return false;
                }
                let (all, rest) = to.push_entire_slice_or(size);
                debug_assert!(all && rest);
                true
            },
            move || {
                let Ok(chunk) = from.read_chunk(size) else { return false };
                let (one, two) = chunk.as_slices();
                to_read[..one.len()].copy_from_slice(one);
                to_read[one.len()..size].copy_from_slice(two);
                chunk.commit_all();
                black_box(&to_read);
                true
            },
        )
    }

    trait PushEntire {
        fn push_entire_slice_or(&mut self, size: usize) -> (bool, bool);
    }

    impl PushEntire for rtrb::Producer<u8> {
        #[inline(always)]
        fn push_entire_slice_or(&mut self, size: usize) -> (bool, bool) {
            let mut chunk = self.write_chunk_uninit(size).unwrap();
            let (one, two) = chunk.as_mut_slices();
            // SAFETY: both are as long as the parts of the body that go there.
            unsafe {
                BODY.as_ptr().copy_to_nonoverlapping(one.as_mut_ptr().cast(), one.len());
                BODY.as_ptr()
                    .add(one.len())
                    .copy_to_nonoverlapping(two.as_mut_ptr().cast(), two.len());
                chunk.commit_all();
            }
            (true, true)
        }
    }

    fn ringbuf(size: usize, count: u64) -> Duration {
        use ringbuf::traits::{Consumer, Observer, Producer, Split};
        let (mut to, mut from) = ringbuf::HeapRb::<u8>::new(WINDOW).split();
        let mut to_read = BODY;
        between(
            count,
            move || to.vacant_len() >= size && to.push_slice(&BODY[..size]) == size,
            move || {
                if from.occupied_len() < size {
                    return false;
                }
                from.pop_slice(&mut to_read[..size]);
                black_box(&to_read);
                true
            },
        )
    }
}

fn frames<F: Frames>(c: &mut Criterion, group: &str, size: usize, count: usize) {
    let mut group = c.benchmark_group(format!("linkbuffer/{group}"));
    group.throughput(Throughput::Bytes(((size + 4) * count) as u64));
    group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    let mut buf = F::default();
    group.bench_function(BenchmarkId::new(F::NAME, size), |b| {
        b.iter(|| {
            for _ in 0..count {
                buf.write(black_box(&BODY[..size]));
            }
            buf.flush();
            for _ in 0..count {
                buf.read();
            }
            buf.release();
        });
    });
}

fn frame(c: &mut Criterion) {
    for_all(c, "frame", 1024, 1);
}

fn pipeline(c: &mut Criterion) {
    for_all(c, "pipeline", 64, 64);
}

fn for_all(c: &mut Criterion, group: &str, size: usize, count: usize) {
    frames::<Ours>(c, group, size, count);
    frames::<Copies>(c, group, size, count);
    #[cfg(feature = "peers")]
    {
        frames::<peers::Split>(c, group, size, count);
        frames::<peers::Advance>(c, group, size, count);
        frames::<peers::Linked>(c, group, size, count);
    }
    frames::<VecCursor>(c, group, size, count);
    frames::<Deque>(c, group, size, count);
}

const PROXIED: usize = 64 << 10;

/// Stands in for a system call that fills 4 KiB: it costs the same for all, so it is left out.
///
/// # Safety
///
/// There is a byte.
unsafe fn touch(to: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { black_box(to).write(1) };
}

fn proxy(c: &mut Criterion) {
    let mut group = c.benchmark_group("linkbuffer/proxy");
    group.throughput(Throughput::Bytes(PROXIED as u64));
    group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    // Released before it is appended, a block goes over as it is; appended first, it is shared for a while.
    // Who copies does so to another buffer, or to a vector that is kept.
    for name in ["linkbuffer", "linkbuffer-append-first", "linkbuffer-copying", "vec-copying"] {
        let (mut r, mut w) = LinkBuffer::new().into_split();
        let mut out = LinkBuffer::new();
        let mut copy: Vec<u8> = Vec::with_capacity(PROXIED);
        group.bench_function(BenchmarkId::new(name, PROXIED), |b| {
            b.iter(|| {
                let mut came = 0;
                while came < PROXIED {
                    let room = w.book(1).unwrap();
                    let n = room.len().min(PROXIED - came);
                    // SAFETY: the room is there; as after a system call, its bytes count as written.
                    unsafe {
                        touch(room.as_mut_ptr().cast());
                        w.book_ack(n);
                    }
                    came += n;
                }
                match name {
                    "linkbuffer" => {
                        let all = r.slice(PROXIED).unwrap();
                        r.release();
                        out.write_bytes(all).unwrap();
                    }
                    "linkbuffer-append-first" => {
                        out.write_bytes(r.slice(PROXIED).unwrap()).unwrap();
                        r.release();
                    }
                    _ => {
                        while !r.is_empty() {
                            let chunk = r.chunk();
                            match name {
                                "vec-copying" => copy.extend_from_slice(chunk),
                                _ => out.write_binary(chunk).unwrap(),
                            }
                            r.skip(chunk.len()).unwrap();
                        }
                        r.release();
                    }
                }
                if name == "vec-copying" {
                    black_box([IoSlice::new(&copy)]);
                    copy.clear();
                    return;
                }
                out.flush().unwrap();
                let mut parts = [IoSlice::new(&[]); 64];
                let n = out.fill_io_slices(&mut parts);
                black_box(&parts[..n]);
                out.skip(PROXIED).unwrap();
                out.release();
            });
        });
    }
    #[cfg(feature = "peers")]
    peers::proxy_linkedbytes(&mut group);
}

fn scattered(c: &mut Criterion) {
    const SIZE: usize = 1 << 20;
    let mut group = c.benchmark_group("linkbuffer/scattered");
    group.throughput(Throughput::Bytes(SIZE as u64));
    group.measurement_time(Duration::from_secs(3)).sample_size(50);
    // The message is there once, and shared; what is timed is joining its blocks.
    let parts: Vec<linkbuffer::Slice> = (0..SIZE / 4096).map(|_| vec![7_u8; 4096].into()).collect();
    let mut buf = LinkBuffer::new();
    group.bench_function(BenchmarkId::new("linkbuffer-next", SIZE), |b| {
        b.iter_custom(|count| {
            let mut time = Duration::ZERO;
            for _ in 0..count {
                parts.iter().for_each(|part| buf.write_bytes(part.clone()).unwrap());
                buf.flush().unwrap();
                let start = Instant::now();
                black_box(buf.next(SIZE).unwrap());
                time += start.elapsed();
                buf.release();
            }
            time
        });
    });
    let from = vec![7_u8; SIZE];
    group.bench_function(BenchmarkId::new("memcpy-into-fresh-memory", SIZE), |b| {
        b.iter_custom(|count| {
            let mut time = Duration::ZERO;
            for _ in 0..count {
                let start = Instant::now();
                let copy = black_box(&from[..]).to_vec();
                time += start.elapsed();
                drop(black_box(copy));
            }
            time
        });
    });
    let mut to = vec![7_u8; SIZE];
    group.bench_function(BenchmarkId::new("memcpy-into-warm-memory", SIZE), |b| {
        b.iter_custom(|count| {
            let mut time = Duration::ZERO;
            for _ in 0..count {
                let start = Instant::now();
                to.copy_from_slice(black_box(&from));
                time += start.elapsed();
                black_box(&to);
            }
            time
        });
    });
}

/// How many bytes may be on their way between two threads: the size of the rings.
const WINDOW: usize = 64 << 10;

/// Moves `count` messages from one thread to another, which copies them out: as those who use bytes, it
/// touches them. Each side says whether it could move one.
fn between(
    count: u64,
    mut send: impl FnMut() -> bool + Send,
    mut receive: impl FnMut() -> bool + Send + 'static,
) -> Duration {
    let start = Instant::now();
    let receiver = std::thread::spawn(move || {
        (0..count).for_each(|_| wait_until(&mut receive));
    });
    (0..count).for_each(|_| wait_until(&mut send));
    receiver.join().unwrap();
    start.elapsed()
}

#[inline(always)]
fn wait_until(step: &mut impl FnMut() -> bool) {
    let mut spins = 0;
    while !step() {
        spins += 1;
        // A machine with fewer free cores than threads must not spin away its turn.
        if spins < 200 { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

fn ours_between(size: usize, count: u64) -> Duration {
    let (mut r, mut w) = LinkBuffer::with_block_size(16 << 10).into_split();
    let mut occupied = 0;
    let mut to_read = BODY;
    between(
        count,
        move || {
            if occupied + size > WINDOW {
                occupied = w.occupied();
                if occupied + size > WINDOW {
                    return false;
                }
            }
            w.write_binary(&BODY[..size]).unwrap();
            occupied += w.flush().unwrap();
            true
        },
        move || {
            let Ok(bytes) = r.next(size) else { return false };
            to_read[..size].copy_from_slice(bytes);
            black_box(&to_read);
            r.release();
            true
        },
    )
}

fn threads(c: &mut Criterion) {
    for size in [64, 1 << 10, 16 << 10] {
        let mut group = c.benchmark_group("linkbuffer/threads");
        group.throughput(Throughput::Bytes(size as u64)).sample_size(20);
        group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
        group.bench_function(BenchmarkId::new("linkbuffer", size), |b| {
            b.iter_custom(|count| ours_between(size, count));
        });
        group.finish();
        #[cfg(feature = "peers")]
        ["rtrb", "ringbuf"].iter().for_each(|name| peers::ring(name, size, c));
    }
}

criterion_group!(benches, frame, pipeline, proxy, scattered, threads);
criterion_main!(benches);
