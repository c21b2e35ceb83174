//! What an event says about whom it is for: a slot and the slot's generation in one word.

use std::fmt;

/// Names a registration; the kernel hands it back with each of its events.
///
/// A token packs a *slot* (the low 32 bits: where to look) and a *generation* (the high 32 bits:
/// which of the slot's successive tenants is meant). An event can outlive its registration: it may
/// already sit in the batch when another event of that batch closes the connection. With a
/// generation, whoever owns the slot next is not mistaken for the one who left.
///
/// [`slots()`](crate::slots()) makes such tokens. Programs that need no recycling may put any
/// 64-bit number of their own into one with [`from_raw`](Token::from_raw), except `u64::MAX`.
///
/// ```
/// use poller::Token;
///
/// let token = Token::new(7, 3);
/// assert_eq!((token.slot(), token.generation()), (7, 3));
/// assert_eq!(Token::from_raw(token.raw()), token);
/// assert_ne!(Token::new(7, 4), token);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    /// The token of the poller's own waker; never handed out, refused when registering.
    pub(crate) const WAKER: Token = Token(u64::MAX);

    /// The token of generation `generation` of slot `slot`.
    pub const fn new(slot: u32, generation: u32) -> Token {
        Token((generation as u64) << 32 | slot as u64)
    }

    /// A token from any number; `u64::MAX` is refused by [`register`](crate::Poller::register).
    pub const fn from_raw(raw: u64) -> Token {
        Token(raw)
    }

    /// The number that the kernel keeps.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Where to look.
    pub const fn slot(self) -> u32 {
        self.0 as u32
    }

    /// Which tenant of the slot is meant.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}#{})", self.slot(), self.generation())
    }
}
