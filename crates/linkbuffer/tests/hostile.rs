//! Every method with every hostile size: the documented result, unchanged state, and no memory that is not
//! needed.

use std::sync::Mutex;

use linkbuffer::{
    ByteReader, Error, IoReader, IoWriter, LinkBuffer, Owned, Reader, ReaderExt, Slice, VecWriter,
    Writer, WriterExt,
};

const LEN: usize = 100;

fn filled() -> LinkBuffer {
    let mut buf = LinkBuffer::with_block_size(16);
    for part in (0..LEN as u8).collect::<Vec<_>>().chunks(10) {
        buf.write_binary(part).unwrap();
    }
    buf.flush().unwrap();
    buf
}

fn sizes() -> [usize; 9] {
    [0, 1, 16, LEN, LEN + 1, 4096, 1 << 31, u32::MAX as usize + 1, usize::MAX]
}

/// A value that is never dropped, and that a leak checker finds all the same.
fn leak<T>(value: T) -> &'static mut T {
    static LEAKED: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let leaked = Box::leak(Box::new(value));
    LEAKED.lock().unwrap().push(&raw const *leaked as usize);
    leaked
}

fn check_reader(make: impl Fn() -> Box<dyn Reader>) {
    let bytes: Vec<u8> = (0..LEN as u8).collect();
    for n in sizes() {
        let r = make();
        let fits = n <= LEN;
        let short = |e: Error| match e {
            Error::NotEnough { requested, available } | Error::Ended { requested, available } => {
                assert_eq!((requested, available), (n, LEN));
            }
            Error::LimitReached { requested, limit } => assert_eq!((requested, limit), (n, LEN)),
            other => panic!("{other:?}"),
        };
        let same = |got: Result<Vec<u8>, Error>, consumed: bool| match got {
            Ok(got) => {
                assert!(fits && got == bytes[..n]);
                assert_eq!(r.len(), if consumed { LEN - n } else { LEN });
            }
            Err(e) => {
                assert!(!fits);
                short(e);
                assert_eq!(r.len(), LEN, "an error changed the reader");
            }
        };
        same(r.peek(n).map(<[u8]>::to_vec), false);
        for method in 0..8 {
            let r = make();
            let got = match method {
                0 => r.next(n).map(<[u8]>::to_vec),
                1 => r.skip(n).map(|()| bytes[..n].to_vec()),
                2 => r.next_str(n).map(|s| s.as_bytes().to_vec()),
                3 => r.read_string(n).map(String::into_bytes),
                4 => r.read_binary(n),
                5 => r.slice(n).map(|s| s.to_vec()),
                6 => match r.try_next(n) {
                    Ok(Some(bytes)) => Ok(bytes.to_vec()),
                    Ok(None) => Err(Error::NotEnough { requested: n, available: LEN }),
                    Err(e) => Err(e),
                },
                _ => r.peek(n).and_then(|_| r.next(n)).map(<[u8]>::to_vec),
            };
            match got {
                Ok(got) => {
                    assert!(fits && got == bytes[..n], "method {method} of {n}");
                    assert_eq!(r.len(), LEN - n);
                }
                Err(e) => {
                    assert!(!fits, "method {method} of {n}");
                    short(e);
                    assert_eq!(r.next(LEN).unwrap(), bytes, "an error changed the reader");
                }
            }
        }
    }
    let mut r = make();
    assert_eq!(r.find(&[]).unwrap(), 0);
    assert_eq!(r.until(&[]).unwrap(), [0; 0]);
    assert_eq!(r.find(&[98, 99]).unwrap(), 100);
    assert!(matches!(
        r.find(&[99, 98]),
        Err(Error::NotFound { .. } | Error::Ended { .. } | Error::LimitReached { .. })
    ));
    assert_eq!(r.until(&[1]).unwrap(), [0, 1]);
    assert_eq!(r.read_byte().unwrap(), 2);
    assert_eq!(r.read_array::<4>().unwrap(), [3, 4, 5, 6]);
    assert!(r.read_array::<200>().is_err());
    r.release();
    assert_eq!((r.len(), r.chunk()[0]), (LEN - 7, 7));
}

#[test]
fn readers() {
    let bytes: Vec<u8> = (0..LEN as u8).collect();
    let leaked: &'static [u8] = leak(bytes.clone());
    check_reader(|| Box::new(filled()));
    check_reader(|| Box::new(filled().into_split().0));
    check_reader(|| Box::new(ByteReader::new(leaked)));
    check_reader(|| {
        let r = IoReader::new(leaked);
        r.peek(1).unwrap();
        Box::new(r)
    });
    check_reader(|| Box::new(filled().slice(LEN).unwrap().reader()));
}

/// A reader that has the required methods only, and the provided ones from the trait.
struct Minimal(LinkBuffer);

