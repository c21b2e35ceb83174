//! Where handlers run and who waits for whom: the cap, its queue, hand-overs, panics, threads.
//!
//! Nothing here judges time closer than "seconds"; `timing_scheduling.rs` does.

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use common::{
    Gate, PATIENCE, connect, eventually, frame, ping, read_frame, reset_on_drop, serve, stress,
};
use netpoll::{
    Builder, Callbacks, Connection, Error, EventLoop, Handle, HandlerResult, LengthPrefixed,
    Reader, ReaderExt, Runner, Service, Writer, WriterExt, block_in_place, service_fn,
};

fn framing() -> LengthPrefixed {
    LengthPrefixed::u32_be()
}

/// Sends the message back.
fn echo(conn: &mut Connection) -> HandlerResult {
    let (r, w) = conn.split();
    w.write_bytes(r.slice(r.len())?)?;
    w.flush()?;
    Ok(())
}

/// A framed service.
fn framed(
    f: impl Fn(&mut Connection) -> HandlerResult + Send + Sync + 'static,
) -> impl Service<State = ()> {
    service_fn(f).framing(framing())
}

/// Most at once of whatever is counted.
#[derive(Default)]
struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    fn hold<R>(&self, f: impl FnOnce() -> R) -> R {
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
        let result = f();
        self.now.fetch_sub(1, SeqCst);
        result
    }

    fn now(&self) -> usize {
        self.now.load(SeqCst)
    }

    fn most(&self) -> usize {
        self.most.load(SeqCst)
    }
}

/// Threads of this process whose name begins with `name`.
fn threads(name: &str) -> usize {
    fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|comm| comm.starts_with(name))
        .count()
}

/// Threads that run until the flag is set end with a test that fails, too.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Samples the threads of one loop until it is asked.
struct Census {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<usize>,
}

impl Census {
    fn of(name: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut most = 0;
            while !stopped.load(SeqCst) {
                most = most.max(threads(name));
                thread::sleep(Duration::from_millis(1));
            }
            most
        });
        Self { stop, thread }
    }

    fn most(self) -> usize {
        self.stop.store(true, SeqCst);
        self.thread.join().unwrap()
    }
}

/// Everybody pings `addr` so many times, each on a thread of its own.
fn pings(addr: SocketAddr, clients: usize, each: usize) {
    thread::scope(|scope| {
        for client in 0..clients {
            scope.spawn(move || {
                let mut stream = connect(addr);
                for n in 0..each {
                    ping(&mut stream, format!("{client} {n}").as_bytes());
                }
            });
        }
    });
}

/// What `/proc` knows of a thread's name: the kernel keeps 15 bytes of it.
fn builder(name: &str) -> Builder {
    assert!(name.len() < 12);
    EventLoop::builder().name(name)
}

#[test]
fn handlers_that_call_another_loop_at_its_cap_complete() {
    let (_back, back) = serve(builder("back").cap(4), framed(echo));
    let front = builder("front").cap(4).build().unwrap();
    let dialer = front.dialer();
    let addr = common::serve_on(
        &front,
        framed(move |conn| {
            let (r, w) = conn.split();
            let mut client = dialer.dial(back.to_string())?;
            client.write_bytes(r.slice(r.len())?)?;
            client.flush()?;
            let len = client.read_array::<4>()?;
            let body = client.next(u32::from_be_bytes(len) as usize)?;
            w.write_binary(&len)?;
            w.write_binary(body)?;
            w.flush()?;
            Ok(())
        }),
    );
    let (front_threads, back_threads) = (Census::of("front"), Census::of("back"));
    pings(addr, 64, stress(1000));
    let pollers = thread::available_parallelism().unwrap().get();
    let bound = 4 + 2 * pollers + 1;
    assert!(front.stats().handovers > 0);
    let most = (front_threads.most(), back_threads.most());
    assert!(most.0 <= bound && most.1 <= bound, "{most:?} of {bound}");
}

