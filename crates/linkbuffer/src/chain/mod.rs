//! The chain of nodes between one writer and one reader: the whole protocol, and the only place where two
//! threads meet.
//!
//! ```text
//!              first          cur                      last        unpublished
//!   reader ──▶ [ consumed ] → [ consumed | readable ] → [ readable | pending ] ⇢ [ … ]  ◀── writer
//!                             released ≤ pos ≤ flushed
//! ```
//!
//! Positions count bytes of the stream from its beginning, modulo the word size.
//!
//! - **C1** Only the writer moves `flushed`, only the reader moves `released`; both only grow. The reader
//!   keeps a copy of `flushed`.
//! - **C2** Bytes are written, and their nodes linked, before `flushed` covers them. So whoever has acquired
//!   a value of `flushed` finds every node up to it.
//! - **C3** What the reader can see changes in one way only: `next` of the last published node goes from
//!   null to its successor, once, after `len` of that node was set for good. While `next` is null,
//!   everything up to `flushed` is in the node.
//! - **C4** Nodes belong to the reader from `first` on, and it frees what it has consumed. But a reader that
//!   is *drained* (it has released all it knows to be flushed, `released = pos = flushed`) does not touch
//!   `cur` before it sees `flushed` grow. So a writer that sees `released = flushed` owns the last node.
//! - **C5** *Sealing* lets go of the last node, so that an idle chain holds no memory. The writer announces
//!   the position in `sealed`; then each side, after a fence, looks whether the other is done too. Who
//!   changes `sealed` back by compare-exchange owns the node: the writer to go on with it or, if the reader
//!   is drained, to free it; the reader, drained there, to free it.
//! - **C6** After the last node was freed at position p, the next one is found through `resume`, which the
//!   writer sets to (p, node) before it publishes behind p. The reader looks there only when it was drained
//!   at p and `flushed` has grown (C4). The writer sets it again only after the reader was drained once
//!   more, so they never touch it at once. A new chain is one whose last node was freed at 0.
//! - **C7** Each half leaves by setting its bit in `gone`, after writing down what it leaves behind. The
//!   second one frees the rest and the shared state. Until then a writer whose reader is gone frees what the
//!   reader left.

mod place;
mod walk;
mod whole;

use std::cell::Cell;
#[cfg(not(netpoll_loom))]
use std::mem::offset_of;
use std::mem::size_of;
use std::ptr::{self, NonNull};

use crate::node::{Node, NodeExt, NodePtr, Piece};
use crate::sync::atomic::{AtomicUsize, Ordering, fence};
use crate::sync::{UnsafeCell, own, planted};
use crate::{Result, mem};

pub(crate) use self::walk::Walk;
use self::walk::extent;

/// Bits of `gone`.
const ENDED: usize = 1;
const WRITER_GONE: usize = 2;
const READER_GONE: usize = 4;

/// What both sides see, and a little that only one needs, rarely: first what the writer writes, which the
/// reader looks at; then, a cache line further on wherever the whole begins, what the reader writes.
#[repr(C)]
struct Shared {
    flushed: AtomicUsize,
    gone: AtomicUsize,
    /// The position at which the last node was let go, plus one; 0 if it is not.
    sealed: AtomicUsize,
    resume: UnsafeCell<Resume>,
    /// The last node, valid once the writer is gone, if `sealed` is still set.
    writer_left: UnsafeCell<*mut Node>,
    /// How much room the writer's new blocks have at least.
    block_room: usize,
    /// The writer's own: whether its last node is let go (C5).
    let_go: Cell<bool>,
    /// The writer's own: whether what a reader that is gone left was freed, up to `last` (C7).
    swept: Cell<bool>,
    released: AtomicUsize,
    /// The reader's own: whether its `cur` may not be touched before `flushed` grows (C4).
    drained: Cell<bool>,
    /// The reader's last position, valid once it is gone.
    reader_left: UnsafeCell<ReaderLeft>,
    capacity: usize,
}

// A block of 128 bytes, since an idle connection has two.
#[cfg(not(netpoll_loom))]
const _: () = assert!(size_of::<Shared>() <= 128 && offset_of!(Shared, released) == 64);

