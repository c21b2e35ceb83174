//! What a pool does with its tasks, from outside.
#![cfg(not(netpoll_loom))]

use std::{
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use gopool::{Builder, JoinError, Pool, Refusal};

const SOON: Duration = Duration::from_secs(20);

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < SOON, "{what}");
        thread::sleep(Duration::from_micros(200));
    }
}

/// A task that says when it has started and ends when its gate is dropped.
fn gated(pool: &Pool) -> Sender<()> {
    let (started, has_started) = mpsc::channel();
    let gate = queued_gate(pool, move || started.send(()).unwrap());
    has_started.recv_timeout(SOON).unwrap();
    gate
}

fn queued_gate(pool: &Pool, at_start: impl FnOnce() + Send + 'static) -> Sender<()> {
    let (gate, is_open): (_, Receiver<()>) = mpsc::channel();
    pool.go(move || {
        at_start();
        let _ = is_open.recv();
    })
    .unwrap();
    gate
}

#[test]
fn runs_everything_once_from_many_producers() {
    let (producers, each) = if cfg!(miri) { (2, 20) } else { (4, 20_000) };
    let pool = Pool::builder().cap(4).queue_limit(64).build().unwrap();
    let seen: Arc<Vec<AtomicUsize>> =
        Arc::new((0..producers * each).map(|_| AtomicUsize::new(0)).collect());
    thread::scope(|scope| {
        for producer in 0..producers {
            let (pool, seen) = (&pool, &seen);
            scope.spawn(move || {
                for i in 0..each {
                    let seen = Arc::clone(seen);
                    pool.go(move || {
                        seen[producer * each + i].fetch_add(1, SeqCst);
                    })
                    .unwrap();
                }
            });
        }
    });
    pool.shutdown(SOON).unwrap();
    assert!(seen.iter().all(|count| count.load(SeqCst) == 1));
    let stats = pool.stats();
    assert_eq!(stats.accepted, producers * each);
    assert_eq!(stats.completed, producers * each);
    assert_eq!((stats.running, stats.queued, stats.refused, stats.workers), (0, 0, 0, 0));
}

#[test]
fn one_worker_keeps_the_order() {
    let pool = Pool::builder().cap(1).build().unwrap();
    let (sender, receiver) = mpsc::channel();
    for i in 0..1_000 {
        let sender = sender.clone();
        pool.go(move || sender.send(i).unwrap()).unwrap();
    }
    drop(sender);
    assert!(receiver.iter().eq(0..1_000));
}

#[test]
fn threads_bear_the_name() {
    let pool = Pool::builder().name("resize").build().unwrap();
    let name = pool.spawn(|| thread::current().name().map(str::to_owned)).unwrap();
    assert_eq!(name.join().unwrap().as_deref(), Some("resize-0"));
    assert_eq!(pool.name(), "resize");
}

#[test]
fn grows_to_the_cap_and_no_further() {
    let pool = Pool::builder().cap(3).build().unwrap();
    let gates: Vec<_> = (0..3).map(|_| gated(&pool)).collect();
    assert_eq!(pool.worker_count(), 3);
    let ran = Arc::new(AtomicBool::new(false));
    let also = Arc::clone(&ran);
    pool.go(move || also.store(true, SeqCst)).unwrap();
    thread::sleep(Duration::from_millis(20));
    assert!(!ran.load(SeqCst));
    assert_eq!((pool.worker_count(), pool.queued()), (3, 1));
    drop(gates);
    eventually("the queued task runs", || ran.load(SeqCst));
}

#[test]
fn a_burst_of_long_tasks_gets_a_worker_each() {
    let pool = Pool::builder().cap(32).build().unwrap();
    let barrier = Arc::new(Barrier::new(33));
    for _ in 0..32 {
        let barrier = Arc::clone(&barrier);
        pool.go(move || {
            barrier.wait();
        })
        .unwrap();
    }
    // Passes only if all of them run at once.
    barrier.wait();
    // And again, from parked workers.
    eventually("all park", || pool.stats().parked == 32);
    for _ in 0..32 {
        let barrier = Arc::clone(&barrier);
        pool.go(move || {
            barrier.wait();
        })
        .unwrap();
    }
    barrier.wait();
    assert_eq!(pool.stats().threads_started, 32);
}

