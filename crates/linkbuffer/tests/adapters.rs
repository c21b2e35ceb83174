//! `std::io` in both directions.

use std::fmt::Write as _;
use std::io::{self, BufRead, IoSlice, Read, Write};

use linkbuffer::{
    ByteReader, Error, IoReader, IoWriter, LinkBuffer, Reader, ReaderExt, VecWriter, Writer,
};

/// Gives its parts one by one, and then fails, again and again.
struct Parts(Vec<io::Result<&'static [u8]>>);

impl Read for Parts {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self.0.is_empty() {
            true => Ok(0),
            false => self.0.remove(0).map(|part| {
                to[..part.len()].copy_from_slice(part);
                part.len()
            }),
        }
    }
}

#[test]
fn bytes_come_before_the_error_behind_them() {
    let failed = || Err(io::ErrorKind::PermissionDenied.into());
    let interrupted = || Err(io::ErrorKind::Interrupted.into());
    let mut r = IoReader::new(Parts(vec![
        Ok(b"ab"),
        interrupted(),
        Ok(b"cd"),
        failed(),
        Ok(b"e\nf"),
        failed(),
    ]));
    assert!(matches!(r.next(5), Err(Error::Io(e)) if e.kind() == io::ErrorKind::PermissionDenied));
    assert_eq!(r.next(4).unwrap(), b"abcd");
    assert_eq!(r.until(b"\n").unwrap(), b"e\n");
    assert!(matches!(r.until(b"\n"), Err(Error::Io(_))));
    assert!(matches!(r.until(b"\n"), Err(Error::Ended { available: 1, .. })));
    assert_eq!(r.try_next(1).unwrap(), Some(&b"f"[..]));
    r.release();
    assert!(r.is_ended() && r.next(1).unwrap_err().is_closed());
    let (_, rest) = r.into_parts();
    assert!(rest.is_empty());
}

#[test]
fn halves_are_streams() {
    let (mut r, mut w) = LinkBuffer::with_block_size(4).into_split();
    let mut to = [0; 8];
    assert_eq!(r.read(&mut to).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    w.write_all(b"a line\nand").unwrap();
    assert_eq!(w.write_vectored(&[IoSlice::new(b" m"), IoSlice::new(b"ore")]).unwrap(), 5);
    io::Write::flush(&mut w).unwrap();
    let mut line = String::new();
    r.read_line(&mut line).unwrap();
    assert_eq!(line, "a line\n");
    assert_eq!(r.held(), 7);
    drop(w);
    let mut rest = Vec::new();
    r.read_to_end(&mut rest).unwrap();
    assert_eq!((&rest[..], r.held()), (&b"and more"[..], 0));

    let mut buf = LinkBuffer::new();
    std::fmt::Write::write_fmt(&mut buf, format_args!("{}-{}", 1, 2)).unwrap();
    buf.write_char('!').unwrap();
    buf.extend(*b"abc");
    buf.extend([&b"de"[..], b"f"]);
    assert_eq!(buf.flush().unwrap(), 10);
    assert_eq!(buf.next(10).unwrap(), b"1-2!abcdef");
    let mut some = [0; 2];
    ByteReader::new(b"xyz").read_exact(&mut some).unwrap();
    assert_eq!(&some, b"xy");
}

#[test]
fn a_short_body_is_an_error() {
    let mut body = Vec::new();
    let mut stream = IoReader::new(&b"0123456789"[..]);
    stream.limit(4).read_to_end(&mut body).unwrap();
    assert_eq!(body, b"0123");
    let e = stream.limit(100).read_to_end(&mut body).unwrap_err();
    assert_eq!((e.kind(), &body[..]), (io::ErrorKind::UnexpectedEof, &b"0123456789"[..]));
    let mut bytes = ByteReader::new(b"GET / rest");
    let head = bytes.limit(5);
    assert_eq!(head.until(b" ").unwrap(), b"GET ");
    assert!(matches!(head.until(b" "), Err(Error::LimitReached { limit: 1, .. })));
}

/// Takes three bytes at a time, and fails now and then.
struct Slow(Vec<u8>, usize);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1 += 1;
        if self.1 % 3 == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let n = bytes.len().min(3);
        self.0.extend(&bytes[..n]);
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_flush_goes_on_behind_a_failure() {
    let mut w = IoWriter::new(Slow(Vec::new(), 0));
    w.write_string("twelve bytes").unwrap();
    let mut counts = Vec::new();
    loop {
        match w.flush() {
            Ok(n) => break counts.push(n),
            Err(e) => assert!(e.is_timeout()),
        }
    }
    assert_eq!((counts, &w.get_ref().0[..]), (vec![6], &b"twelve bytes"[..]));
}

#[test]
fn a_vec_gets_what_is_flushed() {
    let mut to = b"first,".to_vec();
    let mut w = VecWriter::new(&mut to);
    let head = w.placeholder(1).unwrap();
    let mut other = LinkBuffer::new();
    other.write_string("flushed,").unwrap();
    other.flush().unwrap();
    w.append(other).unwrap();
    assert_eq!(w.malloc_len(), 1);
    w.fill(head, b"#").unwrap();
    assert_eq!(w.flush().unwrap(), 9);
    w.write_string("never flushed").unwrap();
    assert_eq!(to, b"first,#flushed,");
}
