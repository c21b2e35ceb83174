//! `std::io` both ways: the halves as streams, and streams as reader and writer.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};

use crate::writer::forward_writer;
use crate::{
    ByteReader, Error, LinkBuffer, ReadHalf, Reader, Result, Slice, VecWriter, WriteHalf, Writer,
};

/// The readable bytes for `BufRead`: nothing is the end, or "not yet".
fn fill_buf<R: Reader + ?Sized>(reader: &R) -> io::Result<&[u8]> {
    let ended = reader.is_ended();
    match reader.chunk() {
        [] if !ended => Err(ErrorKind::WouldBlock.into()),
        bytes => Ok(bytes),
    }
}

fn read<R: Reader + ?Sized>(reader: &mut R, mut to: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while !to.is_empty() {
        match fill_buf(reader) {
            Ok([]) => break,
            Ok(bytes) => {
                let n = bytes.len().min(to.len());
                let (now, later) = to.split_at_mut(n);
                now.copy_from_slice(&bytes[..n]);
                reader.skip(n)?;
                (to, done) = (later, done + n);
            }
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
    }
    // Whoever reads by copying holds nothing, so what it consumed can go.
    reader.release();
    Ok(done)
}

macro_rules! std_read {
    ($(#[$doc:meta])* [$($generics:tt)*] $reader:ty) => {
        $(#[$doc])*
        impl<$($generics)*> Read for $reader {
            fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
                read(self, to)
            }
        }

        impl<$($generics)*> BufRead for $reader {
            fn fill_buf(&mut self) -> io::Result<&[u8]> {
                self.release();
                fill_buf(self)
            }

            /// # Panics
            ///
            /// If `n` is more than `fill_buf` returned.
            fn consume(&mut self, n: usize) {
                self.skip(n).expect("consume: no more than fill_buf returned");
            }
        }
    };
}

std_read! {
    /// Reads what is there. Nothing is `WouldBlock`, or 0 once the stream has ended. Releases as it goes.
    [] ReadHalf
}
std_read! {
    /// Reads what is there. Nothing is `WouldBlock`, or 0 once the stream has ended. Releases as it goes.
    [] LinkBuffer
}
std_read! {
    /// Reads to the end of the bytes.
    [] ByteReader<'_>
}
std_read! {
    /// Reads as the stream underneath does.
    [R: Read] IoReader<R>
}

/// A body of a known length as a stream. One that ends short of it is an `UnexpectedEof` error.
impl<R: Reader + ?Sized> Read for crate::Limit<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if to.is_empty() || self.remaining() == 0 {
            return Ok(0);
        }
        match read(self, to)? {
            0 => Err(Error::Ended { requested: self.remaining(), available: 0 }.into()),
            n => Ok(n),
        }
    }
}

macro_rules! std_write {
    ([$($generics:tt)*] $writer:ty, $note:literal) => {
        #[doc = $note]
        impl<$($generics)*> Write for $writer {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.write_binary(bytes)?;
                Ok(bytes.len())
            }

            fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
                let mut n = 0;
                for part in parts {
                    self.write_binary(part)?;
                    n += part.len();
                }
                Ok(n)
            }

            fn flush(&mut self) -> io::Result<()> {
                Writer::flush(self)?;
                Ok(())
            }
        }

        #[doc = $note]
        impl<$($generics)*> std::fmt::Write for $writer {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                self.write_string(text).map_err(|_| std::fmt::Error)
            }
        }

        /// Writes copies.
        ///
        /// # Panics
        ///
        /// If there is no memory, or the stream underneath fails.
        impl<$($generics)*> Extend<u8> for $writer {
            fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
                bytes.into_iter().for_each(|byte| self.write_byte(byte).expect("room for a byte"));
            }
        }

        /// Writes copies.
        ///
        /// # Panics
        ///
        /// If there is no memory, or the stream underneath fails.
        impl<'bytes, $($generics)*> Extend<&'bytes [u8]> for $writer {
            fn extend<I: IntoIterator<Item = &'bytes [u8]>>(&mut self, parts: I) {
                parts.into_iter().for_each(|part| self.write_binary(part).expect("room for bytes"));
            }
        }
    };
}

