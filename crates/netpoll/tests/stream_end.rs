//! The end of a stream comes after the bytes before it, however both arrive.

mod common;

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use common::{Log, connect, connect_unix, eventually, frame, pattern, read_frame, serve};
use netpoll::{
    Callbacks, Error, EventLoop, Handle, LengthPrefixed, Listener, Reader, ReaderExt, Writer,
    WriterExt, service_fn,
};

const MIB: usize = 1 << 20;

/// Counts bytes and ends, and checks that no byte comes behind an end.
#[derive(Default)]
struct Tally {
    bytes: AtomicU64,
    ends: AtomicUsize,
    closes: AtomicUsize,
}

fn tallying(tally: &Arc<Tally>) -> Callbacks<usize> {
    let (on_bytes, on_end, on_close) = (Arc::clone(tally), Arc::clone(tally), Arc::clone(tally));
    Callbacks::new(|_: &Handle| Ok(0))
        .on_request(move |conn, seen| {
            let n = conn.len();
            let bytes = conn.next(n)?;
            for &byte in bytes {
                assert_eq!(byte, (*seen % 251) as u8);
                *seen += 1;
            }
            on_bytes.bytes.fetch_add(n as u64, SeqCst);
            Ok(())
        })
        .on_end(move |conn, seen| {
            assert_eq!((conn.len(), *seen % MIB), (0, 0));
            assert!(conn.is_ended());
            assert!(matches!(conn.next(1), Err(Error::Ended { requested: 1, available: 0 })));
            on_end.ends.fetch_add(1, SeqCst);
            Ok(())
        })
        .on_close(move |_, _, why| {
            assert!(why.is_none(), "{why:?}");
            on_close.closes.fetch_add(1, SeqCst);
        })
}

fn mebibyte() -> Vec<u8> {
    (0..MIB).map(|i| (i % 251) as u8).collect()
}

/// A path for a socket that nobody else has.
fn socket_path(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("socket")
}

#[test]
fn a_mebibyte_and_an_end_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let count = common::stress(1000);
    for (_, runner) in common::runners() {
        let tally = Arc::new(Tally::default());
        let (event_loop, addr) =
            serve(EventLoop::builder().pollers(2).runner(runner), tallying(&tally));
        let path = socket_path(&dir);
        let unix = format!("unix:{}", path.display());
        event_loop.listen(Listener::bind(unix.as_str()).unwrap(), tallying(&tally)).unwrap();
        let clients: Vec<_> = (0..count)
            .flat_map(|_| {
                let path = path.clone();
                [
                    thread::spawn(move || connect(addr).write_all(&mebibyte()).unwrap()),
                    thread::spawn(move || connect_unix(&path).write_all(&mebibyte()).unwrap()),
                ]
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().expect("a client failed"));
        eventually("every end", || tally.closes.load(SeqCst) == 2 * count);
        assert_eq!(tally.ends.load(SeqCst), 2 * count);
        assert_eq!(tally.bytes.load(SeqCst), (2 * count * MIB) as u64);
        drop(event_loop);
        eventually("its path", || !path.exists());
    }
}

