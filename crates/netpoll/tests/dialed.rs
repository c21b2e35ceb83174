//! Connections of a dialer: adopted sockets, health, and failures.

mod common;

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, UdpSocket},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use common::{connect, eventually, ping, serve, stress};
use netpoll::{
    Addr, CallOff, ConnectOptions, Error, EventLoop, LengthPrefixed, Listener, Reader, ReaderExt,
    Writer, WriterExt, service_fn,
};
use poller::sys;

#[test]
fn adopted_sockets_are_connections() {
    let event_loop = EventLoop::builder().pollers(1).build().unwrap();
    let dialer = event_loop.dialer();
    // TCP, with bytes and an end already there.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = connect(listener.local_addr().unwrap());
    client.write_all(b"hello").unwrap();
    let conn = dialer.adopt(listener.accept().unwrap().0).unwrap();
    assert_eq!(&conn.read_array::<5>().unwrap(), b"hello");
    drop(client);
    assert!(matches!(conn.next(1), Err(Error::Ended { .. })));
    // A pair, one end of it served.
    let (mut near, far) = UnixStream::pair().unwrap();
    near.set_read_timeout(Some(common::PATIENCE)).unwrap();
    near.write_all(&common::frame(b"early")).unwrap();
    event_loop.attach(dialer.adopt(far).unwrap(), common::echo(), ());
    assert_eq!(common::read_frame(&mut near).unwrap(), b"early");
    ping(&mut near, b"late");
    drop(near);
    eventually("its end", || event_loop.connections() == 0);
    // What is no connected stream is refused.
    let kind = |error: Error| std::io::Error::from(error).kind();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(kind(dialer.adopt(udp).unwrap_err()), ErrorKind::InvalidInput);
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(kind(dialer.adopt(file).unwrap_err()), ErrorKind::InvalidInput);
    assert_eq!(kind(dialer.adopt(listener).unwrap_err()), ErrorKind::NotConnected);
    drop(event_loop);
    let (one, _other) = UnixStream::pair().unwrap();
    assert!(matches!(dialer.adopt(one), Err(Error::Closed)));
}

#[test]
fn the_health_of_a_connection_that_was_kept() {
    let event_loop = EventLoop::builder().pollers(1).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dial = || {
        let conn = event_loop.dialer().dial(listener.local_addr().unwrap()).unwrap();
        (conn, listener.accept().unwrap().0)
    };
    let (conn, mut peer) = dial();
    assert!(conn.is_healthy() && conn.is_healthy());
    peer.write_all(b"unasked").unwrap();
    eventually("the bytes", || !conn.is_healthy());
    assert_eq!(conn.next(7).unwrap(), b"unasked");
    assert!(conn.is_healthy());
    peer.write_all(b"ab").unwrap();
    assert_eq!(conn.next(1).unwrap(), b"a");
    assert!(!conn.is_healthy(), "a byte is buffered");
    let (conn, peer) = dial();
    drop(peer);
    eventually("the end", || !conn.is_healthy());
    let (conn, peer) = dial();
    common::reset_on_drop(&peer);
    drop(peer);
    eventually("the reset", || !conn.is_healthy());
    let (conn, _peer) = dial();
    conn.handle().close();
    assert!(!conn.is_healthy());
}

#[test]
fn is_active_knows_without_io() {
    let event_loop = EventLoop::builder().pollers(1).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let conn = event_loop.dialer().dial(listener.local_addr().unwrap()).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    assert!(conn.handle().is_active());
    peer.write_all(b"last words").unwrap();
    drop(peer);
    eventually("the hang-up", || !conn.handle().is_active());
    assert_eq!(conn.next(10).unwrap(), b"last words");
    assert!(matches!(conn.next(1), Err(Error::Ended { requested: 1, available: 0 })));
}

#[test]
fn failures_name_the_address() {
    let event_loop = EventLoop::builder().pollers(1).build().unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = event_loop.dialer().dial(gone).unwrap_err();
    assert!(error.to_string().contains(&gone.to_string()), "{error}");
    let error = std::io::Error::from(error);
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let error = event_loop.dialer().dial("unix:/nowhere/at/all").unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}

#[test]
fn dials_with_hardly_any_time() {
    let (event_loop, addr) =
        serve(EventLoop::builder().pollers(1), service_fn(|conn| Ok(conn.skip(conn.len())?)));
    for i in 0..stress(10_000) as u64 {
        let timeout = Duration::from_nanos(1 + i * 9973 % 1_000_000);
        match event_loop.dialer().timeout(Some(timeout)).dial(addr) {
            Ok(conn) => assert!(conn.handle().peer_addr().is_some()),
            Err(error) => assert!(error.is_timeout(), "{error:?}"),
        }
    }
    eventually("none is left", || event_loop.connections() == 0);
    eventually("nothing is registered", || event_loop.pollers()[0].connections == 0);
}

