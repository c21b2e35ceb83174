//! The two caps on handlers, what a full one that stands still says, and what the figures count.

mod common;

use std::{
    io::Write,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use common::{Gate, connect, eventually, frame, ping, read_frame, serve};
use netpoll::{
    Connection, EventLoop, HandlerResult, LengthPrefixed, Notice, Reader, Runner, Service, Writer,
    WriterExt, block_in_place, service_fn,
};

fn echo(conn: &mut Connection) -> HandlerResult {
    let (r, w) = conn.split();
    w.write_bytes(r.slice(r.len())?)?;
    w.flush()?;
    Ok(())
}

fn framed(
    f: impl Fn(&mut Connection) -> HandlerResult + Send + Sync + 'static,
) -> impl Service<State = ()> {
    service_fn(f).framing(LengthPrefixed::u32_be())
}

/// A server whose handlers wait for what a handler of a client does, in the same loop, at a cap of
/// one each: with one cap for both, nobody would ever go on.
#[test]
fn handlers_of_attached_connections_have_a_cap_of_their_own() {
    let (_echo, back) = serve(EventLoop::builder().name("back"), framed(echo));
    let answers = Arc::new(AtomicUsize::new(0));
    let (counted, wanted) = (Arc::clone(&answers), Arc::clone(&answers));
    let loop_ = EventLoop::builder().name("both").cap(1).attached_cap(1).pollers(1);
    let own = Arc::new(Mutex::new(None::<EventLoop>));
    let this = Arc::clone(&own);
    let (event_loop, addr) = serve(
        loop_,
        framed(move |conn| {
            let event_loop = this.lock().unwrap().clone().ok_or("not yet")?;
            let before = wanted.load(SeqCst);
            let mut client = event_loop.dialer().dial(back.to_string())?;
            client.write_binary(&frame(b"question"))?;
            client.flush()?;
            let count = Arc::clone(&counted);
            let reply = framed(move |conn| {
                conn.skip(conn.len())?;
                count.fetch_add(1, SeqCst);
                Ok(())
            });
            let handle = event_loop.attach(client, reply, ());
            block_in_place(|| eventually("the answer", || wanted.load(SeqCst) > before));
            handle.close();
            echo(conn)
        }),
    );
    *own.lock().unwrap() = Some(event_loop.clone());
    let stats = event_loop.stats();
    assert_eq!((stats.cap, stats.attached_cap), (1, 1));
    let mut clients: Vec<_> = (0..4).map(|_| connect(addr)).collect();
    for client in &mut clients {
        client.write_all(&frame(b"ask")).unwrap();
    }
    for client in &mut clients {
        assert_eq!(read_frame(client).unwrap(), b"ask");
    }
    assert_eq!(answers.load(SeqCst), 4);
    eventually("places are given back", || {
        let stats = event_loop.stats();
        (stats.handlers, stats.attached_handlers, stats.attached_queued) == (0, 0, 0)
    });
    *own.lock().unwrap() = None;
}

#[test]
fn a_full_cap_that_stands_still_is_noticed_once() {
    let gate = Arc::new(Gate::default());
    let wait = Arc::clone(&gate);
    let notices = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&notices);
    let (event_loop, addr) = serve(
        EventLoop::builder().cap(2).pollers(1).on_notice(move |notice| {
            seen.lock().unwrap().push(notice.clone());
            panic!("what it does is its own business");
        }),
        framed(move |conn| {
            if conn.peek(5)?[4] == b'w' {
                wait.pass();
            }
            echo(conn)
        }),
    );
    let mut clients: Vec<_> = (0..3).map(|_| connect(addr)).collect();
    for client in &mut clients {
        ping(client, b"ready");
    }
    for client in &mut clients {
        client.write_all(&frame(b"wait")).unwrap();
    }
    eventually("it stands still", || event_loop.stats().standstills == 1);
    eventually("it is said", || !notices.lock().unwrap().is_empty());
    assert_eq!(*notices.lock().unwrap(), [Notice::CapStandsStill { cap: 2, queued: 1 }]);
    assert!(notices.lock().unwrap()[0].to_string().contains("2 handlers"));
    gate.open();
    for client in &mut clients {
        assert_eq!(read_frame(client).unwrap(), b"wait");
    }
    ping(&mut clients[0], b"moves");
    assert_eq!(event_loop.stats().standstills, 1);
}

#[test]
fn the_time_of_handlers_is_estimated() {
    for runner in [Runner::Auto, Runner::Inline] {
        let is_watched = matches!(runner, Runner::Auto);
        let (event_loop, addr): (_, SocketAddr) = serve(
            EventLoop::builder().runner(runner),
            framed(|conn| {
                thread::sleep(Duration::from_millis(30));
                echo(conn)
            }),
        );
        let mut client = connect(addr);
        for _ in 0..3 {
            ping(&mut client, b"slow");
        }
        // The estimate is as good as the looks are frequent, which a busy machine may make few.
        let time = || event_loop.stats().handler_time;
        if is_watched {
            eventually("it adds up", || {
                ping(&mut client, b"slow");
                time() > Duration::from_millis(90)
            });
        } else {
            assert_eq!(time(), Duration::ZERO);
        }
    }
}
