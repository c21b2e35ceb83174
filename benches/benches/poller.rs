//! What does the safe API of `poller` cost over the bare calls?
//!
//! Each measurement has its base beside it, which does the same work on `libc`, or on a mutex:
//! compare within a group.

use std::collections::HashMap;
use std::hint::black_box;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use criterion::Criterion;
use poller::sys::EventFd;
use poller::{Balance, Events, Group, Interest, Poller, Token, slots};

const NOW: Option<Duration> = Some(Duration::ZERO);
const READY: usize = 32;

fn epoll() -> OwnedFd {
    // SAFETY: the call takes no pointers, and its result is a new descriptor that nobody else has.
    unsafe {
        let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd)
    }
}

fn control(epoll: &OwnedFd, operation: i32, fd: &EventFd, token: u64) {
    let events = (libc::EPOLLIN | libc::EPOLLET) as u32;
    let mut event = libc::epoll_event { events, u64: token };
    let (epoll, fd) = (epoll.as_raw_fd(), fd.as_fd().as_raw_fd());
    // SAFETY: `event` lives through the call.
    assert_eq!(unsafe { libc::epoll_ctl(epoll, operation, fd, &mut event) }, 0);
}

/// Thirty-two descriptors become ready and are reported.
fn wait(c: &mut Criterion) {
    let mut group = c.benchmark_group("poller/wait");
    let fds: Vec<EventFd> = (0..READY).map(|_| EventFd::new().unwrap()).collect();
    let signal = || fds.iter().for_each(|fd| fd.signal().unwrap());

    let poller = Poller::new().unwrap();
    let mut events = Events::with_capacity(64);
    for (slot, fd) in fds.iter().enumerate() {
        poller.register(fd, Token::new(slot as u32, 0), Interest::READABLE).unwrap();
    }
    group.bench_function("ours", |b| {
        b.iter(|| {
            signal();
            assert_eq!(poller.wait(&mut events, NOW).unwrap(), READY);
            let ready = events.iter().filter(|event| event.is_readable());
            ready.map(|event| u64::from(event.token().slot())).sum::<u64>()
        });
    });
    fds.iter().for_each(|fd| poller.deregister(fd).unwrap());

    let bare = epoll();
    let mut raw = [libc::epoll_event { events: 0, u64: 0 }; 64];
    for (slot, fd) in fds.iter().enumerate() {
        control(&bare, libc::EPOLL_CTL_ADD, fd, slot as u64);
    }
    group.bench_function("libc", |b| {
        b.iter(|| {
            signal();
            // SAFETY: there is room for 64 events.
            let count = unsafe { libc::epoll_wait(bare.as_raw_fd(), raw.as_mut_ptr(), 64, 0) };
            assert_eq!(count as usize, READY);
            let ready = raw[..READY].iter();
            let ready = ready.filter(|event| event.events & libc::EPOLLIN as u32 != 0);
            ready.map(|event| event.u64).sum::<u64>()
        });
    });
    group.finish();
}

/// One descriptor is registered and deregistered.
fn register(c: &mut Criterion) {
    let mut group = c.benchmark_group("poller/register");
    let fd = EventFd::new().unwrap();
    let poller = Poller::new().unwrap();
    group.bench_function("ours", |b| {
        b.iter(|| {
            poller.register(&fd, Token::new(1, 1), Interest::READABLE).unwrap();
            poller.deregister(&fd).unwrap();
        });
    });
    let bare = epoll();
    group.bench_function("libc", |b| {
        b.iter(|| {
            control(&bare, libc::EPOLL_CTL_ADD, &fd, 1);
            control(&bare, libc::EPOLL_CTL_DEL, &fd, 1);
        });
    });
    group.finish();
}

/// A wake-up that finds the poller awake or already asked, against writing to an eventfd each time.
fn wake(c: &mut Criterion) {
    let mut group = c.benchmark_group("poller/wake");
    let poller = Poller::new().unwrap();
    let waker = poller.waker();
    group.bench_function("ours", |b| b.iter(|| waker.wake().unwrap()));
    let event = EventFd::new().unwrap();
    group.bench_function("eventfd", |b| b.iter(|| event.signal().unwrap()));
    group.finish();
}

/// One registration comes, is looked up eight times, and goes, beside a thousand others.
fn table(c: &mut Criterion) {
    let mut group = c.benchmark_group("poller/slots");
    let (slots, mut batch) = slots::<Box<u64>>(2000);
    for n in 0..1000 {
        slots.insert(Box::new(n)).unwrap();
    }
    group.bench_function("ours", |b| {
        b.iter(|| {
            let token = slots.insert(Box::new(7)).unwrap();
            let sum: u64 = (0..8).map(|_| **batch.get(black_box(token)).unwrap()).sum();
            slots.remove(token);
            batch.end();
            sum
        });
    });
    let map: Mutex<HashMap<u64, Box<u64>>> = Mutex::new(HashMap::new());
    let mut next = 1000;
    (0..next).for_each(|n| drop(map.lock().unwrap().insert(n, Box::new(n))));
    group.bench_function("mutex", |b| {
        b.iter(|| {
            next += 1;
            map.lock().unwrap().insert(next, Box::new(7));
            let sum: u64 = (0..8).map(|_| *map.lock().unwrap()[&black_box(next)]).sum();
            map.lock().unwrap().remove(&next);
            sum
        });
    });
    group.finish();
}

/// One of eight pollers is picked and given back.
fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("poller/pick");
    for (name, balance) in [
        ("round robin", Balance::RoundRobin),
        ("random", Balance::Random),
        ("least connections", Balance::LeastConnections),
    ] {
        let pollers: Group<()> = Group::new(balance);
        (0..8).for_each(|_| drop(pollers.add(()).unwrap()));
        group.bench_function(name, |b| b.iter(|| pollers.pick().unwrap()));
    }
    let list: Mutex<Vec<Arc<u64>>> = Mutex::new((0..8).map(Arc::new).collect());
    let turn = AtomicUsize::new(0);
    group.bench_function("mutex", |b| {
        b.iter(|| Arc::clone(&list.lock().unwrap()[turn.fetch_add(1, Ordering::Relaxed) % 8]));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for measure in [wait, register, wake, table, pick] {
        measure(&mut criterion);
    }
    criterion.final_summary();
}
