//! The order of the callbacks, each exactly once, whatever ends the connection and where.

mod common;

use std::{
    io::{Read, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use common::{Log, connect, eventually, frame, ping, read_frame, serve, serve_on};
use netpoll::{
    Buffered, Callbacks, Connection, Error, EventLoop, Frame, Handle, LengthPrefixed, Reader,
    ReaderExt, Runner, Writer, WriterExt, service_fn,
};

/// Where a connection is; what a test does at one of them.
const PLACES: [&str; 6] = ["prepare", "connect", "request", "end", "disconnect", "close"];

/// Logs every callback, and does `act` in each as well.
fn logging(
    log: &Log,
    act: impl Fn(&'static str, &Handle, Option<&mut Connection>) -> Result<(), Error>
    + Send
    + Sync
    + 'static,
) -> Callbacks<Log> {
    let act = Arc::new(act);
    let acts: [_; 6] = std::array::from_fn(|_| Arc::clone(&act));
    let [prepare, connect, request, end, disconnect, close] = acts;
    let (first, beside) = (log.clone(), log.clone());
    Callbacks::new(move |handle| {
        let log = first.clone();
        log.add("prepare");
        let closer = log.clone();
        handle.on_close(move |_| closer.add("closer 1"));
        let closer = log.clone();
        handle.on_close(move |_| closer.add("closer 2"));
        prepare("prepare", handle, None)?;
        Ok(log)
    })
    .on_connect(move |conn, log| {
        log.add("connect");
        let handle = conn.handle();
        Ok(connect("connect", &handle, Some(conn))?)
    })
    .on_request(move |conn, log| {
        let n = conn.read_byte()?;
        log.add(format!("request {n}"));
        let handle = conn.handle();
        request("request", &handle, Some(conn))?;
        Ok(())
    })
    .on_end(move |conn, log| {
        log.add("end");
        let handle = conn.handle();
        Ok(end("end", &handle, Some(conn))?)
    })
    .on_disconnect(move |handle| {
        beside.add("disconnect");
        let _ = disconnect("disconnect", handle, None);
    })
    .on_close(move |handle, log, why| {
        log.add(match &why {
            None => "close".to_owned(),
            Some(why) => format!("close: {why}"),
        });
        let _ = close("close", handle, None);
    })
}

#[test]
fn in_their_order_each_once() {
    for (name, runner) in common::runners() {
        let log = Log::default();
        let builder = EventLoop::builder().pollers(1).runner(runner);
        let (_loop, addr) = serve(builder, logging(&log, |_, _, _| Ok(())));
        let mut client = connect(addr);
        client.write_all(&[1, 2]).unwrap();
        eventually("both", || log.count("request 2") == 1);
        client.write_all(&[3]).unwrap();
        eventually("the third", || log.count("request 3") == 1);
        drop(client);
        let mut all = log.through("closer 1");
        if name != "inline" {
            // Where another thread drives, it may see the peer go before the handler has returned.
            serial(&mut all);
        }
        let requests = "request 1, request 2, request 3";
        let expected = format!("prepare, connect, {requests}, end, close, closer 2, closer 1");
        assert_eq!(all.join(", "), expected);
    }
}

/// Without what is called beside the others.
fn serial(all: &mut Vec<String>) {
    all.retain(|one| one != "disconnect");
}

#[test]
fn an_error_ends_it_where_it_is() {
    let rest = ["closer 2", "closer 1"];
    for (place, before) in [
        ("prepare", vec!["prepare"]),
        ("connect", vec!["prepare", "connect", "close: it was closed on this side"]),
        ("request", vec!["prepare", "connect", "request 1", "close: it was closed on this side"]),
        (
            "end",
            vec!["prepare", "connect", "request 1", "end", "close: it was closed on this side"],
        ),
    ] {
        let log = Log::default();
        let act = move |at, _: &Handle, _: Option<&mut Connection>| {
            if at == place { Err(Error::Closed) } else { Ok(()) }
        };
        let (_loop, addr) = serve(EventLoop::builder().pollers(1), logging(&log, act));
        let mut client = connect(addr);
        let _ = client.write_all(&[1]);
        let _ = client.shutdown(std::net::Shutdown::Write);
        let _ = client.read(&mut [0]);
        let mut all = log.through("closer 1");
        serial(&mut all);
        let before: Vec<String> = before
            .into_iter()
            .map(|one| match one.strip_prefix("close: ") {
                Some(_) => format!("close: {}", Error::Closed),
                None => one.to_owned(),
            })
            .collect();
        let mut expected = before;
        expected.extend(rest.map(str::to_owned));
        assert_eq!(all, expected, "{place}");
    }
}

#[test]
fn a_panic_ends_its_connection_only() {
    for (name, runner) in common::runners() {
        for place in PLACES {
            let log = Log::default();
            let told = AtomicBool::new(false);
            let waits = place == "disconnect" && name != "inline";
            let act = move |at: &'static str, handle: &Handle, _: Option<&mut Connection>| {
                if at == "prepare" {
                    // Between the two of the log: neither stops the others.
                    handle.on_close(|_| panic!("in a closer"));
                }
                if at == "request" && waits {
                    // It comes beside a request only.
                    eventually("its going", || told.load(SeqCst));
                }
                if at == place {
                    told.store(true, SeqCst);
                    std::panic::resume_unwind(Box::new("planned"));
                }
                Ok(())
            };
            let builder = EventLoop::builder().pollers(1).runner(runner.clone());
            let (event_loop, addr) = serve(builder, logging(&log, act));
            let good = serve_on(
                &event_loop,
                service_fn(|conn| {
                    let (r, w) = conn.split();
                    w.write_bytes(r.slice(r.len())?)?;
                    w.flush()?;
                    Ok(())
                }),
            );
            let mut other = connect(good);
            ping(&mut other, b"before");
            let mut client = connect(addr);
            let _ = client.write_all(&[1]);
            if waits {
                eventually("the request", || log.count("request 1") == 1);
            }
            let _ = client.shutdown(std::net::Shutdown::Write);
            let _ = client.read(&mut [0]);
            let all = log.through("closer 1");
            let why = "close: a callback panicked: planned";
            let closes = all.iter().filter(|one| one.starts_with("close:") || *one == "close");
            match place {
                "prepare" => assert_eq!(closes.count(), 0, "{all:?}"),
                _ => assert_eq!(closes.count(), 1, "{all:?}"),
            }
            assert!(!waits || log.count("disconnect") == 1, "{all:?}");
            if ["connect", "request", "end"].contains(&place) {
                assert!(all.iter().any(|one| one == why), "{place}: {all:?}");
            }
            ping(&mut other, b"after");
            eventually("it is gone", || event_loop.connections() == 1);
        }
    }
}

/// What is called, or dropped, beside the callbacks.
#[test]
fn a_panic_in_other_code_of_the_user_ends_its_connection_only() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("planned"));
        }
    }
    for (name, runner) in common::runners() {
        let log = Log::default();
        let closed = log.clone();
        let service = Callbacks::new(|_: &Handle| Ok(Bomb))
            .framing(|buffered: &Buffered<'_>| {
                if buffered.peek(1)? == b"p" {
                    std::panic::resume_unwind(Box::new("planned"));
                }
                Ok(Frame::Ready(1))
            })
            .on_request(|conn, _| {
                let byte = conn.read_byte()?;
                conn.write_binary(&[byte])?;
                Ok(conn.flush().map(drop)?)
            })
            .on_close(move |_, _, why| {
                closed.add(why.map_or_else(String::new, |why| why.to_string()));
            });
        let (event_loop, addr) = serve(EventLoop::builder().pollers(1).runner(runner), service);
        let mut other = connect(addr);
        assert_eq!(echo_byte(&mut other, b'a'), b'a');
        let mut client = connect(addr);
        assert_eq!(echo_byte(&mut client, b'b'), b'b');
        client.write_all(b"p").unwrap();
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
        eventually("its end", || event_loop.connections() == 1);
        assert_eq!(log.all(), ["a callback panicked: planned"], "{name}");
        assert_eq!(echo_byte(&mut other, b'c'), b'c');
        drop(other);
        eventually("its end", || event_loop.connections() == 0);
        event_loop.shutdown(common::PATIENCE).unwrap();
    }
}