#[test]
fn a_server_that_calls_itself_at_its_cap_ends_by_its_timeouts() {
    let event_loop = builder("self").cap(2).read_timeout(Some(Duration::from_millis(300)));
    let event_loop = event_loop.build().unwrap();
    let dialer = event_loop.dialer();
    let own = Arc::new(Mutex::new(None::<SocketAddr>));
    let addr = Arc::clone(&own);
    let timeouts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&timeouts);
    let addr_of_it = common::serve_on(
        &event_loop,
        framed(move |conn| {
            if conn.peek(5)?[4] != b'!' {
                return echo(conn);
            }
            let addr = addr.lock().unwrap().ok_or(Error::Closed)?;
            let mut client = dialer.dial(addr.to_string())?;
            client.write_binary(&frame(b"plain"))?;
            client.flush()?;
            if let Err(error) = client.next(9) {
                assert!(error.is_timeout(), "{error}");
                counted.fetch_add(1, SeqCst);
            }
            echo(conn)
        }),
    );
    *own.lock().unwrap() = Some(addr_of_it);
    // Both places are taken by handlers that wait for a third.
    let mut clients: Vec<_> = (0..2).map(|_| connect(addr_of_it)).collect();
    let start = Instant::now();
    for client in &mut clients {
        client.write_all(&frame(b"!")).unwrap();
    }
    for client in &mut clients {
        assert_eq!(read_frame(client).unwrap(), b"!");
    }
    assert!(start.elapsed() < PATIENCE);
    // And it serves on.
    ping(&mut connect(addr_of_it), b"plain");
}

#[test]
fn partial_frames_hold_no_thread() {
    let gauge = Arc::new(Gauge::default());
    let counted = Arc::clone(&gauge);
    let (event_loop, addr) = serve(
        builder("partial").cap(8).pollers(2),
        framed(move |conn| counted.hold(|| echo(conn))),
    );
    let census = Census::of("partial");
    let whole = frame(&common::pattern(1024, 1));
    let mut slow: Vec<_> = (0..stress(2000)).map(|_| connect(addr)).collect();
    let mut good = connect(addr);
    let start = Instant::now();
    let (rounds, pause) = match std::env::var_os("NETPOLL_STRESS") {
        Some(_) => (5, Duration::from_secs(1)),
        None => (50, Duration::from_millis(2)),
    };
    for at in 0..rounds {
        for stream in &mut slow {
            stream.write_all(&whole[at..=at]).unwrap();
        }
        let until = Instant::now() + pause;
        loop {
            ping(&mut good, b"good");
            if Instant::now() >= until {
                break;
            }
        }
    }
    assert!(start.elapsed() < 3 * PATIENCE);
    assert_eq!(gauge.most(), 1, "only the good client's handler ran");
    eventually("nothing runs", || event_loop.stats().handlers == 0);
    assert_eq!((event_loop.stats().handovers, event_loop.stats().queued), (0, 0));
    let most = census.most();
    assert!(most <= 8 + 4 + 1, "{most}");
    // What is whole in the end is handled.
    for stream in &mut slow {
        stream.write_all(&whole[rounds..]).unwrap();
    }
    for stream in &mut slow {
        assert_eq!(frame(&read_frame(stream).unwrap()), whole);
    }
}

#[test]
fn threads_and_handlers_stay_under_their_bounds() {
    let gauge = Arc::new(Gauge::default());
    let counted = Arc::clone(&gauge);
    let (event_loop, addr) = serve(
        builder("bound").cap(6).pollers(2),
        framed(move |conn| {
            counted.hold(|| {
                match conn.peek(5)?[4] % 4 {
                    0 => thread::sleep(Duration::from_millis(3)),
                    1 => block_in_place(|| thread::sleep(Duration::from_millis(1))),
                    2 => {
                        let start = Instant::now();
                        while start.elapsed() < Duration::from_millis(1) {}
                    }
                    _ => {}
                }
                echo(conn)
            })
        }),
    );
    let census = Census::of("bound");
    thread::scope(|scope| {
        for client in 0..32_u8 {
            scope.spawn(move || {
                let mut stream = connect(addr);
                for n in 0..stress(2000) {
                    ping(&mut stream, &[client.wrapping_add(n as u8)]);
                }
            });
        }
    });
    assert!(gauge.most() <= 6, "{} handlers at a cap of 6", gauge.most());
    let most = census.most();
    assert!(most <= 6 + 4 + 1, "{most} threads");
    eventually("places are given back", || event_loop.stats().handlers == 0);
    assert_eq!(event_loop.stats().queued, 0);
}

