//! `mux::ShardQueue`: many threads write one connection.

mod common;

use std::{
    io::Read,
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use common::{PATIENCE, connect, eventually, frame, read_frame, serve, stress};
use netpoll::{
    Error, EventLoop, Handle, LinkBuffer, ReadHalf, Reader, ReaderExt, Runner, Writer, WriterExt,
    mux::{Builder, Reason, ShardQueue},
    service_fn,
};

/// A queue in front of a dialed connection, and the other end of it.
struct Pair {
    queue: ShardQueue,
    peer: TcpStream,
    handle: Handle,
    _read: ReadHalf,
    _loop: EventLoop,
}

fn pair(builder: Builder) -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let event_loop = EventLoop::builder().pollers(1).build().unwrap();
    let conn = event_loop.dialer().dial(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let handle = conn.handle();
    let (read, write) = conn.into_split();
    Pair { queue: builder.build(write), peer, handle, _read: read, _loop: event_loop }
}

/// Room for few bytes on the way, so that a peer that does not read is soon felt. More than the
/// largest segment all the same: below that it is TCP's timers that are felt.
fn narrow(builder: Builder) -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    poller::sys::set_recv_buffer(&listener, 128 << 10).unwrap();
    let options = netpoll::SocketOptions::new().send_buffer(Some(32 << 10));
    let event_loop = EventLoop::builder().pollers(1).socket_options(options).build().unwrap();
    let conn = event_loop.dialer().dial(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let handle = conn.handle();
    let (read, write) = conn.into_split();
    Pair { queue: builder.build(write), peer, handle, _read: read, _loop: event_loop }
}

/// The `n`th message of a producer, of a length that its numbers give.
fn body(producer: usize, n: usize) -> Vec<u8> {
    let len = (producer * 37 + n * 101) % 300;
    let mut body = (producer as u32).to_be_bytes().to_vec();
    body.extend_from_slice(&(n as u32).to_be_bytes());
    body.extend(common::pattern(len, producer + n));
    body
}

/// Adds it, in one of the three ways to write a message.
fn add(queue: &ShardQueue, producer: usize, n: usize) -> netpoll::Result<()> {
    let bytes = body(producer, n);
    match n % 3 {
        0 => queue.add(move |w| {
            w.malloc(4)?.put_u32(bytes.len() as u32);
            w.write_binary(&bytes)?;
            w.flush()?;
            Ok(())
        })?,
        1 => queue.add(move |w| {
            let head = w.placeholder(4)?;
            let len = bytes.len() as u32;
            w.write_bytes(bytes)?;
            w.fill(head, &len.to_be_bytes())?;
            Ok(())
        })?,
        _ => {
            let mut buf = LinkBuffer::new();
            buf.write_bytes(frame(&bytes))?;
            queue.add_buffer(buf)?;
        }
    }
    Ok(())
}

/// Reads frames until the end: how many came of each producer, each whole and in its order.
fn verify(peer: &mut impl Read, producers: usize) -> Vec<usize> {
    let mut next = vec![0; producers];
    loop {
        match read_frame(peer) {
            Ok(bytes) => {
                let producer = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
                let n = &mut next[producer];
                assert_eq!(bytes, body(producer, *n), "of producer {producer}, message {n}");
                *n += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
                return next;
            }
        }
    }
}

/// `producers` threads add, while the peer reads and verifies.
fn many(pair: Pair, producers: usize, each: usize) -> netpoll::mux::Stats {
    let Pair { queue, mut peer, _read, _loop, .. } = pair;
    let received = thread::scope(|scope| {
        let reader = scope.spawn(move || verify(&mut peer, producers));
        let writers: Vec<_> = (0..producers)
            .map(|producer| {
                let queue = queue.clone();
                scope.spawn(move || (0..each).for_each(|n| add(&queue, producer, n).unwrap()))
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        queue.close().unwrap();
        assert!(queue.is_empty());
        let stats = queue.stats();
        drop(queue);
        (reader.join().unwrap(), stats)
    });
    assert_eq!(received.0, vec![each; producers]);
    received.1
}

#[test]
fn many_producers_each_in_its_order() {
    let stats = many(pair(ShardQueue::builder()), 16, stress(100_000));
    assert!(stats.sends <= 16 * stress(100_000) as u64);
}

#[test]
fn many_producers_at_narrow_limits() {
    let builder = ShardQueue::builder().max_messages(3).max_bytes(500);
    many(narrow(builder), 8, stress(20_000));
}

#[test]
fn without_a_pool_thread_the_producers_send_themselves() {
    let pool = gopool::Pool::builder().cap(1).build().unwrap();
    pool.shutdown(Duration::ZERO).unwrap();
    many(narrow(ShardQueue::builder().pool(pool)), 4, stress(20_000));
}

/// The other kind of connection: a poller fills its input, and a handler gave the half away.
#[test]
fn replies_of_a_served_connection() {
    let (event_loop, addr) = serve(
        EventLoop::builder(),
        netpoll::Callbacks::new(|_| Ok(None::<ShardQueue>))
            .on_connect(|conn, queue| {
                *queue = conn.take_write_half().map(ShardQueue::new);
                Ok(())
            })
            .on_request(|conn, queue| {
                let queue = queue.clone().ok_or("no queue")?;
                let n = u32::from_be_bytes(conn.read_array()?) as usize;
                let producers = (0..4).map(|producer| {
                    let queue = queue.clone();
                    thread::spawn(move || (0..n).try_for_each(|n| add(&queue, producer, n)))
                });
                producers.collect::<Vec<_>>().into_iter().try_for_each(|t| t.join().unwrap())?;
                queue.close()?;
                queue.handle().shutdown_write();
                Ok(())
            }),
    );
    let mut stream = connect(addr);
    let each = stress(20_000);
    std::io::Write::write_all(&mut stream, &(each as u32).to_be_bytes()).unwrap();
    assert_eq!(verify(&mut stream, 4), [each; 4]);
    drop(stream);
    event_loop.shutdown(PATIENCE).unwrap();
}

#[test]
fn a_slow_reader_holds_producers_back_and_loses_nothing() {
    let builder = ShardQueue::builder().max_messages(8);
    let Pair { queue, mut peer, _read, _loop, .. } = narrow(builder);
    let total = stress(4_000).max(200);
    let size = 16 << 10;
    let added = Arc::new(AtomicUsize::new(0));
    let producer = thread::spawn({
        let (queue, added) = (queue.clone(), Arc::clone(&added));
        move || {
            for n in 0..total {
                let bytes = frame(&common::pattern(size, n));
                queue
                    .add(move |w| {
                        w.write_bytes(bytes)?;
                        Ok(())
                    })
                    .unwrap();
                added.fetch_add(1, SeqCst);
            }
        }
    });
    // It comes to a stand: what is in sockets, in one chunk and in the queue.
    let (mut last, mut same) = (usize::MAX, 0);
    eventually("back-pressure", || {
        thread::sleep(Duration::from_millis(30));
        let now = added.load(SeqCst);
        same = if now == last && queue.len() == 8 { same + 1 } else { 0 };
        last = now;
        same == 10
    });
    assert!(last < total, "{last} messages were taken from nobody's reading");
    assert_eq!(queue.len(), 8);
    let refused = queue.try_add(|_| Ok(())).unwrap_err();
    assert!(refused.is_full() && matches!(refused.reason, Reason::Full));
    assert!(queue.try_add_buffer(LinkBuffer::new()).unwrap_err().is_full());
    for n in 0..total {
        assert_eq!(read_frame(&mut peer).unwrap(), common::pattern(size, n));
    }
    producer.join().unwrap();
    queue.close().unwrap();
    assert!(queue.stats().relays > 0, "the producer was never held up by itself");
}

/// A producer is back at once as long as there is room, however slow the peer.
#[test]
fn a_slow_reader_does_not_hold_up_who_still_has_room() {
    let Pair { queue, mut peer, _read, _loop, .. } = narrow(ShardQueue::builder());
    let big = vec![7; 4 << 20];
    queue.add(move |w| Ok(w.write_bytes(big)?)).unwrap();
    for _ in 0..100 {
        queue.add(|w| Ok(w.write_byte(1)?)).unwrap();
    }
    assert_eq!(queue.len(), 101, "nothing can have been sent whole");
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all.len()
    });
    queue.close().unwrap();
    drop(queue);
    assert_eq!(reader.join().unwrap(), (4 << 20) + 100);
}

#[test]
fn the_bytes_of_buffers_are_bounded() {
    let Pair { queue, peer: _peer, _read, _loop, .. } =
        narrow(ShardQueue::builder().max_bytes(10_000));
    let buffer = |len: usize| {
        let mut buf = LinkBuffer::new();
        buf.write_bytes(vec![1; len]).unwrap();
        buf
    };
    // One that is larger than the limit gets in where there is room at all, and fills it.
    queue.try_add_buffer(buffer(8 << 20)).unwrap();
    let refused = queue.try_add_buffer(buffer(1)).unwrap_err();
    assert!(refused.is_full());
    assert_eq!(refused.into_message().len(), 1, "it comes back as it was");
}

/// Closing at any moment: what was accepted is received exactly, what was not was refused.
#[test]
fn close_under_load() {
    for round in 0..stress(2_000) {
        let builder = ShardQueue::builder().max_messages(if round % 2 == 0 { 4 } else { 4096 });
        let Pair { queue, mut peer, _read, _loop, .. } = pair(builder);
        let reader = thread::spawn(move || verify(&mut peer, 4));
        let producers: Vec<_> = (0..4)
            .map(|producer| {
                let queue = queue.clone();
                thread::spawn(move || {
                    (0..).find(|n| match add(&queue, producer, *n) {
                        Ok(()) => false,
                        Err(Error::Closed) => true,
                        Err(error) => panic!("{error}"),
                    })
                })
            })
            .collect();
        thread::sleep(Duration::from_micros((round as u64 * 97) % 3_000));
        queue.close().unwrap();
        assert!(queue.is_empty() && queue.is_closed());
        // Sent, as far as this side can: ending the stream now cuts nothing off.
        queue.handle().shutdown_write();
        let received = reader.join().unwrap();
        let accepted: Vec<_> =
            producers.into_iter().map(|producer| producer.join().unwrap().unwrap()).collect();
        assert_eq!(received, accepted, "round {round}");
        assert!(matches!(queue.add(|_| Ok(())).unwrap_err().reason, Reason::Closed));
        queue.close().unwrap();
    }
}

/// What a message does wrong is its own loss.
#[test]
fn a_bad_message_spoils_only_itself() {
    let spoiled = Arc::new(Mutex::new(Vec::new()));
    let builder = ShardQueue::builder().on_spoiled({
        let spoiled = Arc::clone(&spoiled);
        move |why| {
            spoiled.lock().unwrap().push(why.to_string());
            panic!("contained");
        }
    });
    let Pair { queue, mut peer, _read, _loop, .. } = pair(builder);
    let good = |n: usize| queue.add(move |w| Ok(w.write_bytes(frame(&body(0, n)))?)).unwrap();
    let flushed = || -> netpoll::Result<LinkBuffer> {
        let mut buf = LinkBuffer::new();
        buf.write_bytes(vec![9; 10_000])?;
        buf.flush()?;
        buf.write_string("and more")?;
        Ok(buf)
    };
    // Together in one batch: the first holds the turn until the others are there.
    let (go, wait) = mpsc::channel::<()>();
    let started = Arc::new(AtomicBool::new(false));
    let first = thread::spawn({
        let (queue, started) = (queue.clone(), Arc::clone(&started));
        move || {
            let hold = move |w: &mut dyn Writer| {
                started.store(true, SeqCst);
                wait.recv()?;
                Ok(w.write_bytes(frame(&body(0, 0)))?)
            };
            queue.add(hold).unwrap();
        }
    });
    eventually("the first", || started.load(SeqCst));
    queue
        .add(|w| {
            w.write_string("half a")?;
            panic!("message")
        })
        .unwrap();
    good(1);
    queue
        .add(move |w| {
            w.write_string("flushed by itself")?;
            w.flush()?;
            w.append(flushed()?)?;
            Err("changed its mind".into())
        })
        .unwrap();
    good(2);
    queue
        .add(|w| {
            let _unfilled = w.placeholder(4)?;
            Ok(())
        })
        .unwrap();
    queue
        .add(|w| {
            // Not into the messages before.
            assert!(w.malloc_ack(1).is_err());
            assert!(w.write_direct("x", 1).is_err());
            assert_eq!(w.malloc_len(), 0);
            Ok(w.write_bytes(frame(&body(0, 3)))?)
        })
        .unwrap();
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic!("at the drop");
            }
        }
    }
    let bomb = Bomb;
    queue
        .add(move |_| {
            let _bomb = bomb;
            std::panic::panic_any(Bomb)
        })
        .unwrap();
    good(4);
    assert_eq!(queue.len(), 9);
    go.send(()).unwrap();
    first.join().unwrap();
    good(5);
    queue.close().unwrap();
    let stats = queue.stats();
    drop(queue);
    assert_eq!(verify(&mut peer, 1), [6]);
    assert_eq!(stats.spoiled, 4);
    assert_eq!(stats.sends, 2, "what was there together left together");
    let spoiled = spoiled.lock().unwrap();
    assert!(spoiled[0].contains("message") && spoiled[1] == "changed its mind", "{spoiled:?}");
}

