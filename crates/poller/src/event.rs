//! Interest, readiness, and the batch of events that one wait fills.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use crate::sys::RawEvent;
use crate::token::Token;

/// What a registration wants to hear about.
///
/// Combine with `|`. Errors and hang-ups (both directions closed) are always reported, so
/// [`Interest::NONE`] is meaningful too. All registrations are edge-triggered.
///
/// ```
/// use poller::Interest;
///
/// let interest = Interest::READABLE | Interest::RDHUP;
/// assert!(interest.contains(Interest::RDHUP));
/// assert!(!interest.contains(Interest::WRITABLE));
/// assert!(Interest::ALL.contains(interest));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Interest(u8);

impl Interest {
    /// Only errors and hang-ups.
    pub const NONE: Interest = Interest(0);
    /// Bytes, an incoming connection, or the end of the stream can be read.
    pub const READABLE: Interest = Interest(1);
    /// There is room to write, or a connection attempt has been decided.
    pub const WRITABLE: Interest = Interest(2);
    /// The peer has closed its sending direction.
    pub const RDHUP: Interest = Interest(4);
    /// Urgent data.
    pub const PRI: Interest = Interest(8);
    /// When several pollers watch the same listener, wake one of them instead of all. Only with
    /// [`READABLE`](Self::READABLE) and [`WRITABLE`](Self::WRITABLE), and never in
    /// [`modify`](crate::Poller::modify): the kernel refuses that.
    pub const EXCLUSIVE: Interest = Interest(16);
    /// Both directions with half-closes and urgent data: what a connection registers once and
    /// never changes.
    pub const ALL: Interest = Interest(1 | 2 | 4 | 8);

    /// Whether everything in `other` is in `self`.
    pub const fn contains(self, other: Interest) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Interest {
    type Output = Interest;

    fn bitor(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }
}

impl BitOrAssign for Interest {
    fn bitor_assign(&mut self, other: Interest) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Interest::READABLE, "READABLE"),
            (Interest::WRITABLE, "WRITABLE"),
            (Interest::RDHUP, "RDHUP"),
            (Interest::PRI, "PRI"),
            (Interest::EXCLUSIVE, "EXCLUSIVE"),
        ];
        let mut set = names.iter().filter(|(bit, _)| self.contains(*bit)).map(|(_, name)| *name);
        f.write_str(set.next().unwrap_or("NONE"))?;
        set.try_for_each(|name| write!(f, " | {name}"))
    }
}

/// What became ready for one registration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Event {
    token: Token,
    ready: Ready,
}

/// What happened, apart from whom it happened to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ready {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) rdhup: bool,
    pub(crate) hangup: bool,
    pub(crate) error: bool,
    pub(crate) priority: bool,
}

impl Event {
    /// The token that the registration was made with.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Reading will not block: bytes, an incoming connection, or the end of the stream.
    pub fn is_readable(&self) -> bool {
        self.ready.readable
    }

    /// Writing will not block, or a connection attempt has been decided (see
    /// [`sys::take_error`](crate::sys::take_error)).
    pub fn is_writable(&self) -> bool {
        self.ready.writable
    }

    /// The peer sends nothing more: it closed its sending direction, or both are closed. Bytes may
    /// still be there to be read.
    pub fn is_read_closed(&self) -> bool {
        self.ready.rdhup || self.ready.hangup
    }

    /// Both directions are closed.
    pub fn is_hangup(&self) -> bool {
        self.ready.hangup
    }

    /// An error is pending on the descriptor.
    pub fn is_error(&self) -> bool {
        self.ready.error
    }

    /// Urgent data is there.
    pub fn is_priority(&self) -> bool {
        self.ready.priority
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ready { readable, writable, rdhup, hangup, error, priority } = self.ready;
        let bits = [
            (readable, "readable"),
            (writable, "writable"),
            (rdhup, "rdhup"),
            (hangup, "hangup"),
            (error, "error"),
            (priority, "priority"),
        ];
        write!(f, "Event({:?}", self.token)?;
        bits.iter().filter(|(set, _)| *set).try_for_each(|(_, name)| write!(f, " {name}"))?;
        f.write_str(")")
    }
}

/// The batch of events that a wait fills; kept and reused from wait to wait.
///
/// Its capacity bounds how many events one wait reports; what does not fit comes with the next
/// wait, and the kernel takes turns among the ready descriptors, so none is starved.
pub struct Events {
    buffer: Vec<RawEvent>,
    woken: bool,
}

impl Events {
    /// Room for `capacity` events.
    ///
    /// # Panics
    ///
    /// When `capacity` is 0 or over 2²⁰.
    pub fn with_capacity(capacity: usize) -> Events {
        assert!((1..=1 << 20).contains(&capacity), "capacity must be in 1..=2^20");
        Events { buffer: Vec::with_capacity(capacity), woken: false }
    }

    /// How many events one wait reports at most.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// How many events the last wait reported. The waker is not among them.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether the last wait reported no event.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Whether a [`Waker`](crate::Waker) asked for attention before the last wait ended.
    pub fn is_woken(&self) -> bool {
        self.woken
    }

    /// The event at `index`, for whoever keeps a cursor instead of an iterator.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Event> {
        self.buffer.get(index).map(decode)
    }

    /// The events of the last wait.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.buffer.iter())
    }

    /// Forgets the events of the last wait.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.woken = false;
    }

    pub(crate) fn buffer(&mut self) -> &mut Vec<RawEvent> {
        &mut self.buffer
    }

    /// Takes the waker's own event out of the batch. It may be there although nobody asked since
    /// the last wait: a waker can be slow on its way to the kernel.
    pub(crate) fn remove_waker(&mut self) {
        if let Some(at) = self.buffer.iter().position(|raw| raw.token() == Token::WAKER) {
            self.buffer.remove(at);
        }
    }

    pub(crate) fn set_woken(&mut self, woken: bool) {
        self.woken = woken;
    }
}

fn decode(raw: &RawEvent) -> Event {
    Event { token: raw.token(), ready: raw.ready() }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = Event;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The events of a batch; see [`Events::iter`].
#[derive(Clone)]
pub struct Iter<'a>(std::slice::Iter<'a, RawEvent>);

impl Iterator for Iter<'_> {
    type Item = Event;

    #[inline]
    fn next(&mut self) -> Option<Event> {
        self.0.next().map(decode)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}
