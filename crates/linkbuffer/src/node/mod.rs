//! One link of the chain, and who keeps its bytes.
//!
//! ```text
//!   block    [ header | bytes ......................... ]   one mcache block
//!   owned    [ header | Vec, Arc, mcache::Block … ] ──▶ bytes
//!   view     [ header ] ──mem──▶ block or owned node, whose bytes it shows a part of
//!   pieces   [ header | (mem, ptr, len) … ]               what a slice over several blocks keeps
//! ```
//!
//! Every header lives at the start of an mcache block, so in the steady state none is allocated.
//!
//! - **N1** `refs` counts who keeps the *memory* of a block, owned or pieces node: its place in a chain,
//!   each view, each slice. Who drops the last reference frees it. Views are kept by their chain alone.
//! - **N2** Whoever takes a new reference holds one; so a count of one that its holder sees cannot rise
//!   behind its back. Such a node is in no other chain, so a slice that holds it can make it a link again.
//! - **N3** `data` is not written once a byte of the node is published, `len` not once its successor is
//!   linked, and only then do readers look at it (the chain's C3). `cap` and `firm` are the writer's alone.
//!   Whoever owns both ends of a chain may change all of them.
//! - **N4** The bytes that a reader can reach are initialised and never written again while anyone holds a
//!   reference. The writer writes only behind them.

mod piece;
#[cfg(netpoll_loom)]
mod track;

use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, fence};
use crate::sync::{UnsafeCell, planted};
use crate::{Owned, Result, mem};

pub(crate) use self::piece::Piece;

pub(crate) type NodePtr = NonNull<Node>;

/// From this many bytes up the header is apart, so that large powers of two fit their block exactly, and
/// the room is as large as was asked for: a large message leaves no large block behind for small ones.
const APART: usize = 32 << 10;

/// Below this many bytes the room is as asked too: only tests want such blocks, and they want them small.
pub(crate) const TINY: usize = 512;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Block,
    Owned,
    View,
    Pieces,
}

#[repr(C)]
pub(crate) struct Node {
    refs: AtomicUsize,
    /// The next link; null until the writer publishes it (C3).
    pub(crate) next: AtomicPtr<Node>,
    data: UnsafeCell<*mut u8>,
    len: UnsafeCell<usize>,
    /// `cap` and `firm` of the part.
    own: UnsafeCell<(usize, usize)>,
    /// The node whose memory a view shows.
    mem: *mut Node,
    kind: Kind,
    /// The block this header is in has `1 << class` bytes.
    class: u8,
    #[cfg(netpoll_loom)]
    track: track::Track,
}

/// Which bytes a node stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) data: *mut u8,
    pub(crate) len: usize,
    /// How far `len` may grow.
    pub(crate) cap: usize,
    /// How many of the first bytes are not pending: published, or flushed in a buffer that was appended.
    /// In a pieces node: how many pieces.
    pub(crate) firm: usize,
}

/// What an owned node keeps alive.
enum Storage {
    Bytes(Owned),
    Raw(NonNull<u8>, usize),
}

pub(crate) const HEADER: usize = size_of::<Node>();
#[cfg(not(netpoll_loom))]
const _: () = assert!(HEADER <= 80 && align_of::<Node>() <= 16 && align_of::<Storage>() <= 16);
const _: () = assert!(HEADER % align_of::<Storage>() == 0 && HEADER % align_of::<Piece>() == 0);

impl Node {
    /// A header in a new mcache block with `extra` bytes behind it, and how many bytes those are.
    fn create(extra: usize, kind: Kind, mem: *mut Node) -> Result<(NodePtr, *mut u8, usize)> {
        let (block, size) = mem::alloc(HEADER.saturating_add(extra))?;
        // SAFETY: the block is ours alone, and large enough.
        Ok(unsafe { Node::create_in(block, size, kind, mem) })
    }