#[derive(Clone, Copy)]
struct Resume {
    at: usize,
    node: *mut Node,
}

#[derive(Clone, Copy)]
struct ReaderLeft {
    pos: usize,
    cur: *mut Node,
    drained: bool,
}

/// A handle on the shared state. Each end of a chain has one, and the second to leave frees it (C7).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Link(NonNull<Shared>);

impl Link {
    fn shared(&self) -> &Shared {
        // SAFETY: C7, freed by the end that leaves second.
        unsafe { self.0.as_ref() }
    }

    /// Leaves the chain; the second to do so frees the rest. `last` is the writer's last node if it knows.
    ///
    /// # Safety
    ///
    /// The caller is one of the two ends, wrote down what it leaves, and does not use the chain again.
    unsafe fn leave(self, bits: usize) {
        let shared = self.shared();
        // ORDERING: the Release half publishes what this end leaves behind and every access before; the
        // Acquire half takes what the other one left.
        let before = shared.gone.fetch_or(
            bits,
            planted!("leave-relaxed", Ordering::Relaxed, instead of Ordering::AcqRel),
        );
        if before & (WRITER_GONE | READER_GONE) == 0 {
            return;
        }
        // SAFETY: both ends are gone, so everything is ours.
        unsafe {
            // ORDERING: Relaxed, the fetch_or above synchronised with the other end.
            let sealed = shared.sealed.load(Ordering::Relaxed) != 0;
            let last = shared.writer_left.with(|left| *left);
            free_from(
                self.left_by_reader(if sealed { last } else { ptr::null_mut() }),
                ptr::null_mut(),
            );
            self.free();
        }
    }

    /// The first node that a reader who is gone has not freed. `last` is the writer's last one, or null.
    ///
    /// # Safety
    ///
    /// The reader is gone, and the caller has acquired that; it is the writer or alone.
    unsafe fn left_by_reader(self, last: *mut Node) -> *mut Node {
        let shared = self.shared();
        // SAFETY: the caller's promise; the writer's cells are the caller's too.
        let (left, resume) =
            unsafe { (shared.reader_left.with(|l| *l), shared.resume.with(|r| *r)) };
        // ORDERING: Relaxed, the writer's own counter, or its final value.
        let flushed = shared.flushed.load(Ordering::Relaxed);
        match left {
            ReaderLeft { drained: false, cur, .. } => cur,
            // Nothing was published since: the last node is whatever the writer made of it (C4).
            ReaderLeft { pos, .. } if pos == flushed => last,
            ReaderLeft { pos, .. } if pos == resume.at => resume.node,
            ReaderLeft { cur, .. } => cur,
        }
    }

    /// # Safety
    ///
    /// Both ends are gone, and all nodes are freed.
    unsafe fn free(self) {
        let capacity = self.shared().capacity;
        // SAFETY: the caller's promise; the memory came from `mem::alloc` with that capacity.
        unsafe {
            ptr::drop_in_place(self.0.as_ptr());
            mem::free(self.0.cast(), capacity);
        }
    }
}

/// Frees the nodes from `node` up to `end`, which may be null for all.
///
/// # Safety
///
/// The chain's hold on them is the caller's.
pub(crate) unsafe fn free_from(mut node: *mut Node, end: *mut Node) {
    while node != end {
        let Some(this) = NonNull::new(node) else { return };
        // SAFETY: the caller's promise.
        unsafe {
            // ORDERING: Acquire, in a chain that is still growing it pairs with the Release in `publish`.
            node = this.as_ref().next.load(Ordering::Acquire);
            this.unlink();
        }
    }
}

