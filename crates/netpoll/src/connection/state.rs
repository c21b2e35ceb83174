//! A connection's life: one packed word, and every transition by name.
//!
//! | bit | meaning | set by |
//! |---|---|---|
//! | OPENED | `on_connect` has finished, or there is none | the turn's owner |
//! | HUNG_UP | an event said that the peer hung up or ended its stream; bytes may still come | the driver |
//! | ENDED | the end of the stream was read: what is buffered is all there is | who reads the socket |
//! | BROKEN | the socket failed, or a write timed out: nothing more can be sent | who met it |
//! | WRITE_SHUT | our half of the stream is ended | the writer, or a handle |
//! | CLOSING | somebody here wants it closed | anyone |
//! | LEAVING | somebody has begun to close it, and waits for what was flushed | once |
//! | DRAINING | the loop shuts down: closed once no whole message is left | the loop |
//! | CLOSED | it is: the last callback has run | once |
//!
//! Bits are only ever set, but for DRAINING, which belongs to the loop and stays behind where the
//! connection goes to another. Who needs to be the one that set a bit uses the returned `bool`.

use crate::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire},
};

const OPENED: u32 = 1;
const HUNG_UP: u32 = 1 << 1;
const ENDED: u32 = 1 << 2;
const BROKEN: u32 = 1 << 3;
const WRITE_SHUT: u32 = 1 << 4;
const CLOSING: u32 = 1 << 5;
const CLOSED: u32 = 1 << 6;
const DRAINING: u32 = 1 << 7;
const LEAVING: u32 = 1 << 8;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Life(AtomicU32);

impl Life {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Sets `bit`; true for the one caller that did.
    fn set(&self, bit: u32) -> bool {
        // ORDERING: release publishes what led to the transition; acquire, since whoever comes
        // second acts on what the first left.
        self.0.fetch_or(bit, AcqRel) & bit == 0
    }

    fn has(&self, bits: u32) -> bool {
        // ORDERING: pairs with `set`: what led to the transition is visible.
        self.0.load(Acquire) & bits != 0
    }

    pub(crate) fn open(&self) {
        self.set(OPENED);
    }

    pub(crate) fn hang_up(&self) -> bool {
        self.set(HUNG_UP)
    }

    pub(crate) fn end(&self) -> bool {
        self.set(ENDED)
    }

    pub(crate) fn break_down(&self) -> bool {
        self.set(BROKEN)
    }

    pub(crate) fn shut_write(&self) -> bool {
        self.set(WRITE_SHUT)
    }

    pub(crate) fn ask_to_close(&self) -> bool {
        self.set(CLOSING)
    }

    pub(crate) fn begin_closing(&self) -> bool {
        self.set(LEAVING)
    }

    pub(crate) fn drain(&self) -> bool {
        self.set(DRAINING)
    }

    /// It goes to another loop.
    pub(crate) fn stop_draining(&self) {
        // ORDERING: as in `set`.
        self.0.fetch_and(!DRAINING, AcqRel);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.has(DRAINING)
    }

    pub(crate) fn close(&self) -> bool {
        self.set(CLOSED)
    }

    pub(crate) fn is_opened(&self) -> bool {
        self.has(OPENED)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.has(ENDED)
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.has(BROKEN)
    }

    pub(crate) fn is_write_shut(&self) -> bool {
        self.has(WRITE_SHUT)
    }

    /// Closed here, or about to be.
    pub(crate) fn is_closing(&self) -> bool {
        self.has(CLOSING | CLOSED)
    }

    /// Nothing is known that speaks against it.
    pub(crate) fn is_active(&self) -> bool {
        !self.has(HUNG_UP | ENDED | BROKEN | CLOSING | CLOSED)
    }
}
