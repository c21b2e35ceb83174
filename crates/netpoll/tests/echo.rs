//! Echo, however the bytes come: many connections, many at once, split anywhere, cut off anywhere.

mod common;

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use common::{connect, eventually, frame, pattern, ping, read_frame, serve};
use netpoll::{
    Buffered, Callbacks, EventLoop, Frame, LengthPrefixed, Reader, ReaderExt, Runner, Writer,
    WriterExt, service_fn,
};

/// A handler that starts when its frame is there.
fn framed() -> Callbacks<()> {
    service_fn(|conn| {
        let (r, w) = conn.split();
        w.write_bytes(r.slice(r.len())?)?;
        w.flush()?;
        Ok(())
    })
    .framing(LengthPrefixed::u32_be())
}

/// A handler that waits for its frame itself.
fn straight() -> Callbacks<()> {
    service_fn(|conn| {
        let (r, w) = conn.split();
        let n = u32::from_be_bytes(r.read_array()?);
        let body = r.next(n as usize)?;
        w.malloc(4)?.put_u32(n);
        w.write_binary(body)?;
        w.flush()?;
        Ok(())
    })
}

/// A name, where handlers run, and which.
type Kind = (String, Runner, fn() -> Callbacks<()>);

/// Every runner with every kind of handler that suits it.
fn kinds() -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    for (name, runner) in common::runners() {
        kinds.push((format!("{name}, framed"), runner.clone(), framed));
        // A handler of `Inline` promises not to wait.
        if name != "inline" {
            kinds.push((format!("{name}, straight"), runner, straight));
        }
    }
    kinds
}

