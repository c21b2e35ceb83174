//! Where a message ends: decided before a handler starts, so that half a message holds no thread.

use std::fmt;

use linkbuffer::{Error, ReadHalf, Reader, Result};

/// What a framing function says of the bytes that are buffered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// No framing: the handler starts when anything is there, and finds its own way.
    Any,
    /// The first message is complete and this many bytes long, which must be buffered and more
    /// than none. The handler's reader ends behind it.
    Ready(usize),
    /// No message is complete before this many bytes are buffered.
    ///
    /// Naming the whole length as soon as it is known saves further questions, and lets the
    /// connection refuse a message over its limit from the header alone. A number that is not
    /// more than what is buffered means "ask again when more has come".
    Wait(usize),
}

/// A peek-only view of what a connection has buffered, for framing functions.
///
/// ```
/// use netpoll::{Buffered, Frame};
///
/// /// A message is a tag byte, and eight bytes more if the tag is 1.
/// fn frame(buffered: &Buffered<'_>) -> netpoll::Result<Frame> {
///     Ok(match buffered.peek(1)?[0] {
///         1 if buffered.len() < 9 => Frame::Wait(9),
///         1 => Frame::Ready(9),
///         _ => Frame::Ready(1),
///     })
/// }
///
/// let bytes = netpoll::ByteReader::new(&[1, 0, 0]);
/// assert_eq!(frame(&Buffered::new(&bytes)).unwrap(), Frame::Wait(9));
/// ```
pub struct Buffered<'a> {
    reader: &'a dyn Reader,
    /// The first bytes, as they lie together: most framing functions need no more.
    front: &'a [u8],
}

impl<'a> Buffered<'a> {
    /// A view of `reader`, which must be one that does not wait. Connections make their own; this
    /// is for testing a framing function.
    pub fn new(reader: &'a dyn Reader) -> Self {
        Self { reader, front: reader.chunk() }
    }

    /// The same, where the compiler knows what kind of reader it is.
    #[inline]
    pub(crate) fn of(reader: &'a ReadHalf) -> Self {
        Self { reader, front: reader.chunk() }
    }

    /// How many bytes are buffered. At least one, when a connection asks.
    pub fn len(&self) -> usize {
        self.reader.len()
    }

    /// Whether nothing is buffered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `n` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::NotEnough`] where fewer are buffered, [`Error::Ended`] where the stream has ended
    /// too. A framing function may return either as it is: it means [`Frame::Wait`] for `n`.
    #[inline]
    pub fn peek(&self, n: usize) -> Result<&[u8]> {
        match self.front.get(..n) {
            Some(bytes) => Ok(bytes),
            None => self.reader.peek(n),
        }
    }

    /// Whether `n` bytes are buffered: most often they lie together.
    #[inline]
    fn has(&self, n: usize) -> bool {
        n <= self.front.len() || n <= self.len()
    }

    /// The length through the first `delimiter`, if it is there. Each byte is scanned once,
    /// however often this is asked.
    pub fn find(&self, delimiter: &[u8]) -> Option<usize> {
        self.reader.find(delimiter).ok()
    }
}

impl fmt::Debug for Buffered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffered").field("len", &self.len()).finish()
    }
}

/// Finds the end of the first message. Implemented by functions too.
///
/// It is asked by whoever owns the connection's turn, like a handler, whenever bytes came.
pub trait Framing: Send + Sync + 'static {
    /// Looks at what is buffered, at least one byte.
    ///
    /// # Errors
    ///
    /// [`Error::NotEnough`] and [`Error::Ended`] count as [`Frame::Wait`]; any other error ends the
    /// connection and reaches `on_close`.
    fn frame(&self, buffered: &Buffered<'_>) -> Result<Frame>;
}

