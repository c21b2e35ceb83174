//! What users rely on: edges, re-arming, late events, wake-ups, timeouts.
#![cfg(not(netpoll_loom))]

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use poller::{Events, Interest, Poller, Token, slots};

const NOW: Option<Duration> = Some(Duration::ZERO);
const SOON: Option<Duration> = Some(Duration::from_secs(10));

fn pair() -> (UnixStream, UnixStream) {
    let (one, two) = UnixStream::pair().unwrap();
    one.set_nonblocking(true).unwrap();
    two.set_nonblocking(true).unwrap();
    (one, two)
}

#[test]
fn edges_are_reported_once_and_again_after_modify() {
    let (mut near, far) = pair();
    let poller = Poller::new().unwrap();
    let mut events = Events::with_capacity(8);
    let token = Token::new(1, 0);
    poller.register(&far, token, Interest::READABLE | Interest::RDHUP).unwrap();
    assert_eq!(poller.wait(&mut events, NOW).unwrap(), 0);

    near.write_all(b"x").unwrap();
    assert_eq!(poller.wait(&mut events, SOON).unwrap(), 1);
    let event = events.get(0).unwrap();
    assert!(event.is_readable() && !event.is_writable() && !event.is_read_closed());
    assert_eq!(poller.wait(&mut events, NOW).unwrap(), 0, "the same edge is not reported twice");

    poller.modify(&far, token, Interest::ALL).unwrap();
    assert_eq!(poller.wait(&mut events, NOW).unwrap(), 1, "modify re-arms");
    assert!(events.iter().all(|event| event.is_readable() && event.is_writable()));

    drop(near);
    assert_eq!(poller.wait(&mut events, SOON).unwrap(), 1);
    let event = events.get(0).unwrap();
    assert!(event.is_read_closed() && event.is_hangup() && event.is_readable());

    poller.deregister(&far).unwrap();
    assert_eq!(poller.deregister(&far).unwrap_err().kind(), ErrorKind::NotFound);
    let stats = poller.stats();
    assert_eq!((stats.registered, stats.deregistered, stats.events), (1, 1, 3));
    assert_eq!((stats.waits, stats.idle_waits), (5, 2));
}