#[test]
fn a_thousand_connections_at_once() {
    let _ = poller::sys::raise_nofile_limit();
    let limit = poller::sys::nofile_limit().map_or(1024, |limit| limit.soft);
    let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(200) / 2;
    let connections = room.min(1000);
    if connections < 1000 {
        eprintln!("only {connections} connections: descriptors are limited to {limit}");
    }
    for (name, runner, service) in kinds() {
        let (event_loop, addr) = serve(EventLoop::builder().pollers(2).runner(runner), service());
        let threads: Vec<_> = (0..4)
            .map(|t| {
                thread::spawn(move || {
                    let mut streams: Vec<_> = (0..connections / 4).map(|_| connect(addr)).collect();
                    for round in 0..3 {
                        for (i, stream) in streams.iter_mut().enumerate() {
                            let body = pattern((i * 37 + round * 999) % 3000, i + t);
                            stream.write_all(&frame(&body)).unwrap();
                        }
                        for (i, stream) in streams.iter_mut().enumerate() {
                            let body = pattern((i * 37 + round * 999) % 3000, i + t);
                            assert!(read_frame(stream).unwrap() == body);
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("a client failed"));
        eventually(&name, || event_loop.connections() == 0);
    }
}

#[test]
fn sixty_four_in_a_row_without_waiting() {
    for (name, runner, service) in kinds() {
        let (_loop, addr) = serve(EventLoop::builder().pollers(1).runner(runner), service());
        let mut stream = connect(addr);
        for round in 0..20 {
            let bodies: Vec<_> =
                (0..64).map(|i| pattern((i * i * 13 + round) % 2000, i + round)).collect();
            let all: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
            stream.write_all(&all).unwrap();
            for body in &bodies {
                assert!(read_frame(&mut stream).unwrap() == *body, "{name}");
            }
        }
    }
}

#[test]
fn split_at_every_byte() {
    for (name, runner, service) in kinds() {
        let (_loop, addr) = serve(EventLoop::builder().pollers(1).runner(runner), service());
        let bytes: Vec<u8> =
            [&b""[..], b"a", b"0123456789", b"end"].into_iter().flat_map(frame).collect();
        let streams: Vec<_> = (0..=bytes.len()).map(|_| connect(addr)).collect();
        for (cut, mut stream) in streams.iter().enumerate() {
            stream.write_all(&bytes[..cut]).unwrap();
        }
        thread::sleep(Duration::from_millis(10));
        for (cut, mut stream) in streams.iter().enumerate() {
            stream.write_all(&bytes[cut..]).unwrap();
            let mut reply = vec![0; bytes.len()];
            stream.read_exact(&mut reply).unwrap();
            assert_eq!(reply, bytes, "{name}, cut at {cut}");
        }
        // One byte at a time.
        let mut stream = connect(addr);
        for byte in &bytes {
            stream.write_all(&[*byte]).unwrap();
            thread::sleep(Duration::from_micros(200));
        }
        let mut reply = vec![0; bytes.len()];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply, bytes, "{name}");
    }
}

/// While a framing function looks, somebody else may take the role and read on.
#[test]
fn a_message_that_becomes_whole_while_its_framing_looks() {
    let (started, has_started) = mpsc::channel();
    let started = Mutex::new(started);
    let service = service_fn(|conn| {
        let (r, w) = conn.split();
        w.write_binary(r.next(10)?)?;
        Ok(w.flush().map(drop)?)
    })
    .framing(move |buffered: &Buffered<'_>| {
        if buffered.len() < 10 {
            let _ = started.lock().unwrap().send(());
        }
        eventually("the rest", || buffered.len() >= 10);
        Ok(Frame::Ready(10))
    });
    let (_loop, addr) = serve(EventLoop::builder().pollers(1), service);
    let mut stream = connect(addr);
    stream.write_all(b"01234").unwrap();
    has_started.recv_timeout(common::PATIENCE).unwrap();
    stream.write_all(b"56789").unwrap();
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"0123456789");
}

#[test]
fn a_peer_that_goes_at_any_point() {
    for (name, runner, service) in kinds() {
        let (event_loop, addr) = serve(EventLoop::builder().pollers(1).runner(runner), service());
        let bytes = frame(&pattern(40, 1)).repeat(2);
        for cut in 0..=bytes.len() {
            for how in 0..3 {
                let mut stream = connect(addr);
                stream.write_all(&bytes[..cut]).unwrap();
                match how {
                    0 => drop(stream),
                    1 => common::reset_on_drop(&stream),
                    _ => {
                        stream.shutdown(Shutdown::Write).unwrap();
                        // Whole frames are answered, half ones are not.
                        let mut reply = Vec::new();
                        stream.read_to_end(&mut reply).unwrap();
                        assert_eq!(reply.len(), cut / 44 * 44, "{name}, cut at {cut}");
                        assert!(bytes.starts_with(&reply));
                    }
                }
            }
        }
        ping(&mut connect(addr), b"still there");
        eventually(&name, || event_loop.connections() == 0);
    }
}

#[test]
fn large_frames_both_ways() {
    for (name, runner, service) in kinds() {
        let (_loop, addr) = serve(EventLoop::builder().pollers(1).runner(runner), service());
        for len in [1 << 10, 1 << 16, (1 << 20) - 4, 1 << 20, 3 << 20] {
            let mut stream = connect(addr);
            let mut sending = stream.try_clone().unwrap();
            let body = pattern(len, len);
            let bytes = frame(&body);
            let sender = thread::spawn(move || sending.write_all(&bytes).unwrap());
            let reply = read_frame(&mut stream);
            if name.starts_with("inline") && len > 1 << 16 && reply.is_err() {
                // Its flush may not wait for room.
                let _ = sender.join();
                continue;
            }
            assert!(reply.unwrap() == body, "{name}, {len}");
            sender.join().unwrap();
        }
    }
}

/// How long a ping takes while `others` do their worst.
fn pings_beside(addr: SocketAddr) {
    let mut stream = connect(addr);
    for i in 0..50 {
        let start = Instant::now();
        ping(&mut stream, &pattern(100, i));
        assert!(start.elapsed() < Duration::from_secs(5), "somebody held up the others");
    }
}

#[test]
fn split_frames_and_slow_readers_hold_up_nobody() {
    let (event_loop, addr) = serve(EventLoop::builder().pollers(1), straight());
    // Half a frame each: as many handlers wait.
    let mut halves: Vec<_> = (0..40).map(|_| connect(addr)).collect();
    for half in &mut halves {
        half.write_all(&frame(b"0123456789")[..9]).unwrap();
    }
    pings_beside(addr);
    // And readers that do not read: as many flushes wait.
    let mut slow: Vec<_> = (0..4).map(|_| connect(addr)).collect();
    let bytes = frame(&pattern(8 << 20, 3));
    for stream in &mut slow {
        stream.write_all(&bytes).unwrap();
    }
    pings_beside(addr);
    for stream in &mut slow {
        assert!(read_frame(stream).unwrap() == bytes[4..]);
    }
    for half in &mut halves {
        half.write_all(&frame(b"0123456789")[9..]).unwrap();
        assert_eq!(read_frame(half).unwrap(), b"0123456789");
    }
    assert!(event_loop.stats().handovers >= 40);
}

#[test]
fn blocking_handlers_hold_up_nobody() {
    let inside = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&inside);
    let service = service_fn(move |conn| {
        let (r, w) = conn.split();
        let n = u32::from_be_bytes(r.read_array()?);
        let body = r.next(n as usize)?;
        if body.starts_with(b"sleep") {
            count.fetch_add(1, SeqCst);
            thread::sleep(Duration::from_millis(300));
        }
        w.malloc(4)?.put_u32(n);
        w.write_binary(body)?;
        w.flush()?;
        Ok(())
    });
    let (event_loop, addr) = serve(EventLoop::builder().pollers(1), service);
    let mut sleepers: Vec<_> = (0..10).map(|_| connect(addr)).collect();
    for sleeper in &mut sleepers {
        sleeper.write_all(&frame(b"sleep")).unwrap();
    }
    eventually("all sleep", || inside.load(SeqCst) == 10);
    assert!(event_loop.stats().rescues > 0);
    pings_beside(addr);
    for sleeper in &mut sleepers {
        assert_eq!(read_frame(sleeper).unwrap(), b"sleep");
    }
}

#[test]
fn dialed_connections_talk_to_served_ones() {
    let (event_loop, addr) = serve(EventLoop::builder().pollers(2), straight());
    let threads: Vec<_> = (0..8)
        .map(|t| {
            let dialer = event_loop.dialer();
            thread::spawn(move || {
                let mut conn = dialer.dial(addr).unwrap();
                for i in 0..200 {
                    let body = pattern((i * 101 + t) % 5000, i);
                    let (r, w) = conn.split();
                    w.write_binary(&frame(&body)).unwrap();
                    assert_eq!(w.flush().unwrap(), body.len() + 4);
                    let n = u32::from_be_bytes(r.read_array().unwrap());
                    assert!(r.next(n as usize).unwrap() == body);
                    r.release();
                    assert!(r.try_next(1).unwrap().is_none());
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a client failed"));
    eventually("their end", || event_loop.connections() == 0);
}

#[test]
fn try_next_of_a_dialed_connection_sees_what_has_come() {
    let (event_loop, addr) = serve(EventLoop::builder(), framed());
    let mut conn = event_loop.dialer().dial(addr).unwrap();
    conn.write_binary(&frame(b"x")).unwrap();
    conn.flush().unwrap();
    eventually("the reply", || conn.try_next(5).unwrap().is_some());
}
