//! The watchdog takes the role from handlers that block or burn where the library cannot see it.
//!
//! It looks seldom while all is well, and ever more seldom. A look that finds a handler is followed
//! by a second one soon after; the same epoch twice means that one handler ran all the while, and
//! its role is taken, if the host's rules ([`Watch::may_take`]) agree. Once all pollers have slept
//! from one look to the next it goes to sleep itself, and costs nothing.
//!
//! - **G1** Before it sleeps it sets its flag, fences, and looks at all roles again. A poller that
//!   wakes stores DRIVING, fences, and looks at the flag. One of the two sees the other.
//! - **G2** It ends when every role has ended, not when the end is asked for: until then a handler
//!   may still need rescue.

use std::sync::Arc;

use super::{
    Counters, Host, Scheduler, Seat,
    role::{Look, State},
};
use crate::sync::{
    Mutex,
    atomic::{
        AtomicBool,
        Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
        fence,
    },
    lock, thread,
};

/// The host's clock and rules.
pub trait Watch<H: Host>: Sized {
    /// A round of looks begins. `waiting`: work waits for a thread or a place.
    fn look(&mut self, sched: &Scheduler<H>, waiting: bool) {
        let _ = (sched, waiting);
    }
    /// The watchdog has slept since the last look.
    fn slept(&mut self) {}
    /// Sleeps until the next look is due: `soon` when a handler is suspected.
    fn pause(&mut self, sched: &Scheduler<H>, soon: bool);
    /// A handler was seen: a second look follows the next pause.
    fn suspect(&mut self, seat: &Arc<Seat<H>>, seen: Look) {
        let _ = (seat, seen);
    }
    /// The same handler was seen at two looks: is its role to be taken now?
    fn may_take(&mut self, seat: &Arc<Seat<H>>, seen: Look) -> bool;
    /// Its role was taken.
    fn took(&mut self, seat: &Arc<Seat<H>>);
    /// How many quiet looks in a row, without a handler between them, do not send it to sleep yet.
    const QUIET_LOOKS: usize;
}

/// Where the watchdog sleeps.
#[derive(Debug)]
pub struct Bed {
    asleep: AtomicBool,
    sleeper: Mutex<Option<thread::Thread>>,
}

impl Bed {
    pub(super) fn new() -> Self {
        Self { asleep: AtomicBool::new(false), sleeper: Mutex::new(None) }
    }

    /// A poller that has just woken: is the watchdog needed again? (G1)
    #[inline]
    pub(super) fn look(&self, counters: &Counters) {
        // ORDERING: ordered behind DRIVING by the fence in `Role::awake`.
        if self.asleep.load(Relaxed) {
            counters.watchdog_wakes.count();
            self.rouse();
        }
    }

    /// Wakes it, from its sleep or from a pause, to look at what the caller did just before.
    pub(super) fn rouse(&self) {
        // ORDERING: pairs with the fence in `sleep_while`: either the watchdog, looking again, sees
        // what the caller did, or the caller sees its flag.
        fence(SeqCst);
        self.asleep.swap(false, AcqRel);
        if let Some(sleeper) = &*lock(&self.sleeper) {
            sleeper.unpark();
        }
    }

    fn sleep_while(&self, quiet: impl Fn() -> bool) {
        #[cfg(not(netpoll_mutant = "watchdog_without_fence"))]
        {
            // ORDERING: the fence orders the flag before the looks that follow (G1).
            self.asleep.store(true, Relaxed);
            fence(SeqCst);
        }
        #[cfg(netpoll_mutant = "watchdog_without_fence")]
        self.asleep.store(true, Relaxed);
        if cfg!(netpoll_mutant = "watchdog_without_recheck") || quiet() {
            while self.asleep.load(Acquire) {
                thread::park();
            }
        } else {
            self.asleep.store(false, Release);
        }
    }
}

fn is_quiet(look: Look) -> bool {
    matches!(look.state(), State::Asleep | State::Ended)
}

/// The watchdog's whole life, on a thread of its own.
pub fn run<H: Host>(sched: &Arc<Scheduler<H>>, mut watch: H::Watch) {
    *lock(&sched.dog.sleeper) = Some(thread::current());
    let mut quiet_looks = 0;
    let mut seen: Vec<(Arc<Seat<H>>, Look)> = Vec::new();
    let mut before: Vec<Look> = Vec::new();
    while !sched.has_ended() {
        seen.clear();
        sched.each_seat(|seat| seen.push((Arc::clone(seat), seat.role.look())));
        // Where work waits for a thread or a place, it looks until that has come.
        let waiting = sched.host.recruit() || sched.queued() > 0;
        watch.look(sched, waiting);
        let quiet = !waiting && seen.iter().all(|&(_, look)| is_quiet(look));
        // Handlers that ran meanwhile have moved the epochs.
        let moved = !before.iter().eq(seen.iter().map(|(_, look)| look));
        before.clear();
        before.extend(seen.iter().map(|&(_, look)| look));
        if !quiet || moved && quiet_looks > 0 {
            quiet_looks = usize::from(quiet);
        } else if quiet_looks < H::Watch::QUIET_LOOKS {
            quiet_looks += 1;
        } else {
            quiet_looks = 0;
            // A poller that is just going is not kept by who sleeps.
            seen.clear();
            sched.dog.sleep_while(|| {
                let mut quiet = !sched.has_ended() && sched.queued() == 0;
                quiet &= !sched.host.recruit();
                sched.each_seat(|seat| quiet &= is_quiet(seat.role.look()));
                quiet
            });
            watch.slept();
            continue;
        }
        seen.retain(|&(_, look)| look.state() == State::Handler);
        for (seat, look) in &seen {
            seat.role.suspect(*look);
            watch.suspect(seat, *look);
        }
        watch.pause(sched, !seen.is_empty());
        for (seat, look) in &seen {
            if seat.role.look() == *look && watch.may_take(seat, *look) && seat.role.seize(*look) {
                sched.counters.rescues.count();
                watch.took(seat);
                sched.host.offer(sched, Arc::clone(seat));
            }
        }
    }
}
