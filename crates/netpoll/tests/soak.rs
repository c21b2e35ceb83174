//! A server for a long time under good and hostile clients at once: every reply is right, and
//! memory and descriptors stay where they were.
//!
//! Two seconds in a normal run; a quarter of an hour under `NETPOLL_STRESS=1`, or as many seconds as
//! `NETPOLL_SOAK_SECONDS` says.

mod common;

use std::{
    env,
    io::{Read, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use common::{
    PATIENCE, connect, eventually, frame, pattern, ping,
    process::{Other, argument, descriptors, in_child, memory, say, threads},
    read_frame, serve,
};
use netpoll::{EventLoop, LengthPrefixed, Reader, WriterExt, service_fn};

/// The largest message that the good clients send, and the server takes.
const LARGEST: usize = 100_000;

fn seconds() -> u64 {
    match env::var("NETPOLL_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()) {
        Some(seconds) => seconds,
        None if env::var_os("NETPOLL_STRESS").is_some() => 15 * 60,
        None => 2,
    }
}

#[test]
fn good_and_hostile_clients_for_long() {
    if !in_child("good_and_hostile_clients_for_long") {
        return;
    }
    let handled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handled);
    let echo = service_fn(move |conn| {
        let (r, w) = conn.split();
        w.write_bytes(r.slice(r.len())?)?;
        // Some handlers block, so that roles are taken and handed over all the time.
        if count.fetch_add(1, SeqCst) % 500 == 0 {
            thread::sleep(Duration::from_millis(3));
        }
        Ok(w.flush().map(drop)?)
    })
    .framing(LengthPrefixed::u32_be().max(LARGEST));
    let builder = EventLoop::builder()
        .pollers(2)
        .cap(32)
        .max_connections(Some(500))
        .read_timeout(Some(Duration::from_secs(2)))
        .write_timeout(Some(Duration::from_secs(2)));
    let (event_loop, addr) = serve(builder, echo);
    ping(&mut connect(addr), b"warm");
    eventually("none", || event_loop.connections() == 0);
    let before = descriptors();
    let time = Duration::from_secs(seconds());
    let arguments = [("addr", addr.to_string()), ("millis", time.as_millis().to_string())];
    let mut clients = Other::start("clients_of_the_soak", &arguments);
    assert_eq!(clients.next(), "here we go");
    let start = Instant::now();
    // In each quarter of the time: every figure of memory, and the most of the others.
    let (mut kib, mut open, mut tasks) = (<[Vec<_>; 4]>::default(), [0; 4], [0; 4]);
    let mut sampled = 0;
    while start.elapsed() < time {
        thread::sleep((time / 100).min(Duration::from_secs(1)));
        let part = (start.elapsed().as_millis() * 4 / time.as_millis()).min(3) as usize;
        kib[part].push(memory());
        open[part] = open[part].max(descriptors());
        tasks[part] = tasks[part].max(threads());
        sampled += 1;
        if sampled % 10 == 0 {
            // Pollers come and go as well.
            event_loop.set_pollers(1 + sampled / 10 % 3).unwrap();
        }
    }
    let answered: usize = clients.next().parse().unwrap();
    clients.end();
    assert!(answered > 0 && answered <= handled.load(SeqCst));
    // What is kept for reuse goes up and down with what the clients happen to do.
    let kib = kib.map(|all| all.iter().sum::<usize>() / all.len().max(1));
    println!("{answered} right replies; in each quarter {kib:?} KiB on average");
    println!("and at most {open:?} descriptors, {tasks:?} threads");
    // The first quarter warms up.
    assert!(kib[3] < kib[1] + kib[1] / 5 + (8 << 10), "{kib:?} KiB");
    assert!(open.iter().all(|&open| open < before + 520), "{open:?} descriptors");
    assert!(tasks.iter().all(|&tasks| tasks < 2 * 32 + 2 * 2 + 20), "{tasks:?} threads");
    eventually("their end", || event_loop.connections() == 0);
    event_loop.set_pollers(2).unwrap();
    eventually("the descriptors' end", || descriptors() <= before);
    event_loop.shutdown(PATIENCE).unwrap();
}

/// Good ones, of whom each reply is checked, and hostile ones.
#[test]
#[ignore = "run by others, as: cargo test -p netpoll --test soak"]
fn clients_of_the_soak() {
    let Some(addr) = argument("addr") else { return };
    let addr: SocketAddr = addr.parse().unwrap();
    let millis = argument("millis").unwrap().parse().unwrap();
    say("here we go");
    let end = Instant::now() + Duration::from_millis(millis);
    let good = (0..3).map(|seed| thread::spawn(move || talk(addr, seed, end)));
    let good: Vec<_> = good.collect();
    let churning = thread::spawn(move || churn(addr, end));
    let hostile = (0..2).map(|seed| thread::spawn(move || annoy(addr, seed, end)));
    let hostile: Vec<_> = hostile.collect();
    let mut answered: usize = good.into_iter().map(|thread| thread.join().unwrap()).sum();
    answered += churning.join().unwrap();
    hostile.into_iter().for_each(|thread| thread.join().unwrap());
    say(answered);
}

/// Connections that stay, with messages of all sizes, some of them several at once.
fn talk(addr: SocketAddr, seed: u64, end: Instant) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut conns: Vec<_> = (0..8).map(|_| connect(addr)).collect();
    let mut answered = 0;
    while Instant::now() < end {
        let conn = random.usize(..conns.len());
        let conn = &mut conns[conn];
        let size = 1 << random.u32(0..17);
        let bodies: Vec<_> = (0..random.usize(1..5))
            .map(|_| pattern(random.usize(0..size).min(LARGEST / 2), random.usize(..1000)))
            .collect();
        for body in &bodies {
            conn.write_all(&frame(body)).unwrap();
        }
        for body in &bodies {
            assert!(read_frame(conn).unwrap() == *body, "a reply is wrong");
            answered += 1;
        }
    }
    answered
}