#[test]
fn below_the_threshold_tasks_wait_for_a_worker() {
    let pool = Pool::builder().cap(8).scale_threshold(3).build().unwrap();
    let gate = gated(&pool);
    let ran = Arc::new(AtomicUsize::new(0));
    let submit = || {
        let ran = Arc::clone(&ran);
        pool.go(move || {
            ran.fetch_add(1, SeqCst);
        })
        .unwrap();
    };
    submit();
    submit();
    thread::sleep(Duration::from_millis(20));
    assert_eq!((pool.worker_count(), pool.queued(), ran.load(SeqCst)), (1, 2, 0));
    submit();
    eventually("the third brings a worker for all", || ran.load(SeqCst) == 3);
    assert_eq!(pool.worker_count(), 2);
    drop(gate);
}

#[test]
fn idle_workers_retire_and_the_next_task_brings_one_back() {
    let pool = Pool::builder().cap(4).keep_alive(Duration::from_millis(5)).build().unwrap();
    for round in 1..4 {
        let gates: Vec<_> = (0..2).map(|_| gated(&pool)).collect();
        drop(gates);
        eventually("all retire", || pool.worker_count() == 0);
        assert_eq!(pool.stats().completed, 2 * round);
    }
}

#[test]
fn a_pool_that_keeps_nobody_loses_nothing() {
    let count = if cfg!(miri) { 20 } else { 3_000 };
    let pool = Pool::builder().cap(2).keep_alive(Duration::ZERO).build().unwrap();
    let (sender, receiver) = mpsc::channel();
    for i in 0..count {
        let sender = sender.clone();
        pool.go(move || sender.send(i).unwrap()).unwrap();
        if i % 3 == 0 {
            thread::yield_now();
        }
    }
    drop(sender);
    assert_eq!(receiver.iter().count(), count);
}

#[test]
fn parked_workers_are_reused() {
    let pool = Pool::builder().build().unwrap();
    for _ in 0..50 {
        pool.spawn(|| ()).unwrap().join().unwrap();
        eventually("the worker parks", || pool.stats().parked == pool.worker_count());
    }
    assert_eq!(pool.stats().threads_started, 1);
}

#[test]
fn try_go_refuses_at_the_limit_and_go_waits() {
    let pool = Pool::builder().cap(1).queue_limit(2).build().unwrap();
    let gate = gated(&pool);
    let ran = Arc::new(AtomicUsize::new(0));
    let task = || {
        let ran = Arc::clone(&ran);
        move || {
            ran.fetch_add(1, SeqCst);
        }
    };
    pool.try_go(task()).unwrap();
    pool.try_go(task()).unwrap();
    let refused = pool.try_go(task()).unwrap_err();
    assert!(refused.is_full() && !refused.is_closed());
    assert_eq!(refused.to_string(), "task refused: the queue is full");
    let before = Instant::now();
    let refused = pool.go_timeout(refused.into_task(), Duration::from_millis(20)).unwrap_err();
    assert!(refused.is_full() && before.elapsed() >= Duration::from_millis(20));
    assert!(pool.try_ctx_go(1, |_| ()).unwrap_err().is_full());
    assert!(pool.try_spawn(|| 1).unwrap_err().is_full());
    assert_eq!(pool.stats().rejected, 5);

    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| pool.go(task()).unwrap());
        }
        thread::sleep(Duration::from_millis(20));
        assert_eq!(pool.queued(), 2);
        drop(gate);
    });
    pool.go_timeout(refused.into_task(), SOON).unwrap();
    pool.shutdown(SOON).unwrap();
    assert_eq!(ran.load(SeqCst), 11);
}