    /// # Safety
    ///
    /// The block has `size` bytes, enough for a header, and is the caller's, who gives it up.
    // Inlined, what it writes is merged with what its caller knows better.
    #[inline(always)]
    unsafe fn create_in(
        block: NonNull<u8>,
        size: usize,
        kind: Kind,
        mem: *mut Node,
    ) -> (NodePtr, *mut u8, usize) {
        let node = block.cast::<Node>();
        // SAFETY: the block has room for the header, is aligned for it, and is ours alone; the header is
        // followed by `size - HEADER` bytes of the same block.
        unsafe {
            node.write(Node {
                refs: AtomicUsize::new(1),
                next: AtomicPtr::new(ptr::null_mut()),
                data: UnsafeCell::new(ptr::null_mut()),
                len: UnsafeCell::new(0),
                own: UnsafeCell::new((0, 0)),
                mem,
                kind,
                class: size.trailing_zeros() as u8,
                #[cfg(netpoll_loom)]
                track: track::Track::default(),
            });
            (node, block.as_ptr().add(HEADER), size - HEADER)
        }
    }

    /// A node with room for at least `room` bytes.
    pub(crate) fn block(room: usize) -> Result<NodePtr> {
        if room > APART {
            return Node::apart(room);
        }
        let (block, size) = mem::alloc(HEADER + room)?;
        // SAFETY: the block is ours alone, and has that much room behind the header.
        Ok(unsafe { Node::block_in(block, size, room) }.0)
    }

    /// A node as `block` makes it, and its part, if this thread has the memory at hand.
    #[inline(always)]
    pub(crate) fn kept_block(room: usize) -> Option<(NodePtr, Part)> {
        if room > APART {
            return None;
        }
        let (block, size) = mem::kept(HEADER + room)?;
        // SAFETY: as in `block`.
        Some(unsafe { Node::block_in(block, size, room) })
    }

    /// # Safety
    ///
    /// The block has `size` bytes, enough for a header and the room, and is the caller's, who gives it up.
    #[inline(always)]
    unsafe fn block_in(block: NonNull<u8>, size: usize, room: usize) -> (NodePtr, Part) {
        // SAFETY: the caller's promise; the node is new and ours.
        unsafe {
            let (node, data, spare) = Node::create_in(block, size, Kind::Block, ptr::null_mut());
            let cap = if room < TINY { room } else { spare };
            let part = Part { data, len: 0, cap, firm: 0 };
            node.set_part(part);
            #[cfg(netpoll_loom)]
            {
                (*node.as_ptr()).track = track::Track::new(data, cap);
            }
            (node, part)
        }
    }

    /// A node with exactly `room` bytes of room, its header apart.
    pub(crate) fn apart(room: usize) -> Result<NodePtr> {
        let (bytes, capacity) = mem::alloc(room)?;
        let data = bytes.as_ptr();
        Node::keeping(Storage::Raw(bytes, capacity), |_| Part { data, len: 0, cap: room, firm: 0 })
    }

    /// A node over bytes that were handed over; they lie together.
    pub(crate) fn owned(bytes: Owned) -> Result<NodePtr> {
        Node::keeping(Storage::Bytes(bytes), |storage| {
            let Storage::Bytes(bytes) = storage else { unreachable!() };
            let bytes = bytes.contiguous().expect("bytes that lie together");
            Part { data: bytes.as_ptr().cast_mut(), len: bytes.len(), cap: bytes.len(), firm: 0 }
        })
    }

    /// A node that keeps `storage`. Its part is made when it is in its place: moving a box would end
    /// pointers into it.
    fn keeping(storage: Storage, part: impl FnOnce(&Storage) -> Part) -> Result<NodePtr> {
        let (node, extra, _) =
            match Node::create(size_of::<Storage>(), Kind::Owned, ptr::null_mut()) {
                Ok(created) => created,
                Err(e) => {
                    // SAFETY: nobody else has it.
                    unsafe { drop_storage(storage) };
                    return Err(e);
                }
            };
        let extra = extra.cast::<Storage>();
        // SAFETY: `extra` has room for the storage, aligned as asserted above; the node is ours.
        unsafe {
            extra.write(storage);
            let part = part(&*extra);
            node.set_part(part);
            #[cfg(netpoll_loom)]
            {
                (*node.as_ptr()).track = track::Track::new(part.data, part.cap);
            }
        }
        Ok(node)
    }