#[test]
fn dials_from_many_threads() {
    let dir = tempfile::tempdir().unwrap();
    let path = format!("unix:{}", dir.path().join("here").display());
    let name = format!("unix:@netpoll-test-dials-{}", std::process::id());
    let event_loop = EventLoop::builder().pollers(2).build().unwrap();
    for unix in [&path, &name] {
        event_loop.listen(Listener::bind(unix).unwrap(), common::echo()).unwrap();
    }
    let addr = common::serve_on(&event_loop, common::echo());
    let (by_name, far) =
        (format!("localhost:{}", addr.port()), "192.0.2.1:0".parse::<Addr>().unwrap());
    let dialer = event_loop.dialer().timeout(Some(common::PATIENCE));
    thread::scope(|scope| {
        for thread in 0..8 {
            let (dialer, by_name, path, name, far) = (&dialer, &by_name, &path, &name, &far);
            scope.spawn(move || {
                for round in 0..stress(4_000) {
                    let by_addr = addr.to_string();
                    let target = [&by_addr, by_name, path, name][(thread + round) % 4];
                    let mut conn = dialer.dial(target).unwrap();
                    let sent = common::frame(&common::pattern(round % 500, thread));
                    conn.write_binary(&sent).unwrap();
                    conn.flush().unwrap();
                    assert!(conn.next(sent.len()).unwrap() == sent);
                    // Those that fail disturb nobody, and say where they were to go.
                    let from = ConnectOptions::new().local_addr(far.clone());
                    let error = dialer.clone().options(from).dial(addr).unwrap_err();
                    assert!(error.to_string().contains(&by_addr), "{error}");
                }
            });
        }
    });
    eventually("none is left", || event_loop.connections() == 0);
    eventually("nothing is registered", || event_loop.pollers().iter().all(|p| p.connections == 0));
}

