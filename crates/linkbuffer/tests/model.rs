//! Random operations against plain vectors: what was flushed, what is pending and how, slices kept and
//! compared later.
//!
//! `LINKBUFFER_CASES=1000000 cargo test -p linkbuffer --release --test model` plays a million cases;
//! `LINKBUFFER_SEED=n` replays one.

use linkbuffer::{Error, LinkBuffer, Owned, Placeholder, Reader, Slice, Writer, WriterExt};
use std::collections::VecDeque;
use std::sync::Arc;

/// A byte that is not flushed: whether it is pending (the others came flushed with `append`), and whose
/// placeholder's it is while that is unfilled.
#[derive(Clone, Copy, Debug)]
struct Unflushed {
    byte: u8,
    pending: bool,
    hole: Option<u32>,
}

/// The oracle.
#[derive(Default)]
struct Plain {
    readable: VecDeque<u8>,
    unflushed: Vec<Unflushed>,
}

impl Plain {
    fn write(&mut self, bytes: &[u8]) {
        self.unflushed.extend(bytes.iter().map(|&byte| Unflushed {
            byte,
            pending: true,
            hole: None,
        }));
    }

    fn pending(&self) -> usize {
        self.unflushed.iter().filter(|u| u.pending).count()
    }

    /// The index of pending byte number `at`.
    fn index(&self, at: usize) -> usize {
        let mut pending = self.unflushed.iter().enumerate().filter(|(_, u)| u.pending);
        pending.nth(at).map_or(self.unflushed.len(), |(i, _)| i)
    }

    /// Whether pending bytes number `at - 1` and `at` belong to one hole.
    fn cuts_hole(&self, at: usize) -> bool {
        if at == 0 || at >= self.pending() {
            return false;
        }
        let (a, b) = (self.unflushed[self.index(at - 1)].hole, self.unflushed[self.index(at)].hole);
        a.is_some() && a == b
    }

    fn has_hole(&self) -> bool {
        self.unflushed.iter().any(|u| u.hole.is_some())
    }

    fn flush(&mut self) -> usize {
        let n = self.unflushed.len();
        self.readable.extend(self.unflushed.drain(..).map(|u| u.byte));
        n
    }

    fn append(&mut self, other: Plain) {
        let flushed =
            other.readable.into_iter().map(|byte| Unflushed { byte, pending: false, hole: None });
        self.unflushed.extend(flushed);
        self.unflushed.extend(other.unflushed);
    }

    fn ack(&mut self, n: usize) {
        let mut kept = 0;
        self.unflushed.retain(|u| {
            kept += usize::from(u.pending);
            !u.pending || kept <= n
        });
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        let first = self.below(256) as u8;
        (0..self.below(max + 1)).map(|i| first.wrapping_add(i as u8)).collect()
    }
}

/// One buffer beside its oracle.
struct Both {
    real: LinkBuffer,
    plain: Plain,
    holes: Vec<(Placeholder, u32)>,
}

impl Both {
    fn new(r: &mut Random) -> Both {
        let real = LinkBuffer::with_block_size([1, 2, 3, 7, 16, 64, 1024][r.below(7)]);
        Both { real, plain: Plain::default(), holes: Vec::new() }
    }

    fn check(&self) {
        assert_eq!(self.real.malloc_len(), self.plain.pending());
        assert_eq!(self.real.len(), self.plain.readable.len());
    }

    fn owned(r: &mut Random, slices: &[(Slice, Vec<u8>)]) -> (Owned, Vec<u8>) {
        let large = [20, 20, 20, 5000][r.below(4)];
        let bytes = r.bytes(large);
        let owned = match r.below(6) {
            0 => Owned::from(bytes.clone()),
            1 => Owned::from(bytes.clone().into_boxed_slice()),
            2 => Owned::from(Arc::<[u8]>::from(&bytes[..])),
            3 => return (Owned::from("static"), b"static".to_vec()),
            _ => match slices.len() {
                0 => Owned::from(Slice::from(bytes.clone())),
                n => {
                    let (slice, bytes) = &slices[r.below(n)];
                    return (Owned::from(slice.clone()), bytes.clone());
                }
            },
        };
        (owned, bytes)
    }

