//! The writing half of a buffer.
//!
//! ```text
//!     published            unpublished (this half's alone)
//!   … → [ last: firm | pending ] ⇢ [ pending ] → [ firm ] → … → [ node: firm | pending | room ]
//!                                     first
//! ```
//!
//! Everything behind the last published byte is linked among itself, but to the published chain only by
//! `flush`; so it can be cut, split and dropped at will. In each node the first `firm` bytes are not
//! pending: they are published, or were flushed in a buffer that was appended here.
//!
//! - **W1** `node` is the last node: either the chain's last one, or the end of the list at `first`. Its
//!   bytes `..len` are written, and `len..cap` is room that nobody else can reach (N4). While there is no
//!   node, `cap` is 0. Nodes that only show bytes of others are full, `cap = len`, and stay so when they are
//!   shortened.
//! - **W2** What a node says of itself is up to date once it is closed, that is for all but `node`.
//! - **W3** No node of the list but `node` is empty.
//! - **W4** `data` is `BARE` only while nothing is kept: neither a node, nor a spare one, nor one in the chain
//!   to go on in or to take back. All but the last of these come about in a node, and so replace `data`.

mod edit;
mod idle;

use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use crate::chain::{Tail, free_from};
use crate::node::{self, Node, NodeExt, NodePtr, Part};
use crate::placeholder::{Open, OpenList};
use crate::sync::atomic::Ordering;
use crate::{
    BINARY_INPLACE_THRESHOLD, Error, LinkBuffer, Owned, Placeholder, Reserve, Result, Writer,
};

/// Where the bytes of no node are (W4).
const BARE: *mut u8 = ptr::without_provenance_mut(1);
/// Where the bytes of no node are, if a node may be at hand none the less.
const NOWHERE: *mut u8 = ptr::without_provenance_mut(2);

/// Less room than this is not worth a link of its own.
const WORTH_KEEPING: usize = 256;

/// The half of a [`LinkBuffer`] that writes.
///
/// It works beside its [`ReadHalf`](crate::ReadHalf), which may be in another thread, without a lock.
/// Dropping it drops what is pending, and ends the stream behind what was flushed. When the read half is
/// dropped, the next flush is an error.
///
/// # Reading into it
///
/// Whoever receives bytes, from a socket say, books room, has it filled and acknowledges what came; that is
/// readable at once:
///
/// ```
/// use linkbuffer::{LinkBuffer, Reader};
/// use std::io::Read;
///
/// let mut from: &[u8] = b"from a system call";
/// let (r, mut w) = LinkBuffer::new().into_split();
/// let room = w.book(1024)?;
/// room.fill(std::mem::MaybeUninit::new(0));
/// // SAFETY: the line above wrote all of it.
/// let room = unsafe { &mut *(room as *mut [_] as *mut [u8]) };
/// let n = from.read(room)?;
/// // SAFETY: so are the first `n` bytes.
/// unsafe { w.book_ack(n) };
/// assert_eq!(r.next(4)?, b"from");
/// # Ok::<(), linkbuffer::Error>(())
/// ```
pub struct WriteHalf {
    pub(crate) chain: Tail,
    first: *mut Node,
    node: *mut Node,
    /// `node`'s bytes and room, and how many bytes in front are firm.
    data: *mut u8,
    len: usize,
    cap: usize,
    firm: usize,
    /// Pending bytes in closed nodes.
    closed: usize,
    /// Bytes in the list that go out with the next flush, but are not pending.
    carried: usize,
    /// An empty node to write into when `node` has no room: often the rest of a block.
    spare: *mut Node,
    open: OpenList,
}

// An idle connection has two.
#[cfg(not(netpoll_loom))]
const _: () = assert!(size_of::<WriteHalf>() <= 96);

// SAFETY: its nodes are its own, or the chain's by its rules; nothing in it is bound to a thread.
unsafe impl Send for WriteHalf {}

impl WriteHalf {
    /// Where the state lies that this half shares with the other: 128 bytes, for who knows beforehand that
    /// they will be needed, and prefetches them. Nothing may be read through it.
    pub fn shared_at(&self) -> *const () {
        self.chain.shared_at()
    }

    pub(crate) fn new(chain: Tail) -> WriteHalf {
        WriteHalf {
            chain,
            first: ptr::null_mut(),
            node: ptr::null_mut(),
            data: BARE,
            len: 0,
            cap: 0,
            firm: 0,
            closed: 0,
            carried: 0,
            spare: ptr::null_mut(),
            open: OpenList::default(),
        }
    }

