//! A socket that takes no more: between who sends and the driver, who sees that it takes more again.
//!
//! Edges are reported once, so one that comes between the attempt that failed and the note of it
//! would be lost: whoever notes it tries once more. An edge before the note leaves room for that
//! attempt; an edge after it finds the note.

use crate::sync::atomic::{
    AtomicBool,
    Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
    fence,
};

/// See the module's text.
#[derive(Debug)]
pub struct Full(AtomicBool);

impl Full {
    /// Nothing was refused so far.
    pub fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Sender: the socket took nothing. True: the driver goes on at the next edge. False: the
    /// sender tries once more.
    #[must_use]
    pub fn found(&self) -> bool {
        // ORDERING: the fence orders the note before the second attempt.
        let noted = self.0.swap(true, AcqRel);
        fence(SeqCst);
        noted || cfg!(netpoll_mutant = "edge_cleared_late")
    }

    /// Sender: the socket took something.
    #[inline]
    pub fn clear(&self) {
        // ORDERING: the sender's own note; a driver that still sees it sends for nothing.
        self.0.store(false, Relaxed);
    }

    /// Driver, at an edge: must it send?
    #[inline]
    pub fn is_set(&self) -> bool {
        // ORDERING: Acquire is enough beside the kernel's own ordering of the edge.
        self.0.load(Acquire)
    }
}

impl Default for Full {
    fn default() -> Self {
        Self::new()
    }
}
