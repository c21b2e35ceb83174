//! The end of an event loop: what was accepted is answered or refused, and the truth is told.

mod common;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use common::{
    PATIENCE, connect, echo, eventually, frame, ping,
    process::{Other, argument, say},
    read_frame, serve, serve_on, stress,
};
use netpoll::{Callbacks, Error, EventLoop, Handle, Reader, ReaderExt, Writer, service_fn};

#[test]
fn under_load_every_request_is_answered_whole_or_not_at_all() {
    for (name, runner) in common::runners() {
        let (service, handled) = common::counting_echo();
        let (event_loop, addr) = serve(EventLoop::builder().pollers(2).runner(runner), service);
        let mut clients = Other::start("clients_until_refused", &[("addr", addr.to_string())]);
        assert_eq!(clients.next(), "connected");
        eventually("load", || handled.load(SeqCst) >= 32 * 20);
        event_loop.shutdown(PATIENCE).unwrap();
        assert_eq!(event_loop.connections(), 0);
        let answered: usize = clients.next().parse().unwrap();
        clients.end();
        // Every request that a handler ran for was answered, whole, and no other was.
        assert_eq!(answered, handled.load(SeqCst), "{name}");
        // Nobody listens any more: the address is free.
        drop(TcpListener::bind(addr).unwrap());
    }
}

/// Many at once, each until its connection ends; says how many requests were answered.
#[test]
#[ignore = "run by others, as: cargo test -p netpoll --test shutdown under_load"]
fn clients_until_refused() {
    let Some(addr) = argument("addr") else { return };
    let addr = addr.parse().unwrap();
    // Here, not in the threads: one that starts late would find nobody listening.
    let clients: Vec<_> = (0..32).map(|_| connect(addr)).collect();
    say("connected");
    let threads = clients.into_iter().enumerate();
    let threads: Vec<_> =
        threads.map(|(i, client)| thread::spawn(move || until_refused(client, i))).collect();
    say(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>());
}

/// Sends requests until the connection ends; how many were answered. Each reply is whole.
fn until_refused(mut client: TcpStream, seed: usize) -> usize {
    let request = frame(&common::pattern(300 + seed * 17, seed));
    let mut answered = 0;
    while client.write_all(&request).is_ok() {
        let mut reply = vec![0; request.len()];
        let mut filled = 0;
        while filled < reply.len() {
            match client.read(&mut reply[filled..]) {
                Ok(0) | Err(_) => {
                    assert_eq!(filled, 0, "a reply was cut in half");
                    return answered;
                }
                Ok(n) => filled += n,
            }
        }
        assert_eq!(reply, request);
        answered += 1;
    }
    answered
}

#[test]
fn idle_connections_close_at_once_and_it_may_be_asked_again() {
    for (_, runner) in common::runners() {
        let (event_loop, addr) = serve(EventLoop::builder().runner(runner), echo());
        let mut clients: Vec<_> = (0..20).map(|_| connect(addr)).collect();
        clients.iter_mut().for_each(|client| ping(client, b"hello"));
        // Half a message is nothing that can be finished.
        clients[0].write_all(&frame(b"half")[..6]).unwrap();
        let start = Instant::now();
        event_loop.shutdown(PATIENCE).unwrap();
        assert!(start.elapsed() < PATIENCE / 2);
        for client in &mut clients {
            assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
        }
        event_loop.shutdown(Duration::ZERO).unwrap();
        assert_eq!(event_loop.shutdown_now(), 0);
        event_loop.shutdown(PATIENCE).unwrap();
        let listener = netpoll::Listener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(event_loop.listen(listener, echo()), Err(Error::Closed)));
        assert!(matches!(event_loop.dialer().dial(addr), Err(Error::Closed)));
    }
}

#[test]
fn a_stuck_handler_is_counted_until_it_returns() {
    for (name, runner) in common::runners() {
        let stuck = Arc::new(AtomicBool::new(true));
        let inside = Arc::new(AtomicUsize::new(0));
        let (until, count) = (Arc::clone(&stuck), Arc::clone(&inside));
        let service = service_fn(move |conn| {
            conn.read_byte()?;
            count.fetch_add(1, SeqCst);
            while until.load(SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            conn.write_binary(b"done")?;
            // Refused where closing was forced meanwhile.
            conn.flush()?;
            Ok(())
        });
        let (event_loop, addr) = serve(EventLoop::builder().pollers(1).runner(runner), service);
        let server = event_loop.clone();
        let forced = netpoll::Listener::bind("127.0.0.1:0").unwrap();
        let served = forced.local_addr().unwrap().as_inet().unwrap();
        let serving = thread::spawn(move || server.serve(forced, echo()));
        // It serves before the loop is told to end.
        ping(&mut connect(served), b"hello");
        eventually("the end of that", || event_loop.connections() == 0);
        let mut client = connect(addr);
        client.write_all(b"x").unwrap();
        eventually("the handler", || inside.load(SeqCst) == 1);
        let left = event_loop.shutdown(Duration::from_millis(20)).unwrap_err();
        assert_eq!(left.connections, 1, "{name}");
        assert_eq!(event_loop.shutdown(Duration::ZERO).unwrap_err().connections, 1, "{name}");
        assert_eq!(event_loop.shutdown_now(), 1, "{name}");
        // Forced or not: it is still there, and this is said.
        assert_eq!(event_loop.shutdown(Duration::ZERO).unwrap_err().connections, 1, "{name}");
        // Who serves is let go.
        serving.join().unwrap().unwrap();
        stuck.store(false, SeqCst);
        event_loop.shutdown(PATIENCE).unwrap();
        assert_eq!(event_loop.connections(), 0);
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest);
        assert!(rest.is_empty() || rest == b"done", "{rest:?}");
    }
}

