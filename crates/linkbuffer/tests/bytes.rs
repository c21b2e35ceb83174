//! Feature `bytes`.
#![cfg(feature = "bytes")]

use bytes::{Buf, BufMut, Bytes};
use linkbuffer::{LinkBuffer, Owned, Reader, Slice, Writer, WriterExt};

#[test]
fn buf_and_buf_mut() {
    let mut buf = LinkBuffer::with_block_size(4);
    buf.put_u32(7);
    buf.put_slice(b"hello");
    buf.put_bytes(b'x', 20);
    buf.put(&b"tail"[..]);
    assert_eq!((buf.malloc_len(), buf.remaining()), (33, 0));
    buf.flush().unwrap();
    assert_eq!((buf.get_u32(), buf.remaining()), (7, 29));
    let mut parts = [std::io::IoSlice::new(&[]); 16];
    let n = buf.chunks_vectored(&mut parts);
    assert!(n > 1);
    assert_eq!(parts[..n].iter().map(|part| part.len()).sum::<usize>(), 29);
    assert_eq!(buf.copy_to_bytes(5), "hello");
    buf.advance(20);
    assert_eq!(buf.copy_to_bytes(4), "tail");
}

#[test]
fn bytes_are_shared_in_both_directions() {
    let bytes = Bytes::from(vec![7; 8192]);
    let mut buf = LinkBuffer::new();
    buf.write_bytes(bytes.clone()).unwrap();
    buf.flush().unwrap();
    let slice = buf.slice(8192).unwrap();
    assert_eq!(slice.as_contiguous().unwrap().as_ptr(), bytes.as_ptr());
    let back = Bytes::from(slice);
    assert_eq!(back.as_ptr(), bytes.as_ptr());
    drop((buf, bytes));
    assert!(back.iter().all(|&byte| byte == 7));
    assert_eq!(Slice::from(back).into_bytes().map(|part| part.len()).collect::<Vec<_>>(), [8192]);
    assert_eq!(Owned::from(bytes::BytesMut::from(&b"ab"[..])).len(), 2);
}