    fn write(&mut self, r: &mut Random, slices: &[(Slice, Vec<u8>)], next_hole: &mut u32) {
        match r.below(9) {
            0 | 1 => {
                let bytes = r.bytes(40);
                self.real.write_binary(&bytes).unwrap();
                self.plain.write(&bytes);
            }
            2 => {
                let n = r.below(100);
                let bytes = r.bytes(n);
                self.real.malloc(n).unwrap().put_slice(&bytes);
                self.plain.write(&bytes);
            }
            3 => {
                let (owned, bytes) = Both::owned(r, slices);
                self.real.write_bytes(owned).unwrap();
                self.plain.write(&bytes);
            }
            4 => {
                let (owned, bytes) = Both::owned(r, slices);
                let pending = self.plain.pending();
                let remain = r.below(pending + 3);
                let at = pending.saturating_sub(remain);
                match self.real.write_direct(owned, remain) {
                    Err(Error::Remain { requested, pending: p }) => {
                        assert!(remain > pending && requested == remain && p == pending);
                    }
                    Err(Error::BadPlaceholder) => assert!(self.plain.cuts_hole(at)),
                    other => {
                        other.unwrap();
                        assert!(remain <= pending && !(self.plain.cuts_hole(at) && remain > 0));
                        let at = self.plain.index(at);
                        let new =
                            bytes.iter().map(|&byte| Unflushed { byte, pending: true, hole: None });
                        self.plain.unflushed.splice(at..at, new);
                    }
                }
            }
            5 => {
                let pending = self.plain.pending();
                let n = r.below(pending + 2);
                match self.real.malloc_ack(n) {
                    Err(Error::MallocAck { requested, pending: p }) => {
                        assert!(n > pending && requested == n && p == pending);
                    }
                    Err(Error::BadPlaceholder) => assert!(self.plain.cuts_hole(n)),
                    other => {
                        other.unwrap();
                        assert!(!self.plain.cuts_hole(n));
                        self.plain.ack(n);
                    }
                }
            }
            6 if r.below(3) == 0 => {
                let n = 1 + r.below(20);
                let hole = self.real.placeholder(n).unwrap();
                let new = Unflushed { byte: 0, pending: true, hole: Some(*next_hole) };
                self.plain.unflushed.extend(std::iter::repeat_n(new, n));
                self.holes.push((hole, *next_hole));
                *next_hole += 1;
            }
            6 | 7 => {
                if let Some(i) = self.holes.len().checked_sub(1).map(|last| r.below(last + 1)) {
                    let (hole, id) = self.holes.swap_remove(i);
                    let bytes: Vec<u8> = (0..hole.len()).map(|_| r.below(256) as u8).collect();
                    let filled = self.real.fill(hole, &bytes);
                    let places: Vec<_> =
                        self.plain.unflushed.iter_mut().filter(|u| u.hole == Some(id)).collect();
                    assert_eq!(filled.is_ok(), !places.is_empty());
                    for (place, byte) in places.into_iter().zip(bytes) {
                        (place.byte, place.hole) = (byte, None);
                    }
                }
            }
            8 if r.below(4) == 0 => {
                if let Some(run) = self.real.split().1.pending_run() {
                    assert!(self.plain.readable.is_empty() && !self.plain.has_hole());
                    assert!(self.plain.unflushed.iter().map(|u| u.byte).eq(run.iter().copied()));
                }
                if r.below(2) == 0 {
                    self.real.split().1.discard();
                    self.plain.ack(0);
                }
            }
            _ => match self.real.flush() {
                Err(Error::UnfilledPlaceholder) => assert!(self.plain.has_hole()),
                other => assert_eq!(other.unwrap(), self.plain.flush()),
            },
        }
    }

