//! In the steady state no loop over a buffer calls the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use linkbuffer::{LinkBuffer, Reader, ReaderExt, Writer, WriterExt};

struct Counting;

thread_local!(static CALLS: Cell<usize> = const { Cell::new(0) });

fn count() {
    // A thread that ends may still free.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls the loop until it is warm, and then counts.
fn calls_of(mut round: impl FnMut()) -> usize {
    (0..300).for_each(|_| round());
    let before = CALLS.get();
    (0..300).for_each(|_| round());
    CALLS.get() - before
}

fn write_frame(buf: &mut LinkBuffer, body: &[u8]) {
    buf.malloc(4).unwrap().put_u32(body.len() as u32);
    buf.write_binary(body).unwrap();
    buf.flush().unwrap();
}

fn read_frame(buf: &mut LinkBuffer) -> usize {
    let n = u32::from_be_bytes(buf.read_array().unwrap());
    let sum = buf.next(n as usize).unwrap().len();
    buf.release();
    sum
}

#[test]
fn frames_in_a_loop() {
    for size in [10, 1000, 5000, 100_000] {
        let body = vec![7; size];
        let mut buf = LinkBuffer::new();
        let calls = calls_of(|| {
            write_frame(&mut buf, &body);
            read_frame(&mut buf);
        });
        assert_eq!(calls, 0, "frames of {size} bytes");
    }
}

#[test]
fn pipelined_frames() {
    let mut buf = LinkBuffer::new();
    let body = [7; 700];
    let calls = calls_of(|| {
        (0..20).for_each(|_| write_frame(&mut buf, &body));
        (0..20).for_each(|_| assert_eq!(read_frame(&mut buf), 700));
    });
    assert_eq!(calls, 0);
}

#[test]
fn peeks_across_blocks() {
    let mut buf = LinkBuffer::new();
    let calls = calls_of(|| {
        (0..30).for_each(|_| buf.write_binary(&[1; 900]).unwrap());
        buf.flush().unwrap();
        for n in (0..27_000).step_by(1000) {
            buf.peek(n).unwrap();
        }
        buf.find(&[2]).unwrap_err();
        buf.skip(27_000).unwrap();
        buf.release();
    });
    assert_eq!(calls, 0);
}

#[test]
fn frames_recycled_through_append() {
    let mut out = LinkBuffer::new();
    let calls = calls_of(|| {
        let mut frame = LinkBuffer::new();
        let head = frame.placeholder(4).unwrap();
        frame.write_binary(&[7; 3000]).unwrap();
        frame.fill(head, &3000_u32.to_be_bytes()).unwrap();
        frame.flush().unwrap();
        frame.write_binary(&[8; 3000]).unwrap();
        out.append(frame).unwrap();
        assert_eq!(out.flush().unwrap(), 6004);
        assert_eq!(read_frame(&mut out), 3000);
        out.skip(3000).unwrap();
        out.release();
    });
    assert_eq!(calls, 0);
}

#[test]
fn slices() {
    let (mut from, mut to) = (LinkBuffer::new(), LinkBuffer::new());
    let calls = calls_of(|| {
        (0..5).for_each(|_| write_frame(&mut from, &[7; 3000]));
        let all = from.slice(15_020).unwrap();
        from.release();
        assert!(all.chunks().len() > 1);
        assert_eq!(all.clone().reader().next(4).unwrap(), [0, 0, 0x0b, 0xb8]);
        to.write_bytes(all).unwrap();
        to.flush().unwrap();
        (0..5).for_each(|_| assert_eq!(read_frame(&mut to), 3000));
    });
    assert_eq!(calls, 0);
}

#[test]
fn insertions() {
    let mut buf = LinkBuffer::new();
    let calls = calls_of(|| {
        buf.write_binary(&[1; 100]).unwrap();
        buf.write_direct("insert", 50).unwrap();
        buf.write_direct("more", 106).unwrap();
        buf.flush().unwrap();
        buf.skip(110).unwrap();
        buf.release();
    });
    assert_eq!(calls, 0);
}

/// No byte of a proxied stream is copied: what goes out lies where it came in.
#[test]
fn a_proxy_copies_nothing() {
    let (mut r, mut w) = LinkBuffer::new().into_split();
    let mut out = LinkBuffer::new();
    let mut round = || {
        let mut came = Vec::new();
        for byte in 0..16 {
            let room = w.book(4000).unwrap();
            room[..4000].fill(std::mem::MaybeUninit::new(byte));
            came.push(room.as_ptr() as usize);
            // SAFETY: filled by the line before the last.
            unsafe { w.book_ack(4000) };
        }
        out.write_bytes(r.slice(64_000).unwrap()).unwrap();
        r.release();
        out.flush().unwrap();
        let mut parts = [std::io::IoSlice::new(&[]); 32];
        let n = out.fill_io_slices(&mut parts);
        let went: Vec<usize> = parts[..n].iter().map(|part| part.as_ptr() as usize).collect();
        assert_eq!(came, went);
        out.skip(64_000).unwrap();
        out.release();
    };
    (0..3).for_each(|_| round());
}