impl<F> Framing for F
where
    F: Fn(&Buffered<'_>) -> Result<Frame> + Send + Sync + 'static,
{
    fn frame(&self, buffered: &Buffered<'_>) -> Result<Frame> {
        self(buffered)
    }
}

/// Messages that begin with the length of what follows.
///
/// The handler's reader begins at the length itself.
///
/// ```
/// use netpoll::{Buffered, ByteReader, Frame, Framing, LengthPrefixed};
///
/// let framing = LengthPrefixed::u16_be().max(1000);
/// let bytes = ByteReader::new(b"\x00\x05hello, and more");
/// assert_eq!(framing.frame(&Buffered::new(&bytes)).unwrap(), Frame::Ready(7));
///
/// let bytes = ByteReader::new(b"\xff\xff");
/// assert!(framing.frame(&Buffered::new(&bytes)).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthPrefixed {
    width: usize,
    big_endian: bool,
    max: usize,
}

macro_rules! widths {
    ($($be:ident $le:ident $width:literal)*) => { $(
        #[doc = concat!("A length of ", $width, " byte(s), most significant first.")]
        pub const fn $be() -> Self {
            Self { width: $width, big_endian: true, max: usize::MAX }
        }

        #[doc = concat!("A length of ", $width, " byte(s), least significant first.")]
        pub const fn $le() -> Self {
            Self { width: $width, big_endian: false, max: usize::MAX }
        }
    )* };
}

impl LengthPrefixed {
    widths! { u8_be u8_le 1 u16_be u16_le 2 u24_be u24_le 3 u32_be u32_le 4 u64_be u64_le 8 }

    /// The largest body, in bytes, without its length field. The loop's own limit on messages
    /// (see [`Builder::max_message`](crate::Builder::max_message)) holds besides.
    #[must_use]
    pub const fn max(mut self, body: usize) -> Self {
        self.max = body;
        self
    }

    /// What the length field says. Most often there are eight bytes: then it is a part of one load.
    #[inline]
    fn number(self, buffered: &Buffered<'_>) -> Result<u64> {
        let mut word = [0; 8];
        match buffered.front.first_chunk() {
            Some(front) => word = *front,
            None => word[..self.width].copy_from_slice(buffered.peek(self.width)?),
        }
        let others = 64 - 8 * self.width;
        Ok(if self.big_endian {
            u64::from_be_bytes(word) >> others
        } else {
            u64::from_le_bytes(word) << others >> others
        })
    }
}

impl Framing for LengthPrefixed {
    fn frame(&self, buffered: &Buffered<'_>) -> Result<Frame> {
        let body = self.number(buffered)?;
        let len = usize::try_from(body).unwrap_or(usize::MAX);
        if len > self.max {
            return Err(Error::FrameTooLarge { len, max: self.max });
        }
        let whole = len.saturating_add(self.width);
        Ok(if buffered.has(whole) { Frame::Ready(whole) } else { Frame::Wait(whole) })
    }
}

/// Messages that end with a delimiter, which is part of them.
///
/// ```
/// use netpoll::{Buffered, ByteReader, Delimited, Frame, Framing};
///
/// let lines = Delimited::new("\r\n").max(80);
/// let bytes = ByteReader::new(b"PING\r\nPI");
/// assert_eq!(lines.frame(&Buffered::new(&bytes)).unwrap(), Frame::Ready(6));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delimited {
    delimiter: Box<[u8]>,
    max: usize,
}

impl Delimited {
    /// Messages that end with `delimiter`.
    ///
    /// # Panics
    ///
    /// If the delimiter is empty.
    pub fn new(delimiter: impl AsRef<[u8]>) -> Self {
        let delimiter: Box<[u8]> = delimiter.as_ref().into();
        assert!(!delimiter.is_empty(), "an empty delimiter ends no message");
        Self { delimiter, max: usize::MAX }
    }

    /// The longest message, in bytes, with its delimiter.
    #[must_use]
    pub fn max(mut self, message: usize) -> Self {
        self.max = message;
        self
    }
}