    /// A node that shows `part` of the memory that `of` keeps, and keeps it too.
    ///
    /// # Safety
    ///
    /// The caller holds a reference to the memory of `of`, and `part` lies in it.
    pub(crate) unsafe fn view(of: NodePtr, part: Part) -> Result<NodePtr> {
        // SAFETY: the caller's reference keeps `of` alive.
        let mem = unsafe { of.memory() };
        let (node, ..) = Node::create(0, Kind::View, mem.as_ptr())?;
        // SAFETY: the caller holds a reference (N2); the new node is ours.
        unsafe {
            mem.retain();
            node.set_part(part);
        }
        Ok(node)
    }

    /// Whether a node that is the caller's alone has no byte.
    pub(crate) fn is_empty(&self) -> bool {
        self.len.with(|len| {
            // SAFETY: the caller's alone.
            unsafe { *len == 0 }
        })
    }

    /// A pieces node: `pieces` gives exactly `count`, each with its own reference.
    pub(crate) fn pieces(
        count: usize,
        total: usize,
        pieces: impl Iterator<Item = Piece>,
    ) -> Result<NodePtr> {
        let (node, extra, _) =
            Node::create(count * size_of::<Piece>(), Kind::Pieces, ptr::null_mut())?;
        let list = extra.cast::<Piece>();
        let mut firm = 0;
        for piece in pieces.take(count) {
            // SAFETY: there is room for `count`.
            unsafe { list.add(firm).write(piece) };
            firm += 1;
        }
        // SAFETY: the node is ours.
        unsafe { node.set_part(Part { data: extra, len: total, cap: total, firm }) };
        Ok(node)
    }
}

/// What can be done with a node by whoever may, as the rules above say.
pub(crate) trait NodeExt: Copy {
    /// Where its bytes begin.
    ///
    /// # Safety
    ///
    /// The node is alive, and a byte of it published or it is the caller's (N3).
    unsafe fn data(self) -> *mut u8;
    /// How many bytes it has.
    ///
    /// # Safety
    ///
    /// The node is alive, and its successor linked or it is the caller's (N3).
    unsafe fn len(self) -> usize;
    /// # Safety
    ///
    /// The node is alive, and the caller is its writer, or nobody writes it any more (N3).
    unsafe fn part(self) -> Part;
    /// Notes how many bytes it has in the end, how many of them are firm, and its room.
    ///
    /// # Safety
    ///
    /// The node is alive, the caller its writer, and its successor not linked (N3).
    unsafe fn close(self, len: usize, firm: usize, cap: usize);
    /// # Safety
    ///
    /// The node is alive, and nobody else reads or writes its part (N3).
    unsafe fn set_part(self, part: Part);
    /// The node that counts the references to the memory of this one.
    ///
    /// # Safety
    ///
    /// The node is alive.
    unsafe fn memory(self) -> NodePtr;
    /// Takes a reference to the memory of a node that is not a view.
    ///
    /// # Safety
    ///
    /// The caller holds one (N2).
    unsafe fn retain(self);
    /// Takes a reference to the memory of a node that is not a view, for the only one who could.
    ///
    /// # Safety
    ///
    /// The caller holds one, and if that is the only one, nobody else can take another through it.
    unsafe fn retain_alone(self);
    /// Gives back a reference to the memory of a node that is not a view.
    ///
    /// # Safety
    ///
    /// It was the caller's, who does not use it again.
    unsafe fn unref(self);
    /// Gives back the chain's hold on a node of any kind.
    ///
    /// # Safety
    ///
    /// It was the caller's, who does not use it again.
    unsafe fn unlink(self);
    /// Whether nobody but the chain keeps the memory, and the node is a plain block.
    ///
    /// # Safety
    ///
    /// The caller holds the chain's reference.
    unsafe fn is_sole_block(self) -> bool;
    /// Whether the caller's reference to the memory is the only one.
    ///
    /// # Safety
    ///
    /// The caller holds one.
    unsafe fn is_sole(self) -> bool;
    /// The pieces of a pieces node.
    ///
    /// # Safety
    ///
    /// The caller holds a reference for as long as it uses them, and the node is of that kind.
    unsafe fn as_pieces<'a>(self) -> &'a [Piece];
    /// Tells the model checker that these bytes are read (written) now.
    ///
    /// # Safety
    ///
    /// The caller holds a reference.
    unsafe fn will_read(self, from: *const u8, len: usize);
    /// See `will_read`.
    ///
    /// # Safety
    ///
    /// The caller holds a reference.
    unsafe fn will_write(self, from: *const u8, len: usize);
}