/// The two ends of a new chain. `block_room` is for its writer to remember.
pub(crate) fn chain(block_room: usize) -> Result<(Head, Tail)> {
    let (block, capacity) = mem::alloc(size_of::<Shared>())?;
    let shared = block.cast::<Shared>();
    // SAFETY: the block has room for it and is ours alone.
    unsafe {
        shared.write(Shared {
            flushed: AtomicUsize::new(0),
            gone: AtomicUsize::new(0),
            sealed: AtomicUsize::new(0),
            resume: UnsafeCell::new(Resume { at: 0, node: ptr::null_mut() }),
            writer_left: UnsafeCell::new(ptr::null_mut()),
            block_room,
            let_go: Cell::new(false),
            swept: Cell::new(false),
            released: AtomicUsize::new(0),
            drained: Cell::new(true),
            reader_left: UnsafeCell::new(ReaderLeft {
                pos: 0,
                cur: ptr::null_mut(),
                drained: true,
            }),
            capacity,
        });
    }
    let link = Link(shared);
    let head = Head {
        link,
        first: Cell::new(ptr::null_mut()),
        cur: Cell::new(ptr::null_mut()),
        at: Cell::new(ptr::null()),
        end: Cell::new(ptr::null()),
        bias: Cell::new(0),
        flushed: Cell::new(0),
    };
    Ok((head, Tail { link, last: ptr::null_mut() }))
}

/// The writer's end: it publishes nodes and lets go of them.
pub(crate) struct Tail {
    link: Link,
    /// The node with the last published byte; null if it was freed (C6).
    last: *mut Node,
}

// SAFETY: C1 to C7 say what each end may touch; nothing in it is bound to a thread.
unsafe impl Send for Tail {}

impl Tail {
    /// The writer's own counter (C1).
    #[inline]
    pub(super) fn flushed(&self) -> usize {
        own(&self.link.shared().flushed)
    }

    #[inline]
    fn is_sealed(&self) -> bool {
        self.link.shared().let_go.get()
    }

    /// How much room a new block has at least.
    #[inline]
    pub(crate) fn block_room(&self) -> usize {
        self.link.shared().block_room
    }

    /// The node with the last published byte, to write on behind it; null if there is none.
    pub(crate) fn last(&self) -> *mut Node {
        debug_assert!(!self.is_sealed());
        self.last
    }

    /// Makes `n` more bytes of `last` readable.
    ///
    /// # Safety
    ///
    /// They are written.
    #[inline]
    pub(crate) unsafe fn publish(&mut self, n: usize) {
        debug_assert!(!self.is_sealed() && n > 0);
        let flushed = self.flushed().wrapping_add(n);
        // ORDERING: pairs with the Acquire in `Head::refresh`, publishing the bytes and their nodes (C2).
        self.link.shared().flushed.store(
            flushed,
            planted!("publish-relaxed", Ordering::Relaxed, instead of Ordering::Release),
        );
    }

    /// Makes `n` more bytes readable: up to `len` of `last` as it was, then the nodes linked from `first`
    /// on up to `last`.
    ///
    /// # Safety
    ///
    /// The bytes are written; what was the last node is closed; the nodes are linked to each other, and
    /// theirs is null in the end. Their hold goes to the chain.
    #[inline]
    pub(crate) unsafe fn publish_list(&mut self, first: *mut Node, last: *mut Node, n: usize) {
        match NonNull::new(self.last) {
            // SAFETY: the writer's last node is not freed while it is not sealed (C4, C5).
            Some(before) => unsafe {
                // ORDERING: pairs with the Acquire in `Head::refill` and `Walk`, publishing `len` of this
                // node, and the next one (C3).
                before.as_ref().next.store(
                    first,
                    planted!("link-relaxed", Ordering::Relaxed, instead of Ordering::Release),
                );
            },
            // SAFETY: C6.
            None => unsafe {
                let resume = Resume { at: self.flushed(), node: first };
                self.link.shared().resume.with_mut(|to| *to = resume);
            },
        }
        self.last = last;
        // SAFETY: the caller's promise.
        unsafe { self.publish(n) };
    }

    /// Bytes published and not released.
    #[inline]
    pub(crate) fn occupied(&self) -> usize {
        // ORDERING: pairs with the Release in `Head::release`: what was released is not touched any more.
        let released =
            self.link.shared().released.load(
                planted!("occupied-relaxed", Ordering::Relaxed, instead of Ordering::Acquire),
            );
        self.flushed().wrapping_sub(released)
    }

