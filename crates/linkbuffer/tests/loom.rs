//! The shipped types under the model checker.
//!
//! `RUSTFLAGS="--cfg netpoll_loom" cargo test -p linkbuffer --profile loom --test loom`
//!
//! Every byte and every header is a tracked cell, so a byte that is read without being ordered after its
//! writing, and a block that is freed while somebody may still look at it, are reported. What is not freed
//! shows in `live_blocks`. The mistakes in `mutants.txt` are each caught by the model named there.
#![cfg(netpoll_loom)]

use linkbuffer::{LinkBuffer, ReadHalf, Reader, Slice, WriteHalf, Writer, live_blocks};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering, fence};
use loom::thread;

/// Runs a model, and checks that it left no block behind.
fn model(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        let before = live_blocks();
        f();
        assert_eq!(live_blocks(), before, "blocks are left behind");
    });
}

/// The halves of a buffer with blocks of two bytes.
fn halves() -> (ReadHalf, WriteHalf) {
    LinkBuffer::with_block_size(2).into_split()
}

fn write(w: &mut WriteHalf, bytes: &[u8]) {
    w.write_binary(bytes).unwrap();
    w.flush().unwrap();
}

/// Reads `want` as far as it is there, byte by byte. Returns the rest.
fn read<'a>(r: &mut ReadHalf, want: &'a [u8], release: bool) -> &'a [u8] {
    let mut want = want;
    while let ([first, rest @ ..], Ok(byte)) = (want, r.next(1)) {
        assert_eq!(byte, [*first]);
        want = rest;
        if release {
            r.release();
        }
    }
    want
}

/// Bytes flushed in the middle of a block, at its end and in the next one, against a reader.
#[test]
fn flush_against_next() {
    model(3, || {
        let (mut r, mut w) = halves();
        let writer = thread::spawn(move || {
            write(&mut w, &[1]);
            write(&mut w, &[2]);
            write(&mut w, &[3]);
            w
        });
        let rest = read(&mut r, &[1, 2, 3], false);
        drop(writer.join().unwrap());
        assert!(read(&mut r, rest, false).is_empty());
    });
}

/// A peek across two blocks, joined, against the second one being written.
#[test]
fn flush_against_peek_across_blocks() {
    model(3, || {
        let (mut r, mut w) = halves();
        write(&mut w, &[1]);
        let writer = thread::spawn(move || {
            w.write_binary(&[2]).unwrap();
            w.write_binary(&[3, 4]).unwrap();
            w.flush().unwrap();
            w
        });
        for n in [1, 3] {
            if let Ok(bytes) = r.peek(n) {
                assert_eq!(bytes, &[1, 2, 3][..n]);
            }
        }
        drop(writer.join().unwrap());
        assert_eq!(r.next(4).unwrap(), [1, 2, 3, 4]);
        r.release();
    });
}

/// The reader gives back a block that it has read to its end while the writer links the next one to it.
#[test]
fn flush_against_release_at_a_blocks_end() {
    model(3, || {
        let (mut r, mut w) = halves();
        write(&mut w, &[1, 2]);
        let writer = thread::spawn(move || {
            write(&mut w, &[3, 4]);
            write(&mut w, &[5]);
            w
        });
        let rest = read(&mut r, &[1, 2, 3, 4, 5], true);
        let w = writer.join().unwrap();
        assert!(read(&mut r, rest, true).is_empty());
        assert_eq!(w.occupied(), 0);
        drop((r, w));
    });
}

/// The writer lets go of its block while the reader gives it back: one of them frees it, and only one.
#[test]
fn seal_against_release() {
    model(3, || {
        let before = live_blocks();
        let (mut r, mut w) = halves();
        write(&mut w, &[1]);
        let writer = thread::spawn(move || {
            w.seal();
            w
        });
        assert_eq!(r.next(1).unwrap(), [1]);
        r.release();
        let mut w = writer.join().unwrap();
        assert_eq!(live_blocks(), before + 1, "an idle buffer keeps nothing but its counters");
        write(&mut w, &[2]);
        assert_eq!(r.next(1).unwrap(), [2]);
    });
}