std_write!([] WriteHalf, "What is written is pending until `flush`.");
std_write!([] LinkBuffer, "What is written is pending until `flush`.");
std_write!([] VecWriter<'_>, "What is written is pending until `flush`.");
std_write!([W: Write] IoWriter<W>, "What is written is pending until `flush`.");

/// A [`Reader`] over any [`std::io::Read`].
///
/// It waits as the stream underneath waits. Bytes that were read before the stream failed come first: the
/// error is reported when they do not suffice, and a later call tries the stream again.
///
/// ```
/// use linkbuffer::{IoReader, Reader, ReaderExt};
/// let file: &[u8] = b"\0\0\0\x05hello"; // any `std::io::Read`
/// let r = IoReader::new(file);
/// let n = u32::from_be_bytes(r.read_array()?);
/// assert_eq!(r.next(n as usize)?, b"hello");
/// # Ok::<(), linkbuffer::Error>(())
/// ```
#[doc(alias = "NewReader")]
pub struct IoReader<R> {
    stream: RefCell<R>,
    buf: ReadHalf,
    fill: RefCell<WriteHalf>,
    ended: Cell<bool>,
}

/// How much is asked of a stream at once.
const READ_SIZE: usize = 8 << 10;

impl<R: Read> IoReader<R> {
    /// Reads from `stream`.
    pub fn new(stream: R) -> IoReader<R> {
        let (buf, fill) = LinkBuffer::with_block_size(2 * READ_SIZE).into_split();
        IoReader {
            stream: RefCell::new(stream),
            buf,
            fill: RefCell::new(fill),
            ended: Cell::new(false),
        }
    }

    /// The stream. What was read from it and not consumed stays here.
    pub fn get_mut(&mut self) -> &mut R {
        self.stream.get_mut()
    }

    /// The stream, and what was read from it and not consumed.
    pub fn into_parts(self) -> (R, ReadHalf) {
        (self.stream.into_inner(), self.buf)
    }

    /// Reads once. Says whether anything came.
    fn read_more(&self) -> Result<bool> {
        if self.ended.get() {
            return Ok(false);
        }
        let mut fill = self.fill.borrow_mut();
        let room = fill.book(1024)?;
        let size = room.len().min(READ_SIZE);
        let room = &mut room[..size];
        room.fill(std::mem::MaybeUninit::new(0));
        // SAFETY: the line above wrote all of it.
        let room = unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr().cast::<u8>(), size) };
        let n = loop {
            match self.stream.borrow_mut().read(room) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
                Ok(n) if n > size => {
                    let lie = "a stream that says it read more than it was given room for";
                    return Err(Error::Io(io::Error::new(ErrorKind::InvalidData, lie)));
                }
                Ok(n) => break n,
            }
        };
        if n == 0 {
            self.ended.set(true);
            fill.end();
        } else {
            // SAFETY: all of it is written, and `n` is not more.
            unsafe { fill.book_ack(n) };
        }
        Ok(n > 0)
    }

    /// Reads until `n` bytes are here.
    fn need(&self, n: usize) -> Result<()> {
        while self.buf.len() < n && self.read_more()? {}
        Ok(())
    }

    fn with(&self, n: usize) -> Result<&ReadHalf> {
        self.need(n)?;
        Ok(&self.buf)
    }
}

impl<R: Read> Reader for IoReader<R> {
    fn peek(&self, n: usize) -> Result<&[u8]> {
        self.with(n)?.peek(n)
    }

    fn next(&self, n: usize) -> Result<&[u8]> {
        self.with(n)?.next(n)
    }

