//! What a loop and a connection say of themselves: every connection is counted once, with its reason.

mod common;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener},
    os::{fd::AsRawFd, unix::net::UnixStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{connect, eventually, frame, ping, serve};
use netpoll::{
    Callbacks, Error, EventLoop, Handle, Keepalive, LengthPrefixed, Reader, Writer, service_fn,
};
use poller::sys;

#[test]
fn every_close_is_counted_with_its_reason() {
    for (name, runner) in common::runners() {
        let service = Callbacks::new(|_: &Handle| Ok(()))
            .framing(LengthPrefixed::u32_be().max(1000))
            .on_request(|conn, ()| {
                conn.skip(4)?;
                match conn.read_byte()? {
                    b'p' => panic!("as it was asked to"),
                    b'e' => return Err("no".into()),
                    b't' => return Err(Error::ReadTimeout.into()),
                    b'c' => conn.handle().close(),
                    b'k' => drop(conn.take()),
                    _ => {
                        conn.write_binary(&frame(b"?"))?;
                        conn.flush()?;
                    }
                }
                Ok(())
            });
        let (event_loop, addr) = serve(EventLoop::builder().pollers(2).runner(runner), service);
        let before = event_loop.stats();
        assert_eq!((before.accepted, before.closes.total()), (0, 0), "{name}");
        for request in [&b"p"[..], b"e", b"t", b"c", b"k", &[0; 1001]] {
            let mut client = connect(addr);
            client.write_all(&frame(request)).unwrap();
            assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)), "{name}");
        }
        // The peer ends it; and resets it.
        let mut client = connect(addr);
        ping(&mut client, b"?");
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        let mut client = connect(addr);
        ping(&mut client, b"?");
        common::reset_on_drop(&client);
        drop(client);
        let dialer = event_loop.dialer();
        let (near, far) = UnixStream::pair().unwrap();
        let far = dialer.adopt(far).unwrap();
        event_loop.attach(far, service_fn(|conn| Ok(conn.skip(conn.len())?)), ());
        drop(near);
        eventually(name, || event_loop.connections() == 0);
        let stats = event_loop.stats();
        assert_eq!((stats.accepted, stats.attached, stats.dialed, stats.taken), (8, 1, 1, 1));
        let closes = stats.closes;
        assert_eq!((closes.ended, closes.closed, closes.lost), (2, 1, 1), "{name}: {closes:?}");
        assert_eq!((closes.timed_out, closes.failed, closes.panicked), (1, 2, 1), "{name}");
        assert_eq!(stats.accepted + stats.attached, stats.taken + closes.total(), "{name}");
        assert_eq!(closes.bytes_sent, 2 * 5, "{name}");
        // Four of five bytes, two pings, and at least the header of what was refused.
        assert!(closes.bytes_received >= 4 * 5 + 2 * 5 + 4, "{name}: {closes:?}");
        // Shutting down closes the others.
        let mut client = connect(addr);
        ping(&mut client, b"?");
        event_loop.shutdown(common::PATIENCE).unwrap();
        assert_eq!(event_loop.stats().closes.closed, 2, "{name}");
    }
}

#[test]
fn options_of_one_connection() {
    let handles = Arc::new(Mutex::new(Vec::<Handle>::new()));
    let place = Arc::clone(&handles);
    let service = Callbacks::new(move |handle: &Handle| {
        place.lock().unwrap().push(handle.clone());
        Ok(())
    })
    .on_request(|conn, ()| Ok(conn.skip(conn.len())?));
    let (event_loop, addr) = serve(EventLoop::builder().pollers(1), service);
    let client = connect(addr);
    eventually("its handle", || !handles.lock().unwrap().is_empty());
    let served = handles.lock().unwrap().pop().unwrap();
    // Looked at from beside: a dialed connection's socket can be had back.
    let mut dialed = event_loop.dialer().dial(addr).unwrap();
    let all = |handle: &Handle| -> netpoll::Result<()> {
        handle.set_nodelay(false)?;
        let (idle, interval) = (Duration::from_secs(60), Duration::from_secs(10));
        handle.set_keepalive(Some(Keepalive { idle, interval, count: 3 }))?;
        handle.set_user_timeout(Some(Duration::from_secs(30)))?;
        handle.set_send_buffer(50_000)?;
        handle.set_recv_buffer(60_000)
    };
    all(&served).unwrap();
    all(&dialed.handle()).unwrap();
    let socket = dialed.detach().unwrap().socket;
    assert_eq!(option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY), 0);
    assert_eq!(option(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE), 1);
    assert_eq!(option(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPCNT), 3);
    assert_eq!(option(&socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT), 30_000);
    // The kernel doubles what it is asked for.
    assert!(sys::send_buffer(&socket).unwrap() >= 50_000);
    assert!(sys::recv_buffer(&socket).unwrap() >= 60_000);
    // On a Unix socket those of TCP are passed over.
    let (_near, far) = UnixStream::pair().unwrap();
    let far = event_loop.dialer().adopt(far).unwrap();
    all(&far.handle()).unwrap();
    // A close without lingering is a reset.
    served.set_socket_linger(Some(Duration::ZERO)).unwrap();
    served.close();
    eventually("its end", || event_loop.connections() <= 1);
    let error = (&client).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    drop(far);
    // Late, it is nobody's socket.
    let closed = |handle: &Handle| matches!(all(handle), Err(Error::Closed));
    eventually("the end of its socket", || closed(&served));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let conn = event_loop.dialer().dial(listener.local_addr().unwrap()).unwrap();
    let handle = conn.handle();
    drop(conn);
    assert!(closed(&handle));
}

fn option(socket: &impl AsRawFd, level: i32, name: i32) -> i32 {
    let mut value = 0i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel writes one int to a live one.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len)
    };
    assert_eq!(done, 0);
    value
}
