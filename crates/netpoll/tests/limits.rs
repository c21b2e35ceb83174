//! Nothing is unbounded: input, frames, output, waits, and what an idle connection keeps.

mod common;

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use common::{Log, PATIENCE, connect, eventually, frame, pattern, read_frame, serve};
use netpoll::{
    Callbacks, Delimited, Error, EventLoop, Handle, LengthPrefixed, Reader, Runner, Writer,
    WriterExt, service_fn,
};

const MIB: usize = 1 << 20;

/// Writes until the peer takes no more for a while; how many bytes went.
fn write_until_stuck(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    stream.set_nonblocking(true).unwrap();
    let (mut sent, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        match stream.write(bytes) {
            Ok(n) => (sent, since) = (sent + n, Instant::now()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("{error}"),
        }
    }
    stream.set_nonblocking(false).unwrap();
    sent
}

/// Keeps the handle of every connection.
fn keeping(place: &Arc<Mutex<Vec<Handle>>>) -> Callbacks<()> {
    let place = Arc::clone(place);
    Callbacks::new(move |handle: &Handle| {
        place.lock().unwrap().push(handle.clone());
        Ok(())
    })
}

#[test]
fn a_greedy_peer_meets_a_handler_that_does_not_read() {
    for (name, runner) in common::runners() {
        let handles = Arc::new(Mutex::new(Vec::new()));
        let (reads, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (go, count) = (Arc::clone(&reads), Arc::clone(&calls));
        let service = keeping(&handles).on_request(move |conn, ()| {
            count.fetch_add(1, SeqCst);
            if go.load(SeqCst) {
                conn.skip(conn.len())?;
            }
            Ok(())
        });
        let limit = 64 << 10;
        let builder = EventLoop::builder().pollers(1).runner(runner).input_limit(limit);
        let (_loop, addr) = serve(builder, service);
        let mut client = connect(addr);
        let sent = write_until_stuck(&mut client, &[7; 8192]);
        eventually("it is accepted", || !handles.lock().unwrap().is_empty());
        let handle = handles.lock().unwrap()[0].clone();
        assert!(sent > limit);
        eventually("a pause", || handle.is_read_paused());
        assert_eq!(handle.bytes_received() as usize, limit, "{name}");
        let before = calls.load(SeqCst);
        assert!(before <= limit / 1024, "{name}: called {before} times for {limit} bytes");
        thread::sleep(Duration::from_millis(30));
        assert_eq!(calls.load(SeqCst), before, "{name}: it is called for nothing");
        // Nothing comes in, so nothing calls it: the connection ends by a close from outside.
        reads.store(true, SeqCst);
        handle.close();
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    }
}

#[test]
fn reading_resumes_when_there_is_room() {
    for (name, runner) in common::runners() {
        for limit in [1, 2, 3, 8, 4096, 64 << 10] {
            let handles = Arc::new(Mutex::new(Vec::new()));
            let total = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&total);
            // Takes what is there in small steps, and releases after each.
            let service = keeping(&handles).on_request(move |conn, ()| {
                let step = (limit / 3).max(1);
                while !conn.is_empty() {
                    let n = conn.len().min(step);
                    conn.skip(n)?;
                    conn.release();
                    count.fetch_add(n, SeqCst);
                }
                Ok(())
            });
            let builder = EventLoop::builder().pollers(1).runner(runner.clone()).input_limit(limit);
            let (_loop, addr) = serve(builder, service);
            let mut client = connect(addr);
            let len = (limit * 40).clamp(300, MIB);
            client.write_all(&vec![1; len]).unwrap();
            eventually(&format!("{name}, {limit}"), || total.load(SeqCst) == len);
            eventually("no pause", || !handles.lock().unwrap()[0].is_read_paused() || limit < 4);
        }
    }
}

/// A paused socket is read again at the low mark, and not above it.
#[test]
fn reading_goes_on_at_the_low_mark() {
    let limit = 64 << 10;
    for (_, runner) in common::runners() {
        if matches!(runner, Runner::Inline) {
            continue; // Nobody reads while its handlers run.
        }
        for (given, low) in
            [(None, limit / 2), (Some(100), 100), (Some(0), 0), (Some(limit), limit)]
        {
            let (send, result) = mpsc::channel();
            let once = AtomicBool::new(false);
            let service = service_fn(move |conn| {
                if once.swap(true, SeqCst) {
                    return Ok(conn.skip(conn.len())?);
                }
                let handle = conn.handle();
                let paused = || {
                    eventually("a pause", || handle.is_read_paused());
                    handle.bytes_received()
                };
                let first = paused();
                if low < limit {
                    conn.skip(limit - low - 1)?;
                    conn.release();
                    // Whoever ends a pause is who releases: this thread, just now.
                    send.send((first, handle.is_read_paused()))?;
                }
                conn.skip(1)?;
                conn.release();
                eventually("more", || handle.bytes_received() > first);
                send.send((paused(), true))?;
                Ok(())
            });
            let builder = EventLoop::builder().pollers(1).runner(runner.clone()).input_limit(limit);
            let builder = match given {
                Some(low) => builder.input_resume(low),
                None => builder,
            };
            let (_loop, addr) = serve(builder, service);
            let mut client = connect(addr);
            client.write_all(&pattern(4 * limit, 1)).unwrap();
            if low < limit {
                assert_eq!(result.recv_timeout(PATIENCE).unwrap(), (limit as u64, true), "{low}");
            }
            let again = (2 * limit - low.min(limit - 1)) as u64;
            assert_eq!(result.recv_timeout(PATIENCE).unwrap(), (again, true), "{low}");
        }
    }
}

#[test]
fn paused_by_hand() {
    for (_, runner) in common::runners() {
        let handles = Arc::new(Mutex::new(Vec::new()));
        let total = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&total);
        let service = keeping(&handles).on_request(move |conn, ()| {
            count.fetch_add(conn.len(), SeqCst);
            Ok(conn.skip(conn.len())?)
        });
        let (event_loop, addr) = serve(EventLoop::builder().pollers(1).runner(runner), service);
        let mut other = connect(common::serve_on(&event_loop, common::echo()));
        let mut client = connect(addr);
        client.write_all(b"x").unwrap();
        eventually("the first", || total.load(SeqCst) == 1);
        let handle = handles.lock().unwrap()[0].clone();
        // Behind this, the one poller that there is was not reading when the pause came.
        let mut pause = || {
            handle.pause_read();
            common::ping(&mut other, b"others go on");
        };
        for round in 1..50 {
            pause();
            assert!(handle.is_read_paused());
            client.write_all(b"abc").unwrap();
            if round % 10 == 0 {
                thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(total.load(SeqCst), 1 + (round - 1) * 3);
            handle.resume_read();
            eventually("the rest", || total.load(SeqCst) == 1 + round * 3);
        }
        // An end behind a pause is seen after it.
        pause();
        client.write_all(b"end").unwrap();
        drop(client);
        thread::sleep(Duration::from_millis(20));
        assert_eq!(total.load(SeqCst), 1 + 49 * 3);
        handle.resume_read();
        eventually("the end", || total.load(SeqCst) == 4 + 49 * 3);
        eventually("its close", || !handle.is_active());
    }
}

#[test]
fn a_paused_dialed_connection_waits_without_spinning() {
    let (event_loop, addr) = serve(
        EventLoop::builder().pollers(1),
        Callbacks::new(|_: &Handle| Ok(())).on_connect(|conn, ()| {
            conn.write_binary(b"hello")?;
            Ok(conn.flush().map(drop)?)
        }),
    );
    let conn = event_loop.dialer().dial(addr).unwrap();
    let handle = conn.handle();
    handle.pause_read();
    let resuming = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        handle.resume_read();
    });
    let clock = poller::sys::ThreadClock::current();
    let before = clock.cpu_time();
    assert_eq!(conn.next(5).unwrap(), b"hello");
    let used = clock.cpu_time() - before;
    assert!(used < Duration::from_millis(50), "it used {used:?} of CPU to wait");
    resuming.join().unwrap();
}

