//! What the halves, slices and edits promise, case by case.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use linkbuffer::{Error, LinkBuffer, ReadHalf, Reader, Slice, WriteHalf, Writer, WriterExt};
use static_assertions::{assert_impl_all, assert_not_impl_any, assert_obj_safe};

assert_impl_all!(LinkBuffer: Send, std::fmt::Debug);
assert_impl_all!(ReadHalf: Send);
assert_impl_all!(WriteHalf: Send);
assert_impl_all!(Slice: Send, Sync, Clone);
assert_not_impl_any!(LinkBuffer: Sync);
assert_not_impl_any!(ReadHalf: Sync);
assert_obj_safe!(Reader, Writer);

fn buffer(parts: &[&[u8]]) -> LinkBuffer {
    let mut buf = LinkBuffer::with_block_size(8);
    parts.iter().for_each(|part| buf.write_binary(part).unwrap());
    buf.flush().unwrap();
    buf
}

fn text(r: &impl Reader) -> String {
    r.peek(r.len()).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap()
}

#[test]
fn append_adds_up() {
    for (flushed, pending) in [(0, 10), (100, 0), (100, 10), (0, 0), (5000, 5000)] {
        let mut source = LinkBuffer::new();
        source.write_binary(&vec![1; flushed]).unwrap();
        source.flush().unwrap();
        source.write_binary(&vec![2; pending]).unwrap();
        let mut target = LinkBuffer::new();
        target.write_binary(&[3; 7]).unwrap();
        let before = target.malloc_len();
        target.append(source).unwrap();
        assert_eq!(target.malloc_len(), before + pending);
        target.malloc_ack(7).unwrap();
        assert_eq!(target.malloc_len(), 7);
        assert_eq!(target.flush().unwrap(), 7 + flushed);
    }
}

#[test]
fn appended_twice_and_not_flushed_between() {
    let mut a = buffer(&[b"flushed"]);
    a.write_string("+pending").unwrap();
    let mut b = LinkBuffer::new();
    b.write_string("(").unwrap();
    b.append(a).unwrap();
    b.write_string(")").unwrap();
    let mut c = LinkBuffer::new();
    c.append(b).unwrap();
    assert_eq!(c.malloc_len(), 1 + 8 + 1);
    c.write_direct("inserted", 1).unwrap();
    c.malloc_ack(1).unwrap();
    assert_eq!(c.flush().unwrap(), 8);
    assert_eq!(text(&c), "(flushed");
}

#[test]
fn edits_beside_appended_bytes() {
    let make = || {
        let mut buf = LinkBuffer::new();
        buf.write_string("ab").unwrap();
        buf.append(buffer(&[b"FLUSHED"])).unwrap();
        buf.write_string("cd").unwrap();
        buf
    };
    for (remain, want) in [
        (0, "abFLUSHEDcd!"),
        (1, "abFLUSHEDc!d"),
        (2, "abFLUSHED!cd"),
        (3, "a!bFLUSHEDcd"),
        (4, "!abFLUSHEDcd"),
    ] {
        let mut buf = make();
        buf.write_direct("!", remain).unwrap();
        assert_eq!(buf.malloc_len(), 5);
        buf.flush().unwrap();
        assert_eq!(text(&buf), want);
    }
    for (n, want) in
        [(0, "FLUSHED"), (1, "aFLUSHED"), (2, "abFLUSHED"), (3, "abFLUSHEDc"), (4, "abFLUSHEDcd")]
    {
        let mut buf = make();
        buf.malloc_ack(n).unwrap();
        buf.write_string(".").unwrap();
        assert_eq!(buf.flush().unwrap(), 7 + n + 1);
        assert_eq!(text(&buf), format!("{want}."));
    }
}