#[test]
fn panics_in_bulk_leave_the_counts_exact() {
    let pool = gopool::Pool::builder().name("bulk").cap(4).queue_limit(1 << 12).build().unwrap();
    for runner in [Runner::Auto, Runner::Inline, Runner::Pool(pool)] {
        let (event_loop, addr) = serve(
            builder("panics").cap(4).runner(runner),
            framed(|conn| {
                if conn.peek(5)?[4] == b'p' {
                    std::panic::resume_unwind(Box::new("planned"));
                }
                echo(conn)
            }),
        );
        let mut good = connect(addr);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..stress(2500) {
                        let mut bad = connect(addr);
                        bad.write_all(&frame(b"panic")).unwrap();
                        assert!(matches!(bad.read(&mut [0]), Ok(0) | Err(_)));
                    }
                });
            }
            for _ in 0..stress(5000) {
                ping(&mut good, b"good");
            }
        });
        eventually("only the good one is left", || event_loop.connections() == 1);
        eventually("no place is lost", || event_loop.stats().handlers == 0);
        ping(&mut good, b"good");
        // As many at once as ever.
        pings(addr, 8, 4);
    }
}

#[test]
fn at_the_cap_the_oldest_goes_first_and_no_poller_starves() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let gate = Arc::new(Gate::default());
    let (log, wait) = (Arc::clone(&order), Arc::clone(&gate));
    let (event_loop, addr) = serve(
        builder("oldest").cap(1).pollers(2),
        framed(move |conn| {
            let id = conn.peek(5)?[4];
            log.lock().unwrap().push(id);
            if id == 0 {
                wait.pass();
            }
            echo(conn)
        }),
    );
    let mut clients: Vec<_> = (0..20).map(|_| connect(addr)).collect();
    for client in &mut clients {
        ping(client, &[99]);
    }
    order.lock().unwrap().clear();
    for (id, client) in clients.iter_mut().enumerate() {
        client.write_all(&frame(&[id as u8])).unwrap();
        if id == 0 {
            eventually("the first runs", || *order.lock().unwrap() == [0]);
        } else {
            eventually("it queues", || event_loop.stats().queued == id);
        }
    }
    gate.open();
    for (id, client) in clients.iter_mut().enumerate() {
        assert_eq!(read_frame(client).unwrap(), [id as u8]);
    }
    assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<u8>>());
}

/// Handlers that end on a thread that no longer drives leave their connection's block to the driver.
/// That is no work for a handler: it must not queue for a place, and go before those who have some.
#[test]
fn what_has_nothing_to_handle_takes_no_place() {
    let gates = [Arc::new(Gate::default()), Arc::new(Gate::default())];
    let order = Arc::new(Mutex::new(Vec::new()));
    let (log, wait) = (Arc::clone(&order), gates.clone());
    let (event_loop, addr) = serve(
        builder("tidy").cap(1).pollers(1),
        framed(move |conn| {
            let id = conn.peek(5)?[4];
            log.lock().unwrap().push(id);
            match id {
                0 => block_in_place(|| wait[0].pass()),
                1 => wait[1].pass(),
                _ => {}
            }
            echo(conn)
        }),
    );
    let mut clients: Vec<_> = (0..4).map(|_| connect(addr)).collect();
    let send = |client: &mut TcpStream, id: u8| client.write_all(&frame(&[id])).unwrap();
    for client in &mut clients {
        ping(client, &[99]);
    }
    order.lock().unwrap().clear();
    send(&mut clients[0], 0);
    eventually("the first runs", || *order.lock().unwrap() == [0]);
    send(&mut clients[1], 1);
    eventually("it queues", || event_loop.stats().queued == 1);
    gates[0].open();
    // The thread of the first runs the second, before it becomes a spare.
    eventually("the second runs", || *order.lock().unwrap() == [0, 1]);
    send(&mut clients[2], 2);
    send(&mut clients[3], 3);
    eventually("they queue", || event_loop.stats().queued >= 2);
    // By now the driver has heard of the first's block; any moment more would only show it better.
    thread::sleep(Duration::from_millis(20));
    assert_eq!(event_loop.stats().queued, 2);
    gates[1].open();
    for (id, client) in clients.iter_mut().enumerate() {
        assert_eq!(read_frame(client).unwrap(), [id as u8]);
    }
}

