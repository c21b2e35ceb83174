//! Event loops: what they are built with, what listens on them, and what they do at their limits.

mod common;

use std::{
    io::Read,
    net::{TcpListener, TcpStream},
    os::unix::net::UnixListener,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use common::{PATIENCE, answer, connect, connect_unix, echo, eventually, frame, ping, serve};
use netpoll::{
    Addr, BuildError, EventLoop, Listener, ListenerOptions, Notice, Reader, Runner, Writer,
    service_fn,
};
use poller::sys;

#[test]
fn each_option_is_checked_when_the_loop_is_built() {
    let new = EventLoop::builder;
    let (most, huge) = (usize::MAX / 4, usize::MAX);
    let impossible = [
        ("pollers", "0", new().pollers(0)),
        ("pollers", "1025", new().pollers(1025)),
        ("cap", "0", new().cap(0)),
        ("cap", "500001", new().cap(500_001)),
        ("cap", &huge.to_string(), new().cap(huge)),
        ("attached_cap", "0", new().attached_cap(0)),
        ("attached_cap", "500001", new().attached_cap(500_001)),
        ("input_limit", "0", new().input_limit(0)),
        ("input_limit", &(most + 1).to_string(), new().input_limit(most + 1)),
        ("input_resume", "1048577", new().input_resume((1 << 20) + 1)),
        ("input_resume", "3", new().input_resume(3).input_limit(2)),
        ("max_message", "0", new().max_message(0)),
        ("max_message", &huge.to_string(), new().max_message(huge)),
        ("output_limit", "0", new().output_limit(0)),
        ("output_limit", &huge.to_string(), new().output_limit(huge)),
        ("read_budget", "0", new().read_budget(0)),
        ("accept_batch", "0", new().accept_batch(0)),
        ("fair_share", "0", new().fair_share(0)),
        ("max_connections", "0", new().max_connections(Some(0))),
        ("read_timeout", "0ns", new().read_timeout(Some(Duration::ZERO))),
        ("write_timeout", "0ns", new().write_timeout(Some(Duration::ZERO))),
        ("idle_timeout", "0ns", new().idle_timeout(Some(Duration::ZERO))),
        ("frame_timeout", "0ns", new().frame_timeout(Some(Duration::ZERO))),
        ("name", "\"\"", new().name("")),
        ("name", "\"a\\0b\"", new().name("a\0b")),
    ];
    for (name, given, builder) in impossible {
        let error = builder.build().expect_err(name);
        let text = error.to_string();
        assert!(text.contains(&format!("`{name}`")) && text.contains(given), "{text}");
        let BuildError::Option { option, value, .. } = error else { panic!("{text}") };
        assert_eq!((option, value.as_str()), (name, given));
    }
    // At their bounds all of them are possible.
    let least = new()
        .pollers(1)
        .cap(1)
        .attached_cap(1)
        .input_limit(1)
        .input_resume(0)
        .max_message(1)
        .output_limit(1)
        .read_budget(1)
        .accept_batch(1)
        .fair_share(1)
        .max_connections(Some(1))
        .linger(Duration::ZERO);
    let most = new()
        .cap(500_000)
        .attached_cap(500_000)
        .input_limit(most)
        .input_resume(most)
        .max_message(most)
        .output_limit(most)
        .read_budget(huge)
        .accept_batch(huge)
        .fair_share(huge)
        .max_connections(Some(huge))
        .linger(Duration::MAX)
        .idle_timeout(Some(Duration::MAX))
        .frame_timeout(Some(Duration::MAX))
        .read_timeout(Some(Duration::MAX))
        .write_timeout(Some(Duration::MAX));
    let endless = new().read_timeout(None).write_timeout(None).idle_timeout(None);
    let endless = endless.frame_timeout(None).max_connections(None);
    for builder in [most, endless, least.runner(Runner::Inline), new().pollers(1)] {
        let (_event_loop, addr) = serve(builder, service_fn(answer));
        ping(&mut connect(addr), b"x");
    }
}

#[test]
fn too_many_connections_are_turned_away_and_counted() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let builder = EventLoop::builder().max_connections(Some(3));
    let builder = builder.on_notice(move |notice| tell.lock().unwrap().push(notice.clone()));
    let beginning = Instant::now();
    let (event_loop, addr) = serve(builder, echo());
    let mut clients: Vec<_> = (0..3).map(|_| connect(addr)).collect();
    clients.iter_mut().for_each(|client| ping(client, b"hello"));
    for _ in 0..50 {
        assert!(matches!(connect(addr).read(&mut [0]), Ok(0) | Err(_)));
    }
    // Those that are there do not notice.
    clients.iter_mut().for_each(|client| ping(client, b"still here"));
    assert_eq!((event_loop.stats().accepted, event_loop.stats().refused), (3, 50));
    clients.pop();
    eventually("room", || event_loop.connections() == 2);
    ping(&mut connect(addr), b"hello");
    // Every one of them is told of, but not each by itself.
    eventually("the last notice", || {
        let told = told.lock().unwrap();
        let refused = told.iter().map(|notice| match notice {
            Notice::ConnectionsRefused { max: 3, refused } => *refused,
            other => panic!("{other}"),
        });
        refused.sum::<u64>() == 50
    });
    let (notices, seconds) = (told.lock().unwrap().len(), beginning.elapsed().as_secs());
    assert!(notices as u64 <= seconds + 1, "{notices} in {seconds} s");
}