fn echo_byte(client: &mut (impl Read + Write), byte: u8) -> u8 {
    let mut reply = [0];
    client.write_all(&[byte]).unwrap();
    client.read_exact(&mut reply).unwrap();
    reply[0]
}

#[test]
fn close_inside_each_callback() {
    for (name, runner) in common::runners() {
        for place in PLACES {
            let log = Log::default();
            let told = AtomicBool::new(false);
            let waits = place == "disconnect" && name != "inline";
            let act = move |at, handle: &Handle, _: Option<&mut Connection>| {
                if at == "request" && waits {
                    eventually("its going", || told.load(SeqCst));
                }
                if at == place {
                    handle.close();
                    handle.close();
                    assert!(!handle.is_active());
                    told.store(true, SeqCst);
                }
                Ok(())
            };
            let builder = EventLoop::builder().pollers(1).runner(runner.clone());
            let (event_loop, addr) = serve(builder, logging(&log, act));
            let mut client = connect(addr);
            let _ = client.write_all(&[1]);
            if waits {
                eventually("the request", || log.count("request 1") == 1);
            }
            let _ = client.shutdown(std::net::Shutdown::Write);
            assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
            let mut all = log.through("closer 1");
            assert!(!waits || log.count("disconnect") == 1, "{all:?}");
            serial(&mut all);
            let calls = ["prepare", "connect", "request 1", "end"];
            let called = match place {
                "prepare" => 1,
                "connect" => 2,
                "request" => 3,
                "disconnect" if waits => 3,
                _ => 4,
            };
            let expected = [&calls[..called], &["close", "closer 2", "closer 1"]].concat();
            assert_eq!(all, expected, "{place}");
            eventually("it is gone", || event_loop.connections() == 0);
        }
    }
}