#[test]
fn a_half_close_is_answered_in_full() {
    for (_, runner) in common::runners() {
        let service = service_fn(|conn| {
            let (r, w) = conn.split();
            w.write_bytes(r.slice(r.len())?)?;
            thread::sleep(Duration::from_millis(50));
            match w.flush() {
                Ok(_) | Err(Error::WouldWait) => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
        .framing(LengthPrefixed::u32_be());
        let inline = matches!(runner, netpoll::Runner::Inline);
        let (_loop, addr) = serve(EventLoop::builder().runner(runner), service);
        let len = if inline { 1000 } else { MIB };
        let mut client = connect(addr);
        let mut sending = client.try_clone().unwrap();
        let sender = thread::spawn(move || {
            sending.write_all(&frame(&pattern(len, 5))).unwrap();
            sending.shutdown(Shutdown::Write).unwrap();
        });
        assert!(read_frame(&mut client).unwrap() == pattern(len, 5));
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        sender.join().unwrap();
    }
}

#[test]
fn our_half_ends_behind_what_was_flushed() {
    // By the handle, while a flush waits for a reader that is slow to come.
    let flushed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&flushed);
    let (event_loop, _) = serve(EventLoop::builder().pollers(1), service_fn(|_| Ok(())));
    let service = service_fn(move |conn| {
        conn.read_byte()?;
        conn.write_binary(&pattern(8 * MIB, 1))?;
        let handle = conn.handle();
        let ender = thread::spawn(move || {
            eventually("the flush", || handle.bytes_sent() > 0);
            handle.shutdown_write();
            handle.shutdown_write();
        });
        count.fetch_add(conn.flush()?, SeqCst);
        ender.join().expect("it does not fail");
        assert!(matches!(conn.flush(), Err(Error::Closed)));
        // Reading goes on.
        conn.read_byte()?;
        count.fetch_add(1, SeqCst);
        Ok(())
    });
    let addr = common::serve_on(&event_loop, service);
    let mut client = connect(addr);
    client.write_all(b"x").unwrap();
    thread::sleep(Duration::from_millis(60));
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert!(all == pattern(8 * MIB, 1), "{} bytes", all.len());
    client.write_all(b"y").unwrap();
    eventually("both", || flushed.load(SeqCst) == 8 * MIB + 1);

    // The same for a dialed connection, which nobody polls.
    let sink = service_fn(|conn| {
        conn.read_byte()?;
        thread::sleep(Duration::from_millis(60));
        let mut rest = 0;
        loop {
            match conn.next(1) {
                Ok(_) => rest += 1,
                Err(Error::Ended { .. }) => break,
                Err(error) => return Err(error.into()),
            }
            rest += conn.len();
            conn.skip(conn.len())?;
            conn.release();
        }
        conn.write_binary(&(rest as u64).to_be_bytes())?;
        conn.flush()?;
        Ok(())
    });
    let addr = common::serve_on(&event_loop, sink);
    let mut conn = event_loop.dialer().dial(addr).unwrap();
    conn.write_binary(&pattern(8 * MIB + 1, 1)).unwrap();
    let handle = conn.handle();
    let ender = thread::spawn(move || {
        eventually("the flush", || handle.bytes_sent() > 0);
        handle.shutdown_write();
    });
    assert_eq!(conn.flush().unwrap(), 8 * MIB + 1);
    ender.join().unwrap();
    assert_eq!(conn.read_array::<8>().unwrap(), (8 * MIB as u64).to_be_bytes());
}

#[test]
fn reset_at_every_byte() {
    let step = if std::env::var_os("NETPOLL_STRESS").is_some() { 1 } else { 41 };
    for (_, runner) in common::runners() {
        let log = Log::default();
        let closed = log.clone();
        let service = Callbacks::new(|_: &Handle| Ok(()))
            .framing(LengthPrefixed::u32_be())
            .on_request(|conn, ()| {
                let (r, w) = conn.split();
                w.write_bytes(r.slice(r.len())?)?;
                w.flush()?;
                Ok(())
            })
            .on_close(move |handle, (), _| {
                assert!(!handle.is_active());
                closed.add("close");
            });
        let (event_loop, addr) = serve(EventLoop::builder().pollers(1).runner(runner), service);
        let request = frame(&pattern(4092, 2));
        let mut rounds = 0;
        for at in (0..=2 * request.len()).step_by(step) {
            let mut client = connect(addr);
            common::reset_on_drop(&client);
            client.write_all(&request[..at.min(request.len())]).unwrap();
            let mut reply = vec![0; at.saturating_sub(request.len())];
            client.read_exact(&mut reply).unwrap();
            drop(client);
            rounds += 1;
        }
        eventually("every close", || log.count("close") == rounds);
        eventually("none is left", || event_loop.connections() == 0);
    }
}

#[test]
fn a_reset_is_told_as_such() {
    let log = Log::default();
    let closed = log.clone();
    let service = Callbacks::new(|_: &Handle| Ok(()))
        .on_request(|conn, ()| {
            conn.read_byte()?;
            Ok(conn.read_byte().map(drop)?)
        })
        .on_end(|_, ()| panic!("this is no end"))
        .on_close(move |_, (), why| {
            let why = why.expect("a reason");
            let why = why.downcast_ref::<Error>().expect("one of ours");
            assert!(why.is_closed() && matches!(why, Error::Reset), "{why:?}");
            closed.add("reset");
        });
    let (event_loop, addr) = serve(EventLoop::builder().pollers(1), service);
    for bytes in [&b""[..], b"x"] {
        let mut client = connect(addr);
        common::reset_on_drop(&client);
        client.write_all(bytes).unwrap();
        eventually("it is there", || event_loop.connections() == 1);
        thread::sleep(Duration::from_millis(10));
        drop(client);
        eventually("its end", || event_loop.connections() == 0);
    }
    assert_eq!(log.count("reset"), 2);
}

#[test]
fn urgent_data_stalls_nothing() {
    let tally = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&tally);
    let service = service_fn(move |conn| {
        count.fetch_add(conn.len() as u64, SeqCst);
        Ok(conn.skip(conn.len())?)
    });
    let (event_loop, addr) = serve(EventLoop::builder().pollers(1), service);
    let mut client = connect(addr);
    let mut sent = 0;
    for i in 0..200 {
        let bytes = vec![7; 1 + i * 13 % 3000];
        client.write_all(&bytes).unwrap();
        sent += bytes.len() as u64;
        // SAFETY: the descriptor is open, and one byte is read from a live place.
        let urgent =
            unsafe { libc::send(client.as_raw_fd(), [1u8].as_ptr().cast(), 1, libc::MSG_OOB) };
        assert_eq!(urgent, 1);
        if i % 10 == 0 {
            // Not even the byte before the urgent one is held back.
            eventually("the bytes", || tally.load(SeqCst) >= sent);
        }
    }
    client.write_all(b"end").unwrap();
    drop(client);
    eventually("its end", || event_loop.connections() == 0);
    // The urgent bytes are apart from the stream; the kernel puts one into it where another
    // followed before it was looked at.
    let seen = tally.load(SeqCst);
    assert!((sent + 3..=sent + 203).contains(&seen), "{seen} of {sent}");
}

#[test]
fn descriptors_sent_along_stall_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = socket_path(&dir);
    let tally = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&tally);
    let event_loop = EventLoop::builder().pollers(1).build().unwrap();
    let unix = format!("unix:{}", path.display());
    let service = service_fn(move |conn| {
        count.fetch_add(conn.len() as u64, SeqCst);
        Ok(conn.skip(conn.len())?)
    });
    event_loop.listen(Listener::bind(unix.as_str()).unwrap(), service).unwrap();
    let mut client = connect_unix(&path);
    let (passed, kept) = UnixStream::pair().unwrap();
    for i in 0..100 {
        client.write_all(b"before").unwrap();
        send_descriptor(&client, passed.as_raw_fd());
        client.write_all(b"behind").unwrap();
        if i % 10 == 0 {
            eventually("the bytes", || tally.load(SeqCst) == (i + 1) * 13);
        }
    }
    eventually("the bytes", || tally.load(SeqCst) == 1300);
    // Nobody keeps the other end: what was passed was closed again.
    drop(passed);
    kept.set_read_timeout(Some(common::PATIENCE)).unwrap();
    assert_eq!((&kept).read(&mut [0]).unwrap(), 0);
    drop(client);
    eventually("its end", || event_loop.connections() == 0);
}