#[test]
fn insertions_in_any_order_beside_live_slices() {
    let mut source = buffer(&[&[b'#'; 6000]]);
    let slices: Vec<Slice> = (0..6).map(|_| source.slice(1000).unwrap()).collect();
    source.release();
    let large: Slice = {
        let mut source = LinkBuffer::new();
        source.write_binary(&[b'L'; 5000]).unwrap();
        source.flush().unwrap();
        source.slice(5000).unwrap()
    };
    let mut buf = LinkBuffer::new();
    let mut want: Vec<u8> = (b'a'..=b'z').collect();
    buf.write_binary(&want).unwrap();
    for round in 0..200 {
        let remain = round * 7 % (want.len() + 1);
        let at = want.len() - remain;
        match round % 4 {
            0 => {
                buf.write_direct(large.clone(), remain).unwrap();
                want.splice(at..at, [b'L'; 5000]);
            }
            1 => {
                buf.write_direct(slices[round % 6].clone(), remain).unwrap();
                want.splice(at..at, [b'#'; 1000]);
            }
            2 => {
                buf.write_direct(vec![b'v'; 10], remain).unwrap();
                want.splice(at..at, [b'v'; 10]);
            }
            _ => {
                buf.write_string("tail").unwrap();
                want.extend(b"tail");
            }
        }
        if round == 100 {
            buf.flush().unwrap();
            assert!(buf.next(want.len()).unwrap() == want);
            buf.release();
            want.clear();
        }
    }
    drop(slices);
    buf.flush().unwrap();
    assert!(buf.read_binary(want.len()).unwrap() == want);
    assert_eq!(large, vec![b'L'; 5000]);
}

#[test]
fn placeholders() {
    let (mut a, mut b) = (LinkBuffer::new(), LinkBuffer::new());
    let in_a = a.placeholder(2).unwrap();
    let in_b = b.placeholder(2).unwrap();
    assert!(matches!(a.flush(), Err(Error::UnfilledPlaceholder)));
    assert!(matches!(a.book(1), Err(Error::UnfilledPlaceholder)));
    assert!(matches!(a.fill(in_b, b"bb"), Err(Error::BadPlaceholder)), "a foreign one");
    b.malloc_ack(0).unwrap();
    let wrong = a.placeholder(1).unwrap();
    assert!(matches!(a.fill(wrong, b"xx"), Err(Error::BadPlaceholder)), "another length");
    assert!(matches!(a.malloc_ack(1), Err(Error::BadPlaceholder)), "through it");
    assert!(matches!(a.write_direct("x", 2), Err(Error::BadPlaceholder)), "through it");
    a.malloc_ack(2).unwrap();
    a.write_string("body").unwrap();
    a.write_direct("-", 4).unwrap();
    a.write_direct("<", 7).unwrap();
    b.write_string("b:").unwrap();
    b.append(a).unwrap();
    assert!(matches!(b.flush(), Err(Error::UnfilledPlaceholder)), "it moved along");
    b.fill(in_a, b"04").unwrap();
    b.flush().unwrap();
    assert_eq!(text(&b), "b:<04-body");
    let forgotten = b.placeholder(3).unwrap();
    b.malloc_ack(0).unwrap();
    assert!(matches!(b.fill(forgotten, b"abc"), Err(Error::BadPlaceholder)));
    assert_eq!(b.flush().unwrap(), 0);
    let empty = b.placeholder(0).unwrap();
    assert!(b.flush().is_err());
    b.fill(empty, b"").unwrap();
    assert_eq!(b.flush().unwrap(), 0);
}

#[test]
fn halves_that_are_exchanged_stay_sound() {
    let (mut a, mut b) = (buffer(&[b"of a, ", b"flushed"]), buffer(&[b"of b, ", b"flushed"]));
    std::mem::swap(a.split().1, b.split().1);
    // Now `a` reads its own bytes, and writes what `b` reads.
    a.write_string("|pending").unwrap();
    b.release();
    let slice = a.slice(3).unwrap();
    let mut c = LinkBuffer::new();
    c.append(a).unwrap();
    assert_eq!(c.malloc_len(), 8);
    c.flush().unwrap();
    assert_eq!(text(&c), "a, flushed|pending");
    assert_eq!(text(&b), "of b, flushed");
    assert!(b.is_ended(), "its writer went with `a`");
    assert!(matches!(b.flush(), Err(Error::ReaderGone)), "and its reader too");
    assert_eq!(slice, b"of "[..]);
    b.skip(b.len()).unwrap();
    b.release();
    drop((b, c));
}