#[test]
fn a_frame_over_the_limit_is_refused_from_its_header() {
    let log = Log::default();
    let service = |by_framing: bool| {
        let closed = log.clone();
        let framing = LengthPrefixed::u32_be();
        Callbacks::new(|_: &Handle| Ok(()))
            .framing(if by_framing { framing.max(1000) } else { framing })
            .on_request(|conn, ()| {
                let (r, w) = conn.split();
                w.write_bytes(r.slice(r.len())?)?;
                Ok(w.flush().map(drop)?)
            })
            .on_close(move |_, (), why| {
                if let Some(why) = why {
                    closed.add(why.to_string());
                }
            })
    };
    for by_framing in [true, false] {
        for (_, runner) in common::runners() {
            let builder = EventLoop::builder().pollers(1).runner(runner).max_message(1004);
            let (_loop, addr) = serve(builder, service(by_framing));
            let mut client = connect(addr);
            common::ping(&mut client, &pattern(1000, 1));
            let header = 1001u32.to_be_bytes();
            client.write_all(&header).unwrap();
            assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
            let (len, max) = if by_framing { (1001, 1000) } else { (1005, 1004) };
            let text = Error::FrameTooLarge { len, max }.to_string();
            eventually(&text, || log.count(&text) > 0);
            common::ping(&mut connect(addr), b"others go on");
        }
    }
    // A line that does not end is refused as well, and reaches its limit in large steps.
    let closed = log.clone();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let lines = Delimited::new("\n");
    let framing = move |buffered: &netpoll::Buffered<'_>| {
        count.fetch_add(1, SeqCst);
        netpoll::Framing::frame(&lines, buffered)
    };
    let service = Callbacks::new(|_: &Handle| Ok(()))
        .framing(framing)
        .on_request(|_, ()| Ok(()))
        .on_close(move |_, (), why| closed.add(format!("line: {}", why.is_some())));
    let builder = EventLoop::builder().pollers(1).input_limit(4096).max_message(MIB);
    let (_loop, addr) = serve(builder, service);
    let mut client = connect(addr);
    let _ = client.write_all(&vec![b'x'; 2 * MIB]);
    log.through("line: true");
    assert!(asked.load(SeqCst) < 3000, "asked {} times", asked.load(SeqCst));
}