/// One byte, and a descriptor along with it.
fn send_descriptor(stream: &UnixStream, fd: i32) {
    let mut byte = 1u8;
    let mut iov = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = [0u64; 4];
    // SAFETY: every pointer is to a live local; the control buffer is aligned, and large enough
    // for one descriptor.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd);
        assert_eq!(libc::sendmsg(stream.as_raw_fd(), &raw const message, 0), 1);
    }
}

/// A peer that sends 1 MiB and ends, and where it is.
fn one_mebibyte(event_loop: &EventLoop) -> SocketAddr {
    let service = Callbacks::new(|_: &Handle| Ok(())).on_connect(|conn, ()| {
        conn.write_binary(&mebibyte())?;
        conn.flush()?;
        conn.handle().close();
        Ok(())
    });
    common::serve_on(event_loop, service)
}

#[test]
fn bytes_and_an_end_before_attach() {
    let source = EventLoop::builder().pollers(1).build().unwrap();
    let addr = one_mebibyte(&source);
    for read_before in [0, 1, 1000, MIB] {
        for (_, runner) in common::runners() {
            let event_loop = EventLoop::builder().pollers(1).runner(runner).build().unwrap();
            let mut conn = event_loop.dialer().dial(addr).unwrap();
            // Some of it is read directly, and some stays in the buffer.
            assert!(conn.next(read_before).unwrap() == &mebibyte()[..read_before]);
            conn.release();
            if read_before == MIB {
                let _ = conn.peek(1);
                eventually("the end", || !conn.handle().is_active());
            }
            let tally = Arc::new(Tally::default());
            event_loop.attach(conn, tallying(&tally), read_before);
            eventually("the end", || tally.closes.load(SeqCst) == 1);
            assert_eq!(tally.ends.load(SeqCst), 1);
            assert_eq!(tally.bytes.load(SeqCst) as usize, MIB - read_before);
        }
    }
}

