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

#![allow(missing_docs, unreachable_pub)] // Public for the models alone.

use crate::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Release},
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
pub struct Life(AtomicU32);

impl Life {
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Sets `bit`; true for the one caller that did.
    fn set(&self, bit: u32) -> bool {
        if cfg!(netpoll_mutant = "life_in_two_steps") {
            let before = self.0.load(Acquire);
            // ORDERING: the mistake is another one.
            self.0.store(before | bit, Release);
            return before & bit == 0;
        }
        // ORDERING: release publishes what led to the transition; acquire, since whoever comes
        // second acts on what the first left.
        self.0.fetch_or(bit, AcqRel) & bit == 0
    }

    fn has(&self, bits: u32) -> bool {
        // ORDERING: pairs with `set`: what led to the transition is visible.
        self.0.load(Acquire) & bits != 0
    }

    pub fn open(&self) {
        self.set(OPENED);
    }

    pub fn hang_up(&self) -> bool {
        self.set(HUNG_UP)
    }

    pub fn end(&self) -> bool {
        self.set(ENDED)
    }

    pub fn break_down(&self) -> bool {
        self.set(BROKEN)
    }

    pub fn shut_write(&self) -> bool {
        self.set(WRITE_SHUT)
    }

    pub fn ask_to_close(&self) -> bool {
        self.set(CLOSING)
    }

    pub fn begin_closing(&self) -> bool {
        self.set(LEAVING)
    }

    pub fn drain(&self) -> bool {
        self.set(DRAINING)
    }

    /// It goes to another loop.
    pub fn stop_draining(&self) {
        // ORDERING: as in `set`.
        self.0.fetch_and(!DRAINING, AcqRel);
    }

    pub fn is_draining(&self) -> bool {
        self.has(DRAINING)
    }

    pub fn close(&self) -> bool {
        self.set(CLOSED)
    }

    pub fn is_opened(&self) -> bool {
        self.has(OPENED)
    }

    pub fn is_ended(&self) -> bool {
        self.has(ENDED)
    }

    pub fn is_broken(&self) -> bool {
        self.has(BROKEN)
    }

    pub fn is_write_shut(&self) -> bool {
        self.has(WRITE_SHUT)
    }

    /// Closed here, or about to be.
    pub fn is_closing(&self) -> bool {
        self.has(CLOSING | CLOSED)
    }

    /// Whether its writer may go on.
    pub(crate) fn is_writable(&self) -> bool {
        !self.has(BROKEN | WRITE_SHUT | CLOSING | CLOSED)
    }

    /// Nobody wants it to end.
    pub(crate) fn is_calm(&self) -> bool {
        !self.has(BROKEN | CLOSING | CLOSED | DRAINING)
    }

    /// Nothing is known that speaks against it.
    pub fn is_active(&self) -> bool {
        !self.has(HUNG_UP | ENDED | BROKEN | CLOSING | CLOSED)
    }
}