    /// Lets go of the last node (C5). Cheap if it is already.
    pub(crate) fn seal(&mut self) {
        let position = self.flushed().wrapping_add(1);
        // The one position in 2^64 that would look like "not sealed" keeps its block.
        if self.is_sealed() || self.last.is_null() || position == 0 {
            return;
        }
        if let Some(last) = self.take_last() {
            // SAFETY: ours now.
            return unsafe { last.unlink() };
        }
        let shared = self.link.shared();
        // ORDERING: Release pairs with the compare-exchange in `Head::release`, which frees the node.
        shared.sealed.store(position, Ordering::Release);
        shared.let_go.set(true);
        // ORDERING: pairs with the fence in `Head::release`: either the reader sees `sealed`, or we see
        // `released` where it stopped.
        if planted!("seal-without-fence", false, instead of true) {
            fence(Ordering::SeqCst);
        }
        if self.occupied() == 0 && self.unseal() {
            if let Some(last) = self.take_last() {
                // SAFETY: ours now.
                unsafe { last.unlink() };
            }
        }
    }

    /// Lets go of the last node at once, if the reader is drained: then it is the writer's, and nothing
    /// need be agreed upon (C4).
    #[inline]
    pub(crate) fn take_last(&mut self) -> Option<NodePtr> {
        debug_assert!(!self.is_sealed());
        let last = NonNull::new(self.last)?;
        if self.occupied() > 0 {
            return None;
        }
        self.last = ptr::null_mut();
        Some(last)
    }

    /// Whether there is no last node, nor one to take back.
    #[inline]
    pub(crate) fn has_let_go(&self) -> bool {
        self.last.is_null() && !self.is_sealed()
    }

    /// Takes the last node back. Says whether there is one.
    pub(crate) fn unseal(&mut self) -> bool {
        if self.is_sealed() {
            self.link.shared().let_go.set(false);
            let position = self.flushed().wrapping_add(1);
            // ORDERING: Acquire on failure: the reader's use of the node is over. Relaxed on success: the
            // node never left us.
            let taken = self.link.shared().sealed.compare_exchange(
                position,
                0,
                Ordering::Acquire,
                Ordering::Acquire,
            );
            if taken.is_err() {
                self.last = ptr::null_mut();
            }
        }
        !self.last.is_null()
    }

    /// No more will be published.
    pub(crate) fn end(&mut self) {
        // ORDERING: Release pairs with the Acquire in `Head::is_ended`: who sees the end sees every byte
        // before it.
        self.link.shared().gone.fetch_or(ENDED, Ordering::Release);
    }

    pub(crate) fn is_ended(&self) -> bool {
        // ORDERING: Relaxed, only this side sets the bit.
        self.link.shared().gone.load(Ordering::Relaxed) & ENDED != 0
    }

    /// Whether the stream has ended or its reader is gone.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        // ORDERING: Acquire, as in `is_reader_gone`.
        self.link.shared().gone.load(Ordering::Acquire) != 0
    }

    #[inline]
    pub(crate) fn is_reader_gone(&self) -> bool {
        // ORDERING: Acquire pairs with the reader's `leave`, for `sweep`.
        self.link.shared().gone.load(Ordering::Acquire) & READER_GONE != 0
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.sweep();
        // The reader frees the last node as it would any sealed one; and if nobody does, then `leave` does.
        self.seal();
        let last = if self.is_sealed() { self.last } else { ptr::null_mut() };
        // SAFETY: the cell is the writer's until it is gone; this end is not used again.
        unsafe {
            self.link.shared().writer_left.with_mut(|left| *left = last);
            self.link.leave(ENDED | WRITER_GONE);
        }
    }
}

/// The reader's end: where it is, and what it has not released.
///
/// Methods take `&self` because bytes are lent meanwhile; a reader is not `Sync`.
pub(crate) struct Head {
    link: Link,
    /// The oldest node not freed; null as long as there was none.
    first: Cell<*mut Node>,
    /// The node that the next byte is in, or the one before it.
    cur: Cell<*mut Node>,
    /// The next byte.
    at: Cell<*const u8>,
    /// Up to here bytes are known to be readable in `cur`: the *run*.
    end: Cell<*const u8>,
    /// The position of a byte in `cur` less its address, so that consuming bytes moves `at` alone.
    bias: Cell<usize>,
    /// What is known of the writer's counter (C1).
    flushed: Cell<usize>,
}

