//! A handler leaves bytes queued and then blocks unseen, while the watchdog takes its role: nothing
//! stays behind.

use std::sync::Arc;

use loom::{
    sync::atomic::{
        AtomicUsize,
        Ordering::{AcqRel, Acquire, Release},
    },
    thread,
};
use netpoll::sched::{queued::Queued, role::Role};

struct Poller {
    role: Role,
    queued: Queued<()>,
    /// As the counter of the buffer that bytes are flushed to.
    flushed: AtomicUsize,
    /// How many of them were sent by somebody.
    sent: AtomicUsize,
}

impl Poller {
    fn send(&self) {
        self.sent.fetch_max(self.flushed.load(Acquire), AcqRel);
    }

    /// Two messages' replies, as in `WriteHalf::flush`; the second handler never comes back.
    fn handle(&self) {
        let mut hold = self.role.take();
        self.role.enter(&mut hold);
        let mut entered = false;
        for n in 1..=2 {
            self.flushed.store(n, Release);
            let kept = || self.role.is_kept(&hold);
            let left = if entered { kept() } else { self.queued.enter(kept, || ()) };
            entered |= left;
            if !left {
                self.send();
            }
        }
    }

    /// The watchdog, and the thread that it brings. Whether there was a handler to take it from.
    fn rescue(&self) -> bool {
        let taken = self.role.seize(self.role.look());
        if taken {
            let _hold = self.role.take();
            if self.queued.take().is_some() {
                self.send();
            }
        }
        taken
    }
}

#[test]
fn watchdog_against_queued_bytes() {
    loom::model(|| {
        let poller = Arc::new(Poller {
            role: Role::vacant(),
            queued: Queued::new(),
            flushed: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
        });
        let dog = Arc::clone(&poller);
        let dog = thread::spawn(move || dog.rescue());
        poller.handle();
        // One that is taken only now has surely left all of it.
        let taken = dog.join().unwrap() || poller.rescue();
        assert!(taken, "the handler never came back");
        assert_eq!(poller.sent.load(Acquire), 2, "bytes stay behind until it does");
    });
}
