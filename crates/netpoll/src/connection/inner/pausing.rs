//! Where reading pauses and goes on: at the connection's own limit, and at the end of a shared budget.

use std::sync::Weak;

use poller::{
    Interest,
    sys::{self, Input},
};

use super::Inner;
use crate::{
    budget::{Charge, Resume},
    config::Options,
    trace::event,
};

impl Inner {
    /// A pause was ended: has the socket reported again if there is anything.
    pub(crate) fn rearm(&self) {
        self.go_on_reading();
        if self.is_polled() {
            let home = self.home();
            // It fails only where the socket is no longer registered, and then nothing is read.
            let _ = home.seat.shared.poller.modify(self.fd(), self.token(), Interest::ALL);
        }
    }

    /// Somebody waits until `want` bytes are held. Where that is more than the limit, the limit
    /// grows by as much again, so that a wait whose end is not known does not creep.
    pub(crate) fn raise(&self, want: usize) {
        let limit = self.flow.limit();
        let options = self.options();
        let most = options.max_message.max(options.input_limit);
        let goal = if want > limit { limit.saturating_mul(2).min(most).max(want) } else { want };
        if self.flow.raise(goal) {
            self.rearm();
        }
    }

    /// The wait for more is over.
    #[inline]
    pub(crate) fn restore_limit(&self) {
        self.flow.restore(self.options().input_limit);
    }

    // ---- with a shared budget ------------------------------------------------------------------

    pub(super) fn charge(options: &Options, inner: &Weak<Self>) -> Option<Box<Charge>> {
        let budget = options.memory_budget.as_ref()?;
        Some(Box::new(budget.charge(Weak::<Self>::clone(inner))))
    }

    /// How many of `most` bytes may be read. 0: reading is paused, for want of budget. What is not
    /// received is to be given back.
    #[inline]
    pub(super) fn granted(&self, most: usize, room: usize) -> usize {
        let Some(charge) = &self.charge else { return most };
        let paused = self.flow.is_paused();
        let granted = self.flow.granted(|| charge.take(most.min(room)));
        if granted == 0 {
            event!(TRACE, id = self.handle().id(), "reading pauses: the budget is used up");
            self.stop_reading();
        } else if paused {
            self.go_on_reading();
        }
        granted
    }

    /// So many bytes are not held any more, or were not received after all.
    #[inline]
    pub(crate) fn give_back(&self, n: usize) {
        if let Some(charge) = &self.charge {
            charge.give_back(n);
        }
    }

    /// It is not going to read now: others may have what the budget has for it.
    #[inline]
    pub(crate) fn wants_nothing(&self) {
        if let Some(charge) = &self.charge {
            charge.leave();
        }
    }

    /// Reader: it needs so many bytes, unread and unreleased together.
    #[inline]
    pub(crate) fn needs(&self, n: usize) {
        if let Some(charge) = &self.charge {
            charge.needs(n);
            self.go_on();
        }
    }

    /// The framing says how long the message is that has begun.
    pub(crate) fn begins_message(&self, n: usize) {
        if let Some(charge) = &self.charge {
            charge.begins(n);
        }
    }

    /// Reader: at rest until more comes, with so many bytes unread and nothing unreleased.
    #[inline]
    pub(crate) fn rests(&self, unread: usize) {
        if let Some(charge) = &self.charge {
            charge.rests(unread);
            self.go_on();
        } else if self.flow.rests(unread) {
            self.rearm();
        }
    }

    fn go_on(&self) {
        if self.flow.resume() {
            self.rearm();
        }
    }
}

impl Resume for Inner {
    fn resume(&self) {
        self.go_on();
        // Whoever reads it without a poller.
        self.readable.wake();
    }

    fn has_more(&self) -> bool {
        let nothing = matches!(sys::has_input(self.fd()), Ok(Input::Nothing));
        !nothing && !self.shared.life.is_closing()
    }
}