/// Handlers that come to rest with more than half of the limit unread, and need what the pause at the
/// limit has left in the socket.
#[test]
fn the_rest_of_a_long_message_comes_after_a_pause() {
    const LIMIT: usize = 4096;
    let (first, second) = (1996, 2996);
    for (_, runner) in common::runners() {
        for framed in [true, false] {
            let log = Log::default();
            let heard = log.clone();
            let waits = !matches!(runner, Runner::Inline);
            let service = service_fn(move |conn| {
                // The handler's own framing, where the loop has none.
                if conn.len() < 4 {
                    return Ok(());
                }
                let len = conn.peek(4)?.try_into().map(u32::from_be_bytes).unwrap() as usize;
                if conn.len() < 4 + len {
                    return Ok(());
                }
                let handle = conn.handle();
                // Inline, nobody else reads meanwhile: then the pause came before, or not at all.
                if len == first && waits {
                    eventually("a pause", || handle.stats().read_paused);
                }
                conn.skip(4 + len)?;
                heard.add(len.to_string());
                Ok(())
            });
            let builder = EventLoop::builder().pollers(1).runner(runner.clone()).input_limit(LIMIT);
            let (_loop, addr) = match framed {
                true => serve(builder, service.framing(LengthPrefixed::u32_be().max(LIMIT))),
                false => serve(builder, service),
            };
            let mut client = connect(addr);
            let both = [frame(&pattern(first, 1)), frame(&pattern(second, 2))].concat();
            assert!(both.len() > LIMIT && LIMIT - 4 - first > LIMIT / 2);
            client.write_all(&both).unwrap();
            log.through(&second.to_string());
        }
    }
}

