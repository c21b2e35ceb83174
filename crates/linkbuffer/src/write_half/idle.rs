//! How a writer comes to keep no block, so that an idle buffer costs none.

use std::ptr::{self, NonNull};

use super::{BARE, NOWHERE, WriteHalf};
use crate::Writer;
use crate::chain::Head;
use crate::node::NodeExt;

impl WriteHalf {
    /// Keeps no block: once the reader has consumed and released everything, neither half holds one, so an
    /// idle buffer costs no block. The next write takes a new one.
    ///
    /// Cheap if it is sealed already. Does nothing while bytes are pending.
    pub fn seal(&mut self) {
        if self.node.is_null() && self.spare.is_null() {
            return;
        }
        if self.len != self.firm || !self.open.is_empty() {
            return;
        }
        if self.first.is_null() && self.spare.is_null() {
            // Often the reader is done with the last node.
            if let Some(last) = self.chain.take_last() {
                self.set_no_node(BARE);
                // SAFETY: ours now.
                return unsafe { last.unlink() };
            }
        }
        self.seal_slowly();
    }

    #[cold]
    #[inline(never)]
    fn seal_slowly(&mut self) {
        if self.malloc_len() + self.carried > 0 {
            return;
        }
        // Nothing is unpublished but perhaps an empty node.
        if let Some(empty) = self.detach_empty_end() {
            // SAFETY: ours, and in no list.
            unsafe { empty.unlink() };
        }
        self.drop_spare();
        if !self.node.is_null() {
            self.close();
            self.set_no_node(NOWHERE);
            self.chain.seal();
        }
    }

    /// What is pending, if it lies together and the next flush would make nothing else readable, nor is
    /// anything readable before it: what may be sent from here, without going through the reader. Then
    /// [`discard`](WriteHalf::discard) it, or flush it if it was not sent as a whole.
    ///
    /// `None` also where a flush would be an error.
    ///
    /// ```
    /// use linkbuffer::{LinkBuffer, Reader, Writer};
    /// let (r, mut w) = LinkBuffer::new().into_split();
    /// w.write_binary(b"pong")?;
    /// let sent = w.pending_run().map(|bytes| bytes.to_vec());
    /// assert_eq!(sent.as_deref(), Some(&b"pong"[..]));
    /// w.discard();
    /// assert_eq!((w.flush()?, r.len()), (0, 0));
    /// # Ok::<(), linkbuffer::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn pending_run(&self) -> Option<&[u8]> {
        let n = self.len - self.firm;
        // With nothing closed or carried, all that is pending is in `node` (W3).
        if n == 0 || self.closed + self.carried > 0 || self.occupied() > 0 {
            return None;
        }
        if !self.open.is_empty() || self.chain.is_over() {
            return None;
        }
        self.will_read(n);
        // SAFETY: written (W1), and nobody else's before it is flushed.
        Some(unsafe { std::slice::from_raw_parts(self.data.add(self.firm), n) })
    }

    /// Drops all that is pending, and keeps no block, as [`seal`](WriteHalf::seal).
    pub fn discard(&mut self) {
        let only = self.first == self.node && self.spare.is_null() && self.open.is_empty();
        match NonNull::new(self.node) {
            // One node, and the chain has none.
            Some(node) if only && self.carried == 0 && self.chain.has_let_go() => {
                self.first = ptr::null_mut();
                self.set_no_node(BARE);
                // SAFETY: ours, and in no list.
                unsafe { node.unlink() };
            }
            _ => self.discard_slowly(),
        }
    }

    #[cold]
    #[inline(never)]
    fn discard_slowly(&mut self) {
        let dropped = self.malloc_ack(0);
        debug_assert!(dropped.is_ok(), "nothing pending is not too much");
        self.seal();
    }

    /// Lets go of the chain's last node, if it is the only one and the reader, which is lent, has consumed
    /// all of it: then nothing need be agreed upon. Otherwise does nothing.
    #[inline]
    pub(crate) fn seal_behind(&mut self, reader: &mut Head) -> bool {
        let idle = self.len == self.firm && self.first.is_null() && self.open.is_empty();
        match NonNull::new(self.node) {
            // With nothing unpublished `node` is the chain's last (W1).
            Some(last) if idle && self.spare.is_null() && reader.consume_last(&mut self.chain) => {
                self.set_no_node(BARE);
                // SAFETY: ours now.
                unsafe { last.unlink() };
                true
            }
            _ => false,
        }
    }
}