    /// The chain's end, of a half that has nothing unpublished.
    fn into_chain(mut self) -> Tail {
        debug_assert!(self.first.is_null());
        self.drop_spare();
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: read once, and the half is not dropped; it has nothing else that needs it.
        unsafe { ptr::read(&this.chain) }
    }

    /// Room for at least `min` bytes (at least one) that lie together, to receive into: what is left of the
    /// current block if that is enough, otherwise a new one. Follow it with
    /// [`book_ack`](WriteHalf::book_ack), or do not use it.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] if there is no such memory, [`Error::UnfilledPlaceholder`] while one is open,
    /// [`Error::Closed`] after [`end`](WriteHalf::end), [`Error::ReaderGone`] if nobody is left to read.
    #[doc(alias = "bookAck")]
    pub fn book(&mut self, min: usize) -> Result<&mut [MaybeUninit<u8>]> {
        self.check_flush()?;
        self.room(min.max(1))?;
        // SAFETY: room (W1).
        Ok(unsafe {
            self.will_write(self.cap - self.len);
            node::room(self.data.add(self.len), self.cap - self.len)
        })
    }

    /// Makes the first `n` bytes of what was booked readable at once, and what was pending before them.
    ///
    /// # Safety
    ///
    /// The first `n` bytes of the last [`book`](WriteHalf::book) are written, and no other method was called
    /// since.
    pub unsafe fn book_ack(&mut self, n: usize) {
        debug_assert!(n <= self.cap - self.len);
        self.len += n;
        self.publish();
    }

    /// How many bytes are flushed and not released by the reader: what the stream takes up now.
    pub fn occupied(&self) -> usize {
        self.chain.occupied()
    }

    /// Marks the end of the stream behind what is flushed, as dropping this half does. What is pending can
    /// no longer be flushed.
    pub fn end(&mut self) {
        self.chain.end();
    }

    /// Whether the read half was dropped.
    pub fn is_reader_gone(&self) -> bool {
        self.chain.is_reader_gone()
    }

    /// Makes everything pending readable, and says how many bytes that was. See [`Writer::flush`].
    ///
    /// # Errors
    ///
    /// As [`Writer::flush`]; [`Error::Closed`] after [`end`](WriteHalf::end).
    #[inline]
    pub fn flush(&mut self) -> Result<usize> {
        self.check_flush()?;
        Ok(self.publish())
    }

    #[inline]
    fn check_flush(&mut self) -> Result<()> {
        if !self.open.is_empty() || self.chain.is_over() { self.refuse() } else { Ok(()) }
    }

    #[cold]
    fn refuse(&mut self) -> Result<()> {
        if !self.open.is_empty() {
            return Err(Error::UnfilledPlaceholder);
        }
        if self.chain.is_ended() {
            return Err(Error::Closed);
        }
        self.take_back();
        self.chain.sweep();
        Err(Error::ReaderGone)
    }

    #[inline]
    fn publish(&mut self) -> usize {
        let n = self.malloc_len() + self.carried;
        if n > 0 {
            if !self.first.is_null() {
                self.publish_list(n);
            } else {
                // SAFETY: the bytes are written (W1).
                unsafe { self.chain.publish(n) };
            }
            self.firm = self.len;
        }
        n
    }

    #[inline(never)]
    fn publish_list(&mut self, n: usize) {
        if self.len == 0 {
            return self.publish_behind_empty_end(n);
        }
        // SAFETY: W1, W2: written, closed, linked in order.
        unsafe { self.chain.publish_list(self.first, self.node, n) };
        self.first = ptr::null_mut();
        self.closed = 0;
        self.carried = 0;
    }

    /// An empty last node would hide the end of the bytes from the chain (C4).
    #[cold]
    fn publish_behind_empty_end(&mut self, n: usize) {
        self.set_aside_empty_end();
        if self.first.is_null() {
            // SAFETY: the bytes are written (W1).
            unsafe { self.chain.publish(n) };
            self.closed = 0;
        } else {
            self.publish_list(n);
        }
    }

    /// Some room, for who does not say how much.
    #[cfg(feature = "bytes")]
    pub(crate) fn tail_room(&mut self) -> Result<&mut [MaybeUninit<u8>]> {
        self.room(1)?;
        // SAFETY: room (W1).
        Ok(unsafe { node::room(self.data.add(self.len), self.cap - self.len) })
    }

    /// # Safety
    ///
    /// The first `n` bytes of the last `tail_room` are written.
    #[cfg(feature = "bytes")]
    pub(crate) unsafe fn advance_tail(&mut self, n: usize) {
        assert!(n <= self.cap - self.len, "no more than chunk_mut has");
        self.len += n;
    }