#[test]
fn a_wait_above_the_limit() {
    for (_, runner) in common::runners() {
        if matches!(runner, Runner::Inline) {
            continue;
        }
        let (send, results) = mpsc::channel();
        let send = Mutex::new(send);
        let service = service_fn(move |conn| {
            let result = (|| {
                // More than the input limit: the wait raises it.
                let n = conn.next(100_000)?.len();
                // What is held and not released counts.
                let limit = 200_000;
                assert!(matches!(
                    conn.next(100_001),
                    Err(Error::LimitReached { requested: 100_001, limit: l }) if l == limit
                ));
                assert!(matches!(
                    conn.peek(usize::MAX),
                    Err(Error::LimitReached { requested: usize::MAX, .. })
                ));
                // Just as much as possible.
                assert_eq!(conn.peek(100_000)?.len(), 100_000);
                conn.release();
                assert_eq!(conn.next(200_000)?.len(), 200_000);
                Ok::<_, Error>(n)
            })();
            send.lock().unwrap().send(result.map_err(|e| e.to_string())).unwrap();
            Ok(())
        });
        let builder =
            EventLoop::builder().pollers(1).runner(runner).input_limit(4096).max_message(200_000);
        let (_loop, addr) = serve(builder, service);
        let mut client = connect(addr);
        client.write_all(&vec![9; 300_000]).unwrap();
        assert_eq!(results.recv_timeout(PATIENCE).unwrap(), Ok(100_000));
    }
}

#[test]
fn a_slow_reader_ends_by_write_timeout() {
    for (_, runner) in common::runners() {
        if matches!(runner, Runner::Inline) {
            continue;
        }
        let (send, results) = mpsc::channel();
        let send = Mutex::new(send);
        let log = Log::default();
        let closed = log.clone();
        let service = Callbacks::new(|_: &Handle| Ok(()))
            .on_close(move |_, (), why| closed.add(why.expect("a reason").to_string()))
            .on_request(move |conn, ()| {
                conn.read_byte()?;
                let handle = conn.handle();
                handle.set_write_timeout(Some(Duration::from_millis(100)));
                conn.write_binary(&pattern(8 * MIB, 1))?;
                let start = Instant::now();
                let first = conn.flush();
                let took = start.elapsed();
                // It is done for: nothing may follow half a message.
                let second = conn.write_binary(b"more").and_then(|()| conn.flush());
                let _ = send.lock().unwrap().send((first, second, took, handle));
                Ok(())
            });
        let (event_loop, addr) = serve(EventLoop::builder().pollers(1).runner(runner), service);
        let mut client = connect(addr);
        client.write_all(b"x").unwrap();
        let (first, second, took, handle) = results.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(first, Err(Error::WriteTimeout)), "{first:?}");
        assert!(first.unwrap_err().is_timeout());
        assert!(second.is_err());
        assert!(took >= Duration::from_millis(100), "{took:?}");
        assert!(!handle.is_active());
        // The peer gets a beginning of it, and nothing else.
        let mut all = Vec::new();
        let _ = client.read_to_end(&mut all);
        assert!(all.len() < 8 * MIB && pattern(8 * MIB, 1).starts_with(&all));
        // The connection is closed, although the handler returned no error.
        eventually("its end", || event_loop.connections() == 0);
        assert_eq!(log.all(), [Error::WriteTimeout.to_string()]);
    }
}

#[test]
fn successive_writes_arrive_whole_and_in_order() {
    // 1 byte to 1 MiB each, to a peer that reads slowly, through a socket buffer of 4 KiB.
    let rounds = 11;
    for (_, runner) in common::runners() {
        let service = service_fn(move |conn| {
            let mark = conn.read_byte()?;
            let write = move |w: &mut dyn Writer| {
                for i in 0..rounds {
                    let body = pattern(1 << (2 * i), i + usize::from(mark));
                    w.write_binary(&frame(&body))?;
                    w.flush()?;
                }
                Ok::<_, Error>(())
            };
            if mark == 1 {
                // From a thread that owns the write half, while the handler goes on reading.
                let mut half = conn.take_write_half().unwrap();
                thread::spawn(move || write(&mut half).unwrap());
            } else {
                write(conn)?;
            }
            Ok(())
        });
        let builder = EventLoop::builder()
            .pollers(1)
            .runner(runner)
            .socket_options(netpoll::SocketOptions::new().send_buffer(4096));
        let (_loop, addr) = serve(builder, service);
        for mark in [0u8, 1] {
            let mut client = connect(addr);
            client.write_all(&[mark]).unwrap();
            for i in 0..rounds {
                let expected = frame(&pattern(1 << (2 * i), i + usize::from(mark)));
                // Small reads, and pauses.
                for (n, part) in expected.chunks(4096).enumerate() {
                    if n % 16 == 0 {
                        thread::sleep(Duration::from_millis(1));
                    }
                    let mut bytes = vec![0; part.len()];
                    client.read_exact(&mut bytes).unwrap();
                    assert!(bytes == part, "{i}");
                }
            }
        }
    }
}