#[test]
fn disconnect_comes_beside_a_request_and_never_alone() {
    let log = Log::default();
    let beside = log.clone();
    let act = move |at, handle: &Handle, _: Option<&mut Connection>| {
        if at == "request" {
            eventually("the peer's going", || beside.count("disconnect") > 0);
            assert!(!handle.is_active());
        }
        Ok(())
    };
    let (_loop, addr) = serve(EventLoop::builder().pollers(1), logging(&log, act));
    let mut client = connect(addr);
    client.write_all(&[1]).unwrap();
    eventually("the request", || log.count("request 1") == 1);
    drop(client);
    log.expect(&[
        "prepare",
        "connect",
        "request 1",
        "disconnect",
        "end",
        "close",
        "closer 2",
        "closer 1",
    ]);
    // While nothing runs, the end of the stream alone is told.
    let log = Log::default();
    // One thread alone, or another could see the end while `on_connect` has hardly returned.
    let alone = EventLoop::builder().pollers(1).runner(Runner::Inline);
    let (_loop, addr) = serve(alone, logging(&log, |_, _, _| Ok(())));
    drop(connect(addr));
    log.expect(&["prepare", "connect", "end", "close", "closer 2", "closer 1"]);
}

#[test]
fn closers_that_come_late_run_at_once() {
    let handle = Arc::new(Mutex::new(None));
    let place = Arc::clone(&handle);
    let (event_loop, addr) = serve(
        EventLoop::builder(),
        Callbacks::new(move |handle: &Handle| {
            *place.lock().unwrap() = Some(handle.clone());
            Ok(())
        }),
    );
    drop(connect(addr));
    eventually("the handle", || handle.lock().unwrap().is_some());
    eventually("its end", || event_loop.connections() == 0);
    let handle = handle.lock().unwrap().take().unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ran);
    handle.on_close(move |handle| {
        // Nothing on a closed connection panics, or does anything.
        handle.close();
        handle.shutdown_write();
        handle.pause_read();
        handle.resume_read();
        handle.set_read_deadline(None);
        assert!(!handle.is_active() && !handle.is_read_paused());
        count.fetch_add(1, SeqCst);
    });
    handle.on_close(|_| panic!("contained"));
    assert_eq!(ran.load(SeqCst), 1);
}

