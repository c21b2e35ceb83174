//! Where one can listen, what happens to socket files, and what connections inherit.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};

use super::*;

/// A directory of its own, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("netpoll-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    fn socket(&self) -> (PathBuf, String) {
        let path = self.0.join("socket");
        let target = format!("unix:{}", path.display());
        (path, target)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Leaves a socket file behind as a killed process does.
fn leave_stale(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    assert!(path.exists());
}

fn kind(result: io::Result<Listener>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn every_kind_of_target() {
    for target in ["127.0.0.1:0", "[::1]:0", "localhost:0", ":0", "unix:@netpoll-test-kinds"] {
        let listener = match Listener::bind(target) {
            // A machine without IPv6.
            Err(error) if target == "[::1]:0" && error.kind() != ErrorKind::AddrInUse => continue,
            listener => listener.unwrap(),
        };
        assert!(listener.accept().unwrap().is_none());
        let addr = listener.local_addr().unwrap();
        let fd = sys::stream_socket(&addr).unwrap();
        match addr.as_inet() {
            Some(inet) => assert_ne!(inet.port(), 0),
            None => assert_eq!(addr.to_string(), target),
        }
        sys::connect(&fd, &addr).unwrap();
        // Loopback handshakes end before connect returns.
        let (accepted, from) = listener.accept().unwrap().unwrap();
        assert_eq!(from.is_unix(), addr.is_unix());
        let error = sys::recv(&accepted, &mut [std::mem::MaybeUninit::uninit()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn what_cannot_be_bound() {
    let first = Listener::bind("127.0.0.1:0").unwrap();
    let addr = first.local_addr().unwrap();
    assert_eq!(kind(Listener::bind(&addr)), ErrorKind::AddrInUse);
    assert_eq!(kind(Listener::bind("192.0.2.1:0")), ErrorKind::AddrNotAvailable);
    assert_eq!(kind(Listener::bind("127.0.0.1")), ErrorKind::InvalidInput);
    assert_eq!(kind(Listener::bind("unix:/nonexistent/socket")), ErrorKind::NotFound);
    let shared = ListenerOptions::new().reuse_port(true).bind("unix:@netpoll-test-shared");
    assert_eq!(kind(shared), ErrorKind::Unsupported);
}

#[test]
fn reuse_port_shares_an_address() {
    let options = ListenerOptions::new().reuse_port(true);
    let one = options.bind("127.0.0.1:0").unwrap();
    let addr = one.local_addr().unwrap();
    let two = options.bind(&addr).unwrap();
    assert_eq!(two.local_addr().unwrap(), addr);
    let clients: Vec<_> =
        (0..64).map(|_| TcpStream::connect(addr.as_inet().unwrap()).unwrap()).collect();
    let count = |listener: &Listener| std::iter::from_fn(|| listener.accept().unwrap()).count();
    let (first, second) = (count(&one), count(&two));
    assert_eq!(first + second, clients.len());
    assert!(first > 0 && second > 0, "{first} and {second}");
}

#[test]
fn a_stale_socket_file_is_replaced_and_removed_at_the_end() {
    let dir = Dir::new("stale");
    let (path, target) = dir.socket();
    leave_stale(&path);
    let listener = Listener::bind(&target).unwrap();
    UnixStream::connect(&path).unwrap();
    assert!(listener.accept().unwrap().is_some());
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn a_live_socket_is_left_alone() {
    let dir = Dir::new("live");
    let (path, target) = dir.socket();
    let first = Listener::bind(&target).unwrap();
    assert_eq!(kind(Listener::bind(&target)), ErrorKind::AddrInUse);
    UnixStream::connect(&path).unwrap();
    // The second attempt asked whether somebody is there.
    let accepted = std::iter::from_fn(|| first.accept().unwrap()).count();
    assert_eq!(accepted, 2);
}

#[test]
fn a_live_socket_with_a_full_queue_is_left_alone() {
    let dir = Dir::new("full");
    let (path, target) = dir.socket();
    let _first = ListenerOptions::new().backlog(0).bind(&target).unwrap();
    let addr = Addr::unix_path(&path).unwrap();
    let mut waiting = Vec::new();
    loop {
        let fd = sys::stream_socket(&addr).unwrap();
        if sys::connect(&fd, &addr).is_err() {
            break;
        }
        waiting.push(fd);
        assert!(waiting.len() < 20, "the queue does not fill");
    }
    assert_eq!(kind(Listener::bind(&target)), ErrorKind::AddrInUse);
    assert!(path.exists());
}

#[test]
fn other_files_are_left_alone() {
    let dir = Dir::new("other");
    let (path, target) = dir.socket();
    fs::write(&path, "precious").unwrap();
    assert_eq!(kind(Listener::bind(&target)), ErrorKind::AddrInUse);
    assert_eq!(fs::read(&path).unwrap(), b"precious");

    fs::remove_file(&path).unwrap();
    let _datagram = UnixDatagram::bind(&path).unwrap();
    assert_eq!(kind(Listener::bind(&target)), ErrorKind::AddrInUse);

    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(dir.0.join("elsewhere"), &path).unwrap();
    assert_eq!(kind(Listener::bind(&target)), ErrorKind::AddrInUse);
}

#[test]
fn the_end_removes_only_its_own_file() {
    let dir = Dir::new("own");
    let (path, target) = dir.socket();
    let first = Listener::bind(&target).unwrap();
    fs::remove_file(&path).unwrap();
    let second = Listener::bind(&target).unwrap();
    drop(first);
    assert!(path.exists(), "it belongs to the second");
    drop(second);
    assert!(!path.exists());

    let detached = Listener::bind(&target).unwrap().detach();
    assert!(path.exists());
    drop(Listener::from_fd(detached).unwrap());
    assert!(path.exists(), "an adopted socket's file stays");
}

#[test]
fn file_modes() {
    let dir = Dir::new("mode");
    let (path, target) = dir.socket();
    let _listener = ListenerOptions::new().file_mode(0o600).bind(&target).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn adopting() {
    let std = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = std.local_addr().unwrap();
    let listener = Listener::from(std);
    assert!(listener.accept().unwrap().is_none(), "it does not block");
    let _client = TcpStream::connect(addr).unwrap();
    assert!(listener.accept().unwrap().is_some());

    let dir = Dir::new("adopt");
    let listener = Listener::from(UnixListener::bind(dir.socket().0).unwrap());
    assert!(listener.accept().unwrap().is_none());

    let (one, _two) = UnixStream::pair().unwrap();
    assert_eq!(kind(Listener::from_fd(one.into())), ErrorKind::InvalidInput);
    let (one, _two) = UnixDatagram::pair().unwrap();
    assert_eq!(kind(Listener::from_fd(one.into())), ErrorKind::InvalidInput);
    let file = fs::File::open("/proc/self/exe").unwrap();
    assert_eq!(kind(Listener::from_fd(file.into())), ErrorKind::InvalidInput);
}

#[test]
fn connections_inherit_the_options() {
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().as_inet().unwrap();
    let _one = TcpStream::connect(addr).unwrap();
    let (fd, _) = listener.accept().unwrap().unwrap();
    assert!(TcpStream::from(fd).nodelay().unwrap(), "the default");

    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = plain.local_addr().unwrap();
    let listener = Listener::from(plain);
    listener.set_options(&SocketOptions::new().send_buffer(8 * 1024)).unwrap();
    let _two = TcpStream::connect(addr).unwrap();
    let (fd, _) = listener.accept().unwrap().unwrap();
    assert!((8_000..65_536).contains(&sys::send_buffer(&fd).unwrap()));
    assert!(TcpStream::from(fd).nodelay().unwrap());

    // Options of TCP do not disturb others.
    let options = ListenerOptions::new().socket(SocketOptions::new().user_timeout(Duration::MAX));
    let listener = options.bind("unix:@netpoll-test-options").unwrap();
    listener.set_options(&SocketOptions::new()).unwrap();
}

#[test]
fn out_of_descriptors_and_closed_listeners_are_told_apart() {
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    sys::shutdown(&listener, sys::How::Both).unwrap();
    let error = listener.accept().unwrap_err();
    assert_eq!(accept_failure(&error), AcceptFailure::Listener);
}