impl Framing for Delimited {
    fn frame(&self, buffered: &Buffered<'_>) -> Result<Frame> {
        let found = buffered.find(&self.delimiter);
        let len = found.unwrap_or(buffered.len());
        match found {
            _ if len > self.max => Err(Error::FrameTooLarge { len, max: self.max }),
            Some(len) => Ok(Frame::Ready(len)),
            None => Ok(Frame::Wait(len.saturating_add(1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use linkbuffer::ByteReader;

    use super::*;

    fn ask(framing: &impl Framing, bytes: &[u8]) -> Result<Frame> {
        framing.frame(&Buffered::new(&ByteReader::new(bytes)))
    }

    #[test]
    fn every_width_and_order() {
        let cases: [(LengthPrefixed, &[u8]); 10] = [
            (LengthPrefixed::u8_be(), &[3]),
            (LengthPrefixed::u8_le(), &[3]),
            (LengthPrefixed::u16_be(), &[0, 3]),
            (LengthPrefixed::u16_le(), &[3, 0]),
            (LengthPrefixed::u24_be(), &[0, 0, 3]),
            (LengthPrefixed::u24_le(), &[3, 0, 0]),
            (LengthPrefixed::u32_be(), &[0, 0, 0, 3]),
            (LengthPrefixed::u32_le(), &[3, 0, 0, 0]),
            (LengthPrefixed::u64_be(), &[0, 0, 0, 0, 0, 0, 0, 3]),
            (LengthPrefixed::u64_le(), &[3, 0, 0, 0, 0, 0, 0, 0]),
        ];
        for (framing, field) in cases {
            let width = field.len();
            let mut bytes = field.to_vec();
            assert_eq!(ask(&framing, &bytes).unwrap(), Frame::Wait(width + 3), "{framing:?}");
            bytes.extend(b"abc");
            assert_eq!(ask(&framing, &bytes).unwrap(), Frame::Ready(width + 3), "{framing:?}");
            bytes.push(b'd');
            assert_eq!(ask(&framing, &bytes).unwrap(), Frame::Ready(width + 3), "{framing:?}");
            let short = ask(&framing, &bytes[..width - 1]);
            assert!(matches!(short, Err(Error::Ended { requested, .. }) if requested == width));
        }
    }

    #[test]
    fn every_digit_has_its_place() {
        let say = |framing: LengthPrefixed, bytes: &[u8]| {
            framing.number(&Buffered::new(&ByteReader::new(bytes))).unwrap()
        };
        let digits = [1, 2, 3, 4, 5, 6, 7, 8];
        let cases = [
            (LengthPrefixed::u16_be(), LengthPrefixed::u16_le(), 2),
            (LengthPrefixed::u24_be(), LengthPrefixed::u24_le(), 3),
            (LengthPrefixed::u32_be(), LengthPrefixed::u32_le(), 4),
            (LengthPrefixed::u64_be(), LengthPrefixed::u64_le(), 8),
        ];
        for (be, le, width) in cases {
            let mut field = digits[..width].to_vec();
            let number = field.iter().fold(0, |number, digit| number << 8 | u64::from(*digit));
            let mut reversed: Vec<u8> = field.iter().rev().copied().collect();
            // The field alone, and with more behind it.
            for _ in 0..2 {
                assert_eq!(say(be, &field), number);
                assert_eq!(say(le, &reversed), number);
                field.extend([0xff; 8]);
                reversed.extend([0xff; 8]);
            }
        }
    }

    #[test]
    fn a_length_of_all_ones_is_refused_or_awaited_but_never_wraps() {
        let huge = [0xff; 8];
        assert_eq!(ask(&LengthPrefixed::u64_be(), &huge).unwrap(), Frame::Wait(usize::MAX));
        let limited = LengthPrefixed::u64_le().max(10);
        assert!(matches!(ask(&limited, &huge), Err(Error::FrameTooLarge { max: 10, .. })));
    }

    #[test]
    fn a_delimiter_may_come_in_pieces() {
        let lines = Delimited::new("\r\n").max(8);
        assert_eq!(ask(&lines, b"abc").unwrap(), Frame::Wait(4));
        assert_eq!(ask(&lines, b"abc\r").unwrap(), Frame::Wait(5));
        assert_eq!(ask(&lines, b"abc\r\nd").unwrap(), Frame::Ready(5));
        assert!(matches!(ask(&lines, b"123456789"), Err(Error::FrameTooLarge { .. })));
        assert!(matches!(ask(&lines, b"1234567\r\n"), Err(Error::FrameTooLarge { .. })));
    }
}