#[test]
fn three_large_writes_in_one_callback() {
    // Ordinary buffers, limits raised: nothing is lost, whoever waits for the room.
    let size = common::stress(64 * MIB);
    let messages: Arc<Vec<_>> = Arc::new((0..3).map(|i| frame(&pattern(size, i))).collect());
    for (name, runner) in common::runners() {
        let all = Arc::clone(&messages);
        let service = service_fn(move |conn| {
            let all = Arc::clone(&all);
            let write = move |w: &mut dyn Writer| {
                all.iter().try_for_each(|message| {
                    w.write_binary(message)?;
                    w.flush().map(drop)
                })
            };
            if conn.read_byte()? == 1 {
                // From a thread that owns the write half, while the handler goes on reading.
                let mut half = conn.take_write_half().unwrap();
                thread::spawn(move || write(&mut half).unwrap());
                return Ok(());
            }
            Ok(write(conn)?)
        });
        let builder =
            EventLoop::builder().pollers(1).runner(runner).output_limit(4 * size + 4 * MIB);
        let (_loop, addr) = serve(builder, service);
        for mark in [0u8, 1] {
            let mut client = connect(addr);
            client.write_all(&[mark]).unwrap();
            for (i, message) in messages.iter().enumerate() {
                assert!(read_frame(&mut client).unwrap() == message[4..], "{name}: {i}");
            }
        }
    }
}

/// A proxy's handler flushes to a peer that does not read, so it waits, and the one that sends is held
/// back: between the two there is never more than the limit of the input.
#[test]
fn a_slow_reader_holds_back_who_sends_through_a_proxy() {
    for (name, runner) in common::runners() {
        if matches!(runner, Runner::Inline) {
            continue; // Its handlers do not wait.
        }
        let limit = 64 << 10;
        // Small buffers of the kernel's, so that they are soon full.
        let buffers = netpoll::SocketOptions::new().send_buffer(limit).recv_buffer(limit);
        let builder = EventLoop::builder()
            .pollers(1)
            .runner(runner)
            .input_limit(limit)
            .write_timeout(None)
            .socket_options(buffers);
        let event_loop = builder.build().unwrap();
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = event_loop.dialer().dial(backend.local_addr().unwrap()).unwrap();
        let (mut reader, _) = backend.accept().unwrap();
        reader.set_read_timeout(Some(PATIENCE)).unwrap();
        let (below, halves) = (to.handle(), Mutex::new(Some(to.into_split())));
        let (send, handles) = mpsc::channel();
        let send = Mutex::new(send);
        let service = Callbacks::new(move |handle: &Handle| {
            send.lock().unwrap().send(handle.clone())?;
            Ok(halves.lock().unwrap().take().expect("one alone comes"))
        })
        .on_request(|conn, (_, to)| {
            let slice = conn.slice(conn.len())?;
            to.write_bytes(slice)?;
            Ok(to.flush().map(drop)?)
        });
        let addr = common::serve_on(&event_loop, service);
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let sending = thread::spawn(move || {
            let mut client = connect(addr);
            let mut sent = 0;
            while !until.load(SeqCst) {
                client.write_all(&pattern(MIB, sent)).unwrap();
                sent += 1;
            }
            sent
        });
        let above = handles.recv_timeout(PATIENCE).unwrap();
        let check = || {
            // In this order: what is sent meanwhile makes the difference smaller.
            let received = above.bytes_received();
            let between = received.saturating_sub(below.bytes_sent());
            assert!(between <= limit as u64, "{name}: {between} bytes are held");
        };
        eventually(name, || {
            check();
            let sent = below.bytes_sent();
            thread::sleep(Duration::from_millis(20));
            let (above, below) = (above.stats(), below.stats());
            above.read_paused && below.unsent > 0 && below.bytes_sent == sent
        });
        stop.store(true, SeqCst);
        let mut part = vec![0; MIB];
        let mut seen = 0;
        // The end of the one stream is passed on behind its last byte.
        while reader.read(&mut part[..1]).unwrap() == 1 {
            reader.read_exact(&mut part[1..]).unwrap();
            assert!(part == pattern(MIB, seen), "{name}: {seen}");
            seen += 1;
            check();
        }
        assert_eq!(sending.join().expect("the sender failed"), seen);
        drop(reader);
        eventually("their end", || event_loop.connections() == 0);
    }
}

