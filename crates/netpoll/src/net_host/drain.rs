//! Counting what is served, and shutting down: refusing what is new, draining what is there, and
//! ending the roles when nothing is left.

use std::{sync::Weak, time::Instant};

use poller::sys;

use super::{Command, Core, Entry, Net, lock_std};
use crate::{
    connection::inner::Inner,
    sched::Scheduler,
    sync::atomic::{
        Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
        fence,
    },
};

impl Net {
    /// One more connection is served. False: there are too many, or the loop shuts down.
    pub(crate) fn join(&self) -> bool {
        // ORDERING: the fence pairs with the one in `drain`: either this sees that the loop drains, or
        // `drain` sees the count.
        let before = self.served.fetch_add(1, AcqRel);
        fence(SeqCst);
        let max = self.options.max_connections.unwrap_or(usize::MAX);
        if before >= max || self.draining.load(Acquire) {
            self.left();
            return false;
        }
        true
    }

    /// One fewer.
    pub(crate) fn left(&self) {
        // ORDERING: AcqRel: who takes the count to zero comes after all others; the fence pairs with
        // the one in `drain` behind `closed`: of the last to leave and who closes the listeners, at
        // least one sees the other.
        let last = self.served.fetch_sub(1, AcqRel) == 1;
        fence(SeqCst);
        if last && self.closed.load(Acquire) {
            self.end();
        }
    }

    /// Tells a connection that has just entered a table what it may have missed.
    pub(crate) fn catch_up(&self, inner: &Inner) {
        // ORDERING: pairs with the fence in `drain`: either this sees the flags, or the driver
        // that drains its table sees the connection.
        fence(SeqCst);
        if self.forced.load(Relaxed) {
            inner.shared.life.ask_to_close();
        } else if self.draining.load(Relaxed) {
            inner.shared.life.drain();
        }
    }

    pub(crate) fn is_forced(&self) -> bool {
        // ORDERING: pairs with the store in `drain`.
        self.forced.load(Acquire)
    }

    pub(crate) fn served(&self) -> usize {
        // ORDERING: pairs with the decrement in `left`.
        self.served.load(Acquire)
    }

    pub(crate) fn is_draining(&self) -> bool {
        // ORDERING: pairs with the swap in `drain`.
        self.draining.load(Acquire)
    }

    /// Whether it drains, and its listeners are gone.
    pub(super) fn is_closed(&self) -> bool {
        // ORDERING: pairs with the store in `drain`.
        self.closed.load(Acquire)
    }

    /// Nothing new is served from here on; what is there ends when it has nothing left to handle.
    pub(crate) fn drain(&self, sched: &Scheduler<Self>, at_once: bool) {
        // ORDERING: the fence pairs with those in `join` and `catch_up`.
        self.draining.store(true, Release);
        if at_once {
            self.forced.store(true, Release);
        }
        fence(SeqCst);
        self.remove_listeners();
        for seat in sched.seats() {
            seat.send(self, Command::Drain { at_once });
        }
        // ORDERING: the fence pairs with the one in `left`.
        self.closed.store(true, Release);
        fence(SeqCst);
        if self.served() == 0 {
            self.end();
        }
        if at_once {
            // Writing to an eventfd has no reason to fail.
            let _ = self.dials_off.signal();
            // Who serves need not wait for handlers that do not return.
            let _stopped = lock_std(&self.stopped);
            self.changed.notify_all();
        }
    }

    /// Lets the roles end, which they do when nothing is served.
    fn end(&self) {
        if let Some(sched) = self.sched.get().and_then(Weak::upgrade) {
            sched.end();
        }
    }

    /// Waits until closing is forced, or all has ended.
    pub(crate) fn wait_forced(&self) {
        let mut stopped = lock_std(&self.stopped);
        // ORDERING: pairs with the store in `drain`; whoever sets it takes the lock and notifies.
        while !*stopped && !self.forced.load(Acquire) {
            stopped = self.changed.wait(stopped).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Waits until nothing is served any more after a drain, and every role has ended. False: not
    /// by the deadline.
    pub(crate) fn wait_stopped(&self, deadline: Option<Instant>) -> bool {
        let mut stopped = lock_std(&self.stopped);
        while !*stopped {
            stopped = match deadline {
                None => self.changed.wait(stopped).unwrap_or_else(|e| e.into_inner()),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(sys::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.changed.wait_timeout(stopped, left).unwrap_or_else(|e| e.into_inner()).0
                }
            };
        }
        true
    }

    /// DRIVING: tells every connection of this poller.
    pub(super) fn drain_seat(&self, core: &mut Core, at_once: bool) {
        if at_once {
            self.let_all_go(core);
        }
        let mut ready = Vec::new();
        for entry in core.batch.iter() {
            let Entry::Connection(inner, _) = entry else { continue };
            let Some(inner) = inner.upgrade() else { continue };
            let life = &inner.shared.life;
            if at_once {
                life.ask_to_close();
                inner.wake_all();
            } else {
                life.drain();
            }
            if inner.is_served() && inner.turn.claim() {
                ready.push(inner);
            }
        }
        core.ready.extend(ready);
    }
}