#[test]
fn who_waits_for_room_is_told_of_the_shutdown() {
    let pool = Pool::builder().cap(1).queue_limit(1).build().unwrap();
    let gate = gated(&pool);
    pool.go(|| ()).unwrap();
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..3).map(|_| scope.spawn(|| pool.go(|| ()))).collect();
        thread::sleep(Duration::from_millis(20));
        let unfinished = pool.shutdown(Duration::ZERO).unwrap_err();
        assert_eq!((unfinished.running, unfinished.queued, unfinished.refused), (1, 0, 1));
        for waiting in waiting {
            assert!(waiting.join().unwrap().unwrap_err().is_closed());
        }
    });
    drop(gate);
}

#[test]
fn a_worker_never_waits_for_room_in_its_own_queue() {
    let pool = Pool::builder().cap(1).queue_limit(1).build().unwrap();
    let inner = pool.clone();
    let (sender, receiver) = mpsc::channel();
    pool.go(move || {
        let first = inner.go(|| ()).is_ok();
        let second = inner.go(|| ());
        sender.send((first, matches!(second.unwrap_err().reason, Refusal::Full))).unwrap();
    })
    .unwrap();
    assert_eq!(receiver.recv_timeout(SOON).unwrap(), (true, true));
}

#[test]
fn raising_the_cap_starts_workers_for_what_waits() {
    let pool = Pool::builder().cap(1).build().unwrap();
    let gate = gated(&pool);
    let (started, has_started) = mpsc::channel();
    let gates: Vec<_> = (0..3)
        .map(|_| {
            let started = started.clone();
            queued_gate(&pool, move || started.send(()).unwrap())
        })
        .collect();
    assert_eq!(pool.worker_count(), 1);
    pool.set_cap(4).unwrap();
    for _ in 0..3 {
        has_started.recv_timeout(SOON).unwrap();
    }
    assert_eq!(pool.worker_count(), 4);
    drop((gate, gates));
}

#[test]
fn lowering_the_cap_lets_workers_go() {
    let pool = Pool::builder().cap(6).build().unwrap();
    let gates: Vec<_> = (0..6).map(|_| gated(&pool)).collect();
    pool.set_cap(4).unwrap();
    assert_eq!((pool.cap(), pool.worker_count()), (4, 6));
    drop(gates);
    eventually("busy ones leave after their tasks", || pool.worker_count() == 4);
    pool.set_cap(1).unwrap();
    eventually("parked ones leave at once", || pool.worker_count() == 1);
    pool.spawn(|| ()).unwrap().join().unwrap();
    assert!(pool.set_cap(0).is_err() && pool.set_cap(gopool::MAX_CAP + 1).is_err());
    assert_eq!(pool.cap(), 1);
}

#[test]
fn threads_never_exceed_the_bound_at_any_sample() {
    let pool = Pool::builder().cap(5).queue_limit(32).keep_alive(Duration::ZERO).build().unwrap();
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for producer in 0..3 {
            let (pool, running, most) = (&pool, &running, &most);
            scope.spawn(move || {
                for i in 0..2_000_u64 {
                    let (running, most) = (Arc::clone(running), Arc::clone(most));
                    let task = move || {
                        most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                        if (i + producer) % 7 == 0 {
                            thread::sleep(Duration::from_micros(50));
                        }
                        running.fetch_sub(1, SeqCst);
                    };
                    pool.go(task).unwrap();
                    if i % 50 == 0 {
                        thread::sleep(Duration::from_micros(100));
                    }
                }
            });
        }
        let sampler = scope.spawn(|| {
            let mut samples = 0;
            while !is_done.load(SeqCst) {
                assert!(pool.worker_count() <= 5);
                assert!(pool.queued() <= 32);
                let stats = pool.stats();
                assert!(stats.workers <= 5 && stats.running <= 5, "{stats:?}");
                samples += 1;
            }
            samples
        });
        eventually("all run", || pool.stats().completed == 6_000);
        is_done.store(true, SeqCst);
        assert!(sampler.join().unwrap() > 10);
    });
    assert!(most.load(SeqCst) <= 5);
}