    /// Room for `n` bytes that lie together, at `len`.
    #[inline]
    fn room(&mut self, n: usize) -> Result<()> {
        if n > self.cap - self.len && !self.first_room(n) { self.more_room(n) } else { Ok(()) }
    }

    /// Takes a block that this thread has at hand, where nothing is kept from before: so there is nothing to
    /// close or to set aside.
    #[inline(never)]
    fn first_room(&mut self, n: usize) -> bool {
        if self.data != BARE {
            return false;
        }
        debug_assert!(self.node.is_null() && self.spare.is_null() && self.chain.has_let_go());
        match Node::kept_block(n.max(self.chain.block_room())) {
            Some((node, part)) => {
                self.first = node.as_ptr();
                self.set_node_and_part(node.as_ptr(), part);
                true
            }
            None => false,
        }
    }

    #[inline(never)]
    fn more_room(&mut self, n: usize) -> Result<()> {
        if self.take_back() && n <= self.cap - self.len {
            return Ok(());
        }
        if let Some(spare) = NonNull::new(self.spare) {
            // SAFETY: the spare node is ours.
            let part = unsafe { spare.part() };
            if part.cap >= n {
                self.spare = ptr::null_mut();
                self.attach(spare, part);
                return Ok(());
            }
        }
        let room = n.max(self.chain.block_room());
        let (node, part) = match Node::kept_block(room) {
            Some(kept) => kept,
            None => {
                let node = Node::block(room)?;
                // SAFETY: the node is new and ours.
                (node, unsafe { node.part() })
            }
        };
        self.attach(node, part);
        Ok(())
    }

    /// Takes back a node that was let go by `seal`. Says whether there is a node to write on.
    fn take_back(&mut self) -> bool {
        if self.node.is_null() && self.chain.unseal() {
            self.set_node(self.chain.last());
        }
        !self.node.is_null()
    }

    /// Makes `node` the current one, as it describes itself.
    fn set_node(&mut self, node: *mut Node) {
        match NonNull::new(node) {
            // SAFETY: a node of ours, or the chain's last one.
            Some(this) => self.set_node_and_part(node, unsafe { this.part() }),
            None => self.set_no_node(NOWHERE),
        }
    }

    #[inline]
    fn set_no_node(&mut self, data: *mut u8) {
        let none = Part { data, len: 0, cap: 0, firm: 0 };
        self.set_node_and_part(ptr::null_mut(), none);
    }

    #[inline]
    fn set_node_and_part(&mut self, node: *mut Node, part: Part) {
        self.node = node;
        (self.data, self.len, self.cap, self.firm) = (part.data, part.len, part.cap, part.firm);
    }

    /// Writes down what the current node has become (W2).
    fn close(&mut self) {
        if let Some(node) = NonNull::new(self.node) {
            // SAFETY: the writer's, and its successor is not linked to the chain.
            unsafe { node.close(self.len, self.firm, self.cap) };
        }
    }

    /// Unlinks the current node if it is unpublished and empty (W3), and returns it.
    #[inline]
    fn detach_empty_end(&mut self) -> Option<NodePtr> {
        if self.len > 0 || self.first.is_null() { None } else { self.detach_end() }
    }

    #[cold]
    fn detach_end(&mut self) -> Option<NodePtr> {
        let empty = NonNull::new(self.node)?;
        self.close();
        if self.first == self.node {
            self.first = ptr::null_mut();
            self.set_node(self.chain.last());
        } else {
            let mut before = self.first;
            // SAFETY: the list is ours, and the current node is its last one.
            unsafe {
                while next(before) != self.node {
                    before = next(before);
                }
                set_next(before, ptr::null_mut());
            }
            self.set_node(before);
        }
        // That one is the current node again, and not counted as closed.
        self.closed -= self.len - self.firm;
        Some(empty)
    }

    #[inline]
    fn set_aside_empty_end(&mut self) {
        if let Some(empty) = self.detach_empty_end() {
            self.set_aside(empty);
        }
    }

    /// Keeps an empty node for later, if it has more room than the one that is kept.
    #[cold]
    fn set_aside(&mut self, empty: NodePtr) {
        // SAFETY: both are ours, and in no list.
        unsafe {
            if empty.part().cap == 0 {
                return empty.unlink();
            }
            match NonNull::new(self.spare) {
                Some(spare) if spare.part().cap >= empty.part().cap => return empty.unlink(),
                Some(spare) => spare.unlink(),
                None => {}
            }
        }
        self.spare = empty.as_ptr();
    }