#[test]
fn messages_may_be_empty() {
    let Pair { queue, mut peer, _read, _loop, .. } = pair(ShardQueue::builder());
    for n in 0..100 {
        queue.add(|_| Ok(())).unwrap();
        queue.add_buffer(LinkBuffer::new()).unwrap();
        add(&queue, 0, n).unwrap();
        queue.add(|w| Ok(w.write_binary(b"")?)).unwrap();
    }
    queue.close().unwrap();
    drop(queue);
    assert_eq!(verify(&mut peer, 1), [100]);
}

#[test]
fn an_unfilled_buffer_is_refused_and_comes_back() {
    let Pair { queue, peer: _peer, _read, _loop, .. } = pair(ShardQueue::builder());
    let mut buf = LinkBuffer::new();
    let head = buf.placeholder(2).unwrap();
    let refused = queue.add_buffer(buf).unwrap_err();
    assert!(matches!(refused.reason, Reason::Incomplete(Error::UnfilledPlaceholder)));
    let mut buf = refused.into_message();
    buf.fill(head, b"ok").unwrap();
    queue.add_buffer(buf).unwrap();
    queue.close().unwrap();
}

/// The peer is gone: some add fails, the callback is called once, close says it too.
#[test]
fn the_failure_reaches_all() {
    let failures = Arc::new(AtomicUsize::new(0));
    let builder = ShardQueue::builder().on_failed({
        let failures = Arc::clone(&failures);
        move |error| {
            assert!(error.is_closed(), "{error}");
            failures.fetch_add(1, SeqCst);
        }
    });
    let Pair { queue, peer, _read, _loop, .. } = pair(builder);
    common::reset_on_drop(&peer);
    drop(peer);
    let dropped = Arc::new(());
    let producers: Vec<_> = (0..4)
        .map(|_| {
            let (queue, dropped) = (queue.clone(), Arc::clone(&dropped));
            thread::spawn(move || {
                loop {
                    let dropped = Arc::clone(&dropped);
                    let add = queue.add(move |w| {
                        let _alive = dropped;
                        Ok(w.write_binary(&[1; 100])?)
                    });
                    if let Err(refused) = add {
                        return Error::from(refused);
                    }
                }
            })
        })
        .collect();
    for producer in producers {
        let error = producer.join().unwrap();
        assert!(error.is_closed() && !matches!(error, Error::Closed), "{error}");
    }
    let error = queue.close().unwrap_err();
    assert!(error.is_closed(), "{error}");
    assert_eq!(failures.load(SeqCst), 1);
    assert!(queue.is_empty());
    assert_eq!(Arc::strong_count(&dropped), 1, "what was queued has been dropped");
}

