//! The system calls: what each does at its edges, and which errors come out.
#![cfg(not(netpoll_loom))]

use std::io::{ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::time::Duration;

use poller::Interest;
use poller::sys::{self, AcceptFailure, Addr, ConnectStatus, How, Input, PollFd, UninitSlice};

const SOON: Option<Duration> = Some(Duration::from_secs(10));

fn listen(at: &str) -> (OwnedFd, Addr) {
    let addr: Addr = at.parse().unwrap();
    let fd = sys::stream_socket(&addr).unwrap();
    sys::bind(&fd, &addr).unwrap();
    sys::listen(&fd, 16).unwrap();
    let addr = sys::local_addr(&fd).unwrap();
    (fd, addr)
}

/// A connected pair of TCP sockets.
fn tcp_pair() -> (OwnedFd, OwnedFd) {
    let (listener, addr) = listen("127.0.0.1:0");
    let client = sys::stream_socket(&addr).unwrap();
    if sys::connect(&client, &addr).unwrap() == ConnectStatus::InProgress {
        wait(&client, Interest::WRITABLE);
    }
    assert!(sys::take_error(&client).unwrap().is_none());
    wait(&listener, Interest::READABLE);
    let (server, from) = sys::accept(&listener).unwrap();
    assert_eq!(from, sys::local_addr(&client).unwrap());
    assert_eq!(sys::peer_addr(&client).unwrap(), addr);
    (client, server)
}

fn unix_pair() -> (OwnedFd, OwnedFd) {
    let (one, two) = UnixStream::pair().unwrap();
    (one.into(), two.into())
}

fn wait(fd: &OwnedFd, interest: Interest) {
    let mut fds = [PollFd::new(fd.as_fd(), interest)];
    assert_eq!(sys::ppoll(&mut fds, SOON).unwrap(), 1, "nothing happened");
}

fn recv(fd: &OwnedFd, room: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(room);
    let count = sys::recv(fd, bytes.spare_capacity_mut())?;
    // SAFETY: so many bytes were just written.
    unsafe { bytes.set_len(count) };
    Ok(bytes)
}

#[test]
fn bytes_end_of_stream_and_probes() {
    // The Unix pair is in blocking mode: nothing here blocks all the same.
    for (near, far) in [tcp_pair(), unix_pair()] {
        assert_eq!(recv(&far, 8).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(sys::has_input(&far).unwrap(), Input::Nothing);
        assert_eq!(sys::send(&near, b"hello").unwrap(), 5);
        wait(&far, Interest::READABLE);
        assert_eq!(sys::has_input(&far).unwrap(), Input::Bytes);
        assert_eq!(sys::has_input(&far).unwrap(), Input::Bytes, "it consumes nothing");
        assert_eq!(recv(&far, 3).unwrap(), b"hel");

        let parts = [IoSlice::new(b" wor"), IoSlice::new(b""), IoSlice::new(b"ld")];
        assert_eq!(sys::send_vectored(&near, &parts).unwrap(), 6);
        sys::shutdown(&near, How::Write).unwrap();
        wait(&far, Interest::RDHUP);
        let (mut one, mut two) = ([MaybeUninit::uninit(); 3], [MaybeUninit::uninit(); 9]);
        let mut room = [UninitSlice::new(&mut one), UninitSlice::new(&mut two)];
        assert_eq!(sys::recv_vectored(&far, &mut room).unwrap(), 8);
        // SAFETY: eight bytes were written, three and five.
        let read = unsafe { [one[0].assume_init(), two[0].assume_init(), two[4].assume_init()] };
        assert_eq!(&read, b"lwd");
        assert_eq!(recv(&far, 8).unwrap(), b"");
        assert_eq!(sys::has_input(&far).unwrap(), Input::Ended);
        // The other direction still works.
        assert_eq!(sys::send(&far, b"bye").unwrap(), 3);
        wait(&near, Interest::READABLE);
        assert_eq!(recv(&near, 8).unwrap(), b"bye");
    }
}

#[test]
fn writing_to_nobody_is_an_error_and_no_signal() {
    for (near, far) in [tcp_pair(), unix_pair()] {
        drop(far);
        let error = loop {
            match sys::send(&near, &[0; 1024]) {
                Err(error) => break error,
                Ok(_) => wait(&near, Interest::RDHUP),
            }
        };
        let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
        assert!(gone.contains(&error.kind()), "{error}");
        let more = [IoSlice::new(b"x")];
        assert_eq!(sys::send_vectored(&near, &more).unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}

#[test]
fn full_sockets_would_block_and_many_slices_are_cut() {
    for (near, _far) in [tcp_pair(), unix_pair()] {
        let slices = vec![IoSlice::new(b"x"); 5000];
        assert_eq!(sys::send_vectored(&near, &slices).unwrap(), 1024);
        let error = loop {
            if let Err(error) = sys::send(&near, &[0; 65_536]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn what_connecting_reports() {
    let (listener, addr) = listen("127.0.0.1:0");
    drop(listener);
    let fd = sys::stream_socket(&addr).unwrap();
    let error = match sys::connect(&fd, &addr) {
        Err(error) => error,
        Ok(_) => {
            wait(&fd, Interest::WRITABLE);
            sys::take_error(&fd).unwrap().unwrap()
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(sys::take_error(&fd).unwrap().is_none(), "it is taken");
    assert_eq!(sys::peer_addr(&fd).unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(sys::shutdown(&fd, How::Both).unwrap_err().kind(), ErrorKind::NotConnected);

    let name = std::env::temp_dir().join(format!("netpoll-sys-{}", std::process::id()));
    let _datagrams = UnixDatagram::bind(&name).unwrap();
    let addr = Addr::unix_path(&name).unwrap();
    let error = sys::connect(sys::stream_socket(&addr).unwrap(), &addr).unwrap_err();
    std::fs::remove_file(&name).unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = sys::connect(sys::stream_socket(&addr).unwrap(), &addr).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let other = sys::stream_socket(&Addr::Other { family: 9999 }).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Unsupported);
}

#[test]
fn sockets_know_what_they_are() {
    let (tcp, _far) = tcp_pair();
    let (unix, _far) = unix_pair();
    let datagrams = UnixDatagram::unbound().unwrap();
    let (listener, _) = listen("unix:@netpoll-sys-kinds");
    assert!(sys::is_tcp(&tcp).unwrap() && !sys::is_tcp(&unix).unwrap());
    assert!(sys::is_stream(&unix).unwrap() && !sys::is_stream(&datagrams).unwrap());
    assert!(sys::is_listening(&listener).unwrap() && !sys::is_listening(&tcp).unwrap());
    assert!(sys::is_tcp(std::fs::File::open("/dev/null").unwrap()).is_err());
}

#[test]
fn out_of_descriptors_is_told_and_passes() {
    // In a process of its own, for the limit is everybody's.
    if std::env::var_os("NETPOLL_TEST_ALONE").is_none() {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "out_of_descriptors_is_told_and_passes", "--test-threads=1"])
            .env("NETPOLL_TEST_ALONE", "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let before = sys::nofile_limit().unwrap();
    let lowest_free = sys::stream_socket(&"127.0.0.1:0".parse().unwrap()).unwrap().as_raw_fd();
    sys::set_nofile_limit(lowest_free as u64).unwrap();
    for _ in 0..3 {
        let error = sys::accept(&listener).unwrap_err();
        assert_eq!(sys::accept_failure(&error), AcceptFailure::Exhausted);
    }
    sys::set_nofile_limit(before.soft).unwrap();
    sys::accept(&listener).expect("it waited in the queue");
    let error = sys::accept(&listener).unwrap_err();
    assert_eq!(sys::accept_failure(&error), AcceptFailure::Empty);
}

/// The descriptors that an executed program has, with the one through which it looks.
fn seen_by_a_child() -> String {
    let output = Command::new("ls").arg("/proc/self/fd").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn executed_programs_inherit_nothing() {
    // Whoever runs the tests may have left some of its own open.
    let before = seen_by_a_child();
    let (_listener, _) = listen("127.0.0.1:0");
    let (_near, _far) = tcp_pair();
    let _event = sys::EventFd::new().unwrap();
    let _poller = poller::Poller::new().unwrap();
    assert!(before.contains('2'));
    assert_eq!(seen_by_a_child(), before);
}
