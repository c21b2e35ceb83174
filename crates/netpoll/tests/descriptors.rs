//! Descriptors, threads and limits of the process: each test runs again in a child of its own.

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use common::{
    connect, echo, eventually, ping,
    process::{
        self, Other, argument, cpu_time, descriptors, in_child, memory, say, set_limit, threads,
    },
    serve, stress,
};
use netpoll::{
    Callbacks, EventLoop, Listener, Notice, Reader, ReaderExt, Writer, WriterExt, service_fn,
};

#[test]
fn connections_that_come_and_go_leave_nothing() {
    if !in_child("connections_that_come_and_go_leave_nothing") {
        return;
    }
    for (name, runner) in common::runners() {
        let (event_loop, addr) = serve(EventLoop::builder().pollers(2).runner(runner), echo());
        let visit = |many: usize, kind: &str| {
            let arguments =
                [("addr", addr.to_string()), ("many", many.to_string()), ("kind", kind.into())];
            let mut clients = Other::start("clients_that_come_and_go", &arguments);
            assert_eq!(clients.next(), "done");
            clients.end();
            eventually("their end", || event_loop.connections() == 0);
        };
        // What is kept for reuse is there after the first.
        visit(300, "mixed");
        thread::sleep(Duration::from_millis(20));
        let (fds, tasks, kib) = (descriptors(), threads(), memory());
        for kind in ["closing", "mixed", "resetting"] {
            visit(stress(50_000), kind);
            eventually(name, || descriptors() <= fds);
            // A pool may have grown to its handlers.
            assert!(threads() <= tasks + 64, "{name}: {} threads, {tasks} before", threads());
            let more = memory().saturating_sub(kib);
            assert!(more < 12 << 10, "{name}, {kind}: {more} KiB more than before");
        }
        let dialer = event_loop.dialer();
        for _ in 0..stress(10_000) {
            drop(dialer.dial(addr).unwrap());
        }
        eventually(name, || event_loop.connections() == 0 && descriptors() <= fds);
        // What was kept of a closed connection keeps no descriptor.
        let handles: Vec<_> = (0..10).map(|_| dialer.dial(addr).unwrap().handle()).collect();
        eventually(name, || event_loop.connections() == 0 && descriptors() <= fds);
        drop(handles);
        event_loop.shutdown(common::PATIENCE).unwrap();
        drop((event_loop, dialer));
        eventually("its own", || descriptors() < fds);
    }
}