    fn read(&mut self, r: &mut Random, slices: &mut Vec<(Slice, Vec<u8>)>) {
        let len = self.plain.readable.len();
        let n = if r.below(8) == 0 { len + r.below(2) } else { r.below(len.min(50) + 2) };
        let want: Vec<u8> = self.plain.readable.iter().copied().take(n).collect();
        let consumed = match r.below(10) {
            0 | 1 => {
                let held = self.real.peek(n / 2).ok();
                let half = held.map(<[u8]>::to_vec);
                let got = self.real.peek(n);
                assert!(held.map(<[u8]>::to_vec) == half, "lent bytes changed");
                check(got, &want, n, len);
                0
            }
            2 | 3 => check(self.real.next(n), &want, n, len),
            4 => check(self.real.skip(n).map(|()| &want[..]), &want, n, len),
            5 => match self.real.slice(n) {
                Ok(slice) => {
                    assert!(slice == want);
                    slices.push((slice, want.clone()));
                    if slices.len() > 8 {
                        slices.swap_remove(r.below(8));
                    }
                    n
                }
                Err(e) => check(Err(e), &want, n, len),
            },
            6 => {
                check(self.real.read_binary(n).as_deref().map_err(|_| Error::Closed), &want, n, len)
            }
            7 => {
                let delim = &[r.below(256) as u8, r.below(256) as u8][..1 + r.below(2)];
                let all: Vec<u8> = self.plain.readable.iter().copied().collect();
                let at = all.windows(delim.len()).position(|w| w == delim).map(|i| i + delim.len());
                match (self.real.find(delim), at) {
                    (Ok(n), Some(m)) => assert_eq!(n, m),
                    (Err(Error::NotFound { available }), None) => assert_eq!(available, len),
                    other => panic!("{other:?}"),
                }
                0
            }
            8 => {
                // By its half alone, blocks are handed back; by the whole, the last one is begun again.
                match r.below(3) {
                    0 => self.real.release(),
                    1 => self.real.split().0.release(),
                    _ => {
                        let (reader, writer) = self.real.split();
                        reader.release_and_seal(writer);
                    }
                }
                assert_eq!(self.real.held(), 0);
                0
            }
            _ => {
                if r.below(2) == 0 {
                    self.real.seal();
                }
                let mut iov = [std::io::IoSlice::new(&[]); 4];
                let n = self.real.fill_io_slices(&mut iov);
                let all: Vec<u8> = iov[..n].iter().flat_map(|s| s.iter().copied()).collect();
                assert!(self.plain.readable.iter().take(all.len()).eq(&all));
                assert!(n == 4 || all.len() == len);
                0
            }
        };
        self.plain.readable.drain(..consumed);
    }
}

fn check(got: Result<&[u8], Error>, want: &[u8], n: usize, len: usize) -> usize {
    match got {
        Ok(bytes) => {
            assert!(bytes == want && n == want.len());
            n
        }
        Err(_) => {
            assert!(n > len);
            0
        }
    }
}

fn play(seed: u64, operations: usize) {
    let mut r = Random(seed);
    let mut slices = Vec::new();
    let mut next_hole = 0;
    let mut buffers: Vec<Both> = (0..3).map(|_| Both::new(&mut r)).collect();
    for _ in 0..operations {
        let i = r.below(buffers.len());
        match r.below(20) {
            0 => {
                let j = r.below(buffers.len());
                if i != j {
                    let new = Both::new(&mut r);
                    let source = std::mem::replace(&mut buffers[j], new);
                    buffers[i].real.append(source.real).unwrap();
                    buffers[i].plain.append(source.plain);
                    buffers[i].holes.extend(source.holes);
                }
            }
            1..10 => buffers[i].write(&mut r, &slices, &mut next_hole),
            _ => buffers[i].read(&mut r, &mut slices),
        }
        buffers[i].check();
        for (slice, bytes) in &slices {
            assert!(slice == bytes, "a slice of {} bytes changed", slice.len());
        }
    }
}

#[test]
fn agrees_with_plain_vectors() {
    if let Some(seed) = std::env::var("LINKBUFFER_SEED").ok().and_then(|s| s.parse().ok()) {
        return play(seed, 200);
    }
    let default = if cfg!(miri) { 8 } else { 256 };
    let cases =
        std::env::var("LINKBUFFER_CASES").ok().and_then(|s| s.parse().ok()).unwrap_or(default);
    for seed in 0..cases {
        if std::panic::catch_unwind(|| play(seed, 200)).is_err() {
            panic!("LINKBUFFER_SEED={seed} fails");
        }
    }
}