#[test]
fn a_queue_that_never_empties_starves_no_poller() {
    let (_loop, addr) = serve(
        builder("starve").cap(1).pollers(2).fair_share(2),
        framed(|conn| {
            thread::sleep(Duration::from_micros(100));
            echo(conn)
        }),
    );
    // Connections go to the pollers in turn: those of one keep the queue full.
    let streams: Vec<_> = (0..16).map(|_| connect(addr)).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let until = SetOnDrop(&stop);
        let mut quiet = Vec::new();
        for (n, mut stream) in streams.into_iter().enumerate() {
            if n % 2 == 1 && n < 5 {
                quiet.push(stream);
                continue;
            }
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(SeqCst) {
                    ping(&mut stream, b"busy");
                }
            });
        }
        for stream in &mut quiet {
            // Each waits as long as a patient stream does.
            (0..10).for_each(|_| ping(stream, b"quiet"));
        }
        drop(until);
    });
}

#[test]
fn the_cap_goes_up_and_down_while_running() {
    let gauge = Arc::new(Gauge::default());
    let gate = Arc::new(Gate::default());
    let (counted, wait) = (Arc::clone(&gauge), Arc::clone(&gate));
    let (event_loop, addr) = serve(
        builder("setcap").cap(8).pollers(2),
        framed(move |conn| {
            counted.hold(|| {
                if conn.peek(5)?[4] == b'w' {
                    block_in_place(|| wait.pass());
                }
                echo(conn)
            })
        }),
    );
    event_loop.set_cap(2);
    assert_eq!(event_loop.stats().cap, 2);
    let mut clients: Vec<_> = (0..8).map(|_| connect(addr)).collect();
    // Once they are open, only requests take places.
    clients.iter_mut().for_each(|client| ping(client, b"hello"));
    for client in &mut clients {
        client.write_all(&frame(b"wait")).unwrap();
    }
    eventually("six queue", || event_loop.stats().queued == 6);
    assert_eq!(gauge.now(), 2);
    event_loop.set_cap(5);
    eventually("five run", || gauge.now() == 5);
    assert_eq!(event_loop.stats().queued, 3);
    // Lowered below what runs: nobody is disturbed, and nobody new begins.
    event_loop.set_cap(1);
    thread::sleep(Duration::from_millis(20));
    assert_eq!((gauge.now(), event_loop.stats().queued), (5, 3));
    event_loop.set_cap(usize::MAX);
    assert_eq!(event_loop.stats().cap, 8, "never above what it has threads for");
    eventually("all run", || gauge.now() == 8);
    gate.open();
    for client in &mut clients {
        assert_eq!(read_frame(client).unwrap(), b"wait");
    }
    // Up and down under load.
    thread::scope(|scope| {
        let load = scope.spawn(|| pings(addr, 16, stress(10_000)));
        let mut cap = 0;
        while !load.is_finished() {
            cap = cap % 8 + 1;
            event_loop.set_cap(cap);
            thread::yield_now();
        }
        load.join().unwrap();
    });
    event_loop.set_cap(8);
    eventually("places are given back", || event_loop.stats().handlers == 0);
    assert_eq!(event_loop.stats().queued, 0);
    assert!(gauge.most() <= 8);
}