/// The writer lets go of its block, takes it back and goes on, while the reader may or may not have freed it.
#[test]
fn unseal_against_release() {
    model(3, || {
        let (mut r, mut w) = halves();
        write(&mut w, &[1]);
        let writer = thread::spawn(move || {
            w.seal();
            write(&mut w, &[2]);
            w.seal();
            write(&mut w, &[3]);
            w
        });
        let rest = read(&mut r, &[1, 2, 3], true);
        let w = writer.join().unwrap();
        assert!(read(&mut r, rest, true).is_empty());
        drop(r);
        drop(w);
    });
}

/// A slice is read and dropped in one thread while its parent releases in another.
#[test]
fn slice_against_its_parents_release() {
    model(3, || {
        let (mut r, mut w) = halves();
        write(&mut w, &[1, 2]);
        write(&mut w, &[3]);
        let slice = r.slice(3).unwrap();
        let other = thread::spawn(move || assert_eq!(slice, [1, 2, 3][..]));
        r.release();
        drop((r, w));
        other.join().unwrap();
    });
}

/// Two slices of one block are dropped at once, and neither is the last for sure.
#[test]
fn two_slices_dropped_at_once() {
    model(3, || {
        let (mut r, mut w) = halves();
        write(&mut w, &[1, 2]);
        let (one, two): (Slice, Slice) = (r.slice(1).unwrap(), r.slice(1).unwrap());
        r.release();
        drop((r, w));
        let other = thread::spawn(move || assert_eq!(one, [1][..]));
        assert_eq!(two, [2][..]);
        drop(two);
        other.join().unwrap();
    });
}

/// A block is sliced again while an earlier slice of it is dropped in another thread.
#[test]
fn slice_against_an_earlier_ones_drop() {
    model(3, || {
        let (mut r, mut w) = halves();
        write(&mut w, &[1, 2]);
        write(&mut w, &[3]);
        let one = r.slice(1).unwrap();
        let other = thread::spawn(move || assert_eq!(one, [1][..]));
        let two = r.slice(1).unwrap();
        r.release();
        assert_eq!(two, [2][..]);
        drop(two);
        other.join().unwrap();
    });
}

/// Two clones of a slice are appended in two threads, and only one of them at most by the slice's own node.
#[test]
fn clones_appended_at_once() {
    fn append(slice: Slice) {
        let mut b = LinkBuffer::from(slice);
        assert_eq!(b.next(2).unwrap(), [1, 2]);
        b.release();
        b.write_binary(&[3]).unwrap();
        b.flush().unwrap();
        assert_eq!(b.next(1).unwrap(), [3]);
    }
    model(2, || {
        let (mut r, mut w) = halves();
        write(&mut w, &[1, 2]);
        let slice = r.slice(2).unwrap();
        r.release();
        drop((r, w));
        let clone = slice.clone();
        let other = thread::spawn(move || append(clone));
        append(slice);
        other.join().unwrap();
    });
}

/// What a poller does, against what the handler's side looks at.
#[test]
fn book_ack_against_len_and_peek() {
    model(3, || {
        let (r, mut w) = halves();
        let writer = thread::spawn(move || {
            for byte in [1, 2, 3] {
                w.book(1).unwrap()[0].write(byte);
                // SAFETY: written by the line above.
                unsafe { w.book_ack(1) };
            }
            w
        });
        let len = r.len();
        assert_eq!(r.peek(len).unwrap(), &[1, 2, 3][..len]);
        let mut io = [std::io::IoSlice::new(&[]); 2];
        let set = r.fill_io_slices(&mut io);
        let bytes = io[..set].iter().flat_map(|io| io.iter().copied());
        assert!(bytes.eq([1, 2, 3].into_iter().take(io[..set].iter().map(|io| io.len()).sum())));
        drop(writer.join().unwrap());
        assert!(r.is_ended());
        assert_eq!(r.peek(3).unwrap(), [1, 2, 3]);
    });
}

