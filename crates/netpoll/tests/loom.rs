//! Loom models of the scheduler that ships, on a simulated kernel (`loom/sim.rs`).
//!
//! Everything between sockets and handlers (roles, turns, places, slots, flow, the watchdog) is the
//! crate's own.
//!
//! `mutants.txt` beside this file names, for each planted mistake, the model that finds it.
#![cfg(netpoll_loom)]

#[path = "loom/budget.rs"]
mod budget;
#[path = "loom/close.rs"]
mod close;
#[path = "loom/mux.rs"]
mod mux;
#[path = "loom/places.rs"]
mod places;
#[path = "loom/queued.rs"]
mod queued;
#[path = "loom/retire.rs"]
mod retire;
#[path = "loom/sim.rs"]
mod sim;

use std::sync::Arc;

use loom::{
    sync::atomic::{
        AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
    thread,
};
use netpoll::sched::{flow::Flow, turn::Turn};
use sim::{BASE, Case, Dog, Job, Sim, check};

fn split_frame(kernel: &Sim) {
    kernel.send(0, 1);
    kernel.send(1, 1);
    kernel.send(0, 1);
}

fn one_each(kernel: &Sim) {
    kernel.send(0, 1);
    kernel.send(1, 1);
}

fn twice(kernel: &Sim) {
    kernel.send(0, 1);
    kernel.send(0, 1);
}

/// A role is handed over exactly once, and the other connection is served meanwhile.
#[test]
fn role_is_handed_over_once() {
    let case = Case {
        jobs: &[Job::Need(2), Job::Plain],
        homes: &[0, 0],
        cap: 2,
        threads: 3,
        bound: 1,
        ..BASE
    };
    check(case, split_frame, &[(0, 1), (1, 1)]);
}

/// The watchdog's look against a handler that returns.
#[test]
fn watchdog_against_return() {
    let case =
        Case { jobs: &[Job::Plain, Job::Plain], homes: &[0, 0], cap: 2, dog: Dog::Once, ..BASE };
    check(case, one_each, &[(0, 1), (1, 1)]);
}

/// The watchdog's look against a handler behind which the next of its run begins.
#[test]
fn watchdog_against_a_run() {
    let case = Case { dog: Dog::Once, ..BASE };
    check(case, |kernel| kernel.send(0, 2), &[(0, 2)]);
}

/// The watchdog's look against a handler that hands over itself.
#[test]
fn watchdog_against_hand_over() {
    let case = Case { jobs: &[Job::Need(2)], dog: Dog::Once, ..BASE };
    check(case, twice, &[(0, 1)]);
}

/// A handler that blocks unseen is rescued by the whole watchdog, which may have been asleep.
#[test]
fn blocked_handler_is_rescued() {
    let case = Case {
        jobs: &[Job::WaitFor(1), Job::Plain],
        homes: &[0, 0],
        // A cap full of handlers that wait for one in the queue: no library can help that.
        cap: if cfg!(netpoll_mutant = "cap_full_of_waiters") { 1 } else { 2 },
        dog: Dog::Whole,
        bound: 1,
        ..BASE
    };
    check(case, one_each, &[(0, 1), (1, 1)]);
}

/// An event for a connection whose handler is leaving, by a thread that keeps the role.
#[test]
fn event_while_running() {
    let case = Case { dog: Dog::Once, ..BASE };
    check(case, twice, &[(0, 2)]);
}

/// The same where the handler announced blocking, and another thread drives.
#[test]
fn event_while_running_elsewhere() {
    let case = Case { jobs: &[Job::Leave], bound: 3, ..BASE };
    check(case, twice, &[(0, 2)]);
}

/// A turn that is taken for a moment, with nothing to handle, against an event.
#[test]
fn event_against_borrowed_turn() {
    loom::model(|| {
        let shared = Arc::new((Turn::idle(), AtomicUsize::new(0), AtomicUsize::new(0)));
        let run = |(turn, sent, handled): &(Turn, AtomicUsize, AtomicUsize)| loop {
            turn.begin();
            handled.store(sent.load(Acquire), Release);
            if turn.finish() {
                return;
            }
        };
        let driver = Arc::clone(&shared);
        let driver = thread::spawn(move || {
            driver.1.store(1, Release);
            if driver.0.claim() {
                run(&driver);
            }
        });
        if shared.0.try_take() && !shared.0.finish() {
            run(&shared);
        }
        driver.join().unwrap();
        assert_eq!(shared.2.load(Acquire), 1, "the event was lost");
    });
}

/// A freed place against a connection that queues.
#[test]
fn freed_place_against_queue() {
    let case = Case { jobs: &[Job::Leave, Job::Plain], homes: &[0, 0], bound: 3, ..BASE };
    check(case, one_each, &[(0, 1), (1, 1)]);
}

/// The same where the cap is full of one that waits.
#[test]
fn waiting_at_the_cap() {
    let case = Case { jobs: &[Job::Need(2), Job::Plain], homes: &[0, 0], bound: 2, ..BASE };
    check(case, split_frame, &[(0, 1), (1, 1)]);
}

/// A handler of an attached connection waits for two of an accepted one, each cap being one: it
/// holds no place that those need, whatever its thread had run before.
#[test]
fn attached_handlers_hold_no_place_of_others() {
    let case = Case {
        jobs: &[Job::Plain, Job::LeaveFor(0, 2)],
        homes: &[0, 0],
        attached: Some(1),
        ..BASE
    };
    let peer = |kernel: &Sim| {
        kernel.send(0, 1);
        kernel.send(1, 1);
        kernel.send(0, 1);
    };
    check(case, peer, &[(0, 2), (1, 1)]);
}

/// Two pollers under one cap: a sleeping poller keeps no place.
#[test]
fn no_place_in_the_kernel() {
    let case =
        Case { jobs: &[Job::Need(2), Job::Plain], homes: &[0, 1], threads: 3, bound: 1, ..BASE };
    check(case, split_frame, &[(0, 1), (1, 1)]);
}

/// A wait that registers against bytes that are published.
#[test]
fn wait_against_bytes() {
    let case = Case { jobs: &[Job::Need(2)], bound: 3, ..BASE };
    check(case, twice, &[(0, 1)]);
}

/// A wait for more than the limit.
#[test]
fn wait_above_the_limit() {
    let case = Case { jobs: &[Job::Need(2)], limit: 1, bound: 3, ..BASE };
    check(case, twice, &[(0, 1)]);
}

/// Pausing and going on in the whole scheduler.
#[test]
fn pause_in_the_loop() {
    let case = Case { jobs: &[Job::Leave], limit: 1, ..BASE };
    check(case, twice, &[(0, 2)]);
}

/// A driver that fills, and meets the limit, while a reader takes one byte and comes to rest.
struct Watermark {
    flow: Flow,
    turn: Turn,
    received: AtomicUsize,
    released: AtomicUsize,
    /// Still in the socket; the driver's.
    left: AtomicUsize,
    armed: AtomicUsize,
}

impl Watermark {
    fn occupied(&self) -> usize {
        self.received.load(Acquire) - self.released.load(Acquire)
    }

    fn rearm(&self, wanted: bool) {
        if wanted {
            self.armed.fetch_add(1, AcqRel);
        }
    }

    /// The owner of the turn: one byte is handled, and the rest is too little.
    fn run(&self) {
        loop {
            self.turn.begin();
            if self.released.load(Acquire) == 0 {
                self.released.store(1, Release);
                let after = self.occupied();
                self.rearm(self.flow.released(after + 1, after));
            }
            self.rearm(self.flow.rests(self.occupied()));
            if self.turn.finish() {
                return;
            }
        }
    }

    /// The driver: an event says that there is something to read.
    fn fill(&self) {
        loop {
            let room = self.flow.room(|| self.occupied());
            let n = room.min(self.left.load(Relaxed));
            if n == 0 {
                break;
            }
            self.left.store(self.left.load(Relaxed) - n, Relaxed);
            self.received.store(self.received.load(Relaxed) + n, Release);
        }
        if self.turn.claim() {
            self.run();
        }
    }

    /// `received` bytes are there, and the last `left` are in the socket.
    fn check(limit: usize, received: usize, left: usize) {
        loom::model(move || {
            let shared = Arc::new(Self {
                flow: Flow::new(limit, limit / 2),
                turn: Turn::taken(),
                received: AtomicUsize::new(received),
                released: AtomicUsize::new(0),
                left: AtomicUsize::new(left),
                armed: AtomicUsize::new(0),
            });
            let driver = Arc::clone(&shared);
            let driver = thread::spawn(move || driver.fill());
            shared.run();
            driver.join().unwrap();
            if shared.armed.load(Acquire) > 0 {
                shared.fill();
            }
            assert_eq!(shared.left.load(Relaxed), 0, "the rest never came");
        });
    }
}

/// Pausing at the limit against a reader that makes room, and goes on below it.
#[test]
fn pause_against_resume() {
    Watermark::check(1, 1, 1);
}

/// Pausing at the limit against a reader that comes to rest below it, and above the low mark.
#[test]
fn pause_against_rest() {
    Watermark::check(4, 3, 2);
}

/// The same while the reader waits for what is behind the limit.
#[test]
fn pause_against_wait() {
    let case = Case { jobs: &[Job::Need(2)], limit: 2, bound: 3, ..BASE };
    let peer = |kernel: &Sim| {
        kernel.send(0, 1);
        kernel.send(0, 3);
    };
    check(case, peer, &[(0, 2)]);
}

/// A flush that finds the socket full against the edge that says that it is not.
#[test]
fn flush_against_edge() {
    let case = Case { jobs: &[Job::Flush], room: 0, bound: 3, ..BASE };
    let peer = |kernel: &Sim| {
        kernel.send(0, 1);
        kernel.drain(0);
    };
    check(case, peer, &[(0, 1)]);
}

/// What stopped at the read budget goes on.
#[test]
fn budget_leaves_nothing_behind() {
    let case = Case { budget: 1, bound: 3, ..BASE };
    check(case, |kernel| kernel.send(0, 2), &[(0, 2)]);
}

/// The end against a poller that goes to sleep.
#[test]
fn end_against_sleep() {
    check(Case { threads: 1, bound: 5, ..BASE }, |_| (), &[]);
}

/// The end against a role that is being offered: threads end when roles have, not before.
#[test]
fn end_against_offer() {
    check(Case { dog: Dog::Once, ..BASE }, |kernel| kernel.send(0, 1), &[(0, 1)]);
}

/// The end at any moment, a handler waiting.
#[test]
fn end_at_any_time() {
    let case = Case { jobs: &[Job::Need(2)], dog: Dog::Once, ..BASE };
    check(case, |kernel| kernel.send(0, 1), &[]);
}
