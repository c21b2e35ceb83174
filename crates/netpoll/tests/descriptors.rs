//! Descriptors, threads and limits of the process: each test runs again in a child of its own.

mod common;

use std::{
    env, fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use common::{connect, eventually, ping, serve, stress};
use netpoll::{Callbacks, EventLoop, LengthPrefixed, Reader, Writer, WriterExt, service_fn};

const CHILD: &str = "NETPOLL_TEST_CHILD";

/// Whether this is the child; if not, runs it.
fn in_child(test: &str) -> bool {
    if env::var(CHILD).is_ok_and(|name| name == test) {
        return true;
    }
    let mut child = process::Command::new(env::current_exe().unwrap());
    let status =
        child.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, test).status();
    let status = status.unwrap();
    assert!(status.success(), "{test}: {status}");
    false
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

fn echo() -> Callbacks<()> {
    service_fn(|conn| {
        let (r, w) = conn.split();
        w.write_bytes(r.slice(r.len())?)?;
        Ok(w.flush().map(drop)?)
    })
    .framing(LengthPrefixed::u32_be())
}

#[test]
fn connections_that_come_and_go_leave_nothing() {
    if !in_child("connections_that_come_and_go_leave_nothing") {
        return;
    }
    for (name, runner) in common::runners() {
        let (event_loop, addr) = serve(EventLoop::builder().pollers(2).runner(runner), echo());
        ping(&mut connect(addr), b"warm");
        eventually("none", || event_loop.connections() == 0);
        thread::sleep(Duration::from_millis(20));
        let (fds, tasks) = (descriptors(), threads());
        for i in 0..stress(50_000) {
            let mut client = connect(addr);
            match i % 4 {
                0 => {}
                1 => common::reset_on_drop(&client),
                2 => ping(&mut client, b"hello"),
                _ => client.write_all(b"\0\0").unwrap(),
            }
        }
        eventually(name, || event_loop.connections() == 0 && descriptors() <= fds);
        // A pool may have grown to its handlers.
        assert!(threads() <= tasks + 64, "{name}: {} threads, {tasks} before", threads());
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

#[test]
fn out_of_descriptors() {
    if !in_child("out_of_descriptors") {
        return;
    }
    let (event_loop, addr) = serve(EventLoop::builder().pollers(1), echo());
    ping(&mut connect(addr), b"warm");
    eventually("none", || event_loop.connections() == 0);
    for ends in [false, true] {
        // Clients in a process of their own, so that the limit is the server's.
        let mut clients = process::Command::new(env::current_exe().unwrap())
            .args(["--exact", "clients", "--ignored", "--nocapture"])
            .env("NETPOLL_TEST_ADDR", addr.to_string())
            .env("NETPOLL_TEST_ENDS", if ends { "1" } else { "0" })
            .stdin(process::Stdio::piped())
            .stdout(process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = clients.stdout.take().unwrap();
        set_limit(descriptors() as u64 + 20);
        drop(clients.stdin.take());
        eventually("the limit", || event_loop.connections() >= 15);
        thread::sleep(Duration::from_millis(100));
        assert!(event_loop.connections() < 60);
        // Accepting rests.
        let (before, start) = (process_time(), Instant::now());
        thread::sleep(Duration::from_millis(400));
        let share = (process_time() - before).as_secs_f64() / start.elapsed().as_secs_f64();
        assert!(share < 0.05, "{:.1} % of CPU while nothing can be accepted", share * 100.0);
        if ends {
            // The end does not wait for room.
            event_loop.shutdown(common::PATIENCE).unwrap();
        }
        // And goes on when there is room.
        set_limit(1024);
        let mut all = String::new();
        said.read_to_string(&mut all).unwrap();
        assert!(all.contains(if ends { "60 were ended" } else { "60 were answered" }), "{all}");
        assert!(clients.wait().unwrap().success());
        eventually("none", || event_loop.connections() == 0);
    }
}

/// The clients of `out_of_descriptors`.
#[test]
#[ignore = "run by out_of_descriptors, as: cargo test -p netpoll --test descriptors out_of_descriptors"]
fn clients() {
    let Ok(addr) = env::var("NETPOLL_TEST_ADDR") else { return };
    let addr: SocketAddr = addr.parse().unwrap();
    // Until the server is ready.
    let _ = std::io::stdin().read(&mut [0]);
    let mut streams: Vec<TcpStream> = (0..60).map(|_| connect(addr)).collect();
    if env::var("NETPOLL_TEST_ENDS").is_ok_and(|ends| ends == "1") {
        for stream in &mut streams {
            let end = stream.read(&mut [0]);
            let reset = |e: &std::io::Error| e.kind() == std::io::ErrorKind::ConnectionReset;
            assert!(matches!(&end, Ok(0)) || end.as_ref().is_err_and(reset), "{end:?}");
        }
        println!("{} were ended", streams.len());
        return;
    }
    for stream in &mut streams {
        ping(stream, b"is there room?");
    }
    println!("{} were answered", streams.len());
}

fn set_limit(soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel reads and writes one live rlimit.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = soft;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
}

fn process_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to a live one.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn no_write_raises_sigpipe() {
    if !in_child("no_write_raises_sigpipe") {
        return;
    }
    // SAFETY: the default action is what a program without std has; nothing else runs yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let failed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failed);
    let service = service_fn(move |conn| {
        conn.skip(conn.len())?;
        for _ in 0..50 {
            conn.write_binary(&[7; 5000])?;
            if let Err(error) = conn.flush() {
                count.fetch_add(1, SeqCst);
                return Err(error.into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    });
    let (event_loop, addr) = serve(EventLoop::builder(), service);
    for _ in 0..5 {
        let mut client = connect(addr);
        client.write_all(b"x").unwrap();
        common::reset_on_drop(&client);
    }
    eventually("the errors", || failed.load(SeqCst) == 5 && event_loop.connections() == 0);
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
    let mut conn = event_loop.dialer().dial(addr).unwrap();
    let start = Instant::now();
    let mut rounds = 0u32;
    while start.elapsed() < Duration::from_millis(500) {
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