#[test]
fn dropping_a_half() {
    let (r, mut w) = buffer(&[b"abc"]).into_split();
    assert!(matches!(r.next(4), Err(Error::NotEnough { requested: 4, available: 3 })));
    w.write_string("never flushed").unwrap();
    drop(w);
    assert!(r.is_ended());
    assert!(matches!(r.next(4), Err(Error::Ended { requested: 4, available: 3 })));
    assert!(matches!(r.until(b"x"), Err(Error::Ended { requested: 0, available: 3 })));
    assert!(r.try_next(4).is_err());
    assert_eq!(r.next(3).unwrap(), b"abc");

    let (r, mut w) = buffer(&[b"abc"]).into_split();
    drop(r);
    assert!(w.is_reader_gone());
    w.write_string("x").unwrap();
    assert!(matches!(w.flush(), Err(Error::ReaderGone)));
    assert!(matches!(w.book(1), Err(Error::ReaderGone)));
    assert_eq!(w.malloc_len(), 1);

    let (r, mut w) = buffer(&[b"abc"]).into_split();
    w.end();
    w.write_string("x").unwrap();
    assert!(matches!(w.flush(), Err(Error::Closed)));
    assert!(r.is_ended() && r.len() == 3);
}

/// Blocks that know when they are freed.
#[test]
fn nothing_is_freed_early_or_twice_or_never() {
    static FREED: AtomicUsize = AtomicUsize::new(0);
    let shared: Arc<[u8]> = vec![5; 8192].into();
    for order in 0..24 {
        let (mut r, mut w) = LinkBuffer::new().into_split();
        w.write_bytes(Arc::clone(&shared)).unwrap();
        w.write_bytes(Arc::clone(&shared)).unwrap();
        w.flush().unwrap();
        let slice = r.slice(10_000).unwrap();
        r.release();
        let mut things: Vec<Box<dyn FnOnce() + Send>> = vec![
            Box::new(move || drop(slice.clone())),
            Box::new(move || drop(r)),
            Box::new(move || drop(w)),
        ];
        let mut order = order;
        while !things.is_empty() {
            let i = order % things.len();
            order /= things.len() + 1;
            std::thread::spawn(things.swap_remove(i)).join().unwrap();
        }
        FREED.fetch_add(1, Ordering::Relaxed);
        assert_eq!(Arc::strong_count(&shared), 1, "order {order}");
    }
}

#[test]
fn node_size_never_ratchets() {
    let mut buf = LinkBuffer::new();
    let large = if cfg!(miri) { 1 << 20 } else { 64 << 20 };
    buf.malloc(large).unwrap().put_bytes(1, large);
    buf.flush().unwrap();
    buf.skip(large).unwrap();
    buf.release();
    for _ in 0..10_000 {
        assert!(buf.book(1).unwrap().len() <= 4096);
        buf.write_byte(7).unwrap();
        buf.flush().unwrap();
        buf.skip(1).unwrap();
        buf.release();
    }
}

#[test]
fn peeks_keep_what_they_lent() {
    let mut buf = LinkBuffer::new();
    let bytes: Vec<u8> = (0..1 << 20).map(|i| (i / 977) as u8).collect();
    bytes.chunks(1000).for_each(|part| buf.write_binary(part).unwrap());
    buf.flush().unwrap();
    let step = if cfg!(miri) { 64 << 10 } else { 1 << 10 };
    let lent: Vec<&[u8]> = (step..=1 << 20).step_by(step).map(|n| buf.peek(n).unwrap()).collect();
    let places =
        lent.iter().map(|bytes| bytes.as_ptr()).collect::<std::collections::HashSet<_>>().len();
    assert!(places < 16, "{places} blocks");
    for (i, lent) in lent.iter().enumerate() {
        assert!(**lent == bytes[..(i + 1) * step]);
    }
    buf.release();
    assert!(buf.next(1 << 20).unwrap() == bytes);
}

