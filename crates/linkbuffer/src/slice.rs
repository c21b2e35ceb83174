//! Shared, read-only bytes.

use crate::node::{Node, NodeExt, NodePtr, Piece};
use crate::{LinkBuffer, Owned, ReadHalf, Result};

/// Bytes that keep themselves: reference-counted, cheap to clone, sent and shared between threads.
///
/// [`Reader::slice`](crate::Reader::slice) makes one without a copy; it outlives its buffer, and can be
/// appended to any writer without a copy. It keeps the whole blocks that it lies in, so for a few bytes to
/// be kept for long, copy them.
///
/// To pass bytes on, slice them, [`release`](crate::Reader::release) the reader, then append the slice: the
/// blocks that nobody else holds by then go over as they are. Appended first, each gets a link that shares
/// it, which costs a little more.
///
/// The bytes may lie in several [`chunks`](Slice::chunks); [`reader`](Slice::reader) reads across them.
///
/// ```
/// use linkbuffer::{LinkBuffer, Reader, Writer, WriterExt};
/// let mut a = LinkBuffer::new();
/// a.write_binary(b"some bytes")?;
/// a.flush()?;
/// let some = a.slice(4)?;
/// drop(a);
/// assert_eq!(some, b"some"[..]);
///
/// let mut b = LinkBuffer::new();
/// b.write_bytes(some.clone())?;
/// b.flush()?;
/// assert_eq!(std::thread::spawn(move || some.len()).join().unwrap(), b.len());
/// # Ok::<(), linkbuffer::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Slice(Repr);

#[derive(Clone, Default)]
enum Repr {
    #[default]
    Empty,
    One(Piece),
    /// Whole bytes of a pieces node.
    Many(Piece),
}

impl Slice {
    /// The empty slice.
    pub const fn new() -> Slice {
        Slice(Repr::Empty)
    }

    pub(crate) fn from_piece(piece: Piece) -> Slice {
        Slice(Repr::One(piece))
    }

    /// `count` pieces of together `total` bytes.
    pub(crate) fn from_pieces(
        count: usize,
        total: usize,
        mut pieces: impl Iterator<Item = Piece>,
    ) -> Result<Slice> {
        Ok(Slice(match count {
            0 => Repr::Empty,
            1 => pieces.next().map_or(Repr::Empty, Repr::One),
            _ => {
                let node = Node::pieces(count, total, pieces)?;
                // SAFETY: the node's first reference is ours to give.
                Repr::Many(unsafe { Piece::from_node(node) })
            }
        }))
    }

    /// The bytes of both, without a copy.
    pub(crate) fn concat(a: Slice, b: Slice) -> Result<Slice> {
        let count = a.pieces().len() + b.pieces().len();
        Slice::from_pieces(count, a.len() + b.len(), a.pieces().iter().chain(b.pieces()).cloned())
    }

    pub(crate) fn pieces(&self) -> &[Piece] {
        match &self.0 {
            Repr::Empty => &[],
            Repr::One(piece) => std::slice::from_ref(piece),
            // SAFETY: it was made from a pieces node, which our reference keeps.
            Repr::Many(list) => unsafe { list.node().as_pieces() },
        }
    }

    /// Hands out the pieces, with their references if nobody else has this slice.
    #[inline]
    pub(crate) fn into_pieces(self, mut to: impl FnMut(Piece) -> Result<()>) -> Result<()> {
        let list = match self.0 {
            Repr::Empty => return Ok(()),
            Repr::One(piece) => return to(piece),
            Repr::Many(ref list) => list.node(),
        };
        // SAFETY: `self` holds a reference to the list until the end.
        unsafe {
            let pieces = list.as_pieces();
            let sole = list.is_sole();
            if sole {
                // From here on the list drops none of them; what `to` does not get is dropped here.
                let mut part = list.part();
                part.firm = 0;
                list.set_part(part);
            }
            let mut result = Ok(());
            for piece in pieces {
                let piece = if sole { std::ptr::read(piece) } else { piece.clone() };
                if result.is_ok() {
                    result = to(piece);
                }
            }
            result
        }
    }

    /// How many bytes these are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Empty => 0,
            Repr::One(piece) | Repr::Many(piece) => piece.len(),
        }
    }

    /// Whether these are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, in pieces that each lie together; none is empty.
    pub fn chunks(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        self.pieces().iter().map(Piece::bytes)
    }

    /// The bytes, if they lie together.
    pub fn as_contiguous(&self) -> Option<&[u8]> {
        match &self.0 {
            Repr::Empty => Some(&[]),
            Repr::One(piece) => Some(piece.bytes()),
            Repr::Many(_) => None,
        }
    }

    /// A reader over these bytes: for codecs, across chunks, and for slices of the slice.
    ///
    /// It shares the bytes, and does not borrow the slice.
    ///
    /// ```
    /// use linkbuffer::{Reader, Slice};
    /// let line = Slice::from(b"key=value".to_vec());
    /// let r = line.reader();
    /// r.until(b"=")?;
    /// assert_eq!(r.slice(r.len())?, b"value"[..]);
    /// # Ok::<(), linkbuffer::Error>(())
    /// ```
    pub fn reader(&self) -> ReadHalf {
        LinkBuffer::from(self.clone()).into_split().0
    }

    /// A copy.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        self.chunks().for_each(|chunk| bytes.extend_from_slice(chunk));
        bytes
    }
}

impl From<Vec<u8>> for Slice {
    /// Takes the bytes over, without a copy.
    fn from(bytes: Vec<u8>) -> Slice {
        Slice::from(Owned::Vec(bytes))
    }
}

impl From<Owned> for Slice {
    /// Takes the bytes over, without a copy.
    ///
    /// # Panics
    ///
    /// If there is no memory for a header of about a hundred bytes.
    fn from(bytes: Owned) -> Slice {
        match bytes {
            Owned::Slice(slice) => slice,
            bytes if bytes.is_empty() => Slice::new(),
            bytes => {
                let node: NodePtr = Node::owned(bytes).expect("memory for a header");
                // SAFETY: the node's first reference is ours to give.
                Slice(Repr::One(unsafe { Piece::from_node(node) }))
            }
        }
    }
}

impl PartialEq<[u8]> for Slice {
    fn eq(&self, mut other: &[u8]) -> bool {
        self.len() == other.len()
            && self.chunks().all(|chunk| {
                let (head, rest) = other.split_at(chunk.len());
                other = rest;
                head == chunk
            })
    }
}

impl PartialEq<&[u8]> for Slice {
    fn eq(&self, other: &&[u8]) -> bool {
        *self == **other
    }
}

impl PartialEq<Vec<u8>> for Slice {
    fn eq(&self, other: &Vec<u8>) -> bool {
        *self == **other
    }
}

impl PartialEq for Slice {
    fn eq(&self, other: &Slice) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Slice {}

impl Slice {
    fn iter(&self) -> impl Iterator<Item = &u8> {
        self.chunks().flatten()
    }
}

/// Does not show the bytes: they may be many, and not for every log.
impl std::fmt::Debug for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slice")
            .field("len", &self.len())
            .field("chunks", &self.chunks().len())
            .finish()
    }
}
