//! The load against servers in this process that behave, and some that do not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use super::*;

/// Serves each connection on a thread that treats all bytes by `reply`.
fn server(reply: fn(&mut Vec<u8>)) -> SocketAddrV4 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let SocketAddr::V4(addr) = listener.local_addr().unwrap() else { unreachable!() };
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut buffer = vec![0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    let mut bytes = buffer[..n].to_vec();
                    reply(&mut bytes);
                    if stream.write_all(&bytes).is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}

fn plan(to: SocketAddrV4, pace: Pace) -> Plan {
    let crowd = Crowd { idle: 2, half_open: 1, slow: 3 };
    Plan { to, connections: 3, crowd, light: None, frame: 100, pace, spin: false }
}

const SLICE: Duration = Duration::from_millis(50);
/// How long a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Goes on until more than `count` replies came.
fn run_until(load: &mut Load, count: u64) -> Slice {
    let start = Instant::now();
    let mut replies = 0;
    loop {
        let slice = load.run(SLICE).unwrap();
        replies += slice.replies;
        if replies > count {
            return slice;
        }
        assert!(start.elapsed() < PATIENCE, "{replies} replies");
    }
}

#[test]
fn a_closed_loop_counts_every_reply() {
    let to = server(|_| {});
    for (frame, depth) in [(0, 1), (100, 32), (300_000, 2)] {
        let plan = Plan { frame, ..plan(to, Pace::Closed { depth }) };
        let mut load = Load::connect(plan).unwrap();
        let slice = run_until(&mut load, 0);
        assert!(slice.elapsed >= SLICE && slice.latency.quantile(0.5) > 0);
        assert!(load.drain().unwrap() <= 3 * depth);
        run_until(&mut load, 0);
    }
}

#[test]
fn an_open_loop_sends_what_is_due() {
    let mut load = Load::connect(plan(server(|_| {}), Pace::Open { per_second: 2000.0 })).unwrap();
    let slice = load.run(2 * SLICE).unwrap();
    let total = slice.replies + load.drain().unwrap();
    // However late it is sent, it is sent, unless it was due within the last turn.
    let due = (slice.elapsed.as_secs_f64() * 2000.0) as u64 + 1;
    assert!((1..=due).contains(&total), "{total} of {due}");
}

#[test]
fn a_light_connection_is_apart() {
    let plan = Plan { light: Some(1000.0), ..plan(server(|_| {}), Pace::Rest) };
    let mut load = Load::connect(plan).unwrap();
    let start = Instant::now();
    loop {
        let slice = load.run(SLICE).unwrap();
        assert_eq!(slice.replies, 0);
        if slice.light.quantile(0.5) > 0 {
            return;
        }
        assert!(start.elapsed() < PATIENCE);
    }
}

#[test]
fn a_storm_ends_when_all_have_their_reply() {
    assert!(storm(server(|_| {}), 40, 16, false).unwrap() > Duration::ZERO);
}

#[test]
fn churn_opens_a_connection_for_each_request() {
    let mut load = Load::connect(plan(server(|_| {}), Pace::Churn)).unwrap();
    run_until(&mut load, 3);
    assert!(load.drain().unwrap() <= 3);
}

#[test]
fn wrong_bytes_are_seen() {
    let to = server(|bytes| *bytes.last_mut().unwrap() ^= 1);
    let mut load = Load::connect(plan(to, Pace::Closed { depth: 1 })).unwrap();
    let error = load.run(SLICE).unwrap_err();
    assert!(error.to_string().contains("wrong bytes"), "{error}");
}

#[test]
fn silence_is_seen() {
    let mut load = Load::connect(plan(server(Vec::clear), Pace::Closed { depth: 1 })).unwrap();
    assert_eq!(load.run(SLICE).unwrap().replies, 0);
}
