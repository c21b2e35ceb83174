//! When a moment comes that a poller's driver was to look at: a connection's clocks, the end of its
//! lingering, the end of a listener's rest.

#![allow(unsafe_code)] // Reading a socket, as the role's holder.

use std::sync::Arc;

use poller::Token;

use super::{Core, Entry, Net, host::Ready};
use crate::{
    connection::inner::{Fill, Inner},
    sched::{Seat, Step},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    timers::{NEVER, Stamp},
};

/// When the first such moment comes, for those who do not have the core: while a handler stays, its
/// poller can not look.
#[derive(Clone, Debug)]
pub(crate) struct Due(Arc<AtomicU64>);

impl Due {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(NEVER)))
    }

    pub(crate) fn get(&self) -> Stamp {
        // ORDERING: here and below a moment; nothing is read through it.
        self.0.load(Relaxed)
    }

    fn set(&self, at: Stamp) {
        if self.get() != at {
            self.0.store(at, Relaxed);
        }
    }
}

impl Core {
    /// Has `token` looked at when `at` is past.
    pub(super) fn look_at(&mut self, at: Stamp, token: Token) {
        let batch = &self.batch;
        self.timers.insert(at, token, |at, &token| match batch.get(token) {
            Some(Entry::Connection(inner, _)) => {
                inner.upgrade().is_some_and(|inner| inner.is_armed(at))
            }
            other => other.is_some(),
        });
        self.due.set(self.timers.first());
    }

    /// What is due now, if anything.
    pub(super) fn next_due(&mut self) -> Option<(Stamp, Token)> {
        let next = self.timers.due()?;
        self.due.set(self.timers.first());
        Some(next)
    }

    /// Has a connection looked at when the first of its clocks may have run down.
    pub(super) fn arm(&mut self, inner: &Inner) {
        if let Some(at) = inner.arm() {
            inner.set_armed(at);
            self.look_at(at, inner.token());
        }
    }
}

impl Net {
    /// The time may have come for what `token` stands for.
    pub(super) fn look(
        &self,
        seat: &Arc<Seat<Self>>,
        core: &mut Core,
        at: Stamp,
        token: Token,
    ) -> Step<Arc<Inner>> {
        let inner = match core.batch.get(token) {
            Some(Entry::Connection(inner, _)) => inner.upgrade(),
            Some(Entry::Lingering(lingering)) => {
                let inner = Arc::clone(&lingering.inner);
                self.let_go(core, &inner);
                None
            }
            // It has rested.
            Some(Entry::Listener(_)) => return self.event(seat, core, token, Ready::AGAIN),
            None => None,
        };
        let Some(inner) = inner.filter(|inner| inner.is_served() && inner.is_armed(at)) else {
            return Step::Again;
        };
        inner.set_armed(NEVER);
        if !inner.may_be_due() {
            core.arm(&inner);
            return Step::Again;
        }
        if !inner.turn.claim() {
            // Its owner looks now, and has it armed again when it rests.
            return Step::Again;
        }
        let fill = if inner.is_polled() {
            // What has come by now counts.
            // SAFETY: as in `event`.
            unsafe { inner.fill(core.read_budget, false) }
        } else {
            Fill::More
        };
        if fill == Fill::More && inner.is_polled() {
            core.again.push(token);
        }
        inner.time_is_up(fill);
        Step::Run(inner)
    }
}
