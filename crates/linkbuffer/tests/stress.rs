//! Two threads, every byte checked, with blocks and pieces of all sizes. Ends by itself: about a second,
//! or `LINKBUFFER_STRESS=mebibytes`.

use linkbuffer::{Error, LinkBuffer, Reader, Slice, Writer, WriterExt};

/// The byte at each position of the stream.
fn byte_at(position: u64) -> u8 {
    (position.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }
}

fn check(bytes: &[u8], from: u64) {
    let wrong = bytes.iter().zip(from..).find(|&(&byte, at)| byte != byte_at(at));
    assert!(wrong.is_none(), "a wrong byte at {wrong:?}");
}

#[test]
fn a_stream_between_two_threads() {
    let mebibytes: Option<u64> =
        std::env::var("LINKBUFFER_STRESS").ok().and_then(|s| s.parse().ok());
    let total: u64 = match mebibytes {
        Some(n) => n << 20,
        None if cfg!(miri) => 4 << 10,
        None => 24 << 20,
    };
    for block in [32, 4096] {
        let (mut r, mut w) = LinkBuffer::with_block_size(block).into_split();
        let writer = std::thread::spawn(move || {
            let mut random = Random(1);
            let mut at = 0;
            while at < total {
                if w.occupied() > 256 << 10 {
                    w.seal();
                    std::thread::yield_now();
                    continue;
                }
                let n = [1, 10, 100, 6000][random.below(4)].min((total - at) as usize);
                let bytes: Vec<u8> = (at..at + n as u64).map(byte_at).collect();
                match random.below(6) {
                    0 => w.write_bytes(bytes).unwrap(),
                    1 => w.write_bytes(Slice::from(bytes)).unwrap(),
                    2 => {
                        w.book(n).unwrap()[..n].iter_mut().zip(&bytes).for_each(|(to, byte)| {
                            to.write(*byte);
                        });
                        // SAFETY: written by the line above.
                        unsafe { w.book_ack(n) };
                    }
                    3 => {
                        let mut other = LinkBuffer::with_block_size(64);
                        other.write_binary(&bytes).unwrap();
                        other.flush().unwrap();
                        w.append(other).unwrap();
                    }
                    _ => w.write_binary(&bytes).unwrap(),
                }
                at += n as u64;
                if random.below(3) == 0 {
                    w.flush().unwrap();
                }
                if random.below(50) == 0 {
                    w.seal();
                }
            }
            w.flush().unwrap();
        });
        let mut random = Random(2);
        let (mut at, mut kept): (u64, Vec<(Slice, u64)>) = (0, Vec::new());
        while at < total {
            let most = [10, 1000, 9000][random.below(3)];
            let n = (1 + random.below(most)).min((total - at) as usize);
            let got = match random.below(4) {
                0 => r.next(n).map(|bytes| check(bytes, at)),
                1 => r.peek(n).map(|bytes| check(bytes, at)).and_then(|()| r.skip(n)),
                2 => r.slice(n).map(|slice| {
                    kept.push((slice, at));
                    if kept.len() > 20 {
                        let (slice, at) = kept.swap_remove(random.below(20));
                        check(&slice.to_vec(), at);
                    }
                }),
                _ => r.read_binary(n).map(|bytes| check(&bytes, at)),
            };
            match got {
                Ok(()) => at += n as u64,
                Err(Error::NotEnough { .. }) => {
                    if random.below(4) == 0 {
                        r.release();
                    }
                    std::thread::yield_now();
                    // What is there is taken in any case: the writer may be waiting for room.
                    let some = r.len().min((total - at) as usize);
                    check(r.next(some).unwrap(), at);
                    at += some as u64;
                    r.release();
                }
                Err(e) => panic!("{e}"),
            }
            if random.below(10) == 0 {
                r.release();
            }
        }
        writer.join().unwrap();
        assert!(r.is_ended() && r.is_empty());
        drop(r);
        kept.into_iter().for_each(|(slice, at)| check(&slice.to_vec(), at));
    }
}
