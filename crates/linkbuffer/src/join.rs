//! Bytes of several blocks, copied together once and kept until they are released.
//!
//! Bytes that are lent stay where they are while more are joined: a block is only ever added to behind
//! them, and a longer run gets a new block of at least twice the size. So all blocks together are smaller
//! than twice the largest.

use std::cell::Cell;
use std::ptr;

use crate::Result;
use crate::node::{Node, NodeExt};

/// The joined bytes of one reader.
///
/// Owned by a reader, which is not `Sync`; `get` lends bytes that live as long as its borrow, since only
/// `clear`, by `&mut`, frees them.
pub(crate) struct Join {
    /// The newest block; older ones follow by `next`.
    block: Cell<*mut Node>,
    /// How large the newest block is.
    size: Cell<usize>,
    /// The current run: where it lies in the newest block, and how much room there is from there.
    at: Cell<*mut u8>,
    room: Cell<usize>,
    /// Which bytes of the stream these are.
    start: Cell<usize>,
    len: Cell<usize>,
}

// SAFETY: it owns its blocks.
unsafe impl Send for Join {}

/// Where joined bytes are to be put.
pub(crate) struct Gap {
    pub(crate) to: *mut u8,
    /// How many bytes of the run are already there.
    pub(crate) have: usize,
    /// How many must be put at `to`.
    pub(crate) want: usize,
}

impl Join {
    pub(crate) const fn new() -> Join {
        Join {
            block: Cell::new(ptr::null_mut()),
            size: Cell::new(0),
            at: Cell::new(ptr::null_mut()),
            room: Cell::new(0),
            start: Cell::new(0),
            len: Cell::new(0),
        }
    }

    /// The `n` bytes from stream position `pos`. `fill` must write `want` bytes at `to`, those that follow
    /// the first `have`; if it fails, so does this, and nothing changes.
    ///
    /// `at_end` tells `fill` whether the gap begins where its last one ended.
    ///
    /// # Safety
    ///
    /// `fill` writes all of its gap when it returns `Ok`.
    pub(crate) unsafe fn get(
        &self,
        pos: usize,
        n: usize,
        fill: impl FnOnce(Gap, bool) -> Result<()>,
    ) -> Result<&[u8]> {
        let from = pos.wrapping_sub(self.start.get());
        let known = from <= self.len.get() && !self.block.get().is_null();
        if known && n <= self.room.get() - from {
            let have = n.min(self.len.get() - from);
            if have < n {
                let end = self.len.get();
                // SAFETY: the run's end lies in the block.
                let to = unsafe { self.at.get().add(end) };
                fill(Gap { to, have, want: n - have }, true)?;
                self.len.set(end + n - have);
            }
            // SAFETY: the run is written up to `len`, and never again.
            return Ok(unsafe { std::slice::from_raw_parts(self.at.get().add(from), n) });
        }
        let rest = self.room.get() - self.len.get();
        // SAFETY: the run's end lies in the block.
        let mut place = (unsafe { self.at.get().add(self.len.get()) }, rest);
        if n > rest {
            let size = n.max(2 * self.size.get());
            // Powers of two fit exactly if the header is apart, which is worth it in large blocks.
            let block = match size {
                0..2048 => Node::block(size)?,
                _ => Node::apart(size.checked_next_power_of_two().unwrap_or(size))?,
            };
            // SAFETY: the block is ours.
            unsafe {
                let part = block.part();
                // ORDERING: Relaxed, only this reader ever looks at it.
                block.as_ref().next.store(self.block.get(), crate::sync::atomic::Ordering::Relaxed);
                self.size.set(part.cap);
                place = (part.data, part.cap);
            }
            self.block.set(block.as_ptr());
        }
        self.at.set(place.0);
        self.room.set(place.1);
        self.start.set(pos);
        self.len.set(0);
        fill(Gap { to: place.0, have: 0, want: n }, false)?;
        self.len.set(n);
        // SAFETY: `fill` wrote them.
        Ok(unsafe { std::slice::from_raw_parts(place.0, n) })
    }

    /// Gives the blocks back.
    #[inline]
    pub(crate) fn clear(&mut self) {
        if !self.block.get().is_null() {
            self.drop_blocks();
        }
    }

    #[cold]
    fn drop_blocks(&mut self) {
        // The old one frees its blocks as it is dropped: nothing of them is lent any more.
        drop(std::mem::replace(self, Join::new()));
    }
}

impl Drop for Join {
    fn drop(&mut self) {
        // SAFETY: the blocks are ours, and lent bytes borrow from this.
        unsafe { crate::chain::free_from(self.block.get(), ptr::null_mut()) };
    }
}