    fn drop_spare(&mut self) {
        if let Some(spare) = NonNull::new(std::mem::replace(&mut self.spare, ptr::null_mut())) {
            // SAFETY: ours, and in no list.
            unsafe { spare.unlink() };
        }
    }

    /// Links one node, empty and ours, to the end and goes on in it. Nothing is let go of.
    fn attach(&mut self, node: NodePtr, part: Part) {
        self.set_aside_empty_end();
        self.close();
        self.closed += self.len - self.firm;
        self.set_after_end(node.as_ptr());
        self.set_node_and_part(node.as_ptr(), part);
    }

    /// Links `node` behind the current one, which is closed.
    fn set_after_end(&mut self, node: *mut Node) {
        if self.first.is_null() {
            self.first = node;
        } else {
            // SAFETY: the end of the list, which is ours.
            unsafe { set_next(self.node, node) };
        }
    }

    /// Links the nodes from `first` to `last`, which are closed and linked among themselves and have
    /// `pending` pending bytes together, to the end, and goes on in `last`.
    fn attach_list(&mut self, first: *mut Node, last: *mut Node, pending: usize) {
        self.take_back();
        self.set_aside_empty_end();
        self.close();
        self.closed += self.len - self.firm;
        self.set_after_end(first);
        self.set_node(last);
        self.closed += pending - (self.len - self.firm);
    }

    /// Links bytes that were handed over, however few, without a copy.
    #[inline(never)]
    pub(crate) fn link(&mut self, bytes: Owned) -> Result<()> {
        let pending = bytes.len();
        if let Some((first, last)) = links(bytes)? {
            self.keep_rest();
            self.attach_list(first, last, pending);
        }
        Ok(())
    }

    /// Sets the room behind the current bytes aside as a node of its own, if it is worth it.
    fn keep_rest(&mut self) {
        let rest = self.cap - self.len;
        if rest < WORTH_KEEPING || self.len == 0 || !self.spare.is_null() {
            return;
        }
        let Some(node) = NonNull::new(self.node) else { return };
        // SAFETY: the room is ours (W1) and, by the new `cap`, no longer this node's.
        unsafe {
            let part = Part { data: self.data.add(self.len), len: 0, cap: rest, firm: 0 };
            // Without memory for a header the room is lost, no more.
            if let Ok(view) = Node::view(node, part) {
                self.spare = view.as_ptr();
                self.cap = self.len;
            }
        }
    }

    /// Starts the block again from its beginning, if nothing in it is in use.
    #[inline]
    pub(crate) fn rewind(&mut self, head: &mut crate::chain::Head) {
        if self.first.is_null()
            && self.len == self.firm
            && self.len > 0
            && self.cap <= self.chain.block_room()
            && head.rewind(&self.chain)
        {
            self.len = 0;
            self.firm = 0;
        }
    }

    #[inline]
    fn will_read(&self, _len: usize) {
        #[cfg(netpoll_loom)]
        if let Some(node) = NonNull::new(self.node) {
            // SAFETY: the current node is alive.
            unsafe { node.will_read(self.data.wrapping_add(self.firm), _len) };
        }
    }

    #[inline]
    fn will_write(&self, _len: usize) {
        #[cfg(netpoll_loom)]
        if let Some(node) = NonNull::new(self.node) {
            // SAFETY: the current node is alive.
            unsafe { node.will_write(self.data.wrapping_add(self.len), _len) };
        }
    }
}

/// The room of a full or a partly filled node that is shortened (W1).
pub(crate) fn shortened_cap(len: usize, cap: usize, new_len: usize) -> usize {
    if len == cap { new_len } else { cap }
}

/// A list of nodes for bytes that were handed over: its first and its last. `None` for no bytes.
fn links(bytes: Owned) -> Result<Option<(*mut Node, *mut Node)>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let Owned::Slice(slice) = bytes else {
        let node = Node::owned(bytes)?.as_ptr();
        return Ok(Some((node, node)));
    };
    let (mut first, mut last) = (ptr::null_mut(), ptr::null_mut());
    let linked = slice.into_pieces(|piece| {
        join(&mut first, &mut last, piece.into_link()?.as_ptr());
        Ok(())
    });
    if let Err(e) = linked {
        // SAFETY: all made here.
        unsafe { free_from(first, ptr::null_mut()) };
        return Err(e);
    }
    Ok(Some((first, last)))
}