impl Reader for Minimal {
    fn peek(&self, n: usize) -> Result<&[u8], Error> {
        self.0.peek(n)
    }
    fn skip(&self, n: usize) -> Result<(), Error> {
        self.0.skip(n)
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn release(&mut self) {
        self.0.release();
    }
}

/// Owns what its reader borrows.
struct Combined(&'static mut dyn Reader);

impl Reader for Combined {
    fn peek(&self, n: usize) -> Result<&[u8], Error> {
        self.0.peek(n)
    }
    fn skip(&self, n: usize) -> Result<(), Error> {
        self.0.skip(n)
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn release(&mut self) {
        self.0.release();
    }
    fn next(&self, n: usize) -> Result<&[u8], Error> {
        self.0.next(n)
    }
    fn find(&self, delim: &[u8]) -> Result<usize, Error> {
        self.0.find(delim)
    }
    fn slice(&self, n: usize) -> Result<Slice, Error> {
        self.0.slice(n)
    }
    fn chunk(&self) -> &[u8] {
        self.0.chunk()
    }
    fn is_ended(&self) -> bool {
        self.0.is_ended()
    }
}

fn for_ever<R: Reader + 'static>(reader: R) -> Combined {
    Combined(leak(reader))
}

#[test]
fn readers_from_elsewhere_and_combinations() {
    check_reader(|| Box::new(Minimal(filled())));
    let longer = || {
        let mut buf = filled();
        buf.write_binary(b"behind the limit").unwrap();
        buf.flush().unwrap();
        for_ever(buf)
    };
    check_reader(|| Box::new(for_ever(longer().0.limit(LEN))));
    check_reader(|| Box::new(for_ever(for_ever(filled()).0.tee(linkbuffer::tee_fn(|_| {})))));
    check_reader(|| {
        let tail = filled().slice(LEN).unwrap();
        // 0..30 from one reader, 30..100 from another.
        let head = tail.reader().slice(30).unwrap();
        let rest = tail.reader();
        rest.skip(30).unwrap();
        Box::new(for_ever(for_ever(head.reader()).0.followed_by(for_ever(rest).0)))
    });
}

#[test]
fn writers() {
    fn check(w: &mut dyn Writer) {
        assert_eq!(w.malloc(0).unwrap().remaining(), 0);
        w.write_binary(b"abc").unwrap();
        for n in [4, 5, 1 << 31, u32::MAX as usize + 1, usize::MAX] {
            assert!(
                matches!(w.malloc_ack(n), Err(Error::MallocAck { requested, pending: 3 }) if requested == n)
            );
            let e = w.write_direct("x", n).unwrap_err();
            assert!(matches!(e, Error::Remain { requested, pending: 3 } if requested == n));
        }
        for n in [usize::MAX, usize::MAX - 1, usize::MAX / 2, 1 << 60] {
            assert!(matches!(w.malloc(n), Err(Error::TooLarge { .. })), "malloc({n})");
            assert!(matches!(w.placeholder(n), Err(Error::TooLarge { .. })));
        }
        for empty in [Owned::from(Vec::new()), Owned::from(""), Owned::from(Slice::new())] {
            w.write_owned(empty).unwrap();
        }
        w.write_direct("", 2).unwrap();
        w.append(LinkBuffer::new()).unwrap();
        assert_eq!(w.malloc_len(), 3);
        w.malloc_ack(2).unwrap();
        assert_eq!(w.flush().unwrap(), 2);
        assert_eq!(w.flush().unwrap(), 0);
    }
    let mut buf = LinkBuffer::new();
    check(&mut buf);
    assert!(matches!(buf.book(usize::MAX), Err(Error::TooLarge { .. })));
    assert!(!buf.book(0).unwrap().is_empty());
    assert_eq!(buf.next(2).unwrap(), b"ab");
    check(&mut LinkBuffer::with_block_size(1));
    check(&mut LinkBuffer::with_block_size(0));
    let mut vec = Vec::new();
    check(&mut VecWriter::new(&mut vec));
    assert_eq!(vec, b"ab");
    vec.clear();
    check(&mut IoWriter::new(&mut vec));
    assert_eq!(vec, b"ab");
}

/// 2 GiB and 4 GiB are asked for and not touched.
#[test]
#[cfg(target_pointer_width = "64")]
fn large_reservations() {
    for n in [1 << 31, 1 << 32] {
        let mut buf = LinkBuffer::new();
        match buf.malloc(n) {
            Ok(mut room) => assert_eq!(room.put_u8(1).remaining(), n - 1),
            Err(e) => assert!(matches!(e, Error::TooLarge { requested } if requested == n)),
        }
        assert!(buf.flush().unwrap() <= 1);
    }
}

/// Readers that lie about their length: wrong results, but never memory that is not theirs.
#[test]
fn liars() {
    struct Liar;
    impl Reader for Liar {
        fn peek(&self, n: usize) -> Result<&[u8], Error> {
            match n {
                0..=2 => Err(Error::Ended { requested: n, available: usize::MAX }),
                _ => Ok(b"abcdefgh"),
            }
        }
        fn skip(&self, _: usize) -> Result<(), Error> {
            Ok(())
        }
        fn len(&self) -> usize {
            usize::MAX
        }
        fn release(&mut self) {}
    }
    let mut liar = Liar;
    assert!(liar.read_array::<5>().is_err());
    assert!(liar.read_byte().is_err());
    assert_eq!(liar.slice(3).unwrap(), b"abcdefgh"[..]);
    let _ = liar.find(b"x");
    let mut other = ByteReader::new(b"1234");
    let _ = other.followed_by(&mut liar).peek(6);
    let _ = liar.followed_by(&mut other).peek(2);
    let limit = liar.limit(3);
    let _ = (limit.next(3), limit.next(3), limit.chunk());
    struct LyingStream;
    impl std::io::Read for LyingStream {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            Ok(to.len() + 1)
        }
    }
    assert!(matches!(IoReader::new(LyingStream).next(1), Err(Error::Io(_))));
}
