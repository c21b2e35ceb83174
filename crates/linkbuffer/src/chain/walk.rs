//! Going over what is readable, for everything that looks at more than one block.

use std::ptr::{self, NonNull};

use super::Head;
use crate::node::{Node, NodeExt, NodePtr, Piece};
use crate::sync::atomic::Ordering;
use crate::sync::planted;

impl Head {
    /// The readable bytes as they are known now, piece by piece.
    #[inline]
    pub(crate) fn walk(&self) -> Walk {
        let known = self.known();
        if known > 0 {
            self.find_cur(self.position());
        }
        Walk { node: self.cur.get(), at: self.at.get(), left: known }
    }
}

/// Goes over readable bytes without consuming them.
#[derive(Clone, Copy)]
pub(crate) struct Walk {
    node: *mut Node,
    at: *const u8,
    left: usize,
}

// SAFETY: two addresses and a count. They are followed by `next` alone, whose contract says when,
// and what they point to moves between threads with the reader that they came from (see `Head`).
unsafe impl Send for Walk {}

impl Walk {
    /// A walk that ends at once.
    pub(crate) const NOWHERE: Walk = Walk { node: ptr::null_mut(), at: ptr::null(), left: 0 };

    /// Ends the walk here, until it is extended.
    pub(crate) fn stop(&mut self) {
        self.left = 0;
    }

    /// Lets the walk go on over `more` bytes, which are readable.
    pub(crate) fn extend(&mut self, more: usize) {
        self.left += more;
    }

    /// Goes over the next `n` bytes, and says in how many places they lie.
    ///
    /// # Safety
    ///
    /// As for `next`, and they are there.
    #[inline]
    pub(crate) unsafe fn skip(&mut self, mut n: usize) -> usize {
        let mut count = 0;
        // SAFETY: the caller's promise.
        while let Some((_, _, len)) = unsafe { self.next(n) } {
            n -= len;
            count += 1;
        }
        debug_assert!(n == 0);
        count
    }

    /// At most `limit` of the next bytes that lie together, and their node.
    ///
    /// # Safety
    ///
    /// The reader that this walk came from has not released since.
    #[inline]
    pub(crate) unsafe fn next(&mut self, limit: usize) -> Option<(NodePtr, *const u8, usize)> {
        if limit == 0 || self.left == 0 {
            return None;
        }
        loop {
            let node = NonNull::new(self.node)?;
            // SAFETY: what the reader has not released is alive, and flushed as far as `left`.
            unsafe {
                let (next, there) = extent(node, self.at, self.left);
                let len = there.min(limit);
                if len > 0 {
                    let at = self.at;
                    self.at = at.add(len);
                    self.left -= len;
                    node.will_read(at, len);
                    // To the next node at once, where one is known to have bytes: this one is at hand.
                    if let (Some(next), true) = (next, len == there && self.left > 0) {
                        self.node = next.as_ptr();
                        self.at = next.data();
                    }
                    return Some((node, at, len));
                }
                let next = next.expect("C3: what is flushed is linked");
                self.node = next.as_ptr();
                self.at = next.data();
            }
        }
    }

    /// The next `n` bytes as pieces that keep themselves.
    ///
    /// # Safety
    ///
    /// As for `next`.
    pub(crate) unsafe fn pieces(mut self, mut n: usize) -> impl Iterator<Item = Piece> {
        std::iter::from_fn(move || {
            // SAFETY: the caller's promise; what can be reached is held by the chain.
            unsafe {
                let (node, at, len) = self.next(n)?;
                n -= len;
                Some(Piece::of_reader(node, at, len))
            }
        })
    }
}

impl Head {
    /// Consumes `n` bytes, more than the run has.
    ///
    /// # Safety
    ///
    /// They are known to be readable.
    #[inline(never)]
    pub(super) unsafe fn advance_far(&self, n: usize) {
        let mut walk = self.walk();
        // SAFETY: the caller's promise, and nothing is released meanwhile.
        unsafe {
            walk.skip(n);
            self.go_to(walk);
        }
    }

    /// Consumes what a walk from here went over, the whole run at least.
    ///
    /// # Safety
    ///
    /// Nothing was consumed or looked for since the walk began.
    pub(crate) unsafe fn go_to(&self, walk: Walk) {
        self.cur.set(walk.node);
        self.place_at(self.flushed.get().wrapping_sub(walk.left), walk.at);
    }
}

/// The successor of a node if it has one, and how many of the `known` readable bytes from `at` on it has.
///
/// # Safety
///
/// The node is alive and `at` in it or at its end; `known` bytes from there were acquired (C2).
#[inline]
pub(super) unsafe fn extent(
    node: NodePtr,
    at: *const u8,
    known: usize,
) -> (Option<NodePtr>, usize) {
    // SAFETY: the caller's promise; `len` is read only behind the successor (N3, C3).
    unsafe {
        // ORDERING: pairs with the Release in `Tail::publish` (C3).
        let next = node
            .as_ref()
            .next
            .load(planted!("extent-relaxed", Ordering::Relaxed, instead of Ordering::Acquire));
        match NonNull::new(next) {
            None => (None, known),
            Some(next) => {
                let used = at as usize - node.data() as usize;
                (Some(next), known.min(node.len() - used))
            }
        }
    }
}
