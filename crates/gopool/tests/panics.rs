//! A panic stays in its task, costs no worker, and is counted and reported once.
#![cfg(not(netpoll_loom))]

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use gopool::{JoinError, Pool};

const SOON: Duration = Duration::from_secs(20);

/// Panics when dropped, and so does what it panics with, a few times over.
struct Bomb(usize);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 > 0 {
            panic::panic_any(Bomb(self.0 - 1));
        }
    }
}

/// Thousands of intended panics need not be printed.
fn hush() {
    static HUSHED: std::sync::Once = std::sync::Once::new();
    HUSHED.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_worker = std::thread::current().name().is_some_and(|n| n.starts_with("quiet"));
            if !is_worker {
                hook(info);
            }
        }));
    });
}

#[test]
fn panics_in_bulk_keep_counts_exact() {
    hush();
    let count = if cfg!(miri) { 30 } else { 10_000 };
    let (handled, ran) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let also = Arc::clone(&handled);
    let pool = Pool::builder()
        .name("quiet-bulk")
        .cap(4)
        .panic_handler(move |_| {
            also.fetch_add(1, SeqCst);
        })
        .build()
        .unwrap();
    let mut handles = Vec::new();
    for i in 0..count {
        let ran = Arc::clone(&ran);
        match i % 5 {
            0 => pool.go(|| panic!("every fifth")).unwrap(),
            1 => pool.ctx_go(i, |i| panic!("{i}")).unwrap(),
            2 => handles.push(pool.spawn(|| panic!("joined")).unwrap()),
            3 => drop(pool.spawn(|| panic!("detached")).unwrap()),
            _ => pool
                .go(move || {
                    ran.fetch_add(1, SeqCst);
                })
                .unwrap(),
        }
    }
    for handle in handles {
        let error: JoinError = handle.join().map(|(): ()| ()).unwrap_err();
        assert_eq!(error.message(), Some("joined"));
    }
    pool.shutdown(SOON).unwrap();
    let stats = pool.stats();
    assert_eq!(ran.load(SeqCst), count / 5);
    assert_eq!((stats.accepted, stats.completed, stats.panicked), (count, count, count / 5 * 4));
    // Each once: by its joiner, or by the handler. A handle dropped after its task has panicked
    // takes the panic along.
    let handled = handled.load(SeqCst);
    assert!((count / 5 * 2..=count / 5 * 3).contains(&handled), "{handled}");
    assert!(stats.threads_started <= 4, "a panic costs no worker");
}

#[test]
fn the_handler_sees_message_context_and_pool() {
    hush();
    let (sender, receiver) = mpsc::channel();
    let pool = Pool::builder().name("quiet-context").build().unwrap();
    pool.set_panic_handler(move |panic| {
        let message = panic.message().map(str::to_owned);
        assert!(format!("{panic:?}").contains("quiet-context"));
        let is_number = panic.payload().is::<u8>();
        sender.send((message, panic.context::<u64>().copied(), is_number)).unwrap();
    });
    pool.go(|| panic!("static")).unwrap();
    assert_eq!(receiver.recv().unwrap(), (Some("static".to_owned()), None, false));
    pool.ctx_go(7_u64, |n| panic!("number {n}")).unwrap();
    assert_eq!(receiver.recv().unwrap(), (Some("number 7".to_owned()), Some(7), false));
    pool.ctx_go("not a number", |_| panic::panic_any(1_u8)).unwrap();
    assert_eq!(receiver.recv().unwrap(), (None, None, true));
}

#[test]
fn a_panic_of_the_handler_is_contained() {
    hush();
    let pool = Pool::builder()
        .name("quiet-handler")
        .cap(1)
        .panic_handler(|_| panic::panic_any(Bomb(3)))
        .build()
        .unwrap();
    for _ in 0..10 {
        pool.go(|| panic!("first")).unwrap();
    }
    assert_eq!(pool.spawn(|| 1).unwrap().join().unwrap(), 1);
    pool.shutdown(SOON).unwrap();
    let stats = pool.stats();
    assert_eq!((stats.panicked, stats.completed, stats.threads_started), (10, 11, 1));
}

#[test]
fn values_that_panic_when_dropped_are_contained() {
    hush();
    let pool = Pool::builder().name("quiet-bombs").cap(1).build().unwrap();
    pool.go(|| panic::panic_any(Bomb(3))).unwrap();
    let bomb = Bomb(2);
    pool.go(move || drop(bomb)).unwrap();
    pool.ctx_go(Bomb(2), |_| ()).unwrap();
    drop(pool.spawn(|| Bomb(2)).unwrap());
    assert_eq!(pool.spawn(|| 1).unwrap().join().unwrap(), 1);
    pool.shutdown(SOON).unwrap();
    assert_eq!(pool.stats().threads_started, 1);
}

#[test]
fn refused_tasks_that_panic_when_dropped_are_contained() {
    let pool = Pool::builder().name("quiet-refused").cap(1).build().unwrap();
    let (gate, is_open) = mpsc::channel::<()>();
    let (started, has_started) = mpsc::channel();
    pool.go(move || {
        started.send(()).unwrap();
        let _ = is_open.recv();
    })
    .unwrap();
    has_started.recv().unwrap();
    let bomb = Bomb(1);
    pool.go(move || drop(bomb)).unwrap();
    let queued = pool.spawn(|| 1).unwrap();
    assert_eq!(pool.shutdown(Duration::ZERO).unwrap_err().refused, 2);
    assert!(matches!(queued.join(), Err(JoinError::Refused)));
    drop(gate);
}

#[test]
fn a_joined_panic_can_be_resumed() {
    hush();
    let pool = Pool::builder().name("quiet-resume").build().unwrap();
    let error = pool.spawn(|| panic::panic_any(5_u8)).unwrap().join().map(|(): ()| ()).unwrap_err();
    assert!(error.message().is_none());
    let payload = error.into_panic().unwrap();
    let caught = panic::catch_unwind(AssertUnwindSafe(|| panic::resume_unwind(payload)));
    assert_eq!(caught.unwrap_err().downcast_ref::<u8>(), Some(&5));
}