/// Closing the connection, or a peer that takes nothing for too long, frees who waits for room.
#[test]
fn who_waits_for_room_hears_of_the_end() {
    for by_time in [false, true] {
        let builder = ShardQueue::builder().max_messages(2);
        let Pair { queue, peer: _peer, handle, _read, _loop } = narrow(builder);
        if by_time {
            handle.set_write_timeout(Some(Duration::from_millis(50)));
        }
        let producer = thread::spawn({
            let queue = queue.clone();
            move || loop {
                if let Err(refused) = queue.add(|w| Ok(w.write_bytes(vec![1; 1 << 20])?)) {
                    return refused.reason;
                }
            }
        });
        if !by_time {
            eventually("a full queue", || queue.len() == 2);
            thread::sleep(Duration::from_millis(10));
            handle.close();
        }
        let reason = producer.join().unwrap();
        let expected = if by_time { Error::WriteTimeout } else { Error::Closed };
        assert!(
            matches!(&reason, Reason::Failed(e) if e.to_string() == expected.to_string()),
            "{reason:?}"
        );
        assert!(queue.close().is_err());
    }
}

/// A message may add to its own queue, and must not wait for it.
#[test]
fn messages_that_add_messages() {
    let Pair { queue, mut peer, _read, _loop, .. } = pair(ShardQueue::builder().max_messages(3));
    let inner = queue.clone();
    let outcome = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&outcome);
    queue
        .add(move |w| {
            for n in 1..4 {
                let refused = inner.add(move |w| Ok(w.write_bytes(frame(&body(0, n)))?)).err();
                seen.lock().unwrap().push(refused.map(|refused| refused.to_string()));
            }
            assert!(matches!(inner.close(), Err(Error::WouldWait)));
            Ok(w.write_bytes(frame(&body(0, 0)))?)
        })
        .unwrap();
    assert_eq!(queue.stats().spoiled, 0);
    assert_eq!(
        *outcome.lock().unwrap(),
        [None, None, Some("the queue is full, and the caller must not wait".to_owned())]
    );
    queue.close().unwrap();
    drop(queue);
    assert_eq!(verify(&mut peer, 1), [3]);
}