#[test]
fn what_a_handler_leaves_it_gets_again_with_more() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    // Consumes pairs only, and counts how often it was asked.
    let service = service_fn(move |conn| {
        count.fetch_add(1, SeqCst);
        let (r, w) = conn.split();
        if r.len() >= 2 {
            let pair = r.read_array::<2>()?;
            w.write_binary(&pair)?;
            w.flush()?;
        }
        Ok(())
    });
    let (_loop, addr) = serve(EventLoop::builder(), service);
    let mut client = connect(addr);
    client.write_all(b"a").unwrap();
    eventually("the first", || calls.load(SeqCst) == 1);
    thread::sleep(Duration::from_millis(30));
    assert_eq!(calls.load(SeqCst), 1, "nothing new came, and it was called again");
    client.write_all(b"bcde").unwrap();
    let mut reply = [0; 4];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"abcd");
    client.write_all(b"f").unwrap();
    client.read_exact(&mut reply[..2]).unwrap();
    assert_eq!(&reply[..2], b"ef");
}

#[test]
fn what_a_handler_leaves_of_its_message_is_skipped() {
    for (_, runner) in common::runners() {
        let service = service_fn(|conn| {
            let len = conn.message_len().unwrap();
            let (r, w) = conn.split();
            assert!(matches!(r.next(len + 1), Err(Error::BeyondMessage { .. })));
            assert!(matches!(r.find(b"\xff"), Err(Error::BeyondMessage { .. })));
            assert!(r.is_ended() && r.len() == len);
            let first = r.next(5)?[4];
            w.write_binary(&frame(&[first]))?;
            w.flush()?;
            Ok(())
        });
        let service = service.framing(LengthPrefixed::u32_be());
        let (_loop, addr) = serve(EventLoop::builder().runner(runner), service);
        let mut client = connect(addr);
        let messages: Vec<u8> =
            (0..50u8).flat_map(|i| frame(&[i, 1, 2, 3, 4][..1 + usize::from(i % 5)])).collect();
        client.write_all(&messages).unwrap();
        for i in 0..50u8 {
            assert_eq!(read_frame(&mut client).unwrap(), [i]);
        }
    }
}

/// Echoes bytes, and says who it was.
fn tagged(tag: u8) -> Callbacks<()> {
    service_fn(move |conn| {
        let (r, w) = conn.split();
        while !r.is_empty() {
            let byte = r.read_byte()?;
            w.write_binary(&[tag, byte])?;
        }
        w.flush()?;
        Ok(())
    })
}

fn ask(client: &mut (impl Read + Write), byte: u8) -> u8 {
    client.write_all(&[byte]).unwrap();
    let mut reply = [0; 2];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(reply[1], byte);
    reply[0]
}

#[test]
fn taken_in_each_callback_and_served_by_another_loop_and_back() {
    for (_, runner) in common::runners() {
        for place in ["connect", "request", "end"] {
            let log = Log::default();
            let home = EventLoop::builder().pollers(1).runner(runner.clone()).build().unwrap();
            let away = EventLoop::builder().pollers(1).build().unwrap();
            let to = away.clone();
            let act = move |at, _: &Handle, conn: Option<&mut Connection>| {
                if at == place {
                    let taken = conn.unwrap().take().unwrap();
                    to.attach(taken, tagged(b'B'), ());
                    // The old callback goes on while the new ones may run already.
                    thread::sleep(Duration::from_millis(20));
                }
                Ok(())
            };
            let addr = serve_on(&home, logging(&log, act));
            let mut client = connect(addr);
            match place {
                "connect" => {}
                "request" => client.write_all(&[1]).unwrap(),
                _ => client.shutdown(std::net::Shutdown::Write).unwrap(),
            }
            if place == "end" {
                assert_eq!(client.read(&mut [0]).unwrap(), 0);
            } else {
                assert_eq!(ask(&mut client, 7), b'B', "{place}");
                assert_eq!(ask(&mut client, 8), b'B', "{place}");
            }
            eventually("it left", || home.connections() == 0);
            drop(client);
            eventually("its end", || away.connections() == 0);
            let all = log.through("closer 1");
            assert!(!all.iter().any(|one| one.starts_with("close:") || one == "close"), "{all:?}");
            assert_eq!(log.count("closer 1"), 1);
        }
    }
}