#[test]
fn a_handler_that_waits_is_left_to_finish_or_ended_by_force() {
    for force in [false, true] {
        let inside = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&inside);
        let (send, result) = mpsc::channel();
        let send = Mutex::new(send);
        let service = service_fn(move |conn| {
            conn.read_byte()?;
            count.fetch_add(1, SeqCst);
            let rest = conn.read_array::<3>();
            send.lock().unwrap().send(rest.as_ref().err().map(|e| e.to_string())).unwrap();
            let rest = rest?;
            conn.write_binary(&rest)?;
            conn.flush()?;
            Ok(())
        });
        let (event_loop, addr) = serve(EventLoop::builder().pollers(1), service);
        let mut client = connect(addr);
        client.write_all(b"x").unwrap();
        eventually("the handler", || inside.load(SeqCst) == 1);
        assert_eq!(event_loop.shutdown(Duration::from_millis(20)).unwrap_err().connections, 1);
        if force {
            event_loop.shutdown_now();
            let error = result.recv_timeout(PATIENCE).unwrap();
            assert_eq!(error, Some(Error::Closed.to_string()));
        } else {
            client.write_all(b"abc").unwrap();
            let mut reply = [0; 3];
            client.read_exact(&mut reply).unwrap();
            assert_eq!(&reply, b"abc");
        }
        event_loop.shutdown(PATIENCE).unwrap();
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    }
}

#[test]
fn from_inside_every_callback() {
    for (name, runner) in common::runners() {
        for place in ["prepare", "connect", "request", "end", "disconnect", "close", "closer"] {
            let event_loop =
                EventLoop::builder().pollers(1).runner(runner.clone()).build().unwrap();
            let (again, calls) = (event_loop.clone(), Arc::new(AtomicUsize::new(0)));
            let again = Arc::new(Mutex::new(Some(again)));
            let (count, of) = (Arc::clone(&calls), Arc::clone(&again));
            let running = Arc::new(AtomicBool::new(false));
            let runs = Arc::clone(&running);
            let act = Arc::new(move |at: &str| {
                if at == place {
                    let own = of.lock().unwrap().clone();
                    if let Some(own) = own {
                        let start = Instant::now();
                        let _ = own.shutdown(Duration::from_secs(3600));
                        assert!(start.elapsed() < PATIENCE, "it waited for itself");
                    }
                    count.fetch_add(1, SeqCst);
                }
            });
            let acts: [_; 6] = std::array::from_fn(|_| Arc::clone(&act));
            let [prepare, connected, request, end, disconnect, close] = acts;
            let service = Callbacks::new(move |handle: &Handle| {
                let closer = Arc::clone(&prepare);
                handle.on_close(move |_| closer("closer"));
                prepare("prepare");
                Ok(())
            })
            .on_connect(move |_, ()| {
                connected("connect");
                Ok(())
            })
            .on_request(move |conn, ()| {
                conn.read_byte()?;
                runs.store(true, SeqCst);
                request("request");
                if place == "disconnect" {
                    let handle = conn.handle();
                    eventually("the end", || !handle.is_active());
                    thread::sleep(Duration::from_millis(10));
                }
                Ok(())
            })
            .on_end(move |_, ()| {
                end("end");
                Ok(())
            })
            .on_disconnect(move |_| disconnect("disconnect"))
            .on_close(move |_, (), _| close("close"));
            let addr = serve_on(&event_loop, service);
            let mut client = connect(addr);
            let _ = client.write_all(b"x");
            if place == "disconnect" && name == "inline" {
                // Its one thread is in the handler.
                drop(client);
                continue;
            }
            eventually("the request", || running.load(SeqCst) || calls.load(SeqCst) > 0);
            let _ = client.shutdown(Shutdown::Write);
            let _ = client.read(&mut [0]);
            eventually(&format!("{name} {place}"), || calls.load(SeqCst) == 1);
            again.lock().unwrap().take();
            event_loop.shutdown(PATIENCE).unwrap();
            assert_eq!(calls.load(SeqCst), 1, "{place}");
        }
    }
}