#[test]
fn inline_handlers_never_wait() {
    let errors = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&errors);
    let (event_loop, addr) = serve(
        builder("inline").runner(Runner::Inline).pollers(1),
        service_fn(move |conn| {
            let error = conn.next(1 << 10).map(|_| ()).unwrap_err();
            seen.lock().unwrap().push(format!("{error:?}"));
            conn.skip(conn.len())?;
            conn.write_byte(1)?;
            conn.flush()?;
            Ok(())
        }),
    );
    let mut client = connect(addr);
    client.write_all(&[7]).unwrap();
    client.read_exact(&mut [0]).unwrap();
    assert_eq!(*errors.lock().unwrap(), ["WouldWait"]);
    assert_eq!((event_loop.stats().handovers, event_loop.stats().rescues), (0, 0));
}

#[test]
fn a_pool_runs_every_handler() {
    let names = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&names);
    let pool = gopool::Pool::builder().name("mine").cap(2).queue_limit(64).build().unwrap();
    let (event_loop, addr) = serve(
        builder("pooled").runner(Runner::Pool(pool)),
        framed(move |conn| {
            seen.lock().unwrap().push(thread::current().name().unwrap_or("?").to_owned());
            echo(conn)
        }),
    );
    pings(addr, 8, 4);
    let names = names.lock().unwrap();
    assert!(names.len() == 32 && names.iter().all(|name| name.starts_with("mine")), "{names:?}");
    assert_eq!(event_loop.stats().handovers, 0);
}

#[test]
fn announced_blocking_is_handed_over_and_not_rescued() {
    let gates = Arc::new([const { Gate(AtomicBool::new(false)) }; 50]);
    let wait = Arc::clone(&gates);
    let (event_loop, addr) = serve(
        builder("announce").pollers(1),
        framed(move |conn| {
            if let Some(gate) = wait.get(usize::from(conn.peek(5)?[4])) {
                block_in_place(|| block_in_place(|| gate.pass()));
            }
            echo(conn)
        }),
    );
    let mut blocked = connect(addr);
    let mut good = connect(addr);
    // On a busy machine the watchdog may be faster than a handler that has not come to announce
    // anything yet; it is not every time.
    for (round, gate) in gates.iter().enumerate() {
        let before = event_loop.stats();
        blocked.write_all(&frame(&[round as u8])).unwrap();
        for _ in 0..10 {
            ping(&mut good, b"good");
        }
        gate.open();
        assert_eq!(read_frame(&mut blocked).unwrap(), [round as u8]);
        let after = event_loop.stats();
        assert!(after.handovers - before.handovers <= 1, "an announcement in another counts once");
        if (after.handovers - before.handovers, after.rescues - before.rescues) == (1, 0) {
            return;
        }
    }
    panic!("never handed over without a rescue: {:?}", event_loop.stats());
}

/// Replies to pipelined requests are left in a queue while more are handled. One of those that
/// stays, in any way, must not hold them up.
#[test]
fn who_was_read_in_a_row_does_not_wait_for_who_came_before() {
    const MANY: usize = 20;
    for announced in [true, false] {
        let inside = Arc::new(AtomicUsize::new(0));
        let service = framed(move |conn| {
            inside.fetch_add(1, SeqCst);
            let all = || eventually("all at once", || inside.load(SeqCst) == MANY);
            if announced {
                block_in_place(all)
            } else {
                all()
            }
            echo(conn)
        });
        let (_event_loop, addr) = serve(EventLoop::builder().pollers(1), service);
        let mut clients: Vec<TcpStream> = (0..MANY).map(|_| connect(addr)).collect();
        clients.iter_mut().for_each(|one| one.write_all(&frame(b"row")).unwrap());
        for client in &mut clients {
            assert_eq!(read_frame(client).unwrap(), b"row");
        }
    }
}