// SAFETY: C1 to C7 say what each end may touch; nothing in it is bound to a thread.
unsafe impl Send for Head {}

impl Head {
    /// How many bytes lie together from `at` on, as far as is known.
    #[inline]
    fn run_len(&self) -> usize {
        self.end.get() as usize - self.at.get() as usize
    }

    /// Goes on at `at`, with nothing known to be there.
    #[inline]
    fn place(&self, at: *const u8) {
        debug_assert!(self.run_len() == 0);
        self.place_at(self.position(), at);
    }

    /// Goes on at `at`, which is the place of the byte at `position`.
    #[inline]
    fn place_at(&self, position: usize, at: *const u8) {
        self.bias.set(position.wrapping_sub(at.addr()));
        self.at.set(at);
        self.end.set(at);
    }

    /// Bytes readable, as far as is known without looking.
    #[inline]
    pub(crate) fn known(&self) -> usize {
        self.flushed.get().wrapping_sub(self.position())
    }

    /// Bytes readable now.
    #[inline]
    pub(crate) fn refresh(&self) -> usize {
        // ORDERING: pairs with the Release in `Tail::publish` (C2).
        let flushed = self
            .link
            .shared()
            .flushed
            .load(planted!("refresh-relaxed", Ordering::Relaxed, instead of Ordering::Acquire));
        self.flushed.set(flushed);
        self.known()
    }