/// What the system counts, where threads that leave do not blur it.
#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn the_system_sees_no_more_threads_than_the_cap() {
    let pool = Pool::builder().name("sampled").cap(4).keep_alive(Duration::MAX).build().unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let sample = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.flatten().map(|task| std::fs::read_to_string(task.path().join("comm")));
        names.flatten().filter(|name| name.starts_with("sampled-")).count()
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let ran = Arc::clone(&ran);
                    let task = move || {
                        thread::sleep(Duration::from_micros(20));
                        ran.fetch_add(1, SeqCst);
                    };
                    pool.go(task).unwrap();
                }
            });
        }
        while ran.load(SeqCst) < 4_000 {
            assert!(sample() <= 4);
        }
    });
    assert_eq!(sample(), 4);
}

#[test]
fn refusals_convert_for_the_question_mark() {
    fn as_io(pool: &Pool) -> std::io::Result<()> {
        // Not `Sync`, so the error could not carry it into a `dyn Error + Send + Sync`.
        let captured = std::cell::Cell::new(0);
        Ok(pool.go(move || captured.set(1))?)
    }
    fn as_refusal(pool: &Pool) -> Result<(), Refusal> {
        Ok(pool.go(|| ())?)
    }
    let pool = Pool::builder().build().unwrap();
    as_io(&pool).unwrap();
    pool.shutdown(SOON).unwrap();
    assert_eq!(as_io(&pool).unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    assert!(matches!(as_refusal(&pool), Err(Refusal::Closed)));
    let full = std::io::Error::from(Refusal::Full);
    assert_eq!(
        (full.kind(), full.to_string().as_str()),
        (std::io::ErrorKind::WouldBlock, "the queue is full")
    );
}

#[test]
fn the_cap_moves_up_and_down_under_load() {
    let pool = Pool::builder().cap(1).keep_alive(Duration::from_millis(1)).build().unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let count = if cfg!(miri) { 50 } else { 20_000 };
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..count {
                let ran = Arc::clone(&ran);
                pool.go(move || {
                    ran.fetch_add(1, SeqCst);
                })
                .unwrap();
            }
        });
        for i in 0..200 {
            pool.set_cap(1 + i * 7 % 9).unwrap();
            thread::yield_now();
        }
    });
    pool.set_cap(2).unwrap();
    pool.shutdown(SOON).unwrap();
    assert_eq!(ran.load(SeqCst), count);
}

#[test]
fn shutdown_runs_what_was_accepted() {
    let pool = Pool::builder().cap(2).build().unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..100 {
        let ran = Arc::clone(&ran);
        pool.go(move || {
            thread::sleep(Duration::from_micros(100));
            ran.fetch_add(1, SeqCst);
        })
        .unwrap();
    }
    pool.shutdown(SOON).unwrap();
    assert_eq!((ran.load(SeqCst), pool.worker_count()), (100, 0));
    assert!(pool.is_closed());
    let refused = pool.go(|| ()).unwrap_err();
    assert!(refused.is_closed());
    pool.shutdown(Duration::ZERO).unwrap();
}

#[test]
fn shutdown_tells_what_it_could_not_do() {
    let pool = Pool::builder().cap(1).build().unwrap();
    let gate = gated(&pool);
    let queued = pool.spawn(|| 1).unwrap();
    pool.go(|| unreachable!("refused")).unwrap();
    let unfinished = pool.shutdown(Duration::from_millis(10)).unwrap_err();
    assert_eq!((unfinished.running, unfinished.queued, unfinished.refused), (1, 0, 2));
    assert!(matches!(queued.join(), Err(JoinError::Refused)));
    drop(gate);
    // The truth stays the truth: two were refused.
    let unfinished = pool.shutdown(SOON).unwrap_err();
    assert_eq!((unfinished.running, unfinished.refused), (0, 2));
}

