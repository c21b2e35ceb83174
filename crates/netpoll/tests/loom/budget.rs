//! A shared budget that is used up: pausing against giving back. The pool, the charges and the pauses
//! are the crate's own; sockets are numbers.

use std::sync::{Arc, Weak};

use loom::{
    sync::atomic::{
        AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
    thread,
};
use netpoll::{
    MemoryBudget,
    budget::{Charge, Resume},
    sched::flow::Flow,
};

const LIMIT: usize = 4;

struct Conn {
    flow: Flow,
    charge: Charge,
    /// Still in the socket; the driver's.
    left: AtomicUsize,
    armed: AtomicUsize,
}

impl Conn {
    fn new(budget: &MemoryBudget, left: usize) -> Arc<Self> {
        Arc::new_cyclic(|conn: &Weak<Self>| Self {
            flow: Flow::new(1 << 20, 1 << 19),
            charge: budget.charge(Weak::<Self>::clone(conn)),
            left: AtomicUsize::new(left),
            armed: AtomicUsize::new(0),
        })
    }

    /// The driver: an event says that there is something to read.
    fn fill(&self) {
        while self.left.load(Relaxed) > 0 {
            let granted = self.flow.granted(|| self.charge.take(LIMIT));
            if granted == 0 {
                return;
            }
            let n = granted.min(self.left.load(Relaxed));
            self.left.store(self.left.load(Relaxed) - n, Relaxed);
            self.charge.give_back(granted - n);
        }
    }
}

impl Resume for Conn {
    fn resume(&self) {
        if self.flow.resume() {
            self.armed.fetch_add(1, AcqRel);
        }
    }

    fn has_more(&self) -> bool {
        true
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// One connection holds everything and gives it back while two others find nothing.
fn refused_against(end: impl Fn(&Conn) + Send + Sync + Copy + 'static) {
    check(move || {
        let budget = MemoryBudget::new(LIMIT);
        let (a, b) = (Conn::new(&budget, LIMIT), Conn::new(&budget, LIMIT));
        a.fill();
        // The right to go beyond is somebody else's, who has not used it.
        let other = Conn::new(&budget, 0);
        assert!(other.charge.take(1) == 1, "the first to be refused may go beyond");
        let driver = Arc::clone(&b);
        let driver = thread::spawn(move || driver.fill());
        end(&a);
        other.charge.give_back(1);
        driver.join().unwrap();
        if b.left.load(Relaxed) > 0 {
            assert!(b.armed.load(Acquire) > 0, "the resume was lost");
            b.fill();
        }
        assert_eq!(b.left.load(Relaxed), 0, "nobody was in its way");
        drop((a, b, other));
        assert_eq!(budget.used(), 0);
    });
}

/// A connection is refused while another gives back all that there is.
#[test]
fn refused_against_give_back() {
    refused_against(|conn| conn.charge.give_back(LIMIT));
}

/// The same where nothing comes back but the debt: the right passes on.
#[test]
fn refused_against_the_end_of_a_debt() {
    refused_against(|_| ());
}

/// A connection that holds what it needed is refused, while its reader comes to need more.
#[test]
fn refused_against_need() {
    check(|| {
        let budget = MemoryBudget::new(2);
        let conn = Conn::new(&budget, 4);
        conn.charge.needs(2);
        let driver = Arc::clone(&conn);
        let driver = thread::spawn(move || driver.fill());
        conn.charge.needs(4);
        conn.resume();
        driver.join().unwrap();
        if conn.left.load(Relaxed) > 0 {
            assert!(conn.armed.load(Acquire) > 0, "the resume was lost");
            conn.fill();
        }
        assert_eq!(conn.left.load(Relaxed), 0);
        drop(conn);
        assert_eq!(budget.used(), 0);
    });
}

/// Whoever has the right to go beyond finds that it has nothing to read, while another is refused: the
/// right passes on (M5).
#[test]
fn unused_right_against_refused() {
    check(|| {
        let budget = MemoryBudget::new(LIMIT);
        let full = Conn::new(&budget, LIMIT);
        full.fill();
        let debtor = Conn::new(&budget, 0);
        assert!(debtor.charge.take(1) == 1, "the first to be refused may go beyond");
        // It is refused, and gets the right when the debt is paid.
        let first = Conn::new(&budget, 1);
        first.fill();
        debtor.charge.give_back(1);
        assert!(first.armed.load(Acquire) == 1, "nobody else has the right");
        let second = Conn::new(&budget, LIMIT);
        let driver = Arc::clone(&second);
        let driver = thread::spawn(move || driver.fill());
        // Its connection is closed, or paused by hand: it does not read after all.
        first.charge.leave();
        driver.join().unwrap();
        if second.left.load(Relaxed) > 0 {
            assert!(second.armed.load(Acquire) > 0, "nobody may read");
            second.fill();
        }
        assert_eq!(second.left.load(Relaxed), 0, "nobody was in its way");
        drop((full, debtor, first, second));
        assert_eq!(budget.used(), 0);
    });
}