impl NodeExt for NodePtr {
    #[inline]
    unsafe fn data(self) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { (*self.as_ptr()).data.with(|data| *data) }
    }

    #[inline]
    unsafe fn len(self) -> usize {
        // SAFETY: the caller's promise.
        unsafe { (*self.as_ptr()).len.with(|len| *len) }
    }

    #[inline]
    unsafe fn part(self) -> Part {
        // SAFETY: the caller's promise.
        unsafe {
            let (cap, firm) = (*self.as_ptr()).own.with(|own| *own);
            Part { data: self.data(), len: self.len(), cap, firm }
        }
    }

    #[inline]
    unsafe fn close(self, len: usize, firm: usize, cap: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            (*self.as_ptr()).len.with_mut(|to| *to = len);
            (*self.as_ptr()).own.with_mut(|own| *own = (cap, firm));
        }
    }

    #[inline]
    unsafe fn set_part(self, part: Part) {
        // SAFETY: the caller's promise.
        unsafe {
            (*self.as_ptr()).data.with_mut(|to| *to = part.data);
            (*self.as_ptr()).len.with_mut(|to| *to = part.len);
            (*self.as_ptr()).own.with_mut(|to| *to = (part.cap, part.firm));
        }
    }

    #[inline]
    unsafe fn memory(self) -> NodePtr {
        // SAFETY: `kind` and `mem` are never written after creation.
        unsafe { NonNull::new((*self.as_ptr()).mem).unwrap_or(self) }
    }

    #[inline]
    unsafe fn retain(self) {
        // ORDERING: Relaxed, who takes a reference holds one, and hands it on by other means.
        // SAFETY: alive by the caller's reference.
        let before = unsafe { (*self.as_ptr()).refs.fetch_add(1, Ordering::Relaxed) };
        if before > isize::MAX as usize {
            // As in `Arc`: more references than memory can hold have leaked.
            std::process::abort();
        }
    }

    #[inline]
    unsafe fn retain_alone(self) {
        // SAFETY: alive by the caller's reference.
        let refs = unsafe { &(*self.as_ptr()).refs };
        // ORDERING: Acquire pairs with the Release in `unref`: the store below ends the release sequence of
        // who dropped the others, so we hand on what they did. One cannot become two (N2).
        if planted!("retain-unseen", true, instead of refs.load(Ordering::Acquire) == 1) {
            // ORDERING: Relaxed, as in `retain`.
            refs.store(2, Ordering::Relaxed);
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.retain() }
        }
    }

    #[inline]
    unsafe fn unref(self) {
        // SAFETY: alive by the caller's reference; destroyed by the last holder (N1).
        unsafe {
            let refs = &(*self.as_ptr()).refs;
            // ORDERING: Acquire pairs with the Release below in whoever dropped the others, so that its
            // reads happened before the memory is used again. One cannot become two (N2).
            if refs.load(planted!("sole-relaxed", Ordering::Relaxed, instead of Ordering::Acquire))
                != 1
            {
                // ORDERING: Release, our reads happen before the last holder's Acquire.
                if refs.fetch_sub(
                    1,
                    planted!("drop-relaxed", Ordering::Relaxed, instead of Ordering::Release),
                ) != 1
                {
                    return;
                }
                // ORDERING: pairs with the Release of the other holders.
                if planted!("drop-without-acquire", false, instead of true) {
                    fence(Ordering::Acquire);
                }
            }
            destroy(self);
        }
    }

    #[inline]
    unsafe fn unlink(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match (*self.as_ptr()).kind {
                Kind::View => unlink_view(self),
                _ => self.unref(),
            }
        }
    }

    #[inline]
    unsafe fn is_sole(self) -> bool {
        // ORDERING: Acquire, as in `unref`: what other holders read, they have read.
        // SAFETY: the caller's promise.
        unsafe { (*self.as_ptr()).refs.load(Ordering::Acquire) == 1 }
    }

    unsafe fn is_sole_block(self) -> bool {
        // SAFETY: the caller's promise.
        unsafe { (*self.as_ptr()).kind == Kind::Block && self.is_sole() }
    }

    unsafe fn as_pieces<'a>(self) -> &'a [Piece] {
        // SAFETY: a pieces node has `firm` pieces at `data`, written before it was shared, and never again.
        unsafe {
            debug_assert_eq!((*self.as_ptr()).kind, Kind::Pieces);
            let part = self.part();
            std::slice::from_raw_parts(part.data.cast(), part.firm)
        }
    }

    #[inline]
    unsafe fn will_read(self, _from: *const u8, _len: usize) {
        #[cfg(netpoll_loom)]
        // SAFETY: the caller's promise.
        unsafe {
            (*self.memory().as_ptr()).track.read(_from, _len)
        };
    }

    #[inline]
    unsafe fn will_write(self, _from: *const u8, _len: usize) {
        #[cfg(netpoll_loom)]
        // SAFETY: the caller's promise.
        unsafe {
            (*self.memory().as_ptr()).track.write(_from, _len)
        };
    }
}

