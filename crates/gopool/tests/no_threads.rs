//! The system refuses threads: a typed, counted outcome, and no task lost.
#![cfg(all(not(netpoll_loom), not(miri), target_os = "linux", target_pointer_width = "64"))]

use std::{sync::mpsc, thread, time::Duration};

use gopool::{Pool, Refusal};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

const SOON: Duration = Duration::from_secs(20);

/// More stack than there are addresses.
const IMPOSSIBLE: usize = 1 << 60;

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

/// Leaves this process room for one such stack, and not for two.
fn leave_room_for_one(stack: usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let used = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let used: u64 = used.trim().trim_end_matches(" kB").parse().unwrap();
    let limit = used * 1024 + stack as u64 * 3 / 2;
    setrlimit(Resource::RLIMIT_AS, limit, RLIM_INFINITY).unwrap();
}

#[test]
fn a_pool_with_too_few_threads_keeps_the_task_for_those_it_has() {
    const STACK: usize = 1 << 30;

    leave_room_for_one(STACK);
    let pool = Pool::builder().stack_size(STACK).build().unwrap();
    let (gate, is_open) = mpsc::channel::<()>();
    let (started, has_started) = mpsc::channel();
    pool.go(move || {
        started.send(()).unwrap();
        let _ = is_open.recv();
    })
    .unwrap();
    has_started.recv_timeout(SOON).unwrap();

    let second = pool.spawn(|| 2).unwrap();
    let stats = pool.stats();
    assert_eq!((stats.workers, stats.queued, stats.threads_refused), (1, 1, 1), "{stats:?}");
    // While the system refuses, it is not asked for each task.
    for _ in 0..100 {
        pool.go(|| ()).unwrap();
    }
    assert!(pool.stats().threads_refused < 100);

    // When it no longer does, the next look brings the worker, and so would the next task.
    setrlimit(Resource::RLIMIT_AS, RLIM_INFINITY, RLIM_INFINITY).unwrap();
    thread::sleep(Duration::from_millis(20));
    pool.look_again();
    assert_eq!(second.join().unwrap(), 2);
    assert!(pool.stats().threads_started > 1);

    drop(gate);
    pool.shutdown(SOON).unwrap();
    assert_eq!(pool.stats().completed, 102);
}
