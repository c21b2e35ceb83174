//! Why there is no memory.

use std::alloc::{Layout, handle_alloc_error};
use std::error::Error;
use std::fmt;

/// An allocation that could not be had, with the number of bytes that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AllocError {
    requested: usize,
    too_large: bool,
}

impl AllocError {
    /// A size beyond what any allocation can have.
    #[must_use]
    pub const fn too_large(requested: usize) -> Self {
        AllocError { requested, too_large: true }
    }

    /// A possible size for which the allocator has no memory now.
    #[must_use]
    pub const fn exhausted(requested: usize) -> Self {
        AllocError { requested, too_large: false }
    }

    /// The bytes asked for.
    #[must_use]
    pub const fn requested(&self) -> usize {
        self.requested
    }

    /// Whether no allocator could ever give that much; otherwise trying again later may help.
    #[must_use]
    pub const fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// Ends as an infallible allocation ends: a panic for an impossible size, otherwise
    /// [`handle_alloc_error`].
    ///
    /// # Panics
    ///
    /// If [`is_too_large`](Self::is_too_large).
    #[cold]
    #[track_caller]
    pub fn raise(self) -> ! {
        match Layout::from_size_align(self.requested, 1) {
            Ok(layout) if !self.too_large => handle_alloc_error(layout),
            _ => panic!("capacity overflow: {} bytes", self.requested),
        }
    }
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = if self.too_large { "too large to allocate" } else { "out of memory" };
        write!(f, "{why}: {} bytes", self.requested)
    }
}

impl Error for AllocError {}

impl From<AllocError> for std::io::Error {
    fn from(err: AllocError) -> Self {
        std::io::Error::new(std::io::ErrorKind::OutOfMemory, err)
    }
}
