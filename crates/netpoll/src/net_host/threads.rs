//! Threads for roles that were passed on, and for turns that got a place: on demand, from the loop's
//! own pool.
//!
//! The system may refuse a thread. Then nothing is lost: what the pool has accepted stays in its
//! queue, what it has given back (where it has no thread at all) waits here, and the watchdog tries
//! again at each look, since the threads that there are may never be free.

use std::{mem, time::Instant};

use poller::sys;

use super::{Net, accepting::NOTICE_EVERY, lock_std};
use crate::{config::Notice, sched::Scheduler};

type Errand = Box<dyn FnOnce() + Send>;

/// What no thread could be had for.
#[derive(Default)]
pub(super) struct Waiting {
    errands: std::sync::Mutex<Vec<Errand>>,
    /// Refusals that the user was told of, and when.
    told: std::sync::Mutex<(usize, Option<Instant>)>,
}

impl Net {
    /// Brings a thread to an errand, now or as soon as there is one.
    pub(super) fn hire(&self, sched: &Scheduler<Self>, errand: impl FnOnce() + Send + 'static) {
        if let Err(rejected) = self.pool.go(errand) {
            // Its end comes after the end of every role, so it is a thread that is missing.
            lock_std(&self.waiting.errands).push(Box::new(rejected.into_task()));
            sched.rouse_watchdog();
        }
    }

    /// Tries again where the system refused a thread. True: something still waits for one.
    pub(super) fn hire_again(&self) -> bool {
        let errands = mem::take(&mut *lock_std(&self.waiting.errands));
        for errand in errands {
            if let Err(rejected) = self.pool.go(errand) {
                lock_std(&self.waiting.errands).push(rejected.into_task());
            }
        }
        let queued = self.pool.queued() > 0;
        if queued {
            self.pool.look_again();
        }
        let waiting = queued || !lock_std(&self.waiting.errands).is_empty();
        if waiting {
            self.tell_of_refusals();
        }
        waiting
    }

    fn tell_of_refusals(&self) {
        let refused = self.threads_refused();
        let mut told = lock_std(&self.waiting.told);
        let recently = told.1.is_some_and(|at| sys::now() < at + NOTICE_EVERY);
        if refused > told.0 && !recently {
            *told = (refused, Some(sys::now()));
            drop(told);
            self.options.notice(&Notice::ThreadsRefused { refused });
        }
    }

    /// Threads that the system has refused so far.
    pub(crate) fn threads_refused(&self) -> usize {
        self.pool.stats().threads_refused
    }

    /// The loop is not to be: what waits for a thread need not be done.
    pub(crate) fn dismiss(&self) {
        lock_std(&self.waiting.errands).clear();
    }
}
