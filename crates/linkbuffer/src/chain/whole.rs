//! What only the owner of both ends may do, or a writer whose reader is gone: there is no other thread then.

use std::ptr::{self, NonNull};

use super::{Head, ReaderLeft, Tail, free_from};
use crate::node::{Node, NodeExt, NodePtr};
use crate::sync::atomic::Ordering;

impl Tail {
    /// Frees what a reader that is gone left unread, up to the node that is still written to.
    pub(crate) fn sweep(&mut self) {
        if self.link.shared().swept.get() || !self.is_reader_gone() {
            return;
        }
        self.unseal();
        self.link.shared().swept.set(true);
        // SAFETY: the reader is gone, seen by Acquire; the nodes before `last` are nobody else's.
        unsafe { free_from(self.link.left_by_reader(self.last), self.last) };
        // From here on the chain begins, and ends, at `last`.
        let left = ReaderLeft { pos: self.flushed(), cur: self.last, drained: true };
        // SAFETY: the reader is gone, so its cells are ours.
        unsafe { self.link.shared().reader_left.with_mut(|to| *to = left) };
    }
}

impl Head {
    pub(crate) fn is_other_end_of(&self, tail: &Tail) -> bool {
        self.link == tail.link
    }

    /// Releases all, if that ends the last block and there is none before it; that block is the caller's
    /// then, as it owns the other end too.
    #[inline]
    pub(crate) fn consume_last(&mut self, tail: &mut Tail) -> bool {
        let pos = self.position();
        if !self.is_other_end_of(tail) || pos != tail.flushed() || self.first.get() != tail.last {
            return false;
        }
        // ORDERING: Relaxed, the other end is the caller's too; who has it next has it from there.
        self.link.shared().released.store(pos, Ordering::Relaxed);
        self.link.shared().drained.set(true);
        tail.last = ptr::null_mut();
        true
    }

    /// Starts the last block again from its beginning, if nothing in it is in use, so that a buffer in a
    /// loop stays in the same few cache lines. The caller owns the other end, `tail`, which has nothing
    /// pending.
    pub(crate) fn rewind(&mut self, tail: &Tail) -> bool {
        debug_assert!(self.link == tail.link);
        let Some(last) = NonNull::new(tail.last) else { return false };
        if tail.is_sealed() || self.released() != tail.flushed() {
            return false;
        }
        // SAFETY: the chain's hold on the last node is ours, and both ends too; nobody else keeps it.
        unsafe {
            if !last.is_sole_block() {
                return false;
            }
            self.place(last.data());
        }
        true
    }

    /// Takes the unreleased chain apart: the readable bytes begin in the returned node, whose part is cut to
    /// them. Null if there is no last node. Frees what was consumed.
    ///
    /// # Safety
    ///
    /// The caller owns `tail` too, has closed its last node, and drops both with `forget`.
    pub(crate) unsafe fn take_all(&self, tail: &mut Tail) -> (*mut Node, usize) {
        debug_assert!(self.link == tail.link);
        let has_last = tail.unseal();
        let readable = self.refresh();
        // SAFETY: everything is ours.
        unsafe {
            if readable > 0 {
                self.run();
            } else if !has_last {
                return (ptr::null_mut(), 0);
            }
            if readable == 0 && self.link.shared().drained.get() {
                // `cur` may be gone; what there is begins behind the last published byte.
                let last = NonNull::new_unchecked(tail.last);
                cut(last, last.part().firm);
                return (tail.last, 0);
            }
            free_from(self.first.get(), self.cur.get());
            let cur = NonNull::new_unchecked(self.cur.get());
            cut(cur, self.at.get() as usize - cur.data() as usize);
            (cur.as_ptr(), readable)
        }
    }

    /// Ends a chain whose nodes were all taken.
    ///
    /// # Safety
    ///
    /// The nodes have a new owner.
    pub(crate) unsafe fn forget(self, tail: Tail) {
        debug_assert!(self.link == tail.link);
        // SAFETY: both ends are here, and neither frees it any more.
        unsafe { self.link.free() };
        std::mem::forget((self, tail));
    }
}

/// Drops the first `n` bytes of a node.
///
/// # Safety
///
/// The node is the caller's alone.
unsafe fn cut(node: NodePtr, n: usize) {
    // SAFETY: the caller's promise; `n` is not more than `len`.
    unsafe {
        let mut part = node.part();
        part.data = part.data.add(n);
        part.len -= n;
        part.cap -= n;
        part.firm = part.firm.saturating_sub(n);
        node.set_part(part);
    }
}