#[test]
fn every_kind_of_listener_on_one_loop() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let target = |name: &str| format!("unix:{}", at(name).display());
    // What a process that was killed leaves behind.
    drop(UnixListener::bind(at("stale")).unwrap());
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    // One that came as a bare descriptor, which blocks and would be inherited.
    let fd = Listener::bind("127.0.0.1:0").unwrap().detach();
    sys::set_nonblocking(&fd, false).unwrap();
    sys::set_cloexec(&fd, false).unwrap();
    let shared = ListenerOptions::new().reuse_port(true);
    let first = shared.bind("127.0.0.1:0").unwrap();
    let second = shared.bind(first.local_addr().unwrap()).unwrap();
    let abstracted = format!("unix:@netpoll-test-kinds-{}", std::process::id());
    let mut listeners = vec![
        Listener::bind("127.0.0.1:0").unwrap(),
        Listener::bind("localhost:0").unwrap(),
        Listener::bind(target("stale")).unwrap(),
        Listener::bind(target("replaced")).unwrap(),
        Listener::bind(abstracted).unwrap(),
        Listener::from(plain),
        Listener::from(UnixListener::bind(at("adopted")).unwrap()),
        Listener::from_fd(fd).unwrap(),
        first,
        second,
    ];
    // Not every machine has it.
    listeners.extend(Listener::bind("[::1]:0"));
    let event_loop = EventLoop::builder().pollers(2).build().unwrap();
    let addrs: Vec<_> = listeners.iter().map(|one| one.local_addr().unwrap()).collect();
    for listener in listeners {
        event_loop.listen(listener, echo()).unwrap();
    }
    for _ in 0..3 {
        for addr in &addrs {
            match (addr.as_inet(), addr.as_path()) {
                (Some(inet), _) => ping(&mut connect(inet), b"over TCP"),
                (_, Some(path)) => ping(&mut connect_unix(path), b"over a path"),
                _ => {
                    let mut conn = event_loop.dialer().dial(addr).unwrap();
                    conn.write_binary(&frame(b"over a name")).unwrap();
                    conn.flush().unwrap();
                    assert_eq!(conn.next(15).unwrap(), frame(b"over a name"));
                }
            }
        }
    }
    std::fs::remove_file(at("replaced")).unwrap();
    let other = UnixListener::bind(at("replaced")).unwrap();
    event_loop.shutdown(PATIENCE).unwrap();
    // Ours is gone, what is another's stays.
    let there = ["stale", "replaced", "adopted"].map(|name| at(name).exists());
    assert_eq!(there, [false, true, true]);
    drop(other);
    for inet in addrs.iter().filter_map(Addr::as_inet) {
        assert!(TcpStream::connect(inet).is_err(), "somebody listens at {inet}");
    }
}
