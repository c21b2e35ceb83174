//! Closing from everywhere at once: every callback once, no panic, and nobody's bytes to a
//! stranger.

mod common;

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::fd::{AsRawFd, RawFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use common::{connect, eventually, frame, pattern, process::in_child, serve};
use netpoll::{
    Callbacks, Error, EventLoop, Handle, LengthPrefixed, Reader, ReaderExt, Runner, Writer,
    WriterExt, service_fn,
};

/// An error that a connection may report once somebody closes it.
fn is_documented(error: &Error) -> bool {
    error.is_closed() || matches!(error, Error::Io(e) if e.kind() == std::io::ErrorKind::BrokenPipe)
}

#[test]
fn from_four_threads_while_it_serves() {
    // `closing_everywhere.rs` has the many rounds.
    let rounds = common::stress(5_000);
    for (name, runner) in common::runners() {
        let inline = matches!(runner, Runner::Inline);
        let (opened, closed, after) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
        );
        let handles = Arc::new(Mutex::new(Vec::<Handle>::new()));
        let (opens, closes, closers) =
            (Arc::clone(&opened), Arc::clone(&closed), Arc::clone(&after));
        let place = Arc::clone(&handles);
        let service = Callbacks::new(move |handle: &Handle| {
            opens.fetch_add(1, SeqCst);
            let closers = Arc::clone(&closers);
            handle.on_close(move |_| {
                closers.fetch_add(1, SeqCst);
            });
            place.lock().unwrap().push(handle.clone());
            Ok(0usize)
        })
        .on_connect(|_, _| Ok(()))
        .on_request(move |conn, calls| {
            *calls += 1;
            let (r, w) = conn.split();
            let mut serve = || {
                let n = u32::from_be_bytes(r.read_array()?) as usize;
                let slice = r.slice(n)?;
                w.write_binary(&frame(&pattern(n, 1)))?;
                w.write_bytes(slice)?;
                w.flush()
            };
            match serve() {
                Err(Error::WouldWait) if inline => Ok(()),
                Err(error) if !is_documented(&error) => panic!("{error:?}"),
                result => Ok(result.map(drop)?),
            }
        })
        .on_close(move |handle, _, why| {
            assert!(!handle.is_active());
            if let Some(error) = why.as_ref().and_then(|why| why.downcast_ref::<Error>()) {
                assert!(is_documented(error), "{error:?}");
            } else if let Some(why) = why {
                panic!("{why}");
            }
            closes.fetch_add(1, SeqCst);
        });
        let (event_loop, addr) = serve(EventLoop::builder().pollers(2).runner(runner), service);
        for round in 0..rounds {
            let mut client = connect(addr);
            let big = if inline { 100 } else { 1 << (round % 20) };
            let writer = {
                let mut client = client.try_clone().unwrap();
                thread::spawn(move || {
                    for _ in 0..3 {
                        if client.write_all(&frame(&pattern(big, 1))).is_err() {
                            break;
                        }
                    }
                })
            };
            eventually("its handle", || !handles.lock().unwrap().is_empty());
            let handle = handles.lock().unwrap().pop().unwrap();
            let threads: Vec<_> = (0..4)
                .map(|i| {
                    let handle = handle.clone();
                    thread::spawn(move || {
                        for _ in 0..(round * 37 + i * 11) % 400 {
                            std::hint::spin_loop();
                        }
                        match i {
                            0 => handle.shutdown_write(),
                            1 => handle.pause_read(),
                            _ => {}
                        }
                        handle.close();
                    })
                })
                .collect();
            for thread in threads {
                thread.join().expect("closing does not panic");
            }
            let _ = client.read_to_end(&mut Vec::new());
            writer.join().expect("a writer failed");
        }
        eventually(name, || closed.load(SeqCst) == rounds && event_loop.connections() == 0);
        assert_eq!((opened.load(SeqCst), after.load(SeqCst)), (rounds, rounds), "{name}");
    }
}