/// Gives back a view, and its reference to the memory it shows.
///
/// # Safety
///
/// As for `unlink`.
#[inline(never)]
unsafe fn unlink_view(view: NodePtr) {
    // SAFETY: the caller's promise; a view is kept by its chain alone (N1).
    unsafe {
        let mem = view.memory();
        destroy(view);
        mem.unref();
    }
}

/// # Safety
///
/// Nobody else holds the node.
#[inline]
unsafe fn destroy(node: NodePtr) {
    // SAFETY: we are the last holder.
    unsafe {
        if !matches!((*node.as_ptr()).kind, Kind::Block | Kind::View) {
            drop_kept(node);
        }
        #[cfg(netpoll_loom)]
        (*node.as_ptr()).track.finish();
        let class = (*node.as_ptr()).class;
        ptr::drop_in_place(node.as_ptr());
        mem::free(node.cast(), 1 << class);
    }
}

/// Drops what is kept behind the header.
///
/// # Safety
///
/// Nobody else holds the node, and it is freed next.
#[cold]
#[inline(never)]
unsafe fn drop_kept(node: NodePtr) {
    // SAFETY: the caller's promise; what is behind the header is as `create` and its callers left it.
    unsafe {
        match (*node.as_ptr()).kind {
            Kind::Block | Kind::View => {}
            Kind::Owned => {
                let storage = node.as_ptr().cast::<u8>().add(HEADER).cast::<Storage>();
                drop_storage(storage.read());
            }
            Kind::Pieces => {
                let part = node.part();
                let list = ptr::slice_from_raw_parts_mut(part.data.cast::<Piece>(), part.firm);
                ptr::drop_in_place(list);
            }
        }
    }
}

/// # Safety
///
/// Nobody uses its memory any more.
unsafe fn drop_storage(storage: Storage) {
    match storage {
        Storage::Bytes(bytes) => drop(bytes),
        // SAFETY: `Node::block` took it from `mem::alloc`.
        Storage::Raw(ptr, capacity) => unsafe { mem::free(ptr, capacity) },
    }
}

/// A view of writable memory as what it is.
///
/// # Safety
///
/// The memory is exclusively the caller's for `'a`.
pub(crate) unsafe fn room<'a>(at: *mut u8, len: usize) -> &'a mut [MaybeUninit<u8>] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(at.cast(), len) }
}