#[test]
fn dialing_inside_a_handler_holds_up_nobody() {
    // A proxy: each request goes through a connection to a backend on the same loop, and poller.
    let event_loop = EventLoop::builder().pollers(1).build().unwrap();
    let backend = common::serve_on(&event_loop, common::echo());
    let dialer = event_loop.dialer();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let front = service_fn(move |conn| {
        let pooled = kept.lock().unwrap().pop();
        let mut to = match pooled {
            Some(to) => to,
            None => dialer.dial(backend)?,
        };
        let (r, w) = conn.split();
        let (from, forward) = to.split();
        forward.write_bytes(r.slice(r.len())?)?;
        forward.flush()?;
        let len = u32::from_be_bytes(from.read_array()?);
        w.malloc(4)?.put_u32(len);
        w.write_bytes(from.slice(len as usize)?)?;
        w.flush()?;
        from.release();
        kept.lock().unwrap().push(to);
        Ok(())
    })
    .framing(LengthPrefixed::u32_be());
    let addr = common::serve_on(&event_loop, front);
    let clients: Vec<_> = (0..16)
        .map(|i| {
            thread::spawn(move || {
                let mut client = connect(addr);
                for round in 0..50 {
                    ping(&mut client, &common::pattern(round * 101, i));
                }
                client.shutdown(std::net::Shutdown::Write).unwrap();
                assert_eq!(client.read(&mut [0]).unwrap(), 0);
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("a client failed"));
}

/// A listener whose queue is full: an address that answers nothing.
fn black_hole() -> (TcpListener, Vec<std::os::fd::OwnedFd>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    sys::listen(&listener, 0).unwrap();
    let addr = Addr::from(listener.local_addr().unwrap());
    let waiting = (0..20).map(|_| {
        let fd = sys::stream_socket(&addr).unwrap();
        sys::connect(&fd, &addr).unwrap();
        fd
    });
    let waiting = waiting.collect();
    (listener, waiting)
}

#[test]
fn a_loop_that_ends_at_once_calls_dials_off() {
    let (hole, _waiting) = black_hole();
    let silent = hole.local_addr().unwrap();
    for _ in 0..5 {
        let event_loop = EventLoop::builder().pollers(1).build().unwrap();
        let (send, results) = mpsc::channel();
        let (inside, dialer) = (send.clone(), event_loop.dialer());
        let inside = Mutex::new(inside);
        let addr = common::serve_on(
            &event_loop,
            service_fn(move |conn| {
                conn.skip(conn.len())?;
                inside.lock().unwrap().send(dialer.dial(silent).map(drop)).unwrap();
                Ok(())
            }),
        );
        let mut client = connect(addr);
        client.write_all(b"x").unwrap();
        let dialer = event_loop.dialer();
        let dialing = thread::spawn(move || send.send(dialer.dial(silent).map(drop)).unwrap());
        // Before, after, or while they wait: it comes to the same.
        thread::sleep(Duration::from_millis(10));
        eventually("the handler", || event_loop.stats().handlers == 1);
        event_loop.shutdown_now();
        for _ in 0..2 {
            let result = results.recv_timeout(common::PATIENCE).unwrap();
            assert!(matches!(result, Err(Error::Closed)), "{result:?}");
        }
        dialing.join().unwrap();
        event_loop.shutdown(common::PATIENCE).unwrap();
    }
}

#[test]
fn dials_are_called_off_from_another_thread() {
    let (hole, _waiting) = black_hole();
    let silent = hole.local_addr().unwrap();
    let event_loop = EventLoop::builder().pollers(1).build().unwrap();
    let there = TcpListener::bind("127.0.0.1:0").unwrap();
    let dialer = event_loop.dialer().timeout(Some(4 * common::PATIENCE));
    let short = Duration::from_millis(20);
    for round in 0..stress(500) as u32 {
        let off = CallOff::new().unwrap();
        let dialing: Vec<_> = (0..2)
            .map(|_| {
                let dialer = dialer.clone().call_off(&off);
                thread::spawn(move || dialer.dial(silent).unwrap_err())
            })
            .collect();
        // Before, while, or just as they begin to wait.
        thread::sleep(short / 20 * (round % 5));
        let start = Instant::now();
        match round % 3 {
            0 => off.now(),
            1 => off.at(Some(start + short)),
            _ => {
                off.at(Some(start + 2 * common::PATIENCE));
                off.at(Some(start + short));
            }
        }
        for dial in dialing {
            let error = dial.join().expect("dialing does not panic");
            assert!(start.elapsed() < common::PATIENCE);
            if round % 3 == 0 {
                assert!(matches!(error, Error::Closed), "{error:?}");
            } else {
                assert!(error.is_timeout() && start.elapsed() >= short, "{error:?}");
            }
        }
        // Later dials under it end at once, others are not concerned.
        off.now();
        off.at(None);
        assert!(matches!(dialer.clone().call_off(&off).dial(silent), Err(Error::Closed)));
        drop(dialer.dial(there.local_addr().unwrap()).unwrap());
        drop(there.accept().unwrap());
    }
    eventually("nothing is registered", || event_loop.pollers()[0].connections == 0);
}

#[test]
fn what_cannot_be_reached_is_told_with_its_address() {
    let event_loop = EventLoop::builder().pollers(1).build().unwrap();
    let dialer = event_loop.dialer().timeout(Some(common::PATIENCE));
    // The kernel connects to nobody at an address of many.
    let error = dialer.dial("224.0.0.1:7").unwrap_err();
    assert!(error.to_string().contains("224.0.0.1:7"), "{error}");
    assert_eq!(std::io::Error::from(error).kind(), ErrorKind::NetworkUnreachable);
    // Injected: for this one thread, every attempt to connect fails so.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap();
    let inside = dialer.clone();
    let result = thread::spawn(move || {
        fail_to_connect(libc::EHOSTUNREACH).then(|| inside.dial(there).unwrap_err())
    });
    let Some(error) = result.join().unwrap() else {
        eprintln!("NOT TESTED: this system lets no error be injected");
        return;
    };
    assert!(error.to_string().contains(&there.to_string()), "{error}");
    assert_eq!(std::io::Error::from(error).kind(), ErrorKind::HostUnreachable);
    // Others are not concerned, and nothing is left behind.
    drop(dialer.dial(there).unwrap());
    eventually("nothing", || event_loop.pollers()[0].connections == 0);
}

/// Has each `connect` of the calling thread fail from now on. Whether the system lets us.
fn fail_to_connect(errno: i32) -> bool {
    let step = |code: u32, jt, jf, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let fail = libc::SECCOMP_RET_ERRNO | errno as u32;
    let mut filter = [
        // The number of the system call stands first in what a filter sees.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_connect as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, fail),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel reads a program of that length; both live until it has.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    }
}
