//! What does a byte buffer cost, for frames, proxies, scattered messages and between two threads, and what do
//! others cost?
//!
//! `cargo bench -p benches --features peers --bench linkbuffer`; with `-- --paired` all contenders take turns
//! in short slices, so that what else the machine does meets them alike, and a table is printed.

use std::collections::VecDeque;
use std::env;
use std::hint::black_box;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use benches::paired::{Medians, rounds, time};
use criterion::{BenchmarkId, Criterion, Throughput};
use linkbuffer::{LinkBuffer, ReadHalf, Reader, ReaderExt, WriteHalf, Writer, WriterExt};

const BODY: [u8; 16 << 10] = [7; 16 << 10];

/// What all contenders do, ours the first of them.
struct Question {
    name: &'static str,
    bytes: usize,
    field: Vec<Contender>,
}

struct Contender {
    name: &'static str,
    /// Does it so many times, and says how long that took.
    run: Box<dyn FnMut(u64) -> Duration>,
    /// How many times as long as ours it is to take.
    bar: Option<f64>,
}

impl Contender {
    fn new(name: &'static str, run: impl FnMut(u64) -> Duration + 'static) -> Contender {
        Contender { name, run: Box::new(run), bar: None }
    }

    fn looped(name: &'static str, mut once: impl FnMut() + 'static) -> Contender {
        Contender::new(name, move |count| {
            let start = Instant::now();
            (0..count).for_each(|_| once());
            start.elapsed()
        })
    }

    fn bar(mut self, bar: f64) -> Contender {
        self.bar = Some(bar);
        self
    }
}

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
    pub(crate) fn proxy_linkedbytes() -> Contender {
        let mut from = BytesMut::with_capacity(1 << 20);
        Contender::looped("linkedbytes", move || {
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
            black_box(out.io_slice().len());
        })
    }

    pub(crate) fn rings(size: usize) -> [Contender; 2] {
        [
            Contender::new("rtrb", move |count| rtrb(size, count)).bar(1.0),
            Contender::new("ringbuf", move |count| ringbuf(size, count)).bar(1.0),
        ]
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

fn frames<F: Frames + 'static>(size: usize, count: usize) -> Contender {
    let mut buf = F::default();
    Contender::looped(F::NAME, move || {
        for _ in 0..count {
            buf.write(black_box(&BODY[..size]));
        }
        buf.flush();
        for _ in 0..count {
            buf.read();
        }
        buf.release();
    })
}

fn frame() -> Question {
    let (bytes, count) = (1024, 1);
    let field = vec![
        frames::<Ours>(bytes, count),
        frames::<Copies>(bytes, count).bar(1.0 / 1.3),
        #[cfg(feature = "peers")]
        frames::<peers::Split>(bytes, count),
        #[cfg(feature = "peers")]
        frames::<peers::Advance>(bytes, count),
        #[cfg(feature = "peers")]
        frames::<peers::Linked>(bytes, count),
        frames::<VecCursor>(bytes, count),
        frames::<Deque>(bytes, count),
    ];
    Question { name: "frame", bytes, field }
}