#[test]
fn registering_refuses_what_cannot_work() {
    let (near, _far) = pair();
    let poller = Poller::new().unwrap();
    let register = |interest| poller.register(&near, Token::new(0, 0), interest);
    register(Interest::NONE).unwrap();
    assert_eq!(register(Interest::ALL).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let reserved = poller.modify(&near, Token::from_raw(u64::MAX), Interest::ALL);
    assert_eq!(reserved.unwrap_err().kind(), ErrorKind::InvalidInput);
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let error = poller.register(&file, Token::new(1, 0), Interest::ALL).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let error = poller.register(&poller, Token::new(1, 0), Interest::ALL).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_batch_is_bounded_and_nothing_is_starved() {
    let poller = Poller::new().unwrap();
    let pairs: Vec<_> = (0..10).map(|_| pair()).collect();
    for (slot, (near, far)) in pairs.iter().enumerate() {
        poller.register(far, Token::new(slot as u32, 0), Interest::READABLE).unwrap();
        (&mut &*near).write_all(b"x").unwrap();
    }
    let mut events = Events::with_capacity(4);
    let mut seen = Vec::new();
    while poller.wait(&mut events, NOW).unwrap() > 0 {
        assert!(events.len() <= 4);
        seen.extend(events.iter().map(|event| event.token().slot()));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

#[test]
fn late_events_are_dropped() {
    let poller = Poller::new().unwrap();
    let (slots, mut batch) = slots(8);
    let mut events = Events::with_capacity(8);
    let (mut near, far) = pair();
    let (mut near2, far2) = pair();
    let token = slots.insert("first").unwrap();
    poller.register(&far, token, Interest::READABLE).unwrap();
    near.write_all(b"x").unwrap();
    poller.wait(&mut events, SOON).unwrap();

    // Closed by somebody else between the wait and the look; its slot goes to another.
    poller.deregister(&far).unwrap();
    slots.remove(token);
    let next = slots.insert("second").unwrap();
    assert_ne!(next.slot(), token.slot(), "not before the batch has ended");
    assert_eq!(batch.get(events.get(0).unwrap().token()), None);
    batch.end();
    let recycled = slots.insert("third").unwrap();
    assert_eq!(recycled.slot(), token.slot());
    poller.register(&far2, recycled, Interest::READABLE).unwrap();
    near2.write_all(b"x").unwrap();
    poller.wait(&mut events, SOON).unwrap();
    assert_eq!(batch.get(events.get(0).unwrap().token()), Some(&"third"));
    assert_eq!(batch.get(token), None);
}

#[test]
fn wakes_coalesce_and_are_free_while_awake() {
    let poller = Poller::new().unwrap();
    let waker = poller.waker();
    let mut events = Events::with_capacity(1);
    for _ in 0..1000 {
        waker.wake().unwrap();
    }
    assert_eq!(poller.wait(&mut events, None).unwrap(), 0);
    assert!(events.is_woken());
    assert_eq!((poller.stats().wakes, poller.stats().wake_syscalls), (1000, 0));
    assert_eq!(poller.wait(&mut events, NOW).unwrap(), 0);
    assert!(!events.is_woken(), "all of them were one");
}

#[test]
fn no_wake_is_lost() {
    let poller = Arc::new(Poller::new().unwrap());
    let done = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let (threads, rounds) = (3, 20_000);
    let handles: Vec<_> = (0..threads)
        .map(|_| {
            let (waker, done) = (poller.waker(), Arc::clone(&done));
            thread::spawn(move || {
                for _ in 0..rounds {
                    done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    waker.wake().unwrap();
                }
            })
        })
        .collect();
    let mut events = Events::with_capacity(4);
    let limit = Instant::now() + Duration::from_secs(60);
    // A lost wake-up would be a wait of a minute.
    while done.load(std::sync::atomic::Ordering::Relaxed) < threads * rounds {
        poller.wait(&mut events, Some(Duration::from_secs(61))).unwrap();
        assert!(events.is_empty());
        assert!(Instant::now() < limit, "a wake-up was lost");
    }
    handles.into_iter().for_each(|handle| handle.join().unwrap());
    let stats = poller.stats();
    assert_eq!(stats.wakes, u64::from(threads * rounds));
    assert!(stats.wake_syscalls <= stats.waits);
}

#[test]
fn waits_are_never_early_and_one_at_a_time() {
    let poller = Arc::new(Poller::new().unwrap());
    let mut events = Events::with_capacity(4);
    for nanos in [1, 999, 1_000_001, 2_500_000, 5_000_000] {
        let (start, timeout) = (Instant::now(), Duration::from_nanos(nanos));
        assert_eq!(poller.wait(&mut events, Some(timeout)).unwrap(), 0);
        assert!(start.elapsed() >= timeout);
    }
    let other = Arc::clone(&poller);
    let thread = thread::spawn(move || {
        let mut events = Events::with_capacity(4);
        while other.wait(&mut events, None).is_err() {}
        assert!(events.is_woken());
    });
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        match poller.wait(&mut events, NOW) {
            Err(error) => break assert_eq!(error.kind(), ErrorKind::ResourceBusy),
            Ok(_) => assert!(Instant::now() < limit),
        }
    }
    poller.waker().wake().unwrap();
    thread.join().unwrap();
    poller.wait(&mut events, NOW).unwrap();
}

#[test]
fn registering_while_another_thread_sleeps() {
    let poller = Arc::new(Poller::new().unwrap());
    let (mut near, mut far) = pair();
    let other = Arc::clone(&poller);
    let thread = thread::spawn(move || {
        let mut events = Events::with_capacity(4);
        other.wait(&mut events, SOON).unwrap();
        events.iter().next().map(|event| event.token())
    });
    thread::sleep(Duration::from_millis(5));
    poller.register(&far, Token::new(3, 4), Interest::READABLE).unwrap();
    near.write_all(b"hello").unwrap();
    assert_eq!(thread.join().unwrap(), Some(Token::new(3, 4)));
    let mut text = [0; 5];
    far.read_exact(&mut text).unwrap();
}

#[test]
fn a_poller_watches_a_poller() {
    let (inner, outer) = (Poller::new().unwrap(), Poller::new().unwrap());
    let (mut near, far) = pair();
    inner.register(&far, Token::new(1, 0), Interest::READABLE).unwrap();
    outer.register(&inner, Token::new(2, 0), Interest::READABLE).unwrap();
    near.write_all(b"x").unwrap();
    let mut events = Events::with_capacity(4);
    assert_eq!(outer.wait(&mut events, SOON).unwrap(), 1);
    assert_eq!(inner.wait(&mut events, NOW).unwrap(), 1);
}