/// Back-pressure in a handler passes the role on: others of the same poller are served.
#[test]
fn back_pressure_in_a_handler_holds_up_nobody() {
    for (runner, waits) in [(Runner::Auto, true), (Runner::Inline, false)] {
        let Pair { queue, mut peer, _read, _loop, .. } =
            narrow(ShardQueue::builder().max_messages(1));
        let fill = vec![3; 8 << 20];
        queue.add(move |w| Ok(w.write_bytes(fill)?)).unwrap();
        let (said, says) = mpsc::channel();
        let builder = EventLoop::builder().pollers(1).runner(runner);
        let (event_loop, addr) = serve(
            builder,
            service_fn({
                let queue = queue.clone();
                move |conn| {
                    let waits = conn.read_byte()? == 1;
                    if waits {
                        let added = queue.add(|w| Ok(w.write_byte(4)?));
                        let _ = said.send(added.map_err(|refused| refused.to_string()));
                    }
                    conn.write_byte(b'.')?;
                    conn.flush()?;
                    Ok(())
                }
            }),
        );
        let mut blocked = connect(addr);
        std::io::Write::write_all(&mut blocked, &[1]).unwrap();
        thread::sleep(Duration::from_millis(5));
        let mut other = connect(addr);
        for _ in 0..10 {
            std::io::Write::write_all(&mut other, &[0]).unwrap();
            other.read_exact(&mut [0]).unwrap();
        }
        if waits {
            assert!(says.try_recv().is_err(), "there is no room yet");
            assert!(event_loop.stats().handovers > 0);
            let mut all = vec![0; (8 << 20) + 1];
            peer.read_exact(&mut all).unwrap();
            assert_eq!(all.last(), Some(&4));
            assert!(says.recv_timeout(PATIENCE).unwrap().is_ok());
            queue.close().unwrap();
        } else {
            let said = says.recv_timeout(PATIENCE).unwrap();
            assert!(said.unwrap_err().contains("must not wait"));
            drop(peer);
            assert!(queue.close().is_err());
        }
    }
}