fn pipeline() -> Question {
    let (bytes, count) = (64, 64);
    let field = vec![
        frames::<Ours>(bytes, count),
        frames::<Copies>(bytes, count),
        #[cfg(feature = "peers")]
        frames::<peers::Split>(bytes, count).bar(1.5),
        #[cfg(feature = "peers")]
        frames::<peers::Advance>(bytes, count).bar(1.0),
        #[cfg(feature = "peers")]
        frames::<peers::Linked>(bytes, count),
        frames::<VecCursor>(bytes, count),
        frames::<Deque>(bytes, count),
    ];
    Question { name: "pipeline", bytes, field }
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

/// What came is passed on: received into blocks, given to `out`, gathered for a vectored write.
struct Proxy {
    r: ReadHalf,
    w: WriteHalf,
    out: LinkBuffer,
    copy: Vec<u8>,
}

impl Proxy {
    fn new() -> Proxy {
        let (r, w) = LinkBuffer::new().into_split();
        Proxy { r, w, out: LinkBuffer::new(), copy: Vec::with_capacity(PROXIED) }
    }

    fn receive(&mut self) {
        let mut came = 0;
        while came < PROXIED {
            let room = self.w.book(1).unwrap();
            let n = room.len().min(PROXIED - came);
            // SAFETY: the room is there; as after a system call, its bytes count as written.
            unsafe {
                touch(room.as_mut_ptr().cast());
                self.w.book_ack(n);
            }
            came += n;
        }
    }

    /// Each chunk, and then all are given back.
    fn consume(&mut self, mut each: impl FnMut(&[u8])) {
        while !self.r.is_empty() {
            let chunk = self.r.chunk();
            each(chunk);
            self.r.skip(chunk.len()).unwrap();
        }
        self.r.release();
    }

    fn send(&mut self) {
        self.out.flush().unwrap();
        let mut parts = [IoSlice::new(&[]); 64];
        let n = self.out.fill_io_slices(&mut parts);
        black_box(&parts[..n]);
        self.out.skip(PROXIED).unwrap();
        self.out.release();
    }

    /// Released before it is appended, a block goes over as it is.
    fn link(&mut self) {
        let all = self.r.slice(PROXIED).unwrap();
        self.r.release();
        self.out.write_bytes(all).unwrap();
        self.send();
    }

    /// Appended first, it is shared for a while.
    fn link_first(&mut self) {
        self.out.write_bytes(self.r.slice(PROXIED).unwrap()).unwrap();
        self.r.release();
        self.send();
    }

    fn copy(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        self.consume(|chunk| out.write_binary(chunk).unwrap());
        self.out = out;
        self.send();
    }

    /// The cheapest way to copy: into memory that is kept and stays in the cache.
    fn copy_to_vec(&mut self) {
        let mut copy = std::mem::take(&mut self.copy);
        self.consume(|chunk| copy.extend_from_slice(chunk));
        black_box([IoSlice::new(&copy)]);
        copy.clear();
        self.copy = copy;
    }

    /// What is left if passing on cost nothing.
    fn forget(&mut self) {
        self.r.skip(PROXIED).unwrap();
        self.r.release();
    }
}

/// `streams` proxies: all receive, and then each passes on what it got.
fn proxies(name: &'static str, streams: usize, pass_on: fn(&mut Proxy)) -> Contender {
    let mut all: Vec<Proxy> = (0..streams).map(|_| Proxy::new()).collect();
    Contender::looped(name, move || {
        all.iter_mut().for_each(Proxy::receive);
        all.iter_mut().for_each(pass_on);
    })
}

fn proxy() -> Question {
    let field = vec![
        proxies("linkbuffer", 1, Proxy::link),
        proxies("linkbuffer-append-first", 1, Proxy::link_first),
        proxies("linkbuffer-copying", 1, Proxy::copy).bar(5.0),
        proxies("vec-copying", 1, Proxy::copy_to_vec).bar(5.0),
        proxies("receiving-alone", 1, Proxy::forget),
        #[cfg(feature = "peers")]
        peers::proxy_linkedbytes(),
    ];
    Question { name: "proxy", bytes: PROXIED, field }
}

fn proxy_of_many() -> Question {
    let field = vec![
        proxies("linkbuffer", STREAMS, Proxy::link),
        proxies("linkbuffer-copying", STREAMS, Proxy::copy),
        proxies("vec-copying", STREAMS, Proxy::copy_to_vec),
        proxies("receiving-alone", STREAMS, Proxy::forget),
    ];
    Question { name: "proxy of 64", bytes: STREAMS * PROXIED, field }
}

const STREAMS: usize = 64;

fn scattered() -> Question {
    const SIZE: usize = 1 << 20;
    // The message is there once, and shared; what is timed is joining its blocks.
    let parts: Vec<linkbuffer::Slice> = (0..SIZE / 4096).map(|_| vec![7_u8; 4096].into()).collect();
    let mut buf = LinkBuffer::new();
    let joined = move |count| {
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
    };
    let from = vec![7_u8; SIZE];
    let fresh = move |count| {
        let mut time = Duration::ZERO;
        for _ in 0..count {
            let start = Instant::now();
            let copy = black_box(&from[..]).to_vec();
            time += start.elapsed();
            drop(black_box(copy));
        }
        time
    };
    let (from, mut to) = (vec![7_u8; SIZE], vec![7_u8; SIZE]);
    let warm = move || {
        to.copy_from_slice(black_box(&from));
        black_box(&to);
    };
    let field = vec![
        Contender::new("linkbuffer", joined),
        Contender::new("memcpy-into-fresh-memory", fresh).bar(1.0 / 1.1),
        Contender::looped("memcpy-into-warm-memory", warm),
    ];
    Question { name: "scattered", bytes: SIZE, field }
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
    let (mut r, mut w) = LinkBuffer::with_block_size(WINDOW / 2).into_split();
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

fn threads(bytes: usize) -> Question {
    #[allow(unused_mut)]
    let mut field = vec![Contender::new("linkbuffer", move |count| ours_between(bytes, count))];
    #[cfg(feature = "peers")]
    field.extend(peers::rings(bytes));
    Question { name: "threads", bytes, field }
}

fn questions() -> Vec<Question> {
    let threads = [64, 1 << 10, 16 << 10].map(threads);
    [frame(), pipeline(), proxy(), proxy_of_many(), scattered()]
        .into_iter()
        .chain(threads)
        .collect()
}

/// About how long each contender has in a round.
const SLICE: Duration = Duration::from_millis(20);

fn paired(Question { name, bytes, field }: &mut Question) {
    let counts: Vec<u64> = field.iter_mut().map(fill_slice).collect();
    let all = rounds(field.len(), |at| {
        (field[at].run)(counts[at]).as_secs_f64() * 1e9 / counts[at] as f64
    });
    for (Contender { name: who, bar, .. }, own) in field.iter().zip(all) {
        let Medians { ratio, low, high, .. } = own;
        let bar = bar.map_or_else(String::new, |bar| {
            let verdict = match (low >= bar, high < bar) {
                (true, _) => "kept",
                (_, true) => "missed",
                _ => "unresolved",
            };
            format!("{bar:.2}: {verdict}")
        });
        let time = time(own.time);
        println!("| {name} | {bytes} | {who} | {time} | {ratio:.2} ({low:.2}–{high:.2}) | {bar} |");
    }
}

/// How many times fill a slice.
fn fill_slice(contender: &mut Contender) -> u64 {
    let mut count = 1;
    loop {
        let time = (contender.run)(count);
        if time > SLICE / 4 {
            return ((count as f64 * SLICE.as_secs_f64() / time.as_secs_f64()) as u64).max(1);
        }
        count *= 2;
    }
}

fn main() {
    let mut questions = questions();
    if env::args().any(|argument| argument == "--paired") {
        println!("| question | bytes | who | time | of linkbuffer's | bar |");
        println!("|---|---:|---|---:|---:|---:|");
        return questions.iter_mut().for_each(paired);
    }
    let mut criterion = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for Question { name, bytes, field } in &mut questions {
        let mut group = criterion.benchmark_group(format!("linkbuffer/{name}"));
        group.throughput(Throughput::Bytes(*bytes as u64));
        for Contender { name, run, .. } in field {
            group.bench_function(BenchmarkId::new(*name, *bytes), |b| b.iter_custom(&mut *run));
        }
    }
    criterion.final_summary();
}
