//! Good clients beside bad ones: what they notice. Compared with the same clients without them, in
//! the same run, several times.

mod common;

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use common::{
    connect, eventually, frame, ping,
    process::{self, Other, argument, in_child, say, set_limit},
    serve,
};
use netpoll::{EventLoop, LengthPrefixed, Reader, WriterExt, service_fn};

#[test]
fn attackers_do_not_slow_good_clients_down() {
    let bad = if common::stress(100) == 100 { 2000 } else { 200 };
    let bad = process::as_many(bad);
    let (event_loop, addr) = serve(EventLoop::builder().pollers(2), common::echo());
    let arguments = |many: usize| [("addr", addr.to_string()), ("many", many.to_string())];
    let mut good = Other::start("good_clients", &arguments(4));
    let mut p99 = |what: &str| -> f64 {
        good.tell(what);
        good.next().parse().unwrap()
    };
    p99("warm");
    // Whatever else this machine does in one of the rounds: where attackers hurt, they hurt in each.
    let mut ratios = Vec::new();
    for _ in 0..5 {
        let alone = p99("alone");
        let mut attackers = Other::start("attackers", &arguments(bad));
        assert_eq!(attackers.next(), "there");
        eventually("all of them", || event_loop.connections() == bad + 4);
        let beside = p99("beside");
        drop(attackers);
        eventually("their end", || event_loop.connections() <= 4);
        // Below a tenth of a millisecond it is the scheduler's noise.
        ratios.push(beside / alone.max(100.0));
        if ratios.iter().any(|&ratio| ratio <= 3.0) {
            return;
        }
    }
    panic!("p99 beside {bad} attackers, over p99 without: {ratios:.1?}");
}

/// One that sends as fast as it can, on the only poller there is: in large messages, and in small ones
/// without waiting.
#[test]
fn a_loud_peer_does_not_slow_a_hundred_quiet_ones_down() {
    let service = service_fn(|conn| {
        let (r, w) = conn.split();
        // What is loud wants no answer.
        if r.peek(5)?[4] != b'!' {
            w.write_bytes(r.slice(r.len())?)?;
            w.flush()?;
        }
        Ok(())
    })
    .framing(LengthPrefixed::u32_be());
    let (event_loop, addr) = serve(EventLoop::builder().pollers(1), service);
    let address = || ("addr", addr.to_string());
    let mut quiet = Other::start("good_clients", &[address(), ("many", "100".to_owned())]);
    let mut p99 = |what: &str| -> f64 {
        quiet.tell(what);
        quiet.next().parse().unwrap()
    };
    p99("warm");
    for size in [256 << 10, 64] {
        let mut ratios = Vec::new();
        while !ratios.iter().any(|&ratio| ratio <= 3.0) {
            let alone = p99("alone");
            let before = event_loop.stats().closes.bytes_received;
            let mut loud = Other::start("loud", &[address(), ("size", size.to_string())]);
            assert_eq!(loud.next(), "loud");
            let beside = p99("beside");
            drop(loud);
            eventually("its end", || event_loop.connections() == 100);
            let received = event_loop.stats().closes.bytes_received - before;
            assert!(received >= 256 << 10, "it was not loud: {received} bytes");
            // Below a tenth of a millisecond it is the scheduler's noise.
            ratios.push(beside / alone.max(100.0));
            // On a machine that has more to do than cores, the one busy thread is often out of its turn:
            // more rounds than elsewhere.
            assert!(ratios.len() < 20, "p99 beside a loud peer, over p99 without: {ratios:.1?}");
        }
        println!("p99 beside messages of {size} bytes, over p99 without: {ratios:.2?}");
    }
}

#[test]
fn accepting_goes_on_soon_when_there_is_room() {
    if !in_child("accepting_goes_on_soon_when_there_is_room") {
        return;
    }
    let service = service_fn(|conn| Ok(conn.skip(conn.len())?));
    let (event_loop, addr) = serve(EventLoop::builder().pollers(1), service);
    let mut took = Vec::new();
    // As above: what the machine does besides is not in every round.
    for _ in 0..8 {
        let start = event_loop.stats();
        set_limit(64);
        let arguments = [("addr", addr.to_string()), ("many", "100".to_owned())];
        let mut waiting = Other::start("attackers", &arguments);
        assert_eq!(waiting.next(), "there");
        // By now the pauses have grown to their most.
        eventually("rests", || event_loop.stats().accept_rests > start.accept_rests + 8);
        let room = Instant::now();
        set_limit(1024);
        eventually("all of them", || event_loop.stats().accepted == start.accepted + 100);
        took.push(room.elapsed());
        drop(waiting);
        eventually("their end", || event_loop.connections() == 0);
        if took.iter().any(|&took| took < Duration::from_millis(100)) {
            return;
        }
    }
    panic!("accepting went on after {took:?}");
}

/// Asks, as often as it is told to, and says the 99th percentile in microseconds.
#[test]
#[ignore = "run by others, as: cargo test -p netpoll --test timing_hostile attackers_do_not"]
fn good_clients() {
    let Some(addr) = argument("addr") else { return };
    let addr: SocketAddr = addr.parse().unwrap();
    let many: usize = argument("many").unwrap().parse().unwrap();
    let mut clients: Vec<TcpStream> = (0..many).map(|_| connect(addr)).collect();
    while !process::hear().is_empty() {
        let mut took: Vec<Duration> = (0..2000)
            .map(|i| {
                let start = Instant::now();
                ping(&mut clients[i % many], b"a small request");
                start.elapsed()
            })
            .collect();
        took.sort_unstable();
        say(took[took.len() * 99 / 100].as_micros());
    }
}

/// Sends messages of one size until it is killed.
#[test]
#[ignore = "run by others, as: cargo test -p netpoll --test timing_hostile a_loud_peer"]
fn loud() {
    let Some(addr) = argument("addr") else { return };
    let size: usize = argument("size").unwrap().parse().unwrap();
    let mut client = connect(addr.parse().unwrap());
    let messages = frame(&vec![b'!'; size]).repeat((256 << 10) / size);
    client.write_all(&messages).unwrap();
    say("loud");
    while client.write_all(&messages).is_ok() {}
}

/// A third of them is idle, a third has sent half a message, a third sends a byte now and then.
#[test]
#[ignore = "run by others, as: cargo test -p netpoll --test timing_hostile attackers_do_not"]
fn attackers() {
    let Some(addr) = argument("addr") else { return };
    let addr: SocketAddr = addr.parse().unwrap();
    let many = argument("many").unwrap().parse().unwrap();
    process::as_many(many);
    let mut clients: Vec<TcpStream> = (0..many).map(|_| connect(addr)).collect();
    let message = frame(&[7; 4000]);
    for client in clients.iter_mut().skip(1).step_by(3) {
        client.write_all(&message[..2000]).unwrap();
    }
    say("there");
    // Each of the slow ones sends 20 bytes a second.
    for at in 0..message.len() - 1 {
        for client in clients.iter_mut().skip(2).step_by(3) {
            client.write_all(&message[at..=at]).unwrap();
        }
        thread::sleep(Duration::from_millis(50));
    }
}
