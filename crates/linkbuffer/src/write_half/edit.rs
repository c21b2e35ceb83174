//! Edits of what is not published yet: inserting, dropping the end, taking over another buffer.

use std::ptr::{self, NonNull};

use super::{WriteHalf, join, links, next, set_next, shortened_cap};
use crate::chain::free_from;
use crate::node::{Node, NodeExt, NodePtr, Part};
use crate::placeholder::OpenList;
use crate::{BINARY_INPLACE_THRESHOLD, Error, LinkBuffer, Owned, Reader, Result, Writer};

/// Where a pending byte is: in `node` at `offset`, and the node before it in the list.
struct Place {
    before: *mut Node,
    node: NodePtr,
    offset: usize,
}

impl WriteHalf {
    /// Inserts before the pending byte number `at`, which exists.
    pub(super) fn insert(&mut self, bytes: Owned, at: usize) -> Result<()> {
        if self.open.any_spans(at) {
            return Err(Error::BadPlaceholder);
        }
        let count = bytes.len();
        let bytes = match bytes.contiguous() {
            Some(few) if count < BINARY_INPLACE_THRESHOLD && count > 0 => {
                let node = Node::block(count)?;
                // SAFETY: the node is new and has the room.
                unsafe {
                    let part = node.part();
                    part.data.copy_from_nonoverlapping(few.as_ptr(), count);
                    node.will_write(part.data, count);
                    node.close(count, 0, count);
                }
                Some((node.as_ptr(), node.as_ptr()))
            }
            _ => links(bytes)?,
        };
        let Some((first, last)) = bytes else { return Ok(()) };
        self.close();
        let Place { before, node, offset } = self.place_of(at);
        // SAFETY: the nodes are in the unpublished list, or the chain's last one, which is cut behind what
        // is published; `first..last` are new.
        unsafe {
            let part = node.part();
            // Nothing goes in front of the chain's last node, even if all in it is pending.
            if offset == 0 && node.as_ptr() != self.chain.last() {
                set_next(last, node.as_ptr());
                self.set_after(before, first);
            } else {
                let rest = Part {
                    data: part.data.add(offset),
                    len: part.len - offset,
                    cap: part.cap - offset,
                    firm: 0,
                };
                let rest = match Node::view(node, rest) {
                    Ok(rest) => rest.as_ptr(),
                    Err(e) => {
                        free_from(first, ptr::null_mut());
                        return Err(e);
                    }
                };
                let published = self.first.is_null() || node.as_ptr() == self.chain.last();
                let follower = if published { self.first } else { next(node.as_ptr()) };
                node.close(offset, part.firm, offset);
                set_next(last, rest);
                set_next(rest, follower);
                if published {
                    self.first = first;
                } else {
                    set_next(node.as_ptr(), first);
                }
                if node.as_ptr() == self.node {
                    self.closed += offset - part.firm;
                    self.set_node(rest);
                }
            }
        }
        self.closed += count;
        self.open.for_each(|open| {
            if open.at >= at {
                open.at += count;
            }
        });
        Ok(())
    }

    /// Where the pending byte number `at` is. All nodes are closed.
    fn place_of(&self, mut at: usize) -> Place {
        let mut before = ptr::null_mut();
        let mut node = match self.chain.last() {
            last if last.is_null() => self.first,
            last => last,
        };
        loop {
            // SAFETY: the byte exists, so the list does not end before it.
            unsafe {
                let this = NonNull::new(node).expect("a pending byte");
                let part = this.part();
                let pending = part.len - part.firm;
                if at < pending {
                    return Place { before, node: this, offset: part.firm + at };
                }
                at -= pending;
                before = node;
                node = if node == self.chain.last() { self.first } else { next(node) };
            }
        }
    }

    /// Links `node` behind `before`: null, the chain's last node, or one of the list.
    fn set_after(&mut self, before: *mut Node, node: *mut Node) {
        if before.is_null() || before == self.chain.last() {
            self.first = node;
        } else {
            // SAFETY: a node of the list, which is ours.
            unsafe { set_next(before, node) };
        }
    }

    /// Keeps the first `n` pending bytes, where the cut is not in the current node.
    pub(super) fn keep_pending(&mut self, mut n: usize) {
        self.close();
        let mut end = self.chain.last();
        // SAFETY: the nodes are ours and closed, and the chain's last one behind what is published.
        unsafe {
            let mut shorten = |node: NodePtr| {
                let part = node.part();
                let kept = (part.len - part.firm).min(n);
                n -= kept;
                let len = part.firm + kept;
                node.close(len, part.firm, shortened_cap(part.len, part.cap, len));
                len
            };
            if let Some(last) = NonNull::new(end) {
                shorten(last);
            }
            let mut node = std::mem::replace(&mut self.first, ptr::null_mut());
            while let Some(this) = NonNull::new(node) {
                node = next(node);
                set_next(this.as_ptr(), ptr::null_mut());
                if shorten(this) == 0 {
                    this.unlink();
                } else {
                    self.set_after(end, this.as_ptr());
                    end = this.as_ptr();
                }
            }
        }
        let kept = self.count_pending(end);
        self.closed = kept;
        self.set_node(end);
    }

