//! The ring by itself: limits, laps, flags, order.

use super::*;
use crate::{panics::Panics, task::Plain};

fn task() -> Task {
    Task::new(Plain(|| {}))
}

fn manned(limit: usize) -> Queue {
    let queue = Queue::new(limit).unwrap();
    queue.man();
    queue
}

#[test]
fn claims_exactly_the_limit_and_wraps() {
    for limit in [1, 2, 3, 4, 5, 7, 8] {
        let queue = manned(limit);
        let mut accepted = 0;
        for _ in 0..2 * limit {
            for i in 0..limit {
                assert_eq!(queue.len(), i);
                queue.claim().unwrap().fill(task());
            }
            assert_eq!(queue.claim().err(), Some(Unclaimed::Full));
            assert!(queue.want_room());
            for i in 0..limit {
                let (_, wanted) = queue.pop().unwrap();
                assert_eq!(wanted, i == 0);
            }
            assert!(queue.pop().is_none() && queue.is_empty());

            // One more, so that the next round begins at another place.
            queue.claim().unwrap().fill(task());
            queue.pop().unwrap();
            accepted += limit + 1;
            assert_eq!(queue.accepted(), accepted);
        }
    }
}

#[test]
fn an_unmanned_queue_accepts_nothing() {
    let queue = Queue::new(2).unwrap();
    assert_eq!(queue.claim().err(), Some(Unclaimed::Unmanned));
    queue.man();
    queue.claim().unwrap().fill(task());
    assert!(!queue.unman(), "a task is queued");
    queue.pop().unwrap();
    assert!(queue.unman());
    assert_eq!(queue.claim().err(), Some(Unclaimed::Unmanned));
}

#[test]
fn a_closed_queue_keeps_what_it_has() {
    let queue = manned(2);
    queue.claim().unwrap().fill(task());
    queue.close();
    assert_eq!(queue.claim().err(), Some(Unclaimed::Closed));
    assert!(!queue.has_ended());
    queue.pop().unwrap();
    assert!(queue.has_ended());
}

#[test]
fn drops_what_is_left() {
    let value = std::sync::Arc::new(());
    let queue = manned(4);
    for _ in 0..3 {
        let value = std::sync::Arc::clone(&value);
        queue.claim().unwrap().fill(Task::new(Plain(move || drop(value))));
    }
    drop(queue);
    assert_eq!(std::sync::Arc::strong_count(&value), 1);
}

#[test]
fn keeps_the_order_of_one_producer_under_contention() {
    use std::sync::{Arc, Mutex};

    let count = if cfg!(miri) { 50 } else { 20_000 };
    let queue = Arc::new(manned(7));
    let seen = Arc::new(Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for producer in 0..2 {
            let (queue, seen) = (&queue, &seen);
            scope.spawn(move || {
                for i in 0..count {
                    let seen = Arc::clone(seen);
                    let task = Task::new(Plain(move || seen.lock().unwrap().push((producer, i))));
                    let claim = loop {
                        match queue.claim() {
                            Ok(claim) => break claim,
                            Err(why) => assert_eq!(why, Unclaimed::Full),
                        }
                        std::thread::yield_now();
                    };
                    claim.fill(task);
                }
            });
        }
        scope.spawn(|| {
            let panics = Panics::new("test".to_owned(), None);
            for _ in 0..2 * count {
                loop {
                    if let Some((task, _)) = queue.pop() {
                        task.run(&panics);
                        break;
                    }
                    std::thread::yield_now();
                }
            }
        });
    });
    let seen = seen.lock().unwrap();
    for producer in 0..2 {
        let own = seen.iter().filter(|(from, _)| *from == producer).map(|(_, i)| *i);
        assert!(own.eq(0..count));
    }
}