/// Adds a node to a list.
fn join(first: &mut *mut Node, last: &mut *mut Node, node: *mut Node) {
    match last.is_null() {
        true => *first = node,
        // SAFETY: the caller's own list.
        false => unsafe { set_next(*last, node) },
    }
    *last = node;
}

/// # Safety
///
/// An unpublished node of the caller's.
unsafe fn set_next(node: *mut Node, next: *mut Node) {
    // ORDERING: Relaxed, not published.
    // SAFETY: the caller's promise.
    unsafe { (*node).next.store(next, Ordering::Relaxed) };
}

/// # Safety
///
/// An unpublished node of the caller's.
unsafe fn next(node: *mut Node) -> *mut Node {
    // ORDERING: Relaxed, not published.
    // SAFETY: the caller's promise.
    unsafe { (*node).next.load(Ordering::Relaxed) }
}

/// Pending bytes in the nodes from `first` up to `end`.
///
/// # Safety
///
/// They are closed, and the caller's.
unsafe fn pending_until(mut node: *mut Node, end: *mut Node) -> usize {
    let mut pending = 0;
    while node != end {
        // SAFETY: the caller's promise.
        unsafe {
            let part = NonNull::new_unchecked(node).part();
            pending += part.len - part.firm;
            node = next(node);
        }
    }
    pending
}

impl Writer for WriteHalf {
    #[inline]
    fn malloc(&mut self, n: usize) -> Result<Reserve<'_>> {
        self.room(n)?;
        self.will_write(n);
        // SAFETY: room (W1), lent with `self`.
        let room = unsafe { node::room(self.data.add(self.len), n) };
        Ok(Reserve::new(room, &mut self.len))
    }

    fn placeholder(&mut self, n: usize) -> Result<Placeholder> {
        self.room(n)?;
        let at = self.malloc_len();
        // SAFETY: `len` is in the node, or the pointer dangles and `len` is 0.
        let to = unsafe { NonNull::new_unchecked(self.data.add(self.len)) };
        let (placeholder, open) = Open::new(at, n, to);
        self.open.push(open)?;
        self.len += n;
        Ok(placeholder)
    }

    fn fill(&mut self, at: Placeholder, bytes: &[u8]) -> Result<()> {
        let to = self.open.take(&at, bytes.len()).ok_or(Error::BadPlaceholder)?;
        // SAFETY: an open placeholder's bytes are pending in one of our nodes, and `len` of them.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Ok(())
    }

    fn write_owned(&mut self, bytes: Owned) -> Result<()> {
        match (bytes.contiguous(), &bytes) {
            (Some(few), _) if few.len() < BINARY_INPLACE_THRESHOLD => self.write_binary(few),
            (None, Owned::Slice(slice)) if slice.len() < BINARY_INPLACE_THRESHOLD => {
                let mut room = self.malloc(slice.len())?;
                slice.chunks().for_each(|chunk| {
                    room.put_slice(chunk);
                });
                Ok(())
            }
            _ => self.link(bytes),
        }
    }

    fn write_owned_direct(&mut self, bytes: Owned, remain: usize) -> Result<()> {
        let pending = self.malloc_len();
        if remain > pending {
            return Err(Error::Remain { requested: remain, pending });
        }
        match remain {
            0 => self.write_owned(bytes),
            _ => self.insert(bytes, pending - remain),
        }
    }

    fn append(&mut self, other: LinkBuffer) -> Result<()> {
        self.adopt(other)
    }

    fn malloc_ack(&mut self, n: usize) -> Result<()> {
        let pending = self.malloc_len();
        if n > pending {
            return Err(Error::MallocAck { requested: n, pending });
        }
        if self.open.any_spans(n) {
            return Err(Error::BadPlaceholder);
        }
        self.open.forget_from(n);
        if n >= self.closed {
            let len = self.firm + (n - self.closed);
            self.cap = shortened_cap(self.len, self.cap, len);
            self.len = len;
        } else {
            self.keep_pending(n);
        }
        Ok(())
    }

    #[inline]
    fn malloc_len(&self) -> usize {
        self.closed + (self.len - self.firm)
    }

    #[inline]
    fn flush(&mut self) -> Result<usize> {
        WriteHalf::flush(self)
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        // SAFETY: the list and the spare node are ours alone.
        unsafe { free_from(self.first, ptr::null_mut()) };
        self.drop_spare();
        // The chain's end goes next, with the published nodes.
    }
}

impl std::fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteHalf")
            .field("malloc_len", &self.malloc_len())
            .field("occupied", &self.occupied())
            .finish()
    }
}