#[test]
fn no_queued_reply_waits_behind_a_slow_handler() {
    let slow: [fn(&Gate); 3] = [
        |gate| gate.pass(),
        |gate| block_in_place(|| gate.pass()),
        |gate| {
            let start = Instant::now();
            while !gate.0.load(SeqCst) && start.elapsed() < PATIENCE {
                std::hint::spin_loop();
            }
        },
    ];
    for slow in slow {
        // After connections that ended in every way with replies in the queue.
        for before in [b"".as_slice(), b"e", b"t"] {
            let gate = Arc::new(Gate::default());
            let wait = Arc::clone(&gate);
            let taken = Mutex::new(Vec::new());
            let (_loop, addr) = serve(
                builder("queued").pollers(1),
                framed(move |conn| {
                    let first = conn.peek(5)?[4];
                    match first {
                        b's' => slow(&wait),
                        b'e' => return Err("planned".into()),
                        _ => {}
                    }
                    echo(conn)?;
                    if first == b't' {
                        taken.lock().unwrap().extend(conn.take());
                    }
                    Ok(())
                }),
            );
            if !before.is_empty() {
                let mut client = connect(addr);
                let messages = [frame(b"1"), frame(before), frame(b"3")].concat();
                client.write_all(&messages).unwrap();
                assert_eq!(read_frame(&mut client).unwrap(), b"1");
                if before == b"t" {
                    assert_eq!(read_frame(&mut client).unwrap(), b"t");
                }
            }
            let mut client = connect(addr);
            client.write_all(&[frame(b"1"), frame(b"2"), frame(b"s")].concat()).unwrap();
            assert_eq!(read_frame(&mut client).unwrap(), b"1");
            assert_eq!(read_frame(&mut client).unwrap(), b"2");
            gate.open();
            assert_eq!(read_frame(&mut client).unwrap(), b"s");
        }
    }
}

/// Peers that go while their requests run: their `on_disconnect` may wait, one at a time.
#[test]
fn disconnect_callbacks_wait_one_at_a_time_and_hold_nobody_up() {
    let pool = gopool::Pool::builder().name("aside").cap(64).queue_limit(64).build().unwrap();
    for runner in [Runner::Auto, Runner::Pool(pool)] {
        let gauge = Arc::new(Gauge::default());
        let (gone, busy) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
        let (counted, wait, work) = (Arc::clone(&gauge), Arc::clone(&gone), Arc::clone(&busy));
        let (told, begun) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, begins) = (Arc::clone(&told), Arc::clone(&begun));
        let service = Callbacks::new(|_: &Handle| Ok(()))
            .framing(framing())
            .on_request(move |conn, ()| {
                if conn.peek(5)?[4] == b'w' {
                    begins.fetch_add(1, SeqCst);
                    work.pass();
                }
                echo(conn)
            })
            .on_disconnect(move |_| {
                counted.hold(|| wait.pass());
                count.fetch_add(1, SeqCst);
            });
        let builder = builder("disconn").cap(32).pollers(1).runner(runner);
        let (event_loop, addr) = serve(builder, service);
        let census = Census::of("disconn");
        let mut good = connect(addr);
        ping(&mut good, b"good");
        for n in 1..=16 {
            let mut peer = connect(addr);
            peer.write_all(&frame(b"wait")).unwrap();
            eventually("it runs", || begun.load(SeqCst) == n);
            ping(&mut good, b"good");
            reset_on_drop(&peer);
        }
        eventually("the first is told", || gauge.now() == 1);
        for _ in 0..10 {
            ping(&mut good, b"good");
        }
        gone.open();
        eventually("all are told", || told.load(SeqCst) == 16);
        busy.open();
        eventually("all have closed", || event_loop.connections() == 1);
        assert_eq!(gauge.most(), 1);
        let most = census.most();
        assert!(most <= 32 + 2 + 1, "{most}");
    }
}
