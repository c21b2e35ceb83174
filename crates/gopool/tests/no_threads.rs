//! The system refuses threads: a typed, counted outcome, and no task lost.
#![cfg(all(not(netpoll_loom), not(miri), target_os = "linux", target_pointer_width = "64"))]

use std::{sync::mpsc, time::Duration};

use gopool::{Pool, Refusal};

const SOON: Duration = Duration::from_secs(20);

/// More stack than there are addresses.
const IMPOSSIBLE: usize = 1 << 60;

/// More than half of the addresses there are: one such stack fits.
const ONCE: usize = 65 << 40;

#[test]
fn a_pool_without_threads_gives_the_task_back() {
    let pool = Pool::builder().stack_size(IMPOSSIBLE).build().unwrap();
    for round in 1..4 {
        let refused = pool.try_go(|| ()).unwrap_err();
        assert!(matches!(refused.reason, Refusal::NoThread(_)), "{refused:?}");
        assert!(std::error::Error::source(&refused).is_some());
        assert!(pool.go(refused.into_task()).is_err());
        assert!(pool.ctx_go(1, |_| ()).is_err());
        assert!(pool.spawn(|| 1).is_err());
        let stats = pool.stats();
        assert_eq!((stats.rejected, stats.threads_refused), (4 * round, 4 * round));
        assert_eq!((stats.workers, stats.queued, stats.accepted), (0, 0, 0));
    }
    pool.shutdown(SOON).unwrap();
    assert!(pool.go(|| ()).unwrap_err().is_closed());
}

#[test]
fn a_pool_with_too_few_threads_keeps_the_task_for_those_it_has() {
    let pool = Pool::builder().stack_size(ONCE).build().unwrap();
    let (gate, is_open) = mpsc::channel::<()>();
    let (started, has_started) = mpsc::channel();
    let first = pool.go(move || {
        started.send(()).unwrap();
        let _ = is_open.recv();
    });
    if first.is_err() {
        // This system does not overcommit, so not even one thread was to be had.
        assert_eq!(pool.stats().threads_refused, 1);
        return;
    }
    has_started.recv_timeout(SOON).unwrap();

    let second = pool.spawn(|| 2).unwrap();
    let stats = pool.stats();
    assert_eq!((stats.workers, stats.queued, stats.threads_refused), (1, 1, 1), "{stats:?}");
    // While the system refuses, it is not asked for each task.
    for _ in 0..100 {
        pool.go(|| ()).unwrap();
    }
    assert!(pool.stats().threads_refused < 100);

    drop(gate);
    assert_eq!(second.join().unwrap(), 2);
    pool.shutdown(SOON).unwrap();
    assert_eq!(pool.stats().completed, 102);
}
