//! Room that is filled later, and the list of what is still unfilled.

use std::ptr::NonNull;

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

/// The unfilled placeholders of a writer. Most have none or one, so the first needs no allocation.
#[derive(Debug, Default)]
pub(crate) struct OpenList {
    first: Option<Open>,
    more: Vec<Open>,
}

impl OpenList {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn push(&mut self, open: Open) {
        match self.first {
            None => self.first = Some(open),
            Some(_) => self.more.push(open),
        }
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Open> {
        self.first.iter_mut().chain(&mut self.more)
    }

    /// Takes the entry of `placeholder`, if it is here and `len` is its length.
    pub(crate) fn take(&mut self, placeholder: &Placeholder, len: usize) -> Option<Open> {
        if placeholder.len != len {
            return None;
        }
        if self.first.as_ref()?.id == placeholder.id {
            return std::mem::replace(&mut self.first, self.more.pop());
        }
        let i = self.more.iter().position(|open| open.id == placeholder.id)?;
        Some(self.more.swap_remove(i))
    }

    /// Whether the boundary before the pending byte number `at` lies inside an unfilled one.
    pub(crate) fn any_spans(&self, at: usize) -> bool {
        self.first.iter().chain(&self.more).any(|open| open.spans(at))
    }

    /// Forgets all at or behind the pending byte number `at`.
    pub(crate) fn forget_from(&mut self, at: usize) {
        self.more.retain(|open| open.at + open.len <= at);
        if self.first.as_ref().is_some_and(|open| open.at + open.len > at) {
            self.first = self.more.pop();
        }
    }

    /// Moves all of `other` here, `shift` pending bytes further back.
    pub(crate) fn adopt(&mut self, other: OpenList, shift: usize) {
        for mut open in other.first.into_iter().chain(other.more) {
            open.at += shift;
            self.push(open);
        }
    }
}
