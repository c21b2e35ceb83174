//! Some bytes of a node, kept by a reference of their own: what slices consist of.

use std::ptr::{self, NonNull};

use super::{Kind, Node, NodeExt, NodePtr, Part};
use crate::Result;
use crate::sync::atomic::Ordering;
use crate::sync::planted;

/// Some bytes and a reference to the memory they are in.
pub(crate) struct Piece {
    mem: NodePtr,
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: a piece reads bytes that nobody writes while it lives (N4), and gives its reference back by an
// atomic count (N1); what an owned node drops with the last one is `Send + Sync` itself.
unsafe impl Send for Piece {}
// SAFETY: as above.
unsafe impl Sync for Piece {}

impl Piece {
    /// # Safety
    ///
    /// The caller holds a reference to the memory of `node`, and the bytes are readable there (N4).
    pub(crate) unsafe fn new(node: NodePtr, ptr: *const u8, len: usize) -> Piece {
        // SAFETY: the caller's reference (N2); bytes that exist are not at null.
        unsafe {
            let mem = node.memory();
            mem.retain();
            Piece { mem, ptr: NonNull::new_unchecked(ptr.cast_mut()), len }
        }
    }

    /// The bytes of a node that a chain's reader holds.
    ///
    /// # Safety
    ///
    /// As for `new`, and the caller is that reader.
    #[inline]
    pub(crate) unsafe fn of_reader(node: NodePtr, ptr: *const u8, len: usize) -> Piece {
        // ORDERING: Acquire pairs with the Release in `Tail::publish`.
        // SAFETY: the caller's promise.
        let done = unsafe { !(*node.as_ptr()).next.load(Ordering::Acquire).is_null() };
        if !done {
            // SAFETY: the caller's promise.
            return unsafe { Piece::new(node, ptr, len) };
        }
        // SAFETY: the writer, which shares the chain's reference to its last node, is done with this one;
        // so if the reference is the only one, it is the reader's, who is in one thread.
        unsafe {
            let mem = node.memory();
            mem.retain_alone();
            Piece { mem, ptr: NonNull::new_unchecked(ptr.cast_mut()), len }
        }
    }

    /// Takes over the first reference of a new owned node.
    ///
    /// # Safety
    ///
    /// It was the caller's.
    pub(crate) unsafe fn from_node(mem: NodePtr) -> Piece {
        // SAFETY: the node is alive and nobody writes its part.
        let part = unsafe { mem.part() };
        Piece { mem, ptr: NonNull::new(part.data).unwrap_or(NonNull::dangling()), len: part.len }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: our reference keeps them (N1), and nobody writes them (N4).
        unsafe {
            self.mem.will_read(self.ptr.as_ptr(), self.len);
            std::slice::from_raw_parts(self.ptr.as_ptr(), self.len)
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn node(&self) -> NodePtr {
        self.mem
    }

    /// The bytes `from..from + len` of these.
    pub(crate) fn part(&self, from: usize, len: usize) -> Piece {
        assert!(from <= self.len && len <= self.len - from);
        // SAFETY: we hold a reference, and the part lies in our bytes.
        unsafe { Piece::new(self.mem, self.ptr.as_ptr().add(from), len) }
    }

    /// A link that shows these bytes, and takes the reference over: their own node, if nobody else keeps it.
    #[inline(always)]
    pub(crate) fn into_link(self) -> Result<NodePtr> {
        let part = Part { data: self.ptr.as_ptr(), len: self.len, cap: self.len, firm: 0 };
        // SAFETY: the reference is ours; if it is the only one, then so is the node, which is in no chain,
        // and whoever used it is done (N2).
        unsafe {
            let node = self.mem;
            debug_assert!(!matches!((*node.as_ptr()).kind, Kind::View | Kind::Pieces));
            if planted!("link-shared", true, instead of node.is_sole()) {
                std::mem::forget(self);
                // ORDERING: Relaxed, not published.
                (*node.as_ptr()).next.store(ptr::null_mut(), Ordering::Relaxed);
                node.set_part(part);
                return Ok(node);
            }
        }
        let (node, ..) = Node::create(0, Kind::View, self.mem.as_ptr())?;
        std::mem::forget(self);
        // SAFETY: the node is new and ours.
        unsafe { node.set_part(part) };
        Ok(node)
    }
}

impl Clone for Piece {
    fn clone(&self) -> Piece {
        self.part(0, self.len)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and goes with us.
        unsafe { self.mem.unref() }
    }
}