    /// Pending bytes in all nodes before `end`, which are closed.
    fn count_pending(&self, end: *mut Node) -> usize {
        let last = self.chain.last();
        if end == last {
            return 0;
        }
        // SAFETY: the nodes are ours and closed.
        unsafe {
            let published = NonNull::new(last).map_or(0, |last| last.part().len - last.part().firm);
            published + super::pending_until(self.first, end)
        }
    }

    /// Takes over all bytes of `other`.
    pub(super) fn adopt(&mut self, other: LinkBuffer) -> Result<()> {
        let (reader, writer) = other.into_split();
        let taken = match reader.head.is_other_end_of(&writer.chain) {
            true => take_pair(reader, writer),
            false => take_strangers(reader, writer)?,
        };
        let shift = self.malloc_len();
        if let Some((first, last)) = taken.list {
            // SAFETY: the nodes are ours and closed.
            let pending = unsafe { super::pending_until(first, ptr::null_mut()) };
            self.attach_list(first, last, pending);
            self.carried += taken.carried;
        }
        self.open.adopt(taken.open, shift);
        Ok(())
    }

    /// The list and what belongs to it, closed; the half keeps none of it.
    fn give_list(&mut self) -> (*mut Node, *mut Node, usize) {
        if let Some(empty) = self.detach_empty_end() {
            // SAFETY: ours, and in no list.
            unsafe { empty.unlink() };
        }
        self.close();
        let first = std::mem::replace(&mut self.first, ptr::null_mut());
        let last = if first.is_null() { ptr::null_mut() } else { self.node };
        self.closed = 0;
        (first, last, std::mem::take(&mut self.carried))
    }
}

/// What an appended buffer brings.
struct Taken {
    list: Option<(*mut Node, *mut Node)>,
    /// Bytes that are not pending.
    carried: usize,
    open: OpenList,
}

/// Both ends of one chain: its nodes go over as they are.
fn take_pair(reader: crate::ReadHalf, mut writer: WriteHalf) -> Taken {
    writer.take_back();
    let (list, end, carried) = writer.give_list();
    let open = std::mem::take(&mut writer.open);
    let (head, mut tail) = (reader.into_head(), writer.into_chain());
    // SAFETY: we own both ends, closed the nodes, and give them a new owner.
    unsafe {
        let last = tail.last();
        let (mut first, readable) = head.take_all(&mut tail);
        let mut node = first;
        while let Some(this) = NonNull::new(node) {
            let part = this.part();
            let firm = if node == last { part.firm } else { part.len };
            this.close(part.len, firm, part.cap);
            node = next(node);
        }
        head.forget(tail);
        let mut end_of_all = if first.is_null() { ptr::null_mut() } else { last };
        if first == last && !first.is_null() && (*first).is_empty() {
            // Everything in it was read: the room is all it has.
            NonNull::new_unchecked(first).unlink();
            (first, end_of_all) = (ptr::null_mut(), ptr::null_mut());
        }
        if !list.is_null() {
            join(&mut first, &mut end_of_all, list);
            end_of_all = end;
        }
        let list = NonNull::new(first).map(|_| (first, end_of_all));
        Taken { list, carried: carried + readable, open }
    }
}

/// Ends of different chains, whose other ends may be at work in other threads: what is readable is shared,
/// and what is pending taken.
fn take_strangers(reader: crate::ReadHalf, mut writer: WriteHalf) -> Result<Taken> {
    let readable = reader.len();
    let (mut first, mut end) = match links(Owned::Slice(reader.slice(readable)?))? {
        Some(list) => list,
        None => (ptr::null_mut(), ptr::null_mut()),
    };
    writer.take_back();
    let (list, list_end, carried) = writer.give_list();
    // SAFETY: the nodes are ours; of the writer's last published one we share what is pending behind.
    unsafe {
        let mut node = first;
        while let Some(this) = NonNull::new(node) {
            let part = this.part();
            this.close(part.len, part.len, part.cap);
            node = next(node);
        }
        if let Some(last) = NonNull::new(writer.chain.last()) {
            let part = last.part();
            if part.len > part.firm {
                let len = part.len - part.firm;
                let pending = Part { data: part.data.add(part.firm), len, cap: len, firm: 0 };
                match Node::view(last, pending) {
                    Ok(view) => join(&mut first, &mut end, view.as_ptr()),
                    Err(e) => {
                        free_from(first, ptr::null_mut());
                        free_from(list, ptr::null_mut());
                        return Err(e);
                    }
                }
            }
        }
        if !list.is_null() {
            join(&mut first, &mut end, list);
            end = list_end;
        }
    }
    let open = std::mem::take(&mut writer.open);
    let list = NonNull::new(first).map(|_| (first, end));
    // The writer is dropped with its own nodes: pending bytes of the last published one are ours now.
    Ok(Taken { list, carried: carried + readable, open })
}