/// What was never written cannot be read: the rest of a reservation and recycled blocks.
#[test]
fn nothing_unwritten_is_readable() {
    let marker = [0xee_u8; 4000];
    for _ in 0..50 {
        let mut one = LinkBuffer::new();
        one.write_binary(&marker).unwrap();
        one.flush().unwrap();
        drop(one);
        let mut two = LinkBuffer::new();
        two.malloc(4000).unwrap().put_u16(1);
        let hole = two.placeholder(3).unwrap();
        two.malloc(100).unwrap();
        two.fill(hole, b"abc").unwrap();
        two.malloc(3900).unwrap().put_u8(2);
        assert_eq!(two.flush().unwrap(), 6);
        assert_eq!(two.next(6).unwrap(), [0, 1, b'a', b'b', b'c', 2]);
    }
}

#[test]
fn find_is_retried_where_it_stopped() {
    let (r, mut w) = LinkBuffer::with_block_size(4).into_split();
    for byte in b"a line, byte by byte\r" {
        w.write_byte(*byte).unwrap();
        w.flush().unwrap();
        assert!(matches!(r.until(b"\r\n"), Err(Error::NotFound { .. })));
    }
    w.write_string("\nrest").unwrap();
    w.flush().unwrap();
    assert_eq!(r.until(b"\r\n").unwrap(), b"a line, byte by byte\r\n");
    assert_eq!(r.find(b"t").unwrap(), 4);
    assert_eq!(r.find(b"e").unwrap(), 2);
}

#[test]
fn next_str_consumes_nothing_if_it_fails() {
    let buf = buffer(&[b"abc\xff", b"def"]);
    assert!(matches!(buf.next_str(4), Err(Error::Utf8(_))));
    assert!(matches!(buf.read_string(6), Err(Error::Utf8(_))));
    assert_eq!(buf.next_str(3).unwrap(), "abc");
    assert_eq!(buf.read_binary(2).unwrap(), b"\xffd");
}

#[test]
fn debug_shows_no_contents() {
    let buf = buffer(&[b"secret"]);
    let shown =
        format!("{buf:?} {:?} {:?}", buf.slice(6).unwrap(), linkbuffer::Owned::from("secret"));
    assert!(!shown.contains("secret") && shown.contains("len: 6"), "{shown}");
}

#[test]
fn positions_pass_four_gib() {
    // The same 1 MiB is appended over and over, without a copy.
    let part = Slice::from(vec![7; 1 << 20]);
    let (mut r, mut w) = LinkBuffer::new().into_split();
    let rounds: u64 = if cfg!(miri) { 4 } else { (5 << 30) >> 20 };
    let mut total = 0_u64;
    for _ in 0..rounds {
        w.write_bytes(part.clone()).unwrap();
        w.write_byte(1).unwrap();
        total += w.flush().unwrap() as u64;
        assert_eq!((r.len(), w.occupied()), ((1 << 20) + 1, (1 << 20) + 1));
        r.skip(1 << 20).unwrap();
        assert_eq!(r.read_byte().unwrap(), 1);
        r.release();
        assert_eq!((r.held(), w.occupied()), (0, 0));
    }
    assert_eq!(total, rounds * ((1 << 20) + 1));
}

#[test]
fn an_idle_buffer_holds_no_block() {
    // `Arc` tells whether the block is held: it is one, handed over.
    let shared: Arc<[u8]> = vec![5; 4096].into();
    let (mut r, mut w) = LinkBuffer::new().into_split();
    for late in [false, true, false, true] {
        w.write_bytes(Arc::clone(&shared)).unwrap();
        w.flush().unwrap();
        if late {
            r.skip(4096).unwrap();
            r.release();
            assert_eq!(Arc::strong_count(&shared), 2);
            w.seal();
        } else {
            w.seal();
            w.seal();
            r.skip(4096).unwrap();
            assert_eq!(Arc::strong_count(&shared), 2);
            r.release();
        }
        assert_eq!(Arc::strong_count(&shared), 1);
    }
}