    fn skip(&self, n: usize) -> Result<()> {
        self.with(n)?.skip(n)
    }

    /// How many bytes were read and not consumed; the stream may have more.
    fn len(&self) -> usize {
        self.buf.len()
    }

    fn release(&mut self) {
        self.buf.release();
    }

    /// Reads if nothing is here. A failure is reported by the next call that needs bytes.
    fn chunk(&self) -> &[u8] {
        // The stream is asked again by whoever needs more, and says it again.
        let _ = self.need(1);
        self.buf.chunk()
    }

    fn find(&self, delim: &[u8]) -> Result<usize> {
        loop {
            match self.buf.find(delim) {
                Err(Error::NotFound { .. }) => self.read_more()?,
                found => return found,
            };
        }
    }

    fn try_next(&self, n: usize) -> Result<Option<&[u8]>> {
        self.buf.try_next(n)
    }

    fn slice(&self, n: usize) -> Result<Slice> {
        self.with(n)?.slice(n)
    }

    fn is_ended(&self) -> bool {
        self.ended.get()
    }

    fn read_binary(&self, n: usize) -> Result<Vec<u8>> {
        self.with(n)?.read_binary(n)
    }

    fn read_string(&self, n: usize) -> Result<String> {
        self.with(n)?.read_string(n)
    }
}

impl<R> std::fmt::Debug for IoReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IoReader")
            .field("len", &self.buf.len())
            .field("ended", &self.ended)
            .finish()
    }
}

/// A [`Writer`] into any [`std::io::Write`]: a flush writes everything pending and flushes the stream.
///
/// ```
/// use linkbuffer::{IoWriter, Writer};
/// let mut file = Vec::new(); // any `std::io::Write`
/// let mut w = IoWriter::new(&mut file);
/// w.malloc(4)?.put_u32(7);
/// assert_eq!(w.flush()?, 4);
/// assert_eq!(file, [0, 0, 0, 7]);
/// # Ok::<(), linkbuffer::Error>(())
/// ```
#[doc(alias = "NewWriter")]
#[derive(Debug)]
pub struct IoWriter<W> {
    stream: W,
    buf: LinkBuffer,
    /// Flushed here and not yet written to the stream: what an earlier flush failed at.
    owed: usize,
}

impl<W: Write> IoWriter<W> {
    /// Writes to `stream`.
    pub fn new(stream: W) -> IoWriter<W> {
        IoWriter { stream, buf: LinkBuffer::new(), owed: 0 }
    }

    /// The stream. What is pending is not in it.
    pub fn get_ref(&self) -> &W {
        &self.stream
    }

    /// The stream. What is pending is dropped.
    pub fn into_inner(self) -> W {
        self.stream
    }

    /// Writes everything pending to the stream, flushes that, and says how many bytes it was.
    ///
    /// # Errors
    ///
    /// As [`Writer::flush`], and what the stream says. Then a later flush goes on behind the bytes that were
    /// written, and counts those that were not.
    pub fn flush(&mut self) -> Result<usize> {
        self.owed += self.buf.flush()?;
        let n = self.owed;
        while self.owed > 0 {
            let mut parts = [IoSlice::new(&[]); 16];
            let set = self.buf.fill_io_slices(&mut parts);
            match self.stream.write_vectored(&parts[..set]) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
                Ok(0) => return Err(Error::Io(ErrorKind::WriteZero.into())),
                Ok(written) => {
                    // A stream that lies about it has at most all of it.
                    let written = written.min(self.owed);
                    self.buf.skip(written)?;
                    self.owed -= written;
                    self.buf.release();
                }
            }
        }
        self.stream.flush()?;
        Ok(n)
    }
}

impl<W: Write> Writer for IoWriter<W> {
    forward_writer!(self => self.buf);

    fn malloc_len(&self) -> usize {
        self.buf.malloc_len()
    }

    fn flush(&mut self) -> Result<usize> {
        IoWriter::flush(self)
    }
}