#[test]
fn handed_around_between_loops_while_it_talks() {
    // Each request moves the connection to the other loop, from inside the handler.
    struct Hop {
        to: Mutex<Option<EventLoop>>,
        back: Mutex<Option<Arc<Hop>>>,
        tag: u8,
    }
    fn service(hop: Arc<Hop>) -> Callbacks<()> {
        service_fn(move |conn| {
            let (r, w) = conn.split();
            let byte = r.read_byte()?;
            w.write_binary(&[hop.tag, byte])?;
            w.flush()?;
            let to = hop.to.lock().unwrap().clone().unwrap();
            let back = hop.back.lock().unwrap().clone().unwrap();
            to.attach(conn.take().unwrap(), service(back), ());
            Ok(())
        })
    }
    for (_, runner) in common::runners() {
        let a = EventLoop::builder().pollers(1).runner(runner).build().unwrap();
        let b = EventLoop::builder().pollers(1).build().unwrap();
        let on_a =
            Arc::new(Hop { to: Mutex::new(Some(b.clone())), back: Mutex::default(), tag: b'A' });
        let on_b = Arc::new(Hop {
            to: Mutex::new(Some(a.clone())),
            back: Mutex::new(Some(Arc::clone(&on_a))),
            tag: b'B',
        });
        *on_a.back.lock().unwrap() = Some(Arc::clone(&on_b));
        let addr = serve_on(&a, service(Arc::clone(&on_a)));
        let mut clients: Vec<_> = (0..8).map(|_| connect(addr)).collect();
        for round in 0..40u8 {
            for client in &mut clients {
                assert_eq!(ask(client, round), if round % 2 == 0 { b'A' } else { b'B' });
            }
        }
        drop(clients);
        eventually("their end", || a.connections() + b.connections() == 0);
        on_a.to.lock().unwrap().take();
        on_b.to.lock().unwrap().take();
        on_a.back.lock().unwrap().take();
    }
}

#[test]
fn a_taken_connection_is_its_owners() {
    for (_, runner) in common::runners() {
        let (send, taken) = std::sync::mpsc::channel();
        let send = Mutex::new(send);
        let log = Log::default();
        let act = move |at, _: &Handle, conn: Option<&mut Connection>| {
            if at == "request" {
                let conn = conn.unwrap();
                let mine = conn.take().unwrap();
                // What is left is closed, and says so.
                assert!(conn.take().is_none() && conn.take_write_half().is_none());
                assert!(matches!(conn.next(1), Err(Error::Closed)));
                assert!(matches!(conn.flush(), Err(Error::Closed)));
                send.lock().unwrap().send(mine).unwrap();
                // An error of a callback that gave its connection away does not end it.
                return Err(Error::Closed);
            }
            Ok(())
        };
        let (event_loop, addr) =
            serve(EventLoop::builder().pollers(1).runner(runner), logging(&log, act));
        let mut client = connect(addr);
        client.write_all(&[1, 2]).unwrap();
        let mut conn = taken.recv_timeout(common::PATIENCE).unwrap();
        eventually("it left", || event_loop.connections() == 0);
        assert_eq!(conn.read_byte().unwrap(), 2);
        let asker = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            client.write_all(&[3]).unwrap();
            let mut reply = [0; 3];
            client.read_exact(&mut reply).unwrap();
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            reply
        });
        assert_eq!(conn.read_byte().unwrap(), 3);
        conn.write_binary(b"abc").unwrap();
        conn.flush().unwrap();
        // It goes on when the loop has ended.
        event_loop.shutdown(Duration::from_secs(5)).unwrap();
        drop(event_loop);
        drop(conn);
        assert_eq!(&asker.join().unwrap(), b"abc");
        let all = log.through("closer 1");
        assert!(!all.iter().any(|one| one.starts_with("close:")), "{all:?}");
    }
}