#[test]
fn what_is_pending_alone_can_be_had_without_flushing() {
    let (mut r, mut w) = LinkBuffer::new().into_split();
    assert_eq!(w.pending_run(), None);
    w.write_binary(b"first").unwrap();
    assert_eq!(w.pending_run(), Some(&b"first"[..]));
    w.discard();
    assert_eq!((w.pending_run(), w.malloc_len()), (None, 0));
    assert_eq!(w.flush().unwrap(), 0);

    // Not before what is readable, nor before what is read and held.
    w.write_binary(b"flushed").unwrap();
    w.flush().unwrap();
    w.write_binary(b"second").unwrap();
    assert_eq!(w.pending_run(), None);
    assert_eq!(r.next(7).unwrap(), b"flushed");
    assert_eq!(w.pending_run(), None);
    r.release();
    assert_eq!(w.pending_run(), Some(&b"second"[..]));

    // Nor where it is not all, or must not be flushed.
    let hole = w.placeholder(1).unwrap();
    assert_eq!(w.pending_run(), None);
    w.fill(hole, b"!").unwrap();
    assert_eq!(w.pending_run(), Some(&b"second!"[..]));
    w.write_bytes(vec![1; 5000]).unwrap();
    assert_eq!(w.pending_run(), None);
    w.discard();
    w.write_bytes(vec![1; 5000]).unwrap();
    assert_eq!(w.pending_run(), Some(&[1; 5000][..]));
    drop(r);
    assert_eq!(w.pending_run(), None);
}

#[test]
fn what_is_discarded_is_dropped() {
    let shared = Arc::new([7_u8; 5000]);
    let (r, mut w) = LinkBuffer::new().into_split();
    for pieces in 1..4 {
        for _ in 0..pieces {
            w.write_bytes(Arc::<[u8]>::from(&shared[..])).unwrap();
        }
        let hole = w.placeholder(2).unwrap();
        w.discard();
        assert!(matches!(w.fill(hole, b"no"), Err(Error::BadPlaceholder)));
        assert_eq!((w.malloc_len(), w.flush().unwrap(), r.len()), (0, 0, 0));
    }
    // What was flushed stays, and so does what was flushed in a buffer that was appended.
    let mut other = LinkBuffer::new();
    other.write_binary(b"carried").unwrap();
    other.flush().unwrap();
    other.write_binary(b"pending").unwrap();
    w.write_binary(b"flushed ").unwrap();
    w.flush().unwrap();
    w.append(other).unwrap();
    w.discard();
    assert_eq!(w.flush().unwrap(), 7);
    assert_eq!(r.next(15).unwrap(), b"flushed carried");
}

#[test]
fn releasing_and_sealing_at_once_is_as_one_after_the_other() {
    let (mut r, mut w) = LinkBuffer::new().into_split();
    let (mut stranger, mut foreign) = LinkBuffer::new().into_split();
    let slice = |r: &mut linkbuffer::ReadHalf| r.slice(4).unwrap();
    for round in 0..3 {
        w.write_binary(b"pingpong").unwrap();
        w.flush().unwrap();
        let kept = slice(&mut r);
        r.release_and_seal(&mut w);
        assert_eq!((r.held(), w.occupied(), r.len()), (0, 4, 4));
        match round {
            0 => r.skip(4).unwrap(),
            // Joined with what is in another block.
            1 => {
                w.write_bytes(vec![b'x'; 5000]).unwrap();
                w.flush().unwrap();
                assert_eq!(r.next(5004).unwrap()[..5], *b"pongx");
            }
            _ => {
                w.write_binary(b"pending").unwrap();
                r.skip(4).unwrap();
                r.release_and_seal(&mut w);
                assert_eq!((w.occupied(), w.malloc_len()), (0, 7));
                w.flush().unwrap();
                assert_eq!(r.next(7).unwrap(), b"pending");
            }
        }
        // Not its own: each does its part.
        r.release_and_seal(&mut foreign);
        stranger.release_and_seal(&mut w);
        r.release_and_seal(&mut w);
        assert_eq!((r.held(), w.occupied(), r.len()), (0, 0, 0));
        assert_eq!(kept, b"ping"[..]);
    }
}
