//! Filling from `std::io::Read` without zeroing first.
//!
//! `Read::read` wants initialised memory. The standard library itself reads into uninitialised
//! memory where the reader can (files, sockets, slices, cursors, standard input), and two stable
//! doors lead there: `Take::read_to_end` into a `Vec`, and `io::copy` through a small buffer on
//! the stack. A `Dirty<1>` becomes a `Vec` for the time of the read; everything else is copied.

use std::io::{self, Read};

use crate::{Dirty, Spare};

/// Reads up to `max` bytes, or to the end of the stream, into a cursor; says how many came.
///
/// Nothing is zeroed, but each byte is copied once, through a buffer on the stack: this is for
/// memory that no `Vec` can own. At most the room of the cursor is read.
///
/// # Errors
///
/// What the reader reports; the bytes before it are kept and counted in the cursor. Interrupted
/// reads are tried again.
pub fn copy_into<R: Read + ?Sized>(
    reader: &mut R,
    spare: &mut Spare<'_>,
    max: usize,
) -> io::Result<usize> {
    let max = max.min(spare.remaining());
    let n = io::copy(&mut reader.take(max as u64), spare)?;
    // At most `max`, by `take`.
    Ok(n as usize)
}

impl Dirty {
    /// Reads until `max` more bytes are there or the stream ends; says how many came.
    ///
    /// Nothing is zeroed first where the reader is the standard library's own; a reader of your
    /// own, for which the library only knows `read`, gets memory that the library zeroes chunk by
    /// chunk. At most the spare capacity is read.
    ///
    /// # Errors
    ///
    /// What the reader reports; the bytes before it are kept. Interrupted reads are tried again.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut buf = dirtmake::bytes(0, 64);
    /// assert_eq!(buf.read_from(&mut &b"to the end"[..], 64)?, 10);
    /// assert_eq!(&buf[..], b"to the end");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_from<R: Read + ?Sized>(&mut self, reader: &mut R, max: usize) -> io::Result<usize> {
        let max = max.min(self.room());
        if max == 0 {
            return Ok(0);
        }
        let before = self.len();
        let asked = self.asked();
        // Should the reader panic, the buffer is left empty; what was in it is freed.
        let mut vec = std::mem::take(self).into_vec();
        let result = reader.take(max as u64).read_to_end(&mut vec);
        *self = Dirty::from(vec);
        self.set_asked(asked);
        // A reader that lies about how much it read cannot get past `take` unseen.
        debug_assert!(result.is_err() || self.len() <= before + max);
        result.map(|_| self.len() - before)
    }

    /// Reads until the length that was [`asked`](Self::asked) for is there.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] if the stream ends first, and what the reader reports; the
    /// bytes that came are kept.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut buf = dirtmake::bytes(5, 5);
    /// buf.fill_from(&mut &b"hello, world"[..])?;
    /// assert_eq!(&buf[..], b"hello");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "ReadFull")]
    pub fn fill_from<R: Read + ?Sized>(&mut self, reader: &mut R) -> io::Result<()> {
        self.read_from(reader, self.missing())?;
        if self.missing() > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}
