//! Waits end in time: never early, and at once when somebody ends them from elsewhere.

mod common;

use std::{
    io::Write,
    net::TcpListener,
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use common::{PATIENCE, connect, pattern, serve};
use netpoll::{Connection, Error, EventLoop, Handle, Reader, Writer, service_fn};

const SHORT: Duration = Duration::from_millis(30);
/// How late counts as "not at once" on a machine that is busy with something else.
const LATE: Duration = Duration::from_secs(5);

/// A dialed connection to somebody who neither writes nor reads, and that somebody.
fn silent() -> (EventLoop, Connection, std::net::TcpStream) {
    let event_loop = EventLoop::builder().pollers(1).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let conn = event_loop.dialer().dial(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    (event_loop, conn, peer)
}

/// Runs `f` with a connection that a handler has, and gives back what it says.
fn in_handler<T: Send + 'static>(
    f: impl Fn(&mut Connection) -> T + Send + Sync + 'static,
) -> (EventLoop, std::net::TcpStream, mpsc::Receiver<T>) {
    let (send, results) = mpsc::channel();
    let send = Mutex::new(send);
    let service = service_fn(move |conn| {
        conn.skip(1)?;
        let result = f(conn);
        let _ = send.lock().unwrap().send(result);
        Ok(())
    });
    let (event_loop, addr) = serve(EventLoop::builder().pollers(1), service);
    let mut client = connect(addr);
    client.write_all(b"x").unwrap();
    (event_loop, client, results)
}

/// What a wait came to and how long it took, when `meanwhile` is done to its handle from another
/// thread.
fn waited<T>(
    conn: &mut Connection,
    wait: impl FnOnce(&mut Connection) -> T,
    meanwhile: impl FnOnce(Handle) + Send + 'static,
) -> (T, Duration) {
    let handle = conn.handle();
    let start = Instant::now();
    let other = thread::spawn(move || {
        thread::sleep(SHORT);
        meanwhile(handle);
    });
    let result = wait(conn);
    let took = start.elapsed();
    other.join().unwrap();
    (result, took)
}

fn read_one(conn: &mut Connection) -> Result<u8, Error> {
    conn.next(1).map(|bytes| bytes[0])
}

fn write_much(conn: &mut Connection) -> Result<usize, Error> {
    conn.write_binary(&pattern(16 << 20, 1))?;
    conn.flush()
}

/// Every way to end a wait, on a connection that has neither bytes nor room.
fn every_way(mut fresh: impl FnMut(fn(&mut Connection))) {
    // Timeouts and deadlines: never early.
    fresh(|conn| {
        let handle = conn.handle();
        for round in 1..=5 {
            let timeout = Duration::from_millis(3 * round);
            handle.set_read_timeout(Some(timeout));
            let start = Instant::now();
            assert!(matches!(read_one(conn), Err(Error::ReadTimeout)));
            let took = start.elapsed();
            assert!(took >= timeout && took < LATE, "{took:?} of {timeout:?}");
        }
        handle.set_read_timeout(None);
        let deadline = Instant::now() + SHORT;
        handle.set_read_deadline(Some(deadline));
        assert!(matches!(read_one(conn), Err(Error::ReadTimeout)));
        assert!(Instant::now() >= deadline);
        // A deadline that is past ends every wait at once.
        let start = Instant::now();
        assert!(matches!(read_one(conn), Err(Error::ReadTimeout)));
        assert!(start.elapsed() < LATE);
    });
    // A deadline that is set while somebody waits.
    fresh(|conn| {
        conn.handle().set_read_timeout(None);
        let (result, took) = waited(conn, read_one, |handle| {
            handle.set_read_deadline(Some(Instant::now() + SHORT));
        });
        assert!(matches!(result, Err(Error::ReadTimeout)), "{result:?}");
        assert!(took >= 2 * SHORT && took < LATE, "{took:?}");
    });
    // A timeout that becomes shorter while somebody waits.
    fresh(|conn| {
        conn.handle().set_read_timeout(None);
        let (result, took) = waited(conn, read_one, |handle| {
            handle.set_read_timeout(Some(Duration::from_millis(1)));
        });
        assert!(matches!(result, Err(Error::ReadTimeout)), "{result:?}");
        assert!(took >= SHORT && took < LATE, "{took:?}");
    });
    // A close.
    fresh(|conn| {
        conn.handle().set_read_timeout(None);
        let (result, took) = waited(conn, read_one, |handle| handle.close());
        assert!(matches!(result, Err(Error::Closed)), "{result:?}");
        assert!(took >= SHORT && took < LATE, "{took:?}");
    });
    // The same for a flush.
    fresh(|conn| {
        let timeout = Duration::from_millis(20);
        conn.handle().set_write_timeout(Some(timeout));
        let start = Instant::now();
        assert!(matches!(write_much(conn), Err(Error::WriteTimeout)));
        let took = start.elapsed();
        assert!(took >= timeout && took < LATE, "{took:?}");
        assert!(conn.flush().is_err());
    });
    fresh(|conn| {
        conn.handle().set_write_timeout(None);
        let (result, took) = waited(conn, write_much, |handle| {
            handle.set_write_deadline(Some(Instant::now()));
        });
        assert!(matches!(result, Err(Error::WriteTimeout)), "{result:?}");
        assert!(took >= SHORT && took < LATE, "{took:?}");
    });
    fresh(|conn| {
        conn.handle().set_write_timeout(None);
        let (result, took) = waited(conn, write_much, |handle| handle.close());
        assert!(matches!(result, Err(Error::Closed)), "{result:?}");
        assert!(took >= SHORT && took < LATE, "{took:?}");
    });
}

#[test]
fn on_a_connection_that_is_read_directly() {
    every_way(|f| {
        let (_loop, mut conn, _peer) = silent();
        f(&mut conn);
    });
}

#[test]
fn in_a_handler() {
    every_way(|f| {
        let (_loop, _client, results) = in_handler(f);
        results.recv_timeout(PATIENCE).expect("the handler failed");
    });
}

#[test]
fn on_a_taken_connection() {
    every_way(|f| {
        let (_loop, _client, results) = in_handler(|conn| conn.take().unwrap());
        let mut conn = results.recv_timeout(PATIENCE).unwrap();
        f(&mut conn);
    });
}

#[test]
fn changes_of_a_deadline_are_never_lost() {
    // The deadline moves at a moment that may fall anywhere around the waker's registration.
    let (_loop, mut conn, _peer) = silent();
    for round in 0..common::stress(20_000) {
        let handle = conn.handle();
        handle.set_read_timeout(None);
        handle.set_read_deadline(None);
        let other = thread::spawn(move || {
            for _ in 0..round % 200 {
                std::hint::spin_loop();
            }
            handle.set_read_deadline(Some(Instant::now()));
        });
        let start = Instant::now();
        assert!(matches!(read_one(&mut conn), Err(Error::ReadTimeout)));
        assert!(start.elapsed() < LATE);
        other.join().unwrap();
    }
}

/// How late a wait of `timeout` ends, and parking for as long, by turns: medians, and never early.
fn lateness(timeout: Duration, mut wait: impl FnMut()) -> (Duration, Duration) {
    let (mut ours, mut parks) = (Vec::new(), Vec::new());
    for _ in 0..41 {
        let start = Instant::now();
        wait();
        let took = start.elapsed();
        assert!(took >= timeout, "{took:?} is early for {timeout:?}");
        ours.push(took - timeout);
        let start = Instant::now();
        while start.elapsed() < timeout {
            thread::park_timeout(timeout.saturating_sub(start.elapsed()));
        }
        parks.push(start.elapsed() - timeout);
    }
    ours.sort();
    parks.sort();
    (ours[20], parks[20])
}

#[track_caller]
fn check_lateness(what: &str, (ours, parks): (Duration, Duration)) {
    println!("{what}: {ours:?} late, parking {parks:?}");
    // Where parking itself is late by milliseconds, the two medians differ by as much for no reason.
    let most = 2 * parks + Duration::from_millis(2);
    assert!(ours < most, "{what}: {ours:?} against {parks:?}");
}

#[test]
fn lateness_is_that_of_parking() {
    let timeout = Duration::from_millis(5);
    let reads = move |conn: &mut Connection| {
        conn.handle().set_read_timeout(Some(timeout));
        lateness(timeout, || assert!(read_one(conn).is_err()))
    };
    let (_loop, mut conn, _peer) = silent();
    check_lateness("reading directly", reads(&mut conn));
    let (_loop, _client, results) = in_handler(reads);
    check_lateness("in a handler", results.recv_timeout(PATIENCE).unwrap());
    let (_loop, _client, results) = in_handler(|conn| conn.take().unwrap());
    check_lateness("taken", reads(&mut results.recv_timeout(PATIENCE).unwrap()));
}

#[test]
fn lateness_of_flushes_is_that_of_parking() {
    let timeout = Duration::from_millis(5);
    // Each flush that times out is the last one of its connection.
    let event_loop = EventLoop::builder().pollers(1).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut stuck: Vec<_> = (0..41)
        .map(|_| {
            let mut conn = event_loop.dialer().dial(addr).unwrap();
            let peer = listener.accept().unwrap();
            conn.handle().set_send_buffer(4096).unwrap();
            conn.handle().set_write_timeout(Some(timeout));
            conn.write_binary(&vec![7; 1 << 20]).unwrap();
            (conn, peer)
        })
        .collect();
    let mut next = 0;
    // What the socket takes at first is no waiting, but copying it takes time as well.
    let ours = lateness(timeout, || {
        assert!(matches!(stuck[next].0.flush(), Err(Error::WriteTimeout)));
        next += 1;
    });
    check_lateness("flushing directly", ours);
}

#[test]
fn what_is_there_at_the_deadline_counts() {
    for _ in 0..common::stress(1000) {
        let (_loop, mut conn, mut peer) = silent();
        peer.write_all(b"x").unwrap();
        thread::sleep(Duration::from_millis(1));
        conn.handle().set_read_deadline(Some(Instant::now()));
        assert_eq!(read_one(&mut conn).unwrap(), b'x');
    }
}

#[test]
fn dialing_ends_in_time() {
    // A listener whose backlog is full answers nobody.
    let listener = poller_backlog();
    let addr = listener.local_addr().unwrap();
    let mut fill = Vec::new();
    for _ in 0..4 {
        let socket = std::net::TcpStream::connect_timeout(&addr, Duration::from_millis(50));
        fill.push(socket);
    }
    let event_loop = EventLoop::builder().pollers(1).build().unwrap();
    let timeout = Duration::from_millis(50);
    let start = Instant::now();
    let dialed = event_loop.dialer().timeout(Some(timeout)).dial(addr);
    let took = start.elapsed();
    match dialed {
        Err(error) => {
            assert!(error.is_timeout(), "{error:?}");
            assert!(error.to_string().contains(&addr.port().to_string()), "{error}");
            assert!(took >= timeout && took < LATE, "{took:?}");
        }
        Ok(_) => eprintln!("the kernel answered for a full backlog"),
    }
}

fn poller_backlog() -> TcpListener {
    let addr = poller::sys::Addr::from("127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap());
    let fd = poller::sys::stream_socket(&addr).unwrap();
    poller::sys::bind(&fd, &addr).unwrap();
    poller::sys::listen(&fd, 0).unwrap();
    TcpListener::from(fd)
}