#[test]
fn shutdown_against_submit_accepts_or_refuses() {
    for _ in 0..if cfg!(miri) { 2 } else { 200 } {
        let pool = Pool::builder().cap(2).queue_limit(8).build().unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let accepted: usize = thread::scope(|scope| {
            let producers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let task = || {
                            let ran = Arc::clone(&ran);
                            move || {
                                ran.fetch_add(1, SeqCst);
                            }
                        };
                        (0..10_000).take_while(|_| pool.go(task()).is_ok()).count()
                    })
                })
                .collect();
            thread::yield_now();
            pool.shutdown(SOON).unwrap();
            producers.into_iter().map(|producer| producer.join().unwrap()).sum()
        });
        assert_eq!(ran.load(SeqCst), accepted);
        assert_eq!(pool.stats().accepted, accepted);
    }
}

#[test]
fn shutdown_from_a_task_does_not_wait_for_itself() {
    let pool = Pool::builder().cap(1).build().unwrap();
    let inner = pool.clone();
    let (sender, receiver) = mpsc::channel();
    let gate = gated(&pool);
    pool.go(move || sender.send(inner.shutdown(SOON)).unwrap()).unwrap();
    let after = pool.spawn(|| 5).unwrap();
    drop(gate);
    let unfinished = receiver.recv_timeout(SOON).unwrap().unwrap_err();
    assert_eq!((unfinished.running, unfinished.queued, unfinished.refused), (1, 1, 0));
    assert_eq!(after.join().unwrap(), 5);
    pool.shutdown(SOON).unwrap();
}

#[test]
fn dropping_the_last_handle_runs_what_was_accepted() {
    let (sender, receiver) = mpsc::channel();
    let pool = Pool::builder().cap(1).build().unwrap();
    for i in 0..10 {
        let sender = sender.clone();
        pool.go(move || sender.send(i).unwrap()).unwrap();
    }
    drop((pool, sender));
    assert!(receiver.iter().eq(0..10));
}

#[test]
fn a_task_may_hold_the_last_handle() {
    let pool = Pool::builder().cap(1).build().unwrap();
    let inner = pool.clone();
    let (sender, receiver) = mpsc::channel();
    let gate = gated(&pool);
    pool.go(move || {
        inner.go(move || sender.send(()).unwrap()).unwrap();
        drop(inner);
    })
    .unwrap();
    drop(pool);
    drop(gate);
    receiver.recv_timeout(SOON).unwrap();
}

