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

/// Slices one after another until one of them shows what is looked for: a busy machine may need
/// more than one.
fn eventually<T>(mut slice: impl FnMut() -> Option<T>) -> T {
    (0..200).find_map(|_| slice()).expect("it did not come in 200 slices")
}

/// The replies of the first slice that has any.
fn replies(load: &mut Load) -> u64 {
    eventually(|| Some(load.run(SLICE).unwrap().replies).filter(|&n| n > 0))
}

#[test]
fn a_closed_loop_counts_every_reply() {
    let to = server(|_| {});
    for (frame, depth) in [(0, 1), (100, 32), (300_000, 2)] {
        let plan = Plan { frame, ..plan(to, Pace::Closed { depth }) };
        let mut load = Load::connect(plan).unwrap();
        let slice = eventually(|| Some(load.run(SLICE).unwrap()).filter(|s| s.replies > 0));
        assert!(slice.elapsed >= SLICE);
        assert!(slice.latency.quantile(0.5) > 0);
        assert!(load.drain().unwrap() <= 3 * depth);
        replies(&mut load);
    }
}

#[test]
fn an_open_loop_sends_what_is_due() {
    let to = server(|_| {});
    eventually(|| {
        let mut load = Load::connect(plan(to, Pace::Open { per_second: 2000.0 })).unwrap();
        let slice = load.run(2 * SLICE).unwrap();
        let total = slice.replies + load.drain().unwrap();
        assert!(total <= 201, "{total}");
        (total >= 150).then_some(())
    });
}

#[test]
fn churn_opens_a_connection_for_each_request() {
    let mut load = Load::connect(plan(server(|_| {}), Pace::Churn)).unwrap();
    // More than the three connections that there are at a time.
    let mut seen = 0;
    eventually(|| {
        seen += replies(&mut load);
        (seen > 3).then_some(())
    });
    assert!(load.drain().unwrap() <= 3);
}

#[test]
fn wrong_bytes_are_seen() {
    let to = server(|bytes| *bytes.last_mut().unwrap() ^= 1);
    let mut load = Load::connect(plan(to, Pace::Closed { depth: 1 })).unwrap();
    let error = eventually(|| load.run(SLICE).err());
    assert!(error.to_string().contains("wrong bytes"), "{error}");
}

#[test]
fn silence_is_seen() {
    let mut load = Load::connect(plan(server(Vec::clear), Pace::Closed { depth: 1 })).unwrap();
    assert_eq!(load.run(SLICE).unwrap().replies, 0);
}
