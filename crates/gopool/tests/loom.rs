//! Models of the shipped types: who submits against who sleeps, leaves, closes or waits.
//!
//! `RUSTFLAGS="--cfg netpoll_loom" cargo test -p gopool --profile loom --test loom`
//!
//! Each has a mistake that it catches, in `mutants.txt`. A task that is lost shows as a deadlock.
#![cfg(netpoll_loom)]

use std::time::Duration;

use gopool::{Pool, Refusal};
use loom::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

const FOREVER: Duration = Duration::MAX;

/// Ends when somebody has rung it.
#[derive(Clone)]
struct Bell(Arc<(Mutex<bool>, Condvar)>);

impl Bell {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(false), Condvar::new())))
    }

    fn ring(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let mut rung = self.0.0.lock().unwrap();
        while !*rung {
            rung = self.0.1.wait(rung).unwrap();
        }
    }
}

/// A submitter must not count on a worker that has just looked and lies down.
#[test]
fn submit_against_a_worker_that_lies_down() {
    check(3, || {
        let pool = Pool::builder().cap(1).queue_limit(2).keep_alive(FOREVER).build().unwrap();
        for _ in 0..2 {
            let bell = Bell::new();
            let rung = bell.clone();
            pool.go(move || rung.ring()).unwrap();
            bell.wait();
        }
        pool.shutdown(FOREVER).unwrap();
        assert_eq!(pool.stats().completed, 2);
    });
}

/// A submitter must not count on a worker that leaves, nor may the last one leave a task behind.
#[test]
fn submit_against_the_last_worker_leaving() {
    check(3, || {
        let builder = Pool::builder().cap(1).queue_limit(2).keep_alive(Duration::ZERO);
        // Below the threshold, nobody is called: it is for the worker that is there.
        let pool = builder.scale_threshold(2).build().unwrap();
        for _ in 0..2 {
            let bell = Bell::new();
            let rung = bell.clone();
            pool.go(move || rung.ring()).unwrap();
            bell.wait();
        }
        pool.shutdown(FOREVER).unwrap();
        assert_eq!(pool.stats().completed, 2);
    });
}

/// Two tasks of which the first waits for the second: the searcher that takes the first was
/// relied upon for the second.
#[test]
fn a_searcher_that_finds_a_task_looks_again() {
    check(2, || {
        let pool = Pool::builder().cap(2).queue_limit(2).keep_alive(FOREVER).build().unwrap();
        let (first, second) = (Bell::new(), Bell::new());
        let (done, rung) = (first.clone(), second.clone());
        pool.go(move || {
            second.wait();
            done.ring();
        })
        .unwrap();
        pool.go(move || rung.ring()).unwrap();
        first.wait();
        pool.shutdown(FOREVER).unwrap();
        assert_eq!(pool.stats().completed, 2);
    });
}

/// Everything is refused with an error or has run when the shutdown returns.
#[test]
fn shutdown_against_submit() {
    check(3, || {
        let pool = Pool::builder().cap(1).queue_limit(2).keep_alive(FOREVER).build().unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let producer = {
            let (pool, ran) = (pool.clone(), Arc::clone(&ran));
            thread::spawn(move || {
                let mut accepted = 0;
                for _ in 0..2 {
                    let ran = Arc::clone(&ran);
                    match pool.try_go(move || {
                        ran.fetch_add(1, SeqCst);
                    }) {
                        Ok(()) => accepted += 1,
                        Err(refused) => assert!(matches!(refused.reason, Refusal::Closed)),
                    }
                }
                accepted
            })
        };
        pool.shutdown(FOREVER).unwrap();
        let ran_by_then = ran.load(SeqCst);
        assert_eq!(ran_by_then, producer.join().unwrap());
    });
}

/// A shutdown whose deadline is over drops what is queued, while a worker takes it: each task
/// has one of the two ends, and the numbers say so.
#[test]
fn refusing_against_a_worker() {
    check(3, || {
        let pool = Pool::builder().cap(1).queue_limit(2).keep_alive(FOREVER).build().unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let also = Arc::clone(&ran);
        let handle = pool.spawn(move || also.fetch_add(1, SeqCst)).unwrap();
        let refused = match pool.shutdown(Duration::ZERO) {
            Ok(()) => 0,
            Err(unfinished) => unfinished.refused,
        };
        assert_eq!(handle.join().is_err(), refused == 1);
        let _ = pool.shutdown(FOREVER);
        assert_eq!(ran.load(SeqCst) + refused, 1);
        assert_eq!(pool.stats().completed + refused, 1);
    });
}