#[test]
fn output_over_its_limit_is_refused_and_loses_nothing() {
    let service = service_fn(|conn| {
        conn.read_byte()?;
        conn.write_binary(&[1; 1500])?;
        // 2,000 bytes may be pending.
        let limits = [
            conn.write_binary(&[2; 501]).unwrap_err(),
            conn.malloc(501).unwrap_err(),
            conn.placeholder(501).unwrap_err(),
        ];
        for error in limits {
            assert!(
                matches!(error, Error::LimitReached { requested: 501, limit: 2000 }),
                "{error:?}"
            );
        }
        conn.write_binary(&[3; 500])?;
        assert_eq!(conn.flush()?, 2000);
        conn.write_binary(&[4; 2000])?;
        Ok(conn.flush().map(drop)?)
    });
    let builder = EventLoop::builder().pollers(1).max_message(1000).output_limit(1000);
    let (_loop, addr) = serve(builder, service);
    let mut client = connect(addr);
    client.write_all(b"x").unwrap();
    let mut all = vec![0; 4000];
    client.read_exact(&mut all).unwrap();
    let expected: Vec<u8> =
        [(1, 1500), (3, 500), (4, 2000)].iter().flat_map(|&(b, n)| vec![b; n]).collect();
    assert!(all == expected);
}

#[test]
fn inline_replies_gather_up_to_their_limit() {
    // Nobody reads: what the socket does not take stays here, and is bounded.
    let (send, results) = std::sync::mpsc::channel();
    let send = Mutex::new(send);
    let service = service_fn(move |conn| {
        conn.read_byte()?;
        let mut flushed = 0;
        let error = loop {
            conn.write_binary(&pattern(MIB, flushed / MIB))?;
            match conn.flush() {
                Ok(n) => flushed += n,
                Err(error) => break error,
            }
            assert!(flushed < 256 * MIB);
        };
        // What was refused is still there, and is taken back.
        assert_eq!(conn.malloc_len(), MIB);
        conn.malloc_ack(0)?;
        send.lock().unwrap().send((flushed, error)).unwrap();
        Ok(())
    });
    let builder = EventLoop::builder()
        .pollers(1)
        .runner(Runner::Inline)
        .max_message(MIB)
        .output_limit(3 * MIB);
    let (event_loop, addr) = serve(builder, service);
    let mut client = connect(addr);
    client.write_all(b"x").unwrap();
    let (flushed, error) = results.recv_timeout(common::PATIENCE).unwrap();
    assert!(matches!(error, Error::WouldWait), "{error:?}");
    // All that was accepted arrives, without any handler's doing.
    let mut all = vec![0; flushed];
    client.read_exact(&mut all).unwrap();
    for (i, part) in all.chunks(MIB).enumerate() {
        assert!(part == pattern(MIB, i), "{i}");
    }
    assert_eq!(event_loop.connections(), 1);
}

#[test]
fn more_connections_than_the_cap_on_handlers() {
    // Each of them waits once; there are places for two at a time.
    let service = service_fn(|conn| {
        conn.read_byte()?;
        let second = conn.read_byte()?;
        conn.write_binary(&frame(&[second]))?;
        Ok(conn.flush().map(drop)?)
    });
    let (event_loop, addr) = serve(EventLoop::builder().pollers(2).cap(2), service);
    let mut clients: Vec<_> = (0..10).map(|_| connect(addr)).collect();
    for client in &mut clients {
        client.write_all(b"a").unwrap();
    }
    eventually("a queue", || event_loop.stats().queued >= 1 && event_loop.stats().handlers == 2);
    for client in &mut clients {
        client.write_all(b"b").unwrap();
    }
    for client in &mut clients {
        assert_eq!(read_frame(client).unwrap(), b"b");
    }
    eventually("free places", || {
        let stats = event_loop.stats();
        (stats.handlers, stats.queued) == (0, 0)
    });
}
