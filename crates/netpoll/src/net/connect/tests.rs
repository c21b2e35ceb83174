//! Dials that meet listeners, closed ports, silence, full queues, and deadlines of a nanosecond.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use super::*;
use crate::net::{Keepalive, Listener, ListenerOptions};

fn soon() -> Option<Instant> {
    Some(sys::now() + Duration::from_secs(20))
}

fn after(timeout: Duration) -> Option<Instant> {
    Some(sys::now() + timeout)
}

fn race(addrs: &[Addr], stagger: Duration, deadline: Option<Instant>) -> Result<OwnedFd, Reason> {
    let options = ConnectOptions::new().stagger(stagger);
    let mut dial = Dial::new(&options);
    dial.queue = addrs.to_vec().into();
    dial.race(deadline)
}

fn here(listener: &TcpListener) -> Addr {
    listener.local_addr().unwrap().into()
}

/// An address of this machine that answers nothing: a listener whose queue is full.
fn black_hole() -> (TcpListener, Vec<OwnedFd>, Addr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    sys::listen(&listener, 0).unwrap();
    let addr = here(&listener);
    let mut waiting = Vec::new();
    loop {
        let fd = sys::stream_socket(&addr).unwrap();
        sys::connect(&fd, &addr).unwrap();
        let mut fds = [PollFd::new(fd.as_fd(), Interest::WRITABLE)];
        let answered = sys::ppoll(&mut fds, Some(Duration::from_millis(50))).unwrap() > 0;
        waiting.push(fd);
        if !answered {
            return (listener, waiting, addr);
        }
        assert!(waiting.len() < 20, "the queue does not fill");
    }
}

/// An address where nobody listens.
fn closed_port() -> Addr {
    here(&TcpListener::bind("127.0.0.1:0").unwrap())
}

#[test]
fn connects_by_address_and_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = ConnectOptions::default();
    for deadline in [None, soon()] {
        for target in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!(":{port}")]
        {
            let fd = connect(&target, &options, deadline).unwrap();
            let mut stream = TcpStream::from(fd);
            stream.write_all(b"x").unwrap();
            assert!(stream.nodelay().unwrap());
            let error = stream.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "it is non-blocking");
            listener.accept().unwrap();
        }
    }
}

#[test]
fn refused_names_the_address() {
    let addr = closed_port();
    let error = connect(&addr, &ConnectOptions::default(), soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(!error.is_timeout());
    assert_eq!(error.attempts().len(), 1);
    assert_eq!(error.attempts()[0].addr(), &addr);
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot connect to {addr}: Connection refused")), "{text}");
    let error = io::Error::from(error);
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

    let port = addr.as_inet().unwrap().port();
    let name = format!("localhost:{port}");
    let error = connect(&name, &ConnectOptions::default(), soon()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&name) && text.contains(&format!("127.0.0.1:{port}: ")), "{text}");
}

#[test]
fn what_cannot_be_dialed() {
    let dial = |target| connect(target, &ConnectOptions::default(), soon()).unwrap_err();
    assert_eq!(dial("nowhere").kind(), ErrorKind::InvalidInput);
    assert_eq!(dial("unix:/nonexistent/socket").kind(), ErrorKind::NotFound);
    assert_eq!(dial("unix:@netpoll-nobody-is-here").kind(), ErrorKind::ConnectionRefused);
    let error = dial("name.invalid:80");
    assert!(error.attempts().is_empty() && error.to_string().contains("name.invalid:80"));
}

#[test]
fn a_silent_first_address_costs_the_stagger_only() {
    let (_hole, _waiting, silent) = black_hole();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let start = sys::now();
    let stagger = Duration::from_millis(30);
    let fd = race(&[silent, here(&listener)], stagger, soon()).unwrap();
    assert_eq!(sys::peer_addr(&fd).unwrap(), here(&listener));
    assert!(start.elapsed() >= stagger && start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_refusing_first_address_costs_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let fd = race(&[closed_port(), closed_port(), here(&listener)], Duration::MAX, None).unwrap();
    assert_eq!(sys::peer_addr(&fd).unwrap(), here(&listener));
}

#[test]
fn an_answer_from_the_first_wins_after_the_second_started() {
    let (hole, mut waiting, addr) = black_hole();
    let (_other, _also_waiting, silent) = black_hole();
    let opener = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        // Room in the queue: the next retransmission of the dial's first packet gets through.
        waiting.clear();
        hole.set_nonblocking(true).unwrap();
        let limit = sys::now() + Duration::from_secs(15);
        while sys::now() < limit {
            if hole.accept().is_err() {
                thread::sleep(Duration::from_millis(20));
            }
        }
    });
    let fd = race(&[addr.clone(), silent], Duration::from_millis(10), soon()).unwrap();
    assert_eq!(sys::peer_addr(&fd).unwrap(), addr);
    drop(fd);
    drop(opener);
}