/// The worker that was woken for a task is the one that leaves for the cap.
#[test]
fn the_cap_lowered_against_submit() {
    check(1, || {
        let pool = Pool::builder().cap(2).queue_limit(2).keep_alive(FOREVER).build().unwrap();
        // Two workers, since the first task waits for the second.
        let (first, second) = (Bell::new(), Bell::new());
        let (done, rung) = (first.clone(), second.clone());
        pool.go(move || {
            second.wait();
            done.ring();
        })
        .unwrap();
        pool.go(move || rung.ring()).unwrap();
        first.wait();

        let lowering = {
            let pool = pool.clone();
            thread::spawn(move || pool.set_cap(1).unwrap())
        };
        let bell = Bell::new();
        let rung = bell.clone();
        pool.go(move || rung.ring()).unwrap();
        bell.wait();
        lowering.join().unwrap();
        assert!(pool.worker_count() <= 2);
        pool.shutdown(FOREVER).unwrap();
        assert_eq!(pool.stats().completed, 3);
    });
}

/// The cap is raised while a task is queued that waits for it.
#[test]
fn the_cap_raised_against_submit() {
    check(2, || {
        let pool = Pool::builder().cap(1).queue_limit(2).keep_alive(FOREVER).build().unwrap();
        let (first, second) = (Bell::new(), Bell::new());
        let (done, rung) = (first.clone(), second.clone());
        pool.go(move || {
            second.wait();
            done.ring();
        })
        .unwrap();
        let raising = {
            let pool = pool.clone();
            thread::spawn(move || pool.set_cap(2).unwrap())
        };
        pool.go(move || rung.ring()).unwrap();
        first.wait();
        raising.join().unwrap();
        pool.shutdown(FOREVER).unwrap();
        assert_eq!(pool.stats().completed, 2);
    });
}

/// A producer that waits for room is told when a worker makes it.
#[test]
fn waiting_for_room_against_a_worker() {
    check(3, || {
        let pool = Pool::builder().cap(1).queue_limit(1).keep_alive(FOREVER).build().unwrap();
        for _ in 0..3 {
            pool.go(|| ()).unwrap();
        }
        pool.shutdown(FOREVER).unwrap();
        assert_eq!(pool.stats().completed, 3);
    });
}

/// Two producers wait for one place.
#[test]
fn two_wait_for_room() {
    check(1, || {
        let pool = Pool::builder().cap(1).queue_limit(1).keep_alive(FOREVER).build().unwrap();
        let other = {
            let pool = pool.clone();
            thread::spawn(move || pool.go(|| ()).unwrap())
        };
        (0..2).for_each(|_| pool.go(|| ()).unwrap());
        other.join().unwrap();
        pool.shutdown(FOREVER).unwrap();
        assert_eq!(pool.stats().completed, 3);
    });
}

/// What a task captured is published to the worker, and its result to the joiner.
#[test]
fn a_result_crosses_threads() {
    check(3, || {
        let pool = Pool::builder().cap(1).queue_limit(2).keep_alive(FOREVER).build().unwrap();
        // The worker that is then awake takes the next task without a lock in between.
        pool.go(|| ()).unwrap();
        let captured = loom::cell::UnsafeCell::new(1);
        // SAFETY: the cell moves into the task.
        let handle = pool.spawn(move || captured.with_mut(|at| unsafe { *at += 1 })).unwrap();
        handle.join().unwrap();
        pool.shutdown(FOREVER).unwrap();
    });
}

/// A worker joins a task of its own pool while the other worker ends it: whoever is about to go
/// on no longer counts as waiting.
#[test]
fn joining_workers_against_the_end_of_what_they_join() {
    check(2, || {
        let pool = Pool::builder().cap(2).queue_limit(4).keep_alive(FOREVER).build().unwrap();
        let inner = pool.clone();
        let child = move || inner.spawn(|| 1).unwrap().join().unwrap();
        let outer = pool.spawn(move || child() + child()).unwrap();
        assert_eq!(outer.join().unwrap(), 2);
        pool.shutdown(FOREVER).unwrap();
        assert_eq!(pool.stats().completed, 3);
    });
}
