//! A list that many threads push to and one takes as a whole: a chain of nodes behind one pointer.
//!
//! - **L1** A node is written before the exchange that puts it at the head, and never by another
//!   thread afterwards, until `take`.
//! - **L2** `take` swaps the whole chain out, so nothing is ever popped beside a push: an address
//!   that comes again cannot confuse a compare-exchange, because what hangs behind an expected
//!   head is what the new node should point to, whichever node it is.

#![allow(unsafe_code)] // The nodes.
#![allow(unreachable_pub)] // `Batch` is public for the models alone.

use std::{fmt, ptr};

use crate::sync::atomic::{
    AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
};

/// What the exchange in `push` publishes with.
const PUBLISH: crate::sync::atomic::Ordering =
    if cfg!(netpoll_mutant = "mux_push_relaxed") { Relaxed } else { Release };

struct Node<T> {
    item: T,
    next: *mut Node<T>,
}

/// See the module's text.
pub struct List<T> {
    /// The newest; null: nothing is there.
    head: AtomicPtr<Node<T>>,
}

// SAFETY: the nodes are reached by whoever takes the chain, one thread, and hold nothing but items,
// which are Send; a shared list only moves items from thread to thread.
unsafe impl<T: Send> Send for List<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for List<T> {}

impl<T> List<T> {
    /// Nothing in it.
    pub fn new() -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Adds an item behind all others.
    pub fn push(&self, item: T) {
        let node = Box::into_raw(Box::new(Node { item, next: ptr::null_mut() }));
        // ORDERING: only compared; what it points to is read by `take`.
        let mut head = self.head.load(Relaxed);
        loop {
            // SAFETY: the node is this thread's own until it is the head (L1).
            unsafe { (*node).next = head };
            // ORDERING: release publishes the node to the swap in `take`; through the release
            // sequence, the ones behind it too.
            match self.head.compare_exchange_weak(head, node, PUBLISH, Relaxed) {
                Ok(_) => return,
                Err(newer) => head = newer,
            }
        }
    }

    /// Takes all items, oldest first.
    pub fn take(&self) -> Batch<T> {
        // ORDERING: acquire pairs with the release of every push whose node is taken.
        let mut newest = self.head.swap(ptr::null_mut(), Acquire);
        let mut oldest: *mut Node<T> = ptr::null_mut();
        while !newest.is_null() {
            // SAFETY: the chain was swapped out, so it is this thread's own (L2), and its nodes
            // came from `Box::into_raw`.
            let node = unsafe { &mut *newest };
            let next = node.next;
            node.next = oldest;
            oldest = newest;
            newest = next;
        }
        Batch { first: oldest }
    }
}

impl<T> Drop for List<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl<T> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List").finish_non_exhaustive()
    }
}

/// Items that were taken off a [`List`], oldest first.
pub struct Batch<T> {
    first: *mut Node<T>,
}

// SAFETY: a chain of nodes that nobody else has, holding items that are Send.
unsafe impl<T: Send> Send for Batch<T> {}

impl<T> Batch<T> {
    /// Nothing in it.
    pub fn new() -> Self {
        Self { first: ptr::null_mut() }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.first.is_null()
    }
}

impl<T> Iterator for Batch<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.first.is_null() {
            return None;
        }
        // SAFETY: the node came from `Box::into_raw`, and is in no other chain.
        let node = unsafe { Box::from_raw(self.first) };
        self.first = node.next;
        Some(node.item)
    }
}

impl<T> Drop for Batch<T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

impl<T> fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("is_empty", &self.is_empty()).finish()
    }
}
