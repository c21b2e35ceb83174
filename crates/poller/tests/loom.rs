//! The lock-free parts under the model checker, which runs the shipped code on a modelled kernel.
//!
//! `RUSTFLAGS="--cfg netpoll_loom" cargo test -p netpoll-poller --profile loom --test loom`
//!
//! What must not happen shows as a failed assertion, as an access to a value that is not ordered
//! after its writing, or as a deadlock: a wake-up that was lost.
#![cfg(netpoll_loom)]

use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;
use poller::sys::EventFd;
use poller::{Balance, Events, Group, Interest, Poller, Token, slots};

fn model(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

/// Looks without waiting.
const NOW: Option<Duration> = Some(Duration::ZERO);

/// A number that only the ordering under test protects: the checker watches its accesses.
struct Tracked(UnsafeCell<usize>);

// SAFETY: not sound by itself, on purpose: an access out of order is what the checker reports.
unsafe impl Sync for Tracked {}

impl Tracked {
    fn add_one(&self) {
        // SAFETY: the checker reports it if anybody else is there.
        self.0.with_mut(|number| unsafe { *number += 1 });
    }

    fn get(&self) -> usize {
        // SAFETY: as above.
        self.0.with(|number| unsafe { *number })
    }
}

/// Two threads publish something and wake; the poller sleeps until it has seen both. The second
/// request may find the first one pending and write nothing: it must be seen all the same.
#[test]
fn wake_against_sleep() {
    model(3, || {
        let poller = Poller::new().unwrap();
        // Relaxed on purpose: only the wake-up may order it.
        let inbox: Arc<[AtomicBool; 2]> =
            Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let threads: Vec<_> = (0..2)
            .map(|n| {
                let (waker, inbox) = (poller.waker(), Arc::clone(&inbox));
                thread::spawn(move || {
                    inbox[n].store(true, Ordering::Relaxed);
                    waker.wake().unwrap();
                })
            })
            .collect();
        let mut events = Events::with_capacity(2);
        while !inbox.iter().all(|flag| flag.load(Ordering::Relaxed)) {
            poller.wait(&mut events, None).unwrap();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// A request that comes while the poller is awake keeps the next wait from sleeping, also when the
/// waiting moved on to another thread.
#[test]
fn wake_between_waits() {
    model(3, || {
        let poller = Arc::new(Poller::new().unwrap());
        let done = Arc::new(AtomicBool::new(false));
        let (waker, flag) = (poller.waker(), Arc::clone(&done));
        let thread = thread::spawn(move || {
            flag.store(true, Ordering::Relaxed);
            waker.wake().unwrap();
        });
        let mut events = Events::with_capacity(2);
        poller.wait(&mut events, NOW).unwrap();
        let other = Arc::clone(&poller);
        let next = thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                other.wait(&mut events, None).unwrap();
            }
        });
        thread.join().unwrap();
        next.join().unwrap();
    });
}

/// A connection is closed, and its only slot taken by the next one, while an event for it is on its
/// way: the event finds the old tenant or nobody.
#[test]
fn late_event_against_a_recycled_slot() {
    model(3, || {
        let poller = Arc::new(Poller::new().unwrap());
        let (slots, mut batch) = slots(1);
        let fd = Arc::new(EventFd::new().unwrap());
        let old = slots.insert("old").unwrap();
        poller.register(&*fd, old, Interest::READABLE).unwrap();
        fd.signal().unwrap();

        let (other, its_fd, its_slots) = (Arc::clone(&poller), Arc::clone(&fd), slots.clone());
        let closer = thread::spawn(move || {
            other.deregister(&*its_fd).unwrap();
            assert!(its_slots.remove(old));
            its_slots.insert("new").ok()
        });
        let mut events = Events::with_capacity(2);
        poller.wait(&mut events, NOW).unwrap();
        for event in &events {
            assert_eq!(event.token(), old);
            assert!(matches!(batch.get(event.token()), Some(&"old") | None));
        }
        batch.end();
        for event in &events {
            assert!(matches!(batch.get(event.token()), Some(&"old") | None));
        }
        let new = closer.join().unwrap();
        batch.end();
        let new = new.unwrap_or_else(|| slots.insert("new").unwrap());
        assert_eq!((batch.get(old), batch.get(new)), (None, Some(&"new")));
    });
}

/// One thread registers while the poller's thread frees another registration: the values arrive
/// whole, are dropped once, and no slot is lost.
#[test]
fn register_against_free() {
    model(3, || {
        let (slots, mut batch) = slots(2);
        let first = slots.insert(Arc::new(1)).unwrap();
        let told = Arc::new(AtomicU64::new(u64::MAX));
        let (its_slots, tell) = (slots.clone(), Arc::clone(&told));
        let other = thread::spawn(move || {
            let token = its_slots.insert(Arc::new(2)).unwrap();
            // Relaxed on purpose: an event may be about a registration that nothing else ordered.
            tell.store(token.raw(), Ordering::Relaxed);
        });
        assert!(slots.remove(first));
        let second = Token::from_raw(told.load(Ordering::Relaxed));
        if let Some(value) = batch.get(second) {
            assert_eq!(**value, 2);
        }
        assert_eq!(batch.end(), 1);
        other.join().unwrap();
        let second = Token::from_raw(told.load(Ordering::Relaxed));
        assert_eq!(batch.get(second).map(|value| **value), Some(2));
        assert!(batch.get(first).is_none());
        assert_eq!(slots.len(), 1);
        let third = slots.insert(Arc::new(3)).unwrap();
        assert!(slots.insert(Arc::new(4)).is_err());
        assert_eq!(batch.get(third).map(|value| **value), Some(3));
    });
}

/// Two threads remove while the poller's thread recycles: each token is removed once, by one of
/// them, and a late removal does not hit the next tenant.
#[test]
fn remove_against_recycle() {
    model(3, || {
        let (slots, mut batch) = slots(2);
        let old = slots.insert(Arc::new(1)).unwrap();
        let its_slots = slots.clone();
        let late = thread::spawn(move || its_slots.remove(old));
        let here = slots.remove(old);
        batch.end();
        let new = slots.insert(Arc::new(2)).unwrap();
        let there = late.join().unwrap();
        assert!(here != there, "one of them removed it");
        batch.end();
        assert_eq!(batch.get(new).map(|value| **value), Some(2));
        assert_eq!(slots.len(), 1);
    });
}

/// Values that other threads put in and removed are dropped by the poller's thread after both.
#[test]
fn retired_elsewhere_dropped_here() {
    model(3, || {
        let (slots, mut batch) = slots(2);
        let threads: Vec<_> = (0..2)
            .map(|n| {
                let slots = slots.clone();
                thread::spawn(move || {
                    let token = slots.insert(Arc::new(n)).unwrap();
                    assert!(slots.remove(token));
                })
            })
            .collect();
        // Without it, the checker does not look at what happens between the others' steps.
        thread::yield_now();
        let early = batch.end();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(early + batch.end(), 2);
        assert!(slots.is_empty());
    });
}

/// A poller is taken out of its group while a connection is just being given to it, and while an
/// event is on its way: the event arrives, the poller sleeps no longer than until its last
/// connection is gone, and then everything that was done under the lease is seen.
#[test]
fn poller_removed_against_event() {
    model(2, || {
        let group = Arc::new(Group::new(Balance::RoundRobin));
        let member = group.add(Tracked(UnsafeCell::new(0))).unwrap();
        let fd = Arc::new(EventFd::new().unwrap());

        let (its_group, its_fd) = (Arc::clone(&group), Arc::clone(&fd));
        let connection = thread::spawn(move || {
            let Some(lease) = its_group.pick() else {
                return false;
            };
            lease.register(&*its_fd, Token::new(1, 0), Interest::READABLE).unwrap();
            its_fd.signal().unwrap();
            lease.data().add_one();
            drop(lease);
            true
        });

        assert!(group.remove(&member));
        assert!(group.pick().is_none());
        let mut events = Events::with_capacity(2);
        let mut seen = 0;
        while !member.is_drained() {
            seen += member.wait(&mut events, None).unwrap();
        }
        let leased = member.data().get();
        seen += member.wait(&mut events, NOW).unwrap();
        assert_eq!(connection.join().unwrap(), leased == 1);
        assert_eq!(seen, leased, "the event arrived once");
    });
}