#[test]
fn a_timeout_names_who_did_not_answer() {
    let (_hole, _waiting, silent) = black_hole();
    let (start, timeout) = (sys::now(), Duration::from_millis(40));
    let error = connect(&silent, &ConnectOptions::default(), after(timeout)).unwrap_err();
    assert!(start.elapsed() >= timeout);
    assert!(error.is_timeout());
    assert_eq!(error.attempts()[0].addr(), &silent);
    assert!(error.attempts()[0].error().is_none());
    assert_eq!(error.to_string(), format!("cannot connect to {silent}: timed out"));
    assert_eq!(io::Error::from(error).kind(), ErrorKind::TimedOut);
}

#[test]
fn unix_sockets_and_full_queues() {
    let listener = ListenerOptions::new().backlog(0).bind("unix:@netpoll-test-full").unwrap();
    let addr = listener.local_addr().unwrap();
    let options = ConnectOptions::default();
    let mut connected = Vec::new();
    let error = loop {
        match connect(&addr, &options, after(Duration::from_millis(30))) {
            Ok(fd) => connected.push(fd),
            Err(error) => break error,
        }
        assert!(connected.len() < 20, "the queue does not fill");
    };
    assert!(error.is_timeout());

    let accepting = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        listener.accept().unwrap().unwrap();
        listener
    });
    connect(&addr, &options, soon()).unwrap();
    accepting.join().unwrap();
}

#[test]
fn from_a_local_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = here(&listener);
    let from = |text: &str| ConnectOptions::new().local_addr(text.parse::<Addr>().unwrap());
    let fd = connect(&target, &from("127.0.0.2:0"), soon()).unwrap();
    let local = sys::local_addr(&fd).unwrap().as_inet().unwrap();
    assert_eq!(local.ip().to_string(), "127.0.0.2");
    assert_ne!(local.port(), 0);

    let error = connect(&target, &from("[::1]:0"), soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = connect(&target, &from("192.0.2.1:0"), soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn options_are_set() {
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let keepalive =
        Keepalive { idle: Duration::from_secs(7), interval: Duration::from_millis(1), count: 1000 };
    let socket = SocketOptions::new()
        .nodelay(false)
        .keepalive(keepalive)
        .user_timeout(Duration::from_secs(9))
        .recv_buffer(8 * 1024)
        .send_buffer(8 * 1024)
        .linger(Duration::ZERO);
    let options = ConnectOptions::new().socket(socket);
    let fd = connect(listener.local_addr().unwrap(), &options, soon()).unwrap();
    assert!((8_000..65_536).contains(&sys::recv_buffer(&fd).unwrap()));
    assert!((8_000..65_536).contains(&sys::send_buffer(&fd).unwrap()));
    let stream = TcpStream::from(fd);
    assert!(!stream.nodelay().unwrap());
    let (peer, _) = listener.accept().unwrap().unwrap();
    drop(stream);
    let mut fds = [PollFd::new(peer.as_fd(), Interest::READABLE)];
    sys::ppoll(&mut fds, Some(Duration::from_secs(10))).unwrap();
    let error = sys::has_input(&peer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "a linger of zero resets");
}

#[test]
fn never_connected_to_itself() {
    // With our own end bound to the port that is dialed, the handshake meets itself.
    let port = closed_port();
    let options = ConnectOptions::new().local_addr(port.clone());
    let error = connect(&port, &options, soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// Runs the named test alone in a process of its own, where descriptors can be counted. Whether
/// this is that process.
fn alone(name: &str) -> bool {
    if std::env::var_os("NETPOLL_TEST_ALONE").is_some() {
        return true;
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--test-threads=1"])
        .env("NETPOLL_TEST_ALONE", "1")
        .status();
    assert!(status.unwrap().success());
    false
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn short_timeouts_end_as_connection_or_timeout_and_leave_nothing() {
    let name = module_path!().split_once("::").unwrap().1;
    let name = format!("{name}::short_timeouts_end_as_connection_or_timeout_and_leave_nothing");
    if !alone(&name) {
        return;
    }
    let listener = ListenerOptions::new().backlog(16).bind("127.0.0.1:0").unwrap();
    let unix = ListenerOptions::new().backlog(4).bind("unix:@netpoll-test-short").unwrap();
    let (_hole, _waiting, silent) = black_hole();
    let before = open_descriptors();
    let targets = [listener.local_addr().unwrap(), unix.local_addr().unwrap(), silent];
    let (mut connections, mut timeouts) = (0, 0);
    for n in 0..1_000_u64 {
        let nanos = [1, 100, 5_000, 50_000, 200_000, 1_000_000][n as usize % 6];
        let target = &targets[n as usize % targets.len()];
        let deadline = after(Duration::from_nanos(nanos));
        match connect(target, &ConnectOptions::default(), deadline) {
            Ok(_) => connections += 1,
            Err(error) if error.is_timeout() => timeouts += 1,
            Err(error) => panic!("{error}"),
        }
        if n % 8 == 0 {
            while listener.accept().unwrap().is_some() {}
            while unix.accept().unwrap().is_some() {}
        }
    }
    assert!(connections > 0 && timeouts > 0, "{connections} {timeouts}");
    assert_eq!(open_descriptors(), before);
}
