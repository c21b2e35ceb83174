//! The places under the cap, by themselves: whoever changes them in an unusual way, against who gives one
//! back or wants one. Two pieces of work, of which one stays in its place until the other has been
//! handled: what waits beside a free place would wait for ever.

use std::sync::Arc;

use loom::{
    sync::{Condvar, Mutex},
    thread,
};
use netpoll::sched::places::Places;

const FIRST: usize = 0;
const SECOND: usize = 1;

struct World {
    places: Places<usize>,
    /// How often each was handled.
    handled: Mutex<[usize; 2]>,
    changed: Condvar,
}

impl World {
    fn new(cap: u32) -> Self {
        Self { places: Places::new(cap), handled: Mutex::new([0; 2]), changed: Condvar::new() }
    }

    /// For who has a place: the first waits for the second.
    fn handle(&self, work: usize) {
        let mut handled = self.handled.lock().unwrap();
        while work == FIRST && handled[SECOND] == 0 {
            handled = self.changed.wait(handled).unwrap();
        }
        handled[work] += 1;
        self.changed.notify_all();
    }

    /// For who has a place, and nothing more of its own to run.
    fn settle(&self) {
        while let Some(work) = self.places.give_back() {
            self.handle(work);
        }
    }

    fn check(&self) {
        assert_eq!(*self.handled.lock().unwrap(), [1, 1]);
        assert_eq!((self.places.taken(), self.places.queued()), (0, 0));
    }
}

/// What queues is exchanged for something new, while somebody else gives a place back.
#[test]
fn exchange_against_give_back() {
    loom::model(|| {
        let world = Arc::new(World::new(2));
        assert!(world.places.take() && world.places.take());
        assert_eq!(world.places.take_or_queue(FIRST), None);
        let other = Arc::clone(&world);
        let other = thread::spawn(move || other.settle());
        let oldest = world.places.exchange(SECOND);
        world.handle(oldest);
        world.settle();
        other.join().unwrap();
        world.check();
    });
}

/// The same while the cap is raised.
#[test]
fn exchange_against_a_raised_cap() {
    loom::model(|| {
        let world = Arc::new(World::new(1));
        assert!(world.places.take());
        assert_eq!(world.places.take_or_queue(FIRST), None);
        let other = Arc::clone(&world);
        let other = thread::spawn(move || {
            for work in other.places.set_cap(2) {
                other.handle(work);
                other.settle();
            }
        });
        let oldest = world.places.exchange(SECOND);
        world.handle(oldest);
        world.settle();
        other.join().unwrap();
        world.check();
    });
}

/// The cap is raised while something joins the queue, and who has the only place waits for that.
#[test]
fn raised_cap_against_queue() {
    loom::model(|| {
        let world = Arc::new(World::new(1));
        assert!(world.places.take());
        let other = Arc::clone(&world);
        let other = thread::spawn(move || {
            if let Some(work) = other.places.take_or_queue(SECOND) {
                other.handle(work);
                other.settle();
            }
        });
        for work in world.places.set_cap(2) {
            world.handle(work);
            world.settle();
        }
        world.handle(FIRST);
        world.settle();
        other.join().unwrap();
        world.check();
    });
}

/// The cap falls below what is taken, while a place is given back: nothing that queues is lost.
#[test]
fn lowered_cap_against_give_back() {
    loom::model(|| {
        let world = Arc::new(World::new(2));
        assert!(world.places.take() && world.places.take());
        assert_eq!(world.places.take_or_queue(SECOND), None);
        let other = Arc::clone(&world);
        let other = thread::spawn(move || other.settle());
        assert!(world.places.set_cap(1).is_empty());
        world.settle();
        other.join().unwrap();
        world.handle(FIRST);
        world.check();
    });
}
