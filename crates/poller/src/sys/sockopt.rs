//! Options of sockets and descriptors.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use libc::c_int;

use super::errno::{check, retry};

/// When TCP probes a silent peer; see [`set_keepalive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// The silence before the first probe.
    pub idle: Duration,
    /// The time between probes.
    pub interval: Duration,
    /// How many unanswered probes end the connection.
    pub count: u32,
}

/// Sends small writes at once instead of collecting them (`TCP_NODELAY`).
///
/// # Errors
///
/// When `fd` is no TCP socket.
pub fn set_nodelay(fd: impl AsFd, on: bool) -> io::Result<()> {
    set_option(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, c_int::from(on))
}

/// Has TCP probe the peer while nothing is sent, so that a dead one is noticed; `None` turns that
/// off. Durations are rounded up to seconds, and to what the kernel takes: 1 to 32767 seconds, 1 to
/// 127 probes.
///
/// # Errors
///
/// When `fd` is no TCP socket.
pub fn set_keepalive(fd: impl AsFd, keepalive: Option<Keepalive>) -> io::Result<()> {
    let fd = fd.as_fd();
    if let Some(Keepalive { idle, interval, count }) = keepalive {
        let seconds = |time| seconds_up(time).clamp(1, 32_767);
        set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, seconds(idle))?;
        set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, seconds(interval))?;
        set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, count.clamp(1, 127) as c_int)?;
    }
    set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, c_int::from(keepalive.is_some()))
}

/// How long sent bytes may stay unacknowledged before TCP gives the connection up
/// (`TCP_USER_TIMEOUT`); `None` leaves it to the system.
///
/// # Errors
///
/// When `fd` is no TCP socket.
pub fn set_user_timeout(fd: impl AsFd, timeout: Option<Duration>) -> io::Result<()> {
    let millis = timeout.map_or(0, |time| time.as_nanos().div_ceil(1_000_000).max(1));
    let millis = c_int::try_from(millis).unwrap_or(c_int::MAX);
    set_option(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, millis)
}

/// Asks for `bytes` of buffer for sending. The kernel doubles it for its own needs, cuts it to
/// `/proc/sys/net/core/wmem_max`, and stops adapting it by itself.
///
/// # Errors
///
/// When `fd` is no socket.
pub fn set_send_buffer(fd: impl AsFd, bytes: usize) -> io::Result<()> {
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, saturate(bytes))
}

/// Asks for `bytes` of buffer for receiving, with the same remarks as [`set_send_buffer`]
/// (`rmem_max`). For a window over 64 KiB, set it before connecting or listening.
///
/// # Errors
///
/// When `fd` is no socket.
pub fn set_recv_buffer(fd: impl AsFd, bytes: usize) -> io::Result<()> {
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, saturate(bytes))
}

/// How large the buffer for sending is, with the kernel's own part.
///
/// # Errors
///
/// When `fd` is no socket.
pub fn send_buffer(fd: impl AsFd) -> io::Result<usize> {
    get_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF).map(|bytes: c_int| bytes as usize)
}

/// How large the buffer for receiving is, with the kernel's own part.
///
/// # Errors
///
/// When `fd` is no socket.
pub fn recv_buffer(fd: impl AsFd) -> io::Result<usize> {
    get_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF).map(|bytes: c_int| bytes as usize)
}

/// Lets a listener bind an address that connections of an earlier one still linger on.
///
/// # Errors
///
/// When `fd` is no socket.
pub fn set_reuse_addr(fd: impl AsFd, on: bool) -> io::Result<()> {
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, c_int::from(on))
}

/// Lets several listeners bind the same address, if all of them ask for it before binding; the
/// kernel spreads connections over them.
///
/// # Errors
///
/// When `fd` is no Internet socket.
pub fn set_reuse_port(fd: impl AsFd, on: bool) -> io::Result<()> {
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, c_int::from(on))
}

/// Whether an IPv6 socket leaves IPv4 alone. Before binding.
///
/// # Errors
///
/// When `fd` is no IPv6 socket, or bound.
pub fn set_only_v6(fd: impl AsFd, on: bool) -> io::Result<()> {
    set_option(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, c_int::from(on))
}

