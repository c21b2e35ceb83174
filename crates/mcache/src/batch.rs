//! A batch: many free blocks of one class as one pointer, without memory of its own.
//!
//! Some of the blocks, the carriers, hold in their memory the addresses of the others:
//!
//! ```text
//!  Batch ──► carrier ─next─► carrier ─next─► ∅        each carrier: Links, then `own` addresses
//!              │ │ └─► block    └─► block
//!              │ └─► block
//!            below
//!              ▼
//!            carrier of the batch below, while in the depot
//! ```
//!
//! Blocks of 512 bytes and more need one carrier for any batch.
//!
//! Rules:
//! T1. Whoever has the `Batch` (or took a list of them out of the depot) owns all memory of its
//!     blocks; nobody else looks at it, not even to follow a link.
//! T2. Of the links, `last` is true only in the topmost batch of a list, and only there used.

use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

use crate::class::{Class, MIN_SIZE};
use crate::sync::UnsafeCell;

/// The most blocks of a batch.
pub(crate) const MAX_BATCH: usize = 64;

/// The start of a carrier's memory.
pub(crate) struct Carrier {
    links: UnsafeCell<Links>,
}

#[derive(Clone, Copy)]
struct Links {
    /// The next carrier of this batch.
    next: *mut Carrier,
    /// First carrier of the batch below.
    below: *mut Carrier,
    /// First carrier of the lowest batch of the list that starts here (T2).
    last: *mut Carrier,
    /// How many addresses follow.
    own: u32,
    /// How many blocks the batch has; in its first carrier.
    blocks: u32,
}

const ADDRESS: usize = size_of::<NonNull<u8>>();
const _: () = assert!(size_of::<Carrier>() + ADDRESS <= MIN_SIZE);
const _: () = assert!(align_of::<Carrier>() <= crate::class::ALIGN);

/// Free blocks of one class, owned.
#[must_use = "the blocks leak"]
pub(crate) struct Batch(NonNull<Carrier>);

impl Batch {
    /// Binds up to [`MAX_BATCH`] blocks; their memory is written to.
    ///
    /// # Safety
    ///
    /// `blocks` is not empty, and they are distinct memory of this class that the caller owns and
    /// gives up.
    pub(crate) unsafe fn bind(class: Class, blocks: &[NonNull<u8>]) -> Batch {
        let room = (class.footprint() - size_of::<Carrier>()) / ADDRESS;
        let mut next = ptr::null_mut();
        // Each chunk's first block carries the rest of it.
        for chunk in blocks.chunks(room + 1).rev() {
            let carrier = chunk[0].cast::<Carrier>();
            let links = Links {
                next,
                below: ptr::null_mut(),
                last: carrier.as_ptr(),
                own: chunk.len() as u32 - 1,
                blocks: blocks.len() as u32,
            };
            // SAFETY: the caller's memory, large enough for a carrier and `room` addresses, and
            // aligned for both (the assertions above).
            unsafe {
                carrier.write(Carrier { links: UnsafeCell::new(links) });
                let addresses = carrier.add(1).cast::<NonNull<u8>>();
                ptr::copy_nonoverlapping(chunk[1..].as_ptr(), addresses.as_ptr(), chunk.len() - 1);
            }
            next = carrier.as_ptr();
        }
        debug_assert!(!next.is_null());
        // SAFETY: there was at least one chunk.
        Batch(unsafe { NonNull::new_unchecked(next) })
    }

    /// How many blocks there are.
    pub(crate) fn len(&self) -> usize {
        // SAFETY: T1.
        unsafe { links(self.0.as_ptr()).blocks as usize }
    }

    /// Unbinds the blocks into `out`, and says how many there were; the caller owns them.
    pub(crate) fn unbind(self, out: &mut [NonNull<u8>; MAX_BATCH]) -> usize {
        let mut carrier = ManuallyDrop::new(self).0.as_ptr();
        let mut at = 0;
        while let Some(first) = NonNull::new(carrier) {
            // SAFETY: T1; a carrier is followed by `own` addresses. It ends here: what is copied
            // out of it are its last uses.
            unsafe {
                let links = links(carrier);
                let own = links.own as usize;
                out[at] = first.cast();
                let addresses = first.add(1).cast::<NonNull<u8>>().as_ptr();
                ptr::copy_nonoverlapping(addresses, out[at + 1..][..own].as_mut_ptr(), own);
                at += 1 + own;
                carrier.drop_in_place();
                carrier = links.next;
            }
        }
        at
    }

    /// The batch as a list of one, for the depot.
    pub(crate) fn into_list(self) -> *mut Carrier {
        self.0.as_ptr()
    }
}

/// # Safety
///
/// The caller owns the carrier (T1).
unsafe fn links(carrier: *mut Carrier) -> Links {
    // SAFETY: owned, and written by `bind`.
    unsafe { (*carrier).links.with(|links| *links) }
}

/// # Safety
///
/// The caller owns the carrier (T1).
unsafe fn change(carrier: *mut Carrier, f: impl FnOnce(&mut Links)) {
    // SAFETY: owned, and written by `bind`.
    unsafe { (*carrier).links.with_mut(|links| f(&mut *links)) }
}

/// Lays the list `top` on the list `bottom`.
///
/// # Safety
///
/// The caller owns both lists, and neither is null.
pub(crate) unsafe fn join(top: *mut Carrier, bottom: *mut Carrier) -> *mut Carrier {
    // SAFETY: T1 for all three carriers; T2: both are topmost.
    unsafe {
        let lowest = links(bottom).last;
        change(links(top).last, |links| links.below = bottom);
        change(top, |links| links.last = lowest);
    }
    top
}

/// Takes the topmost batch off a list; the rest may be null.
///
/// # Safety
///
/// The caller owns the list, and it is not null.
pub(crate) unsafe fn split(list: *mut Carrier) -> (Batch, *mut Carrier) {
    // SAFETY: T1; T2: the rest becomes a list of its own with the same end.
    unsafe {
        let Links { below, last, .. } = links(list);
        if !below.is_null() {
            change(below, |links| links.last = last);
            change(list, |links| {
                links.below = ptr::null_mut();
                links.last = list;
            });
        }
        (Batch(NonNull::new_unchecked(list)), below)
    }
}
