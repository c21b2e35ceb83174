//! The buffer against a plain `Vec`, its odd sizes, and its conversions.

use std::io::{self, Read, Write};

use dirtmake::{AllocError, Dirty, Spare, bytes, try_bytes};
use static_assertions::{assert_impl_all, assert_not_impl_any, const_assert};

assert_impl_all!(Dirty: Send, Sync, Unpin, Default, std::panic::UnwindSafe);
assert_impl_all!(Dirty<4096>: Send, Sync);
assert_not_impl_any!(Dirty: Clone, Copy);
assert_impl_all!(Spare<'_>: Send, Sync);
assert_impl_all!(AllocError: Send, Sync, std::error::Error);
const_assert!(size_of::<Dirty>() <= 4 * size_of::<usize>());

#[test]
fn odd_sizes() {
    for (len, cap) in [(0, 0), (0, 1), (1, 0), (1, 1), (5, 3)] {
        let buf = bytes(len, cap);
        assert_eq!((buf.len(), buf.asked(), buf.capacity()), (0, len, len.max(cap)));
        assert_eq!(buf.into_vec(), b"");
    }
    for size in [isize::MAX as usize + 1, usize::MAX - 1, usize::MAX] {
        assert!(try_bytes(0, size).unwrap_err().is_too_large());
        assert!(try_bytes(size, 0).unwrap_err().is_too_large());
        assert_eq!(try_bytes(size, 0).unwrap_err().requested(), size);
    }
    // Possible in principle, so it is the allocator that refuses.
    if cfg!(not(miri)) {
        assert!(!try_bytes(0, isize::MAX as usize).unwrap_err().is_too_large());
    }
    // The same size is impossible where the alignment needs more.
    assert!(Dirty::<4096>::try_aligned(0, isize::MAX as usize).unwrap_err().is_too_large());
    let mut buf = bytes(0, 10);
    buf.cursor().put_u8(1);
    assert!(buf.try_reserve(usize::MAX).unwrap_err().is_too_large());
    assert!(buf.try_reserve(isize::MAX as usize).unwrap_err().is_too_large());
    assert_eq!((&buf[..], buf.capacity()), (&[1][..], 10));
}

#[test]
#[should_panic(expected = "capacity overflow")]
fn an_impossible_size_panics() {
    let _ = bytes(0, usize::MAX);
}

#[test]
#[should_panic(expected = "no room for 3 bytes: 2 left")]
fn a_put_beyond_the_room_panics() {
    bytes(0, 2).cursor().put_slice(b"abc");
}

#[test]
fn aligned_memory_is_aligned() {
    let mut page = Dirty::<4096>::aligned(10, 5000);
    assert_eq!(page.as_ptr() as usize % 4096, 0);
    page.cursor().put_slice(b"page");
    page.reserve(100_000);
    assert_eq!((page.as_ptr() as usize % 4096, &page[..]), (0, &b"page"[..]));
    let empty = Dirty::<4096>::aligned(0, 0);
    assert_eq!((empty.as_ptr() as usize % 4096, empty.len()), (0, 0));
    let (ptr, len, cap) = page.into_raw_parts();
    // SAFETY: just given up.
    assert_eq!(&unsafe { Dirty::<4096>::from_raw_parts(ptr, len, cap) }[..], b"page");
}

#[test]
fn conversions_do_not_copy() {
    let mut buf = bytes(0, 8);
    buf.cursor().put_slice(b"12345678");
    let at = buf.as_ptr();
    let vec = buf.into_vec();
    assert_eq!((vec.as_ptr(), vec.capacity()), (at, 8));
    let boxed = Dirty::from(vec).into_boxed_slice();
    assert_eq!((boxed.as_ptr(), &boxed[..]), (at, &b"12345678"[..]));
    assert_eq!(Dirty::from(Vec::new()).capacity(), 0);
    assert_eq!(Vec::from(Dirty::new()), b"");
}

#[test]
fn reading_keeps_what_came_before_an_error() {
    struct Broken(u8);
    impl Read for Broken {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => Err(io::ErrorKind::Interrupted.into()),
                2 => {
                    buf[..3].copy_from_slice(b"abc");
                    Ok(3)
                }
                _ => Err(io::ErrorKind::ConnectionReset.into()),
            }
        }
    }

    let mut buf = bytes(100, 200);
    assert_eq!(buf.fill_from(&mut Broken(0)).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!((&buf[..], buf.asked(), buf.missing(), buf.capacity()), (&b"abc"[..], 100, 97, 200));
    assert_eq!(buf.fill_from(&mut io::empty()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    buf.fill_from(&mut io::repeat(b'x')).unwrap();
    assert_eq!((buf.len(), buf[99], buf.missing()), (100, b'x', 0));
    assert_eq!(buf.read_from(&mut io::repeat(b'y'), usize::MAX).unwrap(), 100);
    assert_eq!(buf.read_from(&mut io::repeat(b'y'), 1).unwrap(), 0);
    assert_eq!((buf.len(), buf.capacity()), (200, 200));
}

#[test]
fn a_reader_that_panics_leaves_an_empty_buffer() {
    struct Panics;
    impl Read for Panics {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("reader");
        }
    }
    let mut buf = bytes(0, 100);
    buf.cursor().put_slice(b"before");
    let read = std::panic::AssertUnwindSafe(|| buf.read_from(&mut Panics, 10));
    assert!(std::panic::catch_unwind(read).is_err());
    assert_eq!((buf.len(), buf.capacity()), (0, 0));
}

#[test]
fn copy_into_aligned_memory() {
    let mut page = Dirty::<64>::aligned(0, 20_000);
    let n = dirtmake::copy_into(&mut io::repeat(9), &mut page.cursor(), 10_000).unwrap();
    assert_eq!((n, page.len()), (10_000, 10_000));
    let n = dirtmake::copy_into(&mut io::repeat(9), &mut page.cursor(), usize::MAX).unwrap();
    assert_eq!((n, page.len()), (10_000, 20_000));
    assert!(page.iter().all(|&byte| byte == 9));
}

/// Random operations against a `Vec`.
#[test]
fn like_a_vec() {
    for seed in 0..if cfg!(miri) { 8 } else { 256 } {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut buf = bytes(0, rng.usize(0..64));
        let mut vec: Vec<u8> = Vec::new();
        for _ in 0..if cfg!(miri) { 50 } else { 500 } {
            let n = rng.usize(0..40);
            let data: Vec<u8> = (0..n).map(|_| rng.u8(..)).collect();
            let room = buf.room();
            match rng.u8(0..10) {
                0..3 if n <= room => {
                    buf.cursor().put_slice(&data);
                    vec.extend(&data);
                }
                3 => {
                    let written = buf.write(&data).unwrap();
                    assert_eq!(written, n.min(room));
                    vec.extend(&data[..written]);
                }
                4 if room >= 8 => {
                    buf.cursor().put_u32_le(7).put_i16(-2).put_u8(1).put_i8(-1);
                    vec.extend([7, 0, 0, 0, 0xFF, 0xFE, 1, 0xFF]);
                }
                5 => {
                    let read = buf.read_from(&mut &data[..], 30).unwrap();
                    assert_eq!(read, n.min(room).min(30));
                    vec.extend(&data[..read]);
                }
                6 => {
                    buf.reserve(n);
                    assert!(buf.room() >= n);
                }
                7 if room > 0 => {
                    buf.spare()[0].write(42);
                    // SAFETY: one byte was written.
                    unsafe { buf.advance(1) };
                    vec.push(42);
                }
                8 => {
                    buf.truncate(n);
                    vec.truncate(n);
                }
                9 => buf = Dirty::from(Vec::from(buf)),
                _ => {}
            }
            assert_eq!(&buf[..], &vec[..]);
        }
    }
}