#[test]
fn read_directly_and_dialed() {
    let source = EventLoop::builder().pollers(1).build().unwrap();
    let addr = one_mebibyte(&source);
    for step in [13, 4096, 100_000, MIB] {
        let mut conn = source.dialer().dial(addr).unwrap();
        let mut seen = 0;
        while seen < MIB {
            let n = step.min(MIB - seen);
            assert!(conn.next(n).unwrap().iter().zip(seen..).all(|(b, i)| *b == (i % 251) as u8));
            seen += n;
            if seen % 4 == 0 || step > 1000 {
                conn.release();
            }
        }
        assert!(matches!(conn.next(1), Err(Error::Ended { requested: 1, available: 0 })));
        assert!(conn.is_ended() && !conn.handle().is_active());
    }
}

#[test]
fn close_sends_what_was_flushed_to_a_slow_reader() {
    let closed = Arc::new(Mutex::new(None));
    let why = Arc::clone(&closed);
    let expected = Arc::new(pattern(6 * MIB, 4));
    let bytes = Arc::clone(&expected);
    let (send, handles) = std::sync::mpsc::channel();
    let service = Callbacks::new(|_: &Handle| Ok(()))
        .on_request(move |conn, ()| {
            conn.read_byte()?;
            let mut half = conn.take_write_half().unwrap();
            let bytes = Arc::clone(&bytes);
            send.send(conn.handle())?;
            // Its flush waits; closing lingers for it, on its own thread.
            thread::spawn(move || {
                half.write_binary(&bytes).unwrap();
                half.flush()
            });
            Ok(())
        })
        .on_end(|conn, ()| {
            conn.handle().close();
            Ok(())
        })
        .on_close(move |_, (), error| *why.lock().unwrap() = Some(error.is_none()));
    let builder = EventLoop::builder().pollers(1).linger(Duration::from_secs(10));
    let (_loop, addr) = serve(builder, service);
    let mut client = connect(addr);
    client.write_all(b"x").unwrap();
    let handle = handles.recv_timeout(common::PATIENCE).unwrap();
    eventually("a flush that waits", || handle.bytes_sent() > 0);
    client.shutdown(Shutdown::Write).unwrap();
    thread::sleep(Duration::from_millis(50));
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert!(all == *expected, "{} bytes", all.len());
    eventually("the close", || closed.lock().unwrap().is_some());
}