/// One request per connection.
fn churn(addr: SocketAddr, end: Instant) -> usize {
    let mut answered = 0;
    while Instant::now() < end {
        ping(&mut connect(addr), &pattern(answered % 3000, answered));
        answered += 1;
        thread::sleep(Duration::from_micros(300));
    }
    answered
}

/// Everything that is not done. Whatever comes of it is fine, but for the others.
fn annoy(addr: SocketAddr, seed: u64, end: Instant) {
    let mut random = fastrand::Rng::with_seed(1000 + seed);
    let mut kept = Vec::new();
    while Instant::now() < end {
        let mut conn = connect(addr);
        match random.u8(0..7) {
            // Asks for more than it ever reads, and stays: a handler waits for it.
            0 if random.u8(0..32) == 0 => {
                conn.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
                let message = frame(&vec![8; LARGEST / 2]);
                while conn.write_all(&message).is_ok() {}
                kept.push(conn);
            }
            // Comes and goes, or is reset.
            0 => {}
            1 => common::reset_on_drop(&conn),
            // Part of a message, and stays; more of it comes byte by byte.
            2 => {
                let _ = conn.write_all(&frame(&[1; 1000])[..random.usize(1..900)]);
                kept.push(conn);
            }
            // A message that is too large, or no message at all.
            3 => {
                let _ = conn.write_all(&u32::MAX.to_be_bytes());
                let _ = conn.read(&mut [0]);
            }
            4 => {
                let noise: Vec<u8> = (0..random.usize(0..5000)).map(|_| random.u8(..)).collect();
                let _ = conn.write_all(&noise);
            }
            // Asks and does not listen; ends its half and goes.
            5 => {
                let _ = conn.write_all(&frame(&vec![5; LARGEST / 2]));
                common::reset_on_drop(&conn);
            }
            _ => {
                let _ = conn.write_all(&frame(b"last words"));
                let _ = conn.shutdown(std::net::Shutdown::Write);
                let mut all = Vec::new();
                let _ = conn.read_to_end(&mut all);
            }
        }
        if let Some(slow) = random.choice(&mut kept) {
            let _ = slow.write_all(&[1]);
        }
        if kept.len() > 100 {
            kept.swap_remove(random.usize(..kept.len()));
        }
        thread::sleep(Duration::from_micros(random.u64(0..2000)));
    }
}