#[test]
fn from_four_threads_while_it_is_read_directly() {
    // A peer that went without reading may leave its window closed for long: the kernel's answer
    // for it, which only a timeout ends.
    let (event_loop, addr) = serve(
        EventLoop::builder().pollers(1).write_timeout(Some(Duration::from_secs(1))),
        service_fn(|conn| {
            let (r, w) = conn.split();
            w.write_bytes(r.slice(r.len())?)?;
            Ok(w.flush().map(drop)?)
        })
        .framing(LengthPrefixed::u32_be()),
    );
    let dialer = event_loop.dialer();
    for round in 0..common::stress(25_000) {
        let conn = dialer.dial(addr).unwrap();
        let handle = conn.handle();
        let closes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&closes);
        handle.on_close(move |_| {
            count.fetch_add(1, SeqCst);
        });
        let (mut r, mut w) = conn.into_split();
        let reader = thread::spawn(move || {
            loop {
                match r.next(100) {
                    Ok(_) => r.release(),
                    Err(error) => return assert!(is_documented(&error), "{error:?}"),
                }
            }
        });
        let writer = thread::spawn(move || {
            let bytes = frame(&pattern(1 << (round % 18), 1));
            loop {
                match w.write_binary(&bytes).and_then(|()| w.flush()) {
                    Ok(_) => {}
                    Err(error) => return assert!(is_documented(&error), "{error:?}"),
                }
            }
        });
        let threads: Vec<_> = (0..4)
            .map(|i| {
                let handle = handle.clone();
                thread::spawn(move || {
                    thread::sleep(Duration::from_micros((round as u64 * 97 + i) % 1000));
                    handle.close();
                })
            })
            .collect();
        for thread in threads.into_iter().chain([reader, writer]) {
            thread.join().expect("no call panics");
        }
        assert_eq!(closes.load(SeqCst), 1);
    }
    eventually("their end", || event_loop.connections() == 0);
}

/// The numbers of this process's sockets. Threads that start open other files for a moment.
fn sockets() -> BTreeSet<RawFd> {
    let numbers = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        let to = fs::read_link(&path).unwrap_or_default();
        let is_socket = to.to_string_lossy().starts_with("socket:");
        is_socket.then(|| path.file_name()?.to_str()?.parse().ok()).flatten()
    });
    numbers.collect()
}

#[test]
fn a_stranger_receives_nothing() {
    // In a process of its own: others would open sockets as well.
    if !in_child("a_stranger_receives_nothing") {
        return;
    }
    // A handle outlives its descriptor, whose number goes to somebody else.
    let event_loop = EventLoop::builder().pollers(1).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut reused = 0;
    let rounds = common::stress(2000);
    for _ in 0..rounds {
        let before = sockets();
        let conn = event_loop.dialer().dial(addr).unwrap();
        let number = *sockets().difference(&before).next().unwrap();
        let handle = conn.handle();
        let (mut peer, _) = listener.accept().unwrap();
        drop(conn);
        // The poller's thread closes it.
        eventually("its number is free", || !sockets().contains(&number));
        let strangers: Vec<_> = (0..4)
            .map(|_| {
                let one = std::net::TcpStream::connect(addr).unwrap();
                (one, listener.accept().unwrap().0)
            })
            .collect();
        let fds = strangers.iter().flat_map(|(one, other)| [one.as_raw_fd(), other.as_raw_fd()]);
        reused += fds.filter(|&fd| fd == number).count();
        handle.shutdown_write();
        handle.close();
        handle.resume_read();
        assert!(matches!(handle.set_nodelay(true), Err(Error::Closed)));
        assert!(handle.local_addr().is_none());
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        for (mut one, mut other) in strangers {
            one.write_all(b"hello").unwrap();
            let mut bytes = [0; 5];
            other.read_exact(&mut bytes).unwrap();
            other.write_all(&bytes).unwrap();
            one.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"hello");
        }
    }
    assert_eq!(reused, rounds, "its number was not given to a stranger");
}
