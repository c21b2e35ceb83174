//! Bytes that are handed over to a writer.

use std::sync::Arc;

use crate::Slice;

/// From this many bytes up, bytes handed over to a writer are linked instead of copied.
#[doc(alias = "BinaryInplaceThreshold")]
pub const BINARY_INPLACE_THRESHOLD: usize = 4096;

/// Bytes that can be handed over to a writer, see [`WriterExt::write_bytes`](crate::WriterExt::write_bytes).
///
/// Usually made by `into()`.
#[non_exhaustive]
pub enum Owned {
    /// A vector, or a string.
    Vec(Vec<u8>),
    /// A boxed slice.
    Boxed(Box<[u8]>),
    /// A shared slice.
    Shared(Arc<[u8]>),
    /// Bytes that live for ever.
    Static(&'static [u8]),
    /// A block of mcache.
    Block(mcache::Block),
    /// Bytes of another buffer.
    Slice(Slice),
    /// Shared bytes of the `bytes` crate.
    #[cfg(feature = "bytes")]
    Bytes(bytes::Bytes),
}

impl Owned {
    /// How many bytes these are.
    pub fn len(&self) -> usize {
        match self {
            Owned::Slice(s) => s.len(),
            other => other.contiguous().map_or(0, <[u8]>::len),
        }
    }

    /// Whether these are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, unless they lie in several places.
    pub(crate) fn contiguous(&self) -> Option<&[u8]> {
        Some(match self {
            Owned::Vec(b) => b,
            Owned::Boxed(b) => b,
            Owned::Shared(b) => b,
            Owned::Static(b) => b,
            Owned::Block(b) => b,
            Owned::Slice(s) => return s.as_contiguous(),
            #[cfg(feature = "bytes")]
            Owned::Bytes(b) => b,
        })
    }
}

impl std::fmt::Debug for Owned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self {
            Owned::Vec(_) => "Vec",
            Owned::Boxed(_) => "Boxed",
            Owned::Shared(_) => "Shared",
            Owned::Static(_) => "Static",
            Owned::Block(_) => "Block",
            Owned::Slice(_) => "Slice",
            #[cfg(feature = "bytes")]
            Owned::Bytes(_) => "Bytes",
        };
        write!(f, "Owned::{kind}({} bytes)", self.len())
    }
}

impl From<Vec<u8>> for Owned {
    fn from(bytes: Vec<u8>) -> Owned {
        Owned::Vec(bytes)
    }
}

impl From<Box<[u8]>> for Owned {
    fn from(bytes: Box<[u8]>) -> Owned {
        Owned::Boxed(bytes)
    }
}

impl From<Arc<[u8]>> for Owned {
    fn from(bytes: Arc<[u8]>) -> Owned {
        Owned::Shared(bytes)
    }
}

impl From<Arc<str>> for Owned {
    fn from(text: Arc<str>) -> Owned {
        Owned::Shared(text.into())
    }
}

impl From<String> for Owned {
    fn from(text: String) -> Owned {
        Owned::Vec(text.into_bytes())
    }
}

impl From<Box<str>> for Owned {
    fn from(text: Box<str>) -> Owned {
        Owned::Boxed(text.into_boxed_bytes())
    }
}

impl From<&'static [u8]> for Owned {
    fn from(bytes: &'static [u8]) -> Owned {
        Owned::Static(bytes)
    }
}

impl<const N: usize> From<&'static [u8; N]> for Owned {
    fn from(bytes: &'static [u8; N]) -> Owned {
        Owned::Static(bytes)
    }
}

impl From<&'static str> for Owned {
    fn from(text: &'static str) -> Owned {
        Owned::Static(text.as_bytes())
    }
}

impl From<mcache::Block> for Owned {
    fn from(block: mcache::Block) -> Owned {
        Owned::Block(block)
    }
}

impl From<Slice> for Owned {
    fn from(slice: Slice) -> Owned {
        Owned::Slice(slice)
    }
}