/// When a socket is bound to an address with port 0 before it connects, leaves the choice of the
/// port to connecting (`IP_BIND_ADDRESS_NO_PORT`): then only the four numbers together have to be
/// unique, and many more connections fit.
///
/// # Errors
///
/// When `fd` is no Internet socket.
pub fn set_bind_without_port(fd: impl AsFd, on: bool) -> io::Result<()> {
    set_option(fd.as_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, c_int::from(on))
}

/// What closing does with bytes that are not sent yet: `None`, the default, sends them in the
/// background. Zero throws them away and resets the connection. Anything else, rounded up to
/// seconds, makes closing wait that long, even for non-blocking sockets.
///
/// # Errors
///
/// When `fd` is no socket.
pub fn set_linger(fd: impl AsFd, linger: Option<Duration>) -> io::Result<()> {
    let value = libc::linger {
        l_onoff: c_int::from(linger.is_some()),
        l_linger: linger.map_or(0, seconds_up),
    };
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value)
}

/// Whether this is a TCP socket: there, a read that filled less than its room has emptied the
/// socket.
///
/// # Errors
///
/// When `fd` is no socket.
pub fn is_tcp(fd: impl AsFd) -> io::Result<bool> {
    let fd = fd.as_fd();
    let protocol: c_int = get_option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL)?;
    Ok(protocol == libc::IPPROTO_TCP)
}

/// Whether this is a stream socket, and not one for datagrams.
///
/// # Errors
///
/// When `fd` is no socket.
pub fn is_stream(fd: impl AsFd) -> io::Result<bool> {
    let kind: c_int = get_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_TYPE)?;
    Ok(kind == libc::SOCK_STREAM)
}

/// Whether this socket listens.
///
/// # Errors
///
/// When `fd` is no socket.
pub fn is_listening(fd: impl AsFd) -> io::Result<bool> {
    let listening: c_int = get_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_ACCEPTCONN)?;
    Ok(listening != 0)
}

/// Turns non-blocking mode on or off, for everybody who shares the open file. Sockets made here are
/// in it already.
///
/// # Errors
///
/// None that the kernel documents for an open descriptor.
pub fn set_nonblocking(fd: impl AsFd, on: bool) -> io::Result<()> {
    set_flag(fd.as_fd(), libc::F_GETFL, libc::F_SETFL, libc::O_NONBLOCK, on)
}

/// Whether `exec` closes this descriptor. Those made here are closed.
///
/// # Errors
///
/// None that the kernel documents for an open descriptor.
pub fn set_cloexec(fd: impl AsFd, on: bool) -> io::Result<()> {
    set_flag(fd.as_fd(), libc::F_GETFD, libc::F_SETFD, libc::FD_CLOEXEC, on)
}

fn set_flag(fd: BorrowedFd<'_>, get: c_int, set: c_int, flag: c_int, on: bool) -> io::Result<()> {
    // SAFETY: takes no pointers.
    let before = retry(|| check(unsafe { libc::fcntl(fd.as_raw_fd(), get) }))?;
    let after = if on { before | flag } else { before & !flag };
    if after != before {
        // SAFETY: takes no pointers.
        retry(|| check(unsafe { libc::fcntl(fd.as_raw_fd(), set, after) }))?;
    }
    Ok(())
}

fn set_option<T: Copy>(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is readable for its length.
    let result = check(unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len)
    });
    result.map(drop)
}

/// Reads an option whose value is made of numbers.
pub(super) fn get_option<T: Plain>(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<T> {
    // SAFETY: zero bytes are a value of a type that is `Plain`.
    let mut value: T = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is writable for `len` bytes, and any bytes are a `Plain` value.
    check(unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &mut len)
    })?;
    Ok(value)
}

/// Types of which any bytes are a value.
///
/// # Safety
///
/// That is so.
pub(super) unsafe trait Plain: Copy {}
// SAFETY: a number.
unsafe impl Plain for c_int {}
// SAFETY: two numbers.
unsafe impl Plain for libc::linger {}

fn seconds_up(time: Duration) -> c_int {
    let seconds = time.as_nanos().div_ceil(1_000_000_000);
    c_int::try_from(seconds).unwrap_or(c_int::MAX)
}

fn saturate(bytes: usize) -> c_int {
    c_int::try_from(bytes).unwrap_or(c_int::MAX)
}