/// Connections that are reset while they wait to be accepted.
#[test]
fn resets_before_they_are_accepted() {
    if !in_child("resets_before_they_are_accepted") {
        return;
    }
    // The one thread that accepts is held in a handler while they come.
    let (held, go_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (inside, until) = (Arc::clone(&held), Arc::clone(&go_on));
    let service = service_fn(move |conn| {
        conn.skip(conn.len())?;
        let round = inside.fetch_add(1, SeqCst);
        eventually("going on", || until.load(SeqCst) > round);
        Ok(())
    });
    let builder = EventLoop::builder().pollers(1).runner(netpoll::Runner::Inline);
    let (event_loop, addr) = serve(builder, service);
    let fds = descriptors();
    let at_once = 500;
    for round in 0..stress(50_000 / at_once * 100).div_ceil(100) {
        let mut holding = connect(addr);
        holding.write_all(b"x").unwrap();
        eventually("the handler", || held.load(SeqCst) > round);
        for _ in 0..at_once {
            common::reset_on_drop(&connect(addr));
        }
        go_on.fetch_add(1, SeqCst);
        drop(holding);
        eventually("all of them, accepted", || {
            event_loop.stats().accepted == ((round + 1) * (at_once + 1)) as u64
        });
        eventually("their end", || event_loop.connections() == 0 && descriptors() <= fds);
    }
}

/// Comes and goes in various ways.
#[test]
#[ignore = "run by others, as: cargo test -p netpoll --test descriptors connections_that_come_and_go"]
fn clients_that_come_and_go() {
    let Some(addr) = argument("addr") else { return };
    let addr: SocketAddr = addr.parse().unwrap();
    let kind = argument("kind").unwrap();
    for i in 0..argument("many").unwrap().parse().unwrap() {
        let mut client = connect(addr);
        match (kind.as_str(), i % 4) {
            ("closing", _) | ("mixed", 0) => {}
            ("resetting", _) | ("mixed", 1) => common::reset_on_drop(&client),
            (_, 2) => ping(&mut client, b"hello"),
            _ => client.write_all(b"\0\0").unwrap(),
        }
    }
    say("done");
}

#[test]
fn out_of_descriptors() {
    if !in_child("out_of_descriptors") {
        return;
    }
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let builder = EventLoop::builder().pollers(1);
    let builder = builder.on_notice(move |notice| tell.lock().unwrap().push(notice.clone()));
    let (event_loop, addr) = serve(builder, echo());
    ping(&mut connect(addr), b"warm");
    eventually("none", || event_loop.connections() == 0);
    let beginning = Instant::now();
    for ends in [false, true] {
        let ending = if ends { "1" } else { "0" };
        let arguments = [("addr", addr.to_string()), ("ends", ending.to_owned())];
        let mut clients = Other::start("clients_without_room", &arguments);
        assert_eq!(clients.next(), "ready");
        set_limit(64);
        clients.tell("go");
        let rests = event_loop.stats().accept_rests;
        eventually("the limit", || event_loop.stats().accept_rests > rests + 5);
        assert!((15..64).contains(&event_loop.connections()));
        let error = event_loop.last_accept_error().expect("a reason");
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        // Accepting rests.
        let (before, start) = (cpu_time(), Instant::now());
        let rests = event_loop.stats().accept_rests;
        thread::sleep(Duration::from_millis(400));
        let rests = event_loop.stats().accept_rests - rests;
        let most = start.elapsed().as_millis() / 50 + 2;
        assert!(u128::from(rests) <= most, "it was tried {rests} times, whoever came");
        let share = (cpu_time() - before).as_secs_f64() / start.elapsed().as_secs_f64();
        assert!(share < 0.05, "{:.1} % of CPU while nothing can be accepted", share * 100.0);
        if ends {
            // The end does not wait for room.
            event_loop.shutdown(common::PATIENCE).unwrap();
        }
        // And goes on when there is room.
        set_limit(1024);
        assert_eq!(clients.next(), if ends { "200 were ended" } else { "200 were answered" });
        clients.end();
        eventually("none", || event_loop.connections() == 0);
        if !ends {
            // The user is told of every failure, but not often.
            eventually("the last notice", || failures(&told) == event_loop.stats().accept_rests);
            let (notices, seconds) = (told.lock().unwrap().len(), beginning.elapsed().as_secs());
            assert!((1..=seconds + 1).contains(&(notices as u64)), "{notices} in {seconds} s");
        }
    }
}

/// How many failures the notices tell of, all of them for want of descriptors.
fn failures(told: &Mutex<Vec<Notice>>) -> u64 {
    let told = told.lock().unwrap();
    let times = told.iter().map(|notice| match notice {
        Notice::AcceptFailed { errno: libc::EMFILE, times } => *times,
        other => panic!("{other}"),
    });
    times.sum()
}

#[test]
#[ignore = "run by others, as: cargo test -p netpoll --test descriptors out_of_descriptors"]
fn clients_without_room() {
    let Some(addr) = argument("addr") else { return };
    let addr: SocketAddr = addr.parse().unwrap();
    say("ready");
    process::hear();
    let mut streams: Vec<TcpStream> = (0..200).map(|_| connect(addr)).collect();
    if argument("ends").is_some_and(|ends| ends == "1") {
        for stream in &mut streams {
            let end = stream.read(&mut [0]);
            let reset = |e: &std::io::Error| e.kind() == std::io::ErrorKind::ConnectionReset;
            assert!(matches!(&end, Ok(0)) || end.as_ref().is_err_and(reset), "{end:?}");
        }
        say(format_args!("{} were ended", streams.len()));
        return;
    }
    for stream in &mut streams {
        ping(stream, b"is there room?");
    }
    say(format_args!("{} were answered", streams.len()));
}

/// What other programs get of ours: nothing but the three.
#[test]
fn a_program_that_is_started_inherits_nothing() {
    if !in_child("a_program_that_is_started_inherits_nothing") {
        return;
    }
    // What this process got itself is none of our business.
    for fd in 3..1024 {
        // SAFETY: takes no pointers, and changes a flag at most.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    let path = tempfile::tempdir().unwrap();
    let event_loop = EventLoop::builder().pollers(2).build().unwrap();
    let unix = format!("unix:{}", path.path().join("here").display());
    event_loop.listen(Listener::bind(unix.as_str()).unwrap(), echo()).unwrap();
    let addr = common::serve_on(&event_loop, echo());
    let stop = Arc::new(AtomicUsize::new(0));
    let dialing: Vec<_> = (0..2)
        .map(|_| {
            let (stop, unix) = (Arc::clone(&stop), unix.clone());
            let dialer = event_loop.dialer();
            thread::spawn(move || {
                while stop.load(SeqCst) == 0 {
                    for conn in [dialer.dial(addr), dialer.dial(unix.as_str())] {
                        let mut conn = conn.unwrap();
                        conn.write_binary(&common::frame(b"hello")).unwrap();
                        conn.flush().unwrap();
                        assert_eq!(conn.next(9).unwrap().len(), 9);
                    }
                }
            })
        })
        .collect();
    for _ in 0..stress(2000) {
        // Only looking at names, so that the shell itself opens nothing for it.
        let script = "n=0; while [ $n -lt 200 ]; do \
                      [ -e /proc/$$/fd/$n ] && echo $n; n=$((n+1)); done";
        let said = std::process::Command::new("sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let names = String::from_utf8(said.stdout).unwrap();
        let names: Vec<u32> = names.split_whitespace().map(|n| n.parse().unwrap()).collect();
        assert_eq!(names, [0, 1, 2]);
    }
    stop.store(1, SeqCst);
    dialing.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn descriptors_0_to_2_are_like_any_other() {
    if !in_child("descriptors_0_to_2_are_like_any_other") {
        return;
    }
    let is_open = |fd| {
        // SAFETY: takes no pointers, and changes nothing.
        unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
    };
    for fd in 0..3 {
        // SAFETY: nothing here uses them from now on.
        unsafe { libc::close(fd) };
    }
    let (event_loop, addr) = serve(EventLoop::builder().pollers(1), echo());
    let mut used = (0..3).all(is_open);
    for _ in 0..10 {
        ping(&mut connect(addr), b"over descriptor 0?");
        let mut conn = event_loop.dialer().dial(addr).unwrap();
        conn.write_binary(&common::frame(b"x")).unwrap();
        conn.flush().unwrap();
        used &= conn.next(5).unwrap() == common::frame(b"x");
    }
    event_loop.shutdown(common::PATIENCE).unwrap();
    drop(event_loop);
    let start = Instant::now();
    while (0..3).any(is_open) && start.elapsed() < common::PATIENCE {
        thread::sleep(Duration::from_millis(1));
    }
    let all_closed = !(0..3).any(is_open);
    // There is nobody to tell but by the status.
    std::process::exit(i32::from(!used) + 2 * i32::from(!all_closed));
}

#[test]
fn no_write_raises_sigpipe() {
    if !in_child("no_write_raises_sigpipe") {
        return;
    }
    // SAFETY: the default action is what a program without std has; nothing else runs yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // Handlers that wait for room, and drivers that send what inline handlers leave; some of both end
    // the connection behind it, so that its last bytes go while it lingers.
    for (name, runner) in common::runners() {
        let failed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&failed);
        let service = Callbacks::new(|_| Ok(()))
            .on_request(|conn, ()| {
                let ends = conn.read_byte()? == b'e';
                for _ in 0..50 {
                    conn.write_binary(&[7; 50_000])?;
                    conn.flush()?;
                    thread::sleep(Duration::from_millis(1));
                }
                if ends { Err("enough".into()) } else { Ok(()) }
            })
            .on_close(move |_, (), _| {
                count.fetch_add(1, SeqCst);
            });
        let (event_loop, addr) = serve(EventLoop::builder().runner(runner), service);
        for round in 0..8 {
            let mut client = connect(addr);
            client.write_all(if round % 2 == 0 { b"x" } else { b"e" }).unwrap();
            if round % 4 > 1 {
                client.read_exact(&mut [0; 1000]).unwrap();
            }
            common::reset_on_drop(&client);
        }
        eventually(name, || failed.load(SeqCst) == 8 && event_loop.connections() == 0);
    }
    // A dialed connection, whole, by its write half, and through a queue.
    let event_loop = EventLoop::builder().pollers(1).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dial = || {
        let conn = event_loop.dialer().dial(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        common::reset_on_drop(&peer);
        (conn, peer)
    };
    let (mut conn, peer) = dial();
    drop(peer);
    eventually("an error", || conn.write_binary(&[7; 5000]).and_then(|()| conn.flush()).is_err());
    assert!(conn.flush().is_err());
    let (conn, peer) = dial();
    let (_read, mut half) = conn.into_split();
    drop(peer);
    half.write_binary(&[7; 100_000]).unwrap();
    drop(half);
    let (conn, peer) = dial();
    let queue = netpoll::mux::ShardQueue::builder().build(conn.into_split().1);
    drop(peer);
    eventually("an error", || queue.add(|w| Ok(w.write_binary(&[7; 5000])?)).is_err());
}

#[test]
fn signals_interrupt_nothing() {
    extern "C" fn nothing(_: libc::c_int) {}
    if !in_child("signals_interrupt_nothing") {
        return;
    }
    let (event_loop, addr) = serve(EventLoop::builder().pollers(2), echo());
    // SAFETY: the handler does nothing, which is safe at any moment; the structure is whole.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = 0;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
    let busy = Arc::new(Mutex::new(true));
    let until = Arc::clone(&busy);
    let shooting = thread::spawn(move || {
        while *until.lock().unwrap() {
            for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
                let id: i32 = task.file_name().to_str().unwrap().parse().unwrap();
                // SAFETY: a signal with a handler that does nothing, to a thread of ours.
                unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, libc::SIGUSR1) };
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    // A handler that waits for each part, and one that is handed whole messages.
    let parts = service_fn(|conn| {
        let n = u32::from_be_bytes(conn.read_array()?);
        let body = conn.slice(n as usize)?;
        conn.malloc(4)?.put_u32(n);
        conn.write_bytes(body)?;
        Ok(conn.flush().map(drop)?)
    });
    let waiting = common::serve_on(&event_loop, parts);
    let start = Instant::now();
    let mut rounds = 0u32;
    let mut conn = event_loop.dialer().dial(addr).unwrap();
    let time = Duration::from_millis(500) * if stress(100) == 100 { 20 } else { 1 };
    while start.elapsed() < time {
        if rounds % 8 == 0 {
            let addr = if rounds % 16 == 0 { waiting } else { addr };
            conn = event_loop.dialer().dial(addr).unwrap();
        }
        let body = common::pattern(1 + (rounds as usize * 997) % 100_000, 1);
        conn.write_binary(&common::frame(&body)).unwrap();
        conn.flush().unwrap();
        assert!(conn.next(body.len() + 4).unwrap()[4..] == body);
        conn.release();
        rounds += 1;
    }
    *busy.lock().unwrap() = false;
    shooting.join().unwrap();
    assert!(rounds > 10);
}