#[test]
fn small_and_large_closures_run_and_drop_once() {
    #[repr(align(64))]
    struct Wide(u8);

    let pool = Pool::builder().cap(1).build().unwrap();
    let alive = Arc::new(());
    let (sender, receiver) = mpsc::channel();
    macro_rules! submit {
        ($value:expr) => {{
            let (sender, alive, value) = (sender.clone(), Arc::clone(&alive), $value);
            pool.go(move || {
                let _alive = alive;
                let (at, align) = (&raw const value, align_of_val(&value));
                assert_eq!(at.addr() % align, 0);
                sender.send(value[0] as usize).unwrap();
            })
            .unwrap();
        }};
    }
    submit!([1_u8; 1]);
    submit!([2_u64; 4]);
    submit!([3_u64; 5]);
    submit!([4_u8; 1000]);
    let (also, wide) = (sender.clone(), Wide(5));
    pool.go(move || {
        let wide = wide;
        assert_eq!((&raw const wide).addr() % 64, 0);
        also.send(usize::from(wide.0)).unwrap();
    })
    .unwrap();
    pool.go(|| ()).unwrap();
    drop(sender);
    assert!(receiver.iter().eq(1..=5));
    pool.shutdown(SOON).unwrap();
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn options_are_checked() {
    use gopool::BuildError as E;

    type Choice = fn(Builder) -> Builder;
    type Check = fn(&E) -> bool;
    let wrong: [(Choice, Check); 10] = [
        (|b| b.name(""), |e| matches!(e, E::Name { .. })),
        (|b| b.name("a\0b"), |e| matches!(e, E::Name { .. })),
        (|b| b.cap(0), |e| matches!(e, E::Cap { cap: 0 })),
        (|b| b.cap(gopool::MAX_CAP + 1), |e| matches!(e, E::Cap { .. })),
        (|b| b.scale_threshold(0), |e| matches!(e, E::ScaleThreshold { .. })),
        (|b| b.queue_limit(4).scale_threshold(5), |e| matches!(e, E::ScaleThreshold { .. })),
        (|b| b.queue_limit(0), |e| matches!(e, E::QueueLimit { limit: 0 })),
        (|b| b.queue_limit(usize::MAX), |e| matches!(e, E::QueueLimit { .. })),
        (|b| b.stack_size(0), |e| matches!(e, E::StackSize { bytes: 0 })),
        (|b| b.stack_size(gopool::MIN_STACK_SIZE - 1), |e| matches!(e, E::StackSize { .. })),
    ];
    for (option, is_expected) in wrong {
        let error = option(Pool::builder()).build().unwrap_err();
        assert!(is_expected(&error), "{error:?}");
        assert!(!error.to_string().is_empty());
    }
    let pool = Pool::builder()
        .cap(gopool::MAX_CAP)
        .stack_size(gopool::MIN_STACK_SIZE)
        .keep_alive(Duration::MAX)
        .build()
        .unwrap();
    assert_eq!(pool.spawn(|| 1).unwrap().join().unwrap(), 1);
    assert_eq!((pool.cap(), pool.queue_limit()), (gopool::MAX_CAP, 16 * 1024));
    assert!(format!("{pool:?}").contains("gopool"));
}

#[test]
fn the_registry_refuses_duplicates() {
    let named = || Pool::builder().name("registered").build().unwrap();
    gopool::register(named()).unwrap();
    let refused = gopool::register(named()).unwrap_err();
    assert_eq!(refused.to_string(), "a pool named \"registered\" is already registered");
    assert_eq!(refused.0.spawn(|| 2).unwrap().join().unwrap(), 2);
    assert_eq!(gopool::pool("registered").unwrap().name(), "registered");
    assert!(gopool::unregister("registered").is_some());
    assert!(gopool::pool("registered").is_none() && gopool::unregister("registered").is_none());
    gopool::register(named()).unwrap();
}

#[test]
fn the_default_pool_is_always_there() {
    let (sender, receiver) = mpsc::channel();
    let also = sender.clone();
    gopool::go(move || sender.send(1).unwrap()).unwrap();
    gopool::ctx_go(2, move |context| also.send(*context).unwrap()).unwrap();
    let mut seen: Vec<i32> = receiver.iter().collect();
    seen.sort_unstable();
    assert_eq!(seen, [1, 2]);
    assert_eq!(gopool::default_pool().cap(), 512);
}

#[test]
fn tasks_that_submit_tasks_at_the_cap_all_run() {
    let pool = Pool::builder().cap(2).queue_limit(1_000).build().unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    fn spread(pool: &Pool, ran: &Arc<AtomicUsize>, depth: usize) {
        ran.fetch_add(1, SeqCst);
        for _ in 0..if depth == 0 { 0 } else { 2 } {
            let (inner, ran) = (pool.clone(), Arc::clone(ran));
            pool.go(move || spread(&inner, &ran, depth - 1)).unwrap();
        }
    }
    spread(&pool, &ran, 7);
    eventually("all run", || ran.load(SeqCst) == (1 << 8) - 1);
}

#[test]
fn results_arrive_in_any_order() {
    let pool = Pool::builder().cap(3).build().unwrap();
    let handles: Vec<_> = (0..200).map(|i| pool.spawn(move || i * 2).unwrap()).collect();
    let sum: i32 = handles.into_iter().rev().map(|handle| handle.join().unwrap()).sum();
    assert_eq!(sum, 200 * 199);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for i in 0..4 {
            let (pool, results) = (&pool, &results);
            scope.spawn(move || {
                let value = pool.spawn(move || i).unwrap().join().unwrap();
                results.lock().unwrap().push(value);
            });
        }
    });
    assert_eq!(results.into_inner().unwrap().iter().sum::<i32>(), 6);
}