#[test]
fn a_write_half_taken_away_writes_beside_the_handler() {
    for (_, runner) in common::runners() {
        let refused = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&refused);
        let service = service_fn(move |conn| {
            let (r, _) = conn.split();
            let n = r.read_byte()?;
            if let Some(mut half) = conn.take_write_half() {
                thread::spawn(move || {
                    for i in 0..n {
                        half.write_binary(&[i]).unwrap();
                        half.flush().unwrap();
                    }
                });
            } else if matches!(conn.flush(), Err(Error::Closed)) {
                count.fetch_add(1, SeqCst);
            }
            Ok(())
        });
        let (event_loop, addr) = serve(EventLoop::builder().runner(runner), service);
        let mut client = connect(addr);
        client.write_all(&[200, 1, 1]).unwrap();
        let mut reply = Vec::new();
        // The half's end half-closes: the end of the stream is seen here.
        client.read_to_end(&mut reply).unwrap();
        assert_eq!(reply, (0..200).collect::<Vec<u8>>());
        client.write_all(&[1]).unwrap();
        eventually("the handler goes on", || refused.load(SeqCst) == 3);
        drop(client);
        eventually("it is gone", || event_loop.connections() == 0);
    }
}

#[test]
fn a_second_service_gets_its_own_disconnect() {
    let log = Log::default();
    let away = EventLoop::builder().pollers(1).build().unwrap();
    let (to, beside, also) = (away.clone(), log.clone(), log.clone());
    let second = move || {
        let (beside, log) = (beside.clone(), beside.clone());
        let told = log.clone();
        Callbacks::new(|_: &Handle| Ok(()))
            .on_request(move |conn, ()| {
                conn.read_byte()?;
                log.add("request");
                eventually("its going", || told.count("second") > 0);
                Ok(())
            })
            .on_disconnect(move |_| beside.add("second"))
    };
    let first = Callbacks::new(|_: &Handle| Ok(()))
        .on_connect(move |conn, ()| {
            to.attach(conn.take().unwrap(), second(), ());
            Ok(())
        })
        .on_disconnect(move |_| also.add("first"));
    let (_loop, addr) = serve(EventLoop::builder().pollers(1), first);
    let mut client = connect(addr);
    client.write_all(&[1]).unwrap();
    eventually("the request", || log.count("request") == 1);
    drop(client);
    log.expect(&["request", "second"]);
}

#[test]
fn closing_races_attaching_and_nothing_is_left() {
    let event_loop = EventLoop::builder().pollers(2).build().unwrap();
    let closes = Arc::new(AtomicUsize::new(0));
    let (_server, addr) = serve(EventLoop::builder().pollers(1), tagged(b'S'));
    let dialer = event_loop.dialer();
    let rounds = common::stress(20_000);
    for round in 0..rounds {
        let conn = dialer.dial(addr).unwrap();
        let handle = conn.handle();
        let count = Arc::clone(&closes);
        let closing = thread::spawn(move || {
            for _ in 0..round % 50 {
                std::hint::spin_loop();
            }
            handle.close();
        });
        let service = Callbacks::new(|_: &Handle| Ok(())).on_close(move |_, (), _| {
            count.fetch_add(1, SeqCst);
        });
        event_loop.attach(conn, service, ());
        closing.join().unwrap();
    }
    eventually("every close", || closes.load(SeqCst) == rounds);
    eventually("no connection", || event_loop.connections() == 0);
    event_loop.shutdown(Duration::from_secs(5)).unwrap();
}

#[test]
fn state_of_any_type_is_given_back() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let (drops, right) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, same) = (Arc::clone(&drops), Arc::clone(&right));
    let service = Callbacks::new(move |_| Ok((Counted(Arc::clone(&count)), Box::new([7u8; 3]))))
        .on_request(|conn, (_, bytes)| {
            bytes[0] = conn.read_byte()?;
            Ok(())
        })
        .on_close(move |_, (_, bytes), _| {
            if *bytes == [9, 7, 7] {
                same.fetch_add(1, SeqCst);
            }
        });
    let (_loop, addr) = serve(EventLoop::builder().runner(Runner::Auto), service);
    for _ in 0..20 {
        let mut client = connect(addr);
        client.write_all(&[9]).unwrap();
    }
    eventually("every state", || drops.load(SeqCst) == 20);
    assert_eq!(right.load(SeqCst), 20);
}
