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
    Plan { to, connections: 3, idle: 2, frame: 100, pace, spin: false }
}

const SLICE: Duration = Duration::from_millis(50);

#[test]
fn a_closed_loop_counts_every_reply() {
    let to = server(|_| {});
    for (frame, depth) in [(0, 1), (100, 32), (300_000, 2)] {
        let plan = Plan { frame, ..plan(to, Pace::Closed { depth }) };
        let mut load = Load::connect(plan).unwrap();
        let slice = load.run(4 * SLICE).unwrap();
        assert!(slice.replies > 0 && slice.elapsed >= SLICE);
        assert!(slice.latency.quantile(0.5) > 0);
        assert!(load.drain().unwrap() <= 3 * depth);
        assert!(load.run(SLICE).unwrap().replies > 0);
    }
}

#[test]
fn an_open_loop_sends_what_is_due() {
    let mut load = Load::connect(plan(server(|_| {}), Pace::Open { per_second: 2000.0 })).unwrap();
    let slice = load.run(2 * SLICE).unwrap();
    let total = slice.replies + load.drain().unwrap();
    assert!((150..=201).contains(&total), "{total}");
}

#[test]
fn churn_opens_a_connection_for_each_request() {
    let mut load = Load::connect(plan(server(|_| {}), Pace::Churn)).unwrap();
    assert!(load.run(SLICE).unwrap().replies > 3);
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