    /// The position of the next byte.
    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.bias.get().wrapping_add(self.at.get().addr())
    }

    /// The reader's own counter (C1).
    #[inline]
    pub(super) fn released(&self) -> usize {
        own(&self.link.shared().released)
    }

    /// Bytes consumed and not released.
    pub(crate) fn held(&self) -> usize {
        self.position().wrapping_sub(self.released())
    }

    pub(crate) fn is_ended(&self) -> bool {
        // ORDERING: pairs with the Release in `Tail::end` and `leave`.
        let gone = self
            .link
            .shared()
            .gone
            .load(planted!("end-relaxed", Ordering::Relaxed, instead of Ordering::Acquire));
        gone & ENDED != 0
    }

    /// The next bytes as they lie together, and as far as they are known. Empty only if nothing is known
    /// to be readable.
    #[inline]
    pub(crate) fn run(&self) -> (*const u8, usize) {
        if self.run_len() == 0 {
            self.refill();
        }
        (self.at.get(), self.run_len())
    }

    /// The next bytes as `run` has them, which may be fewer than are known, or none.
    #[inline]
    pub(crate) fn ready_run(&self) -> (*const u8, usize) {
        (self.at.get(), self.run_len())
    }

    /// Makes `run` as long as is known, in `cur` or, if nothing is left there, in the next node.
    #[inline(never)]
    pub(crate) fn refill(&self) {
        let pos = self.position();
        let known = self.flushed.get().wrapping_sub(pos);
        if known == 0 {
            return;
        }
        self.find_cur(pos);
        let mut node = NonNull::new(self.cur.get()).expect("C6: bytes have a node");
        loop {
            // SAFETY: the node is ours to look at: some byte at or behind our position is flushed (C2, C4).
            let (next, len) = unsafe { extent(node, self.at.get(), known) };
            if len > 0 {
                return self.end.set(self.at.get().wrapping_add(len));
            }
            node = next.expect("C3: what is flushed is linked");
            self.cur.set(node.as_ptr());
            // SAFETY: published (N3).
            self.place(unsafe { node.data() });
        }
    }

    /// A drained reader finds its way back when `flushed` has grown (C6).
    #[inline]
    fn find_cur(&self, pos: usize) {
        if self.link.shared().drained.get() {
            self.link.shared().drained.set(false);
            // SAFETY: drained at `pos`, where the run ends, and `flushed` has grown (C6).
            let resume = unsafe { self.link.shared().resume.with(|resume| *resume) };
            debug_assert!(self.run_len() == 0);
            if planted!("never-resume", false, instead of resume.at == pos) {
                let node = NonNull::new(resume.node).expect("C6: set before publishing");
                self.first.set(resume.node);
                self.cur.set(resume.node);
                // SAFETY: published (N3).
                self.place_at(pos, unsafe { node.data() });
            }
        }
    }

    /// Consumes `n` bytes.
    ///
    /// # Safety
    ///
    /// They are known to be readable.
    #[inline]
    pub(crate) unsafe fn advance(&self, n: usize) {
        if n > self.run_len() {
            if self.run_len() == 0 {
                self.refill();
            }
            if n > self.run_len() {
                // SAFETY: the caller's promise.
                return unsafe { self.advance_far(n) };
            }
        }
        // SAFETY: the run lies in one node's memory.
        self.at.set(unsafe { self.at.get().add(n) });
    }

    /// Consumes `n` bytes of the run, at least one, and keeps them.
    ///
    /// # Safety
    ///
    /// The run has them.
    #[inline]
    pub(crate) unsafe fn take_piece(&self, n: usize) -> Piece {
        let at = self.at.get();
        // SAFETY: the run lies in `cur`, which is ours to look at, as its bytes are (C2).
        unsafe {
            let node = NonNull::new_unchecked(self.cur.get());
            node.will_read(at, n);
            self.at.set(at.add(n));
            Piece::of_reader(node, at, n)
        }
    }

    /// Frees every node consumed, and publishes that. `alone` says that the writer cannot run meanwhile.
    ///
    /// # Safety
    ///
    /// No consumed byte is used any more, and `alone` is true only if the caller owns the other end too.
    #[inline]
    pub(crate) unsafe fn release(&mut self, alone: bool) {
        let pos = self.position();
        let drained = pos == self.flushed.get();
        if pos == self.released() && (drained || self.first.get() == self.cur.get()) {
            return;
        }
        if self.first.get() != self.cur.get() || (!drained && self.run_len() == 0) {
            self.free_consumed(drained);
        }
        // ORDERING: pairs with the Acquire in `Tail::occupied`: our reads of the last node are over (C4).
        self.link.shared().released.store(
            pos,
            planted!("release-relaxed", Ordering::Relaxed, instead of Ordering::Release),
        );
        if drained {
            self.link.shared().drained.set(true);
            if !alone && planted!("release-without-fence", false, instead of true) {
                // ORDERING: pairs with the fence in `Tail::seal`.
                fence(Ordering::SeqCst);
            }
            // ORDERING: Relaxed, the compare-exchange decides.
            if self.link.shared().sealed.load(Ordering::Relaxed) == pos.wrapping_add(1) {
                self.take_sealed();
            }
        }
    }

    /// Frees the nodes that are used up.
    #[inline(never)]
    fn free_consumed(&mut self, drained: bool) {
        if !drained && self.run_len() == 0 {
            // Steps off a node that is used up.
            self.refill();
        }
        if self.first.get() != self.cur.get() {
            // SAFETY: consumed, so ours to free (C4).
            unsafe { free_from(self.first.get(), self.cur.get()) };
            self.first.set(self.cur.get());
        }
    }

    /// Frees the last node, if the writer has let go of it and does not take it back (C5).
    #[cold]
    fn take_sealed(&mut self) {
        let sealed = self.position().wrapping_add(1);
        // ORDERING: Acquire pairs with the Release in `Tail::seal`; Release tells `Tail::unseal` that our use
        // of the node is over.
        let taken = self.link.shared().sealed.compare_exchange(
            sealed,
            0,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if sealed != 0 && planted!("take-without-asking", true, instead of taken.is_ok()) {
            // SAFETY: C5.
            unsafe { free_from(self.cur.get(), ptr::null_mut()) };
            self.cur.set(ptr::null_mut());
            self.first.set(ptr::null_mut());
        }
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        // SAFETY: nothing of this reader can be used after its drop.
        unsafe {
            self.refresh();
            let known = self.known();
            if known > 0 {
                // Consume all that can be had now.
                self.advance(known);
            }
            if self.first.get() != self.cur.get() {
                free_from(self.first.get(), self.cur.get());
            }
            let left = ReaderLeft {
                pos: self.position(),
                cur: self.cur.get(),
                drained: self.link.shared().drained.get(),
            };
            self.link.shared().reader_left.with_mut(|to| *to = left);
            self.link.leave(READER_GONE);
        }
    }
}