/// The reader leaves while the writer works.
#[test]
fn reader_dropped_against_the_writer() {
    model(3, || {
        let (r, mut w) = halves();
        write(&mut w, &[1]);
        let reader = thread::spawn(move || {
            let _ = r.next(2);
            drop(r);
        });
        w.write_binary(&[2, 3]).unwrap();
        let first = w.flush();
        w.seal();
        w.write_binary(&[4]).unwrap();
        assert!(first.is_ok() || w.flush().is_err(), "gone is gone");
        drop(w);
        reader.join().unwrap();
    });
}

/// The writer leaves while the reader works: what was flushed is there, and then the end.
#[test]
fn writer_dropped_against_the_reader() {
    model(3, || {
        let (mut r, mut w) = halves();
        let writer = thread::spawn(move || {
            write(&mut w, &[1, 2]);
            write(&mut w, &[3]);
        });
        let ended = r.is_ended();
        let len = r.len();
        assert!(!ended || len == 3, "the end was seen before the bytes");
        assert_eq!(r.next(len).unwrap(), &[1, 2, 3][..len]);
        r.release();
        writer.join().unwrap();
        assert_eq!(r.len(), 3 - len);
    });
}

/// Both leave at once.
#[test]
fn both_dropped_at_once() {
    model(3, || {
        let (mut r, mut w) = halves();
        write(&mut w, &[1, 2]);
        write(&mut w, &[3]);
        let writer = thread::spawn(move || drop(w));
        r.skip(1).unwrap();
        r.release();
        drop(r);
        writer.join().unwrap();
    });
}

/// What a waiting reader is built on: publish, fence, look for who waits; announce, fence, look for bytes.
#[test]
fn flush_then_fence_against_len_behind_a_fence() {
    model(3, || {
        let (r, mut w) = halves();
        let waits = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&waits);
        let writer = thread::spawn(move || {
            write(&mut w, &[1]);
            fence(Ordering::SeqCst);
            (w, seen.load(Ordering::Relaxed))
        });
        waits.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let len = r.len();
        let (_w, woken) = writer.join().unwrap();
        assert!(len == 1 || woken, "a lost wake-up");
    });
}

/// Both halves in one thread give a block back, then the buffer goes on in another, while a slice of that
/// block is dropped in a third.
#[test]
fn release_and_seal_against_a_slices_drop() {
    model(3, || {
        let (mut r, mut w) = halves();
        write(&mut w, &[1]);
        let slice = r.slice(1).unwrap();
        let dropper = thread::spawn(move || {
            assert!(slice == [1][..]);
            drop(slice);
        });
        r.release_and_seal(&mut w);
        let goes_on = thread::spawn(move || {
            write(&mut w, &[2]);
            assert_eq!(r.next(1).unwrap(), [2]);
            r.release_and_seal(&mut w);
            assert_eq!(w.occupied(), 0);
        });
        dropper.join().unwrap();
        goes_on.join().unwrap();
    });
}

/// The writer sends its pending bytes past a reader that is releasing what came before.
#[test]
fn pending_run_against_release() {
    model(3, || {
        let (mut r, mut w) = halves();
        write(&mut w, &[1]);
        let reader = thread::spawn(move || {
            assert_eq!(r.next(1).unwrap(), [1]);
            r.release();
            r
        });
        w.write_binary(&[2]).unwrap();
        match w.pending_run() {
            Some(run) => {
                assert_eq!(run, [2]);
                w.discard();
                write(&mut w, &[3]);
            }
            None => write(&mut w, &[]),
        }
        let mut r = reader.join().unwrap();
        let want = r.len();
        assert_eq!(want, 1);
        assert!(r.next(1).unwrap()[0] > 1);
        r.release_and_seal(&mut w);
        assert_eq!(live_blocks(), 1);
    });
}