#[test]
fn dropping_the_loop_ends_everything() {
    for (_, runner) in common::runners() {
        let (opens, closes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (opened, count) = (Arc::clone(&opens), Arc::clone(&closes));
        let service = Callbacks::new(move |_: &Handle| {
            opened.fetch_add(1, SeqCst);
            Ok(())
        })
        .on_request(|conn, ()| Ok(conn.skip(conn.len())?))
        .on_close(move |_, (), _| {
            count.fetch_add(1, SeqCst);
        });
        let (event_loop, addr) = serve(EventLoop::builder().pollers(2).runner(runner), service);
        let mut clients: Vec<_> = (0..10).map(|_| connect(addr)).collect();
        clients.iter_mut().for_each(|client| client.write_all(b"x").unwrap());
        eventually("all", || opens.load(SeqCst) == 10);
        drop(event_loop);
        for client in &mut clients {
            assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
        }
        eventually("every close", || closes.load(SeqCst) == 10);
        eventually("the address", || TcpListener::bind(addr).is_ok());
    }
}

#[test]
fn accepting_and_attaching_race_the_end() {
    for round in 0..stress(4_000) {
        let closes = Arc::new(AtomicUsize::new(0));
        let opens = Arc::new(AtomicUsize::new(0));
        let service = || {
            let (count, opened) = (Arc::clone(&closes), Arc::clone(&opens));
            Callbacks::new(move |_: &Handle| {
                opened.fetch_add(1, SeqCst);
                Ok(())
            })
            .on_request(|conn, ()| Ok(conn.skip(conn.len())?))
            .on_close(move |_, (), _| {
                count.fetch_add(1, SeqCst);
            })
        };
        let (far, to) = serve(EventLoop::builder().pollers(1), echo());
        let (event_loop, addr) = serve(EventLoop::builder().pollers(2), service());
        let (attaching, forced) = (event_loop.clone(), round % 2 == 0);
        let dialer = far.dialer();
        let knocking = thread::spawn(move || {
            (0..20).map(|_| std::net::TcpStream::connect(addr)).collect::<Vec<_>>()
        });
        let handles = thread::scope(|scope| {
            let attach = scope.spawn(|| {
                (0..5)
                    .map(|_| attaching.attach(dialer.dial(to).unwrap(), service(), ()))
                    .collect::<Vec<_>>()
            });
            thread::sleep(Duration::from_micros(200 * (round as u64 % 7)));
            if forced {
                event_loop.shutdown_now();
            }
            event_loop.shutdown(PATIENCE).unwrap();
            attach.join().unwrap()
        });
        assert_eq!(event_loop.connections(), 0);
        assert!(handles.iter().all(|handle| !handle.is_active()));
        for client in knocking.join().unwrap().into_iter().flatten() {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            // A handshake that the closing listener cut short shows only when something is sent.
            let _ = (&client).write_all(b"x");
            let end = (&client).read(&mut [0]);
            let reset = |e: &std::io::Error| e.kind() == std::io::ErrorKind::ConnectionReset;
            assert!(matches!(&end, Ok(0)) || end.as_ref().is_err_and(reset), "{end:?}");
        }
        assert!(closes.load(SeqCst) >= opens.load(SeqCst));
        drop(far);
    }
}

#[test]
fn a_taken_connection_outlives_its_loop() {
    let (send, taken) = mpsc::channel();
    let send = Mutex::new(send);
    let service = service_fn(move |conn| {
        send.lock().unwrap().send(conn.take().unwrap()).unwrap();
        Ok(())
    });
    let (event_loop, addr) = serve(EventLoop::builder().pollers(1), service);
    let mut client = connect(addr);
    client.write_all(b"a").unwrap();
    let conn = taken.recv_timeout(PATIENCE).unwrap();
    // Somebody waits while the loop ends, and is served all the same.
    let waiting = thread::spawn(move || {
        assert_eq!(&conn.read_array::<4>().unwrap(), b"abcd");
        conn
    });
    thread::sleep(Duration::from_millis(20));
    event_loop.shutdown(PATIENCE).unwrap();
    client.write_all(b"bcd").unwrap();
    let mut conn = waiting.join().unwrap();
    conn.write_binary(&frame(&common::pattern(4 << 20, 1))).unwrap();
    let reading = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        (read_frame(&mut client).unwrap(), client)
    });
    conn.flush().unwrap();
    let (reply, mut client) = reading.join().unwrap();
    assert!(reply == common::pattern(4 << 20, 1));
    // And another loop takes it, although the first is gone.
    drop(event_loop);
    let next = EventLoop::builder().pollers(1).build().unwrap();
    let handle = next.attach(conn, echo(), ());
    ping(&mut client, b"again");
    drop(client);
    eventually("its end", || next.connections() == 0 && !handle.is_active());
}

#[test]
fn many_ask_at_once() {
    let (event_loop, addr) = serve(EventLoop::builder(), echo());
    let mut client = connect(addr);
    ping(&mut client, b"x");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let event_loop = event_loop.clone();
            thread::spawn(move || event_loop.shutdown(PATIENCE))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap().unwrap();
    }
}
