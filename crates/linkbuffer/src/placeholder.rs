//! Room that is filled later, and the list of what is still unfilled.

use std::iter;
use std::ptr::NonNull;

use crate::Result;
use crate::mem::Boxed;

/// Room that a writer keeps until it is filled, see [`Writer::placeholder`](crate::Writer::placeholder).
///
/// It can be filled once, in the writer that made it or the one it moved to by `append`.
#[must_use = "a flush is refused while a placeholder is unfilled"]
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Placeholder {
    id: u64,
    len: usize,
}

impl Placeholder {
    /// How many bytes fill it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte fills it; it must still be filled.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// An unfilled placeholder in its writer.
#[derive(Debug)]
pub(crate) struct Open {
    id: u64,
    /// Pending bytes before it.
    pub(crate) at: usize,
    pub(crate) len: usize,
    /// Where its bytes are; the writer keeps that memory as long as this is listed.
    pub(crate) to: NonNull<u8>,
}

impl Open {
    /// A new placeholder and its entry, with an id that no other one in this process has.
    pub(crate) fn new(at: usize, len: usize, to: NonNull<u8>) -> (Placeholder, Open) {
        let id = crate::sync::next_id();
        (Placeholder { id, len }, Open { id, at, len, to })
    }

    /// Whether the boundary before the pending byte number `at` lies inside it.
    pub(crate) fn spans(&self, at: usize) -> bool {
        self.at < at && at < self.at + self.len
    }
}

/// The unfilled placeholders of a writer, the newest first. Most writers never have one, so this is one word,
/// and each entry has a block of its own.
#[derive(Default)]
pub(crate) struct OpenList(Option<Boxed<Entry>>);

struct Entry {
    open: Open,
    next: OpenList,
}

impl OpenList {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// # Errors
    ///
    /// There is no memory for it.
    pub(crate) fn push(&mut self, open: Open) -> Result<()> {
        let mut entry = Boxed::new(Entry { open, next: OpenList(None) })?;
        entry.next.0 = self.0.take();
        self.0 = Some(entry);
        Ok(())
    }

    fn pop(&mut self) -> Option<Boxed<Entry>> {
        let mut entry = self.0.take()?;
        self.0 = entry.next.0.take();
        Some(entry)
    }

    fn iter(&self) -> impl Iterator<Item = &Open> {
        let entries = iter::successors(self.0.as_ref(), |entry| entry.next.0.as_ref());
        entries.map(|entry| &entry.open)
    }

    pub(crate) fn for_each(&mut self, mut f: impl FnMut(&mut Open)) {
        let mut list = self;
        while let Some(entry) = &mut list.0 {
            f(&mut entry.open);
            list = &mut entry.next;
        }
    }

    fn retain(&mut self, keep: impl Fn(&Open) -> bool) {
        let mut list = self;
        while let Some(entry) = &list.0 {
            if keep(&entry.open) {
                list = &mut list.0.as_mut().expect("just seen").next;
            } else {
                list.pop();
            }
        }
    }

    /// Takes the entry of `placeholder` out and says where its bytes are, if it is here and `len` is its
    /// length.
    pub(crate) fn take(&mut self, placeholder: &Placeholder, len: usize) -> Option<NonNull<u8>> {
        if placeholder.len != len {
            return None;
        }
        let to = self.iter().find(|open| open.id == placeholder.id)?.to;
        self.retain(|open| open.id != placeholder.id);
        Some(to)
    }

    /// Whether the boundary before the pending byte number `at` lies inside an unfilled one.
    pub(crate) fn any_spans(&self, at: usize) -> bool {
        self.iter().any(|open| open.spans(at))
    }

    /// Forgets all at or behind the pending byte number `at`.
    pub(crate) fn forget_from(&mut self, at: usize) {
        self.retain(|open| open.at + open.len <= at);
    }

    /// Moves all of `other` here, `shift` pending bytes further back.
    pub(crate) fn adopt(&mut self, mut other: OpenList, shift: usize) {
        while let Some(mut entry) = other.pop() {
            entry.open.at += shift;
            entry.next.0 = self.0.take();
            self.0 = Some(entry);
        }
    }
}

impl Drop for OpenList {
    fn drop(&mut self) {
        // One by one: a long list would be dropped by a deep recursion.
        while self.pop().is_some() {}
    }
}
