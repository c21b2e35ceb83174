//! Stream sockets: making, connecting, accepting, reading and writing.

use std::fmt;
use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use super::addr::{Addr, RawAddr};
use super::errno::{check, check_long, check_size, explain, retry};
use super::sockopt::get_option;

pub use std::net::Shutdown as How;

/// The kernel refuses more slices than this in one call; what is beyond waits for the next.
const MAX_SLICES: usize = 1024;

/// A new socket for addresses like `addr`: stream, non-blocking, close-on-exec.
///
/// # Errors
///
/// - [`Unsupported`](io::ErrorKind::Unsupported): the system has no such address family.
/// - Out of descriptors or memory: see [`accept_failure`](super::accept_failure) for telling.
pub fn stream_socket(addr: &Addr) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes no pointers.
    match check(unsafe { libc::socket(addr.family(), kind, 0) }) {
        // SAFETY: the kernel just made this descriptor, and nobody else knows it.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        Err(error) => Err(match error.raw_os_error() {
            Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT) => explain(
                io::ErrorKind::Unsupported,
                "this system has no sockets for addresses of this family",
                error,
            ),
            // EMFILE, ENFILE, ENOBUFS, ENOMEM, EACCES say what they are; EINVAL cannot be.
            _ => error,
        }),
    }
}

/// Gives a socket its local address.
///
/// # Errors
///
/// [`AddrInUse`](io::ErrorKind::AddrInUse) (also for a Unix path where any file is),
/// [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable) (no such local address),
/// [`PermissionDenied`](io::ErrorKind::PermissionDenied) (a privileged port, a directory without
/// rights), [`NotFound`](io::ErrorKind::NotFound) (no such directory),
/// [`InvalidInput`](io::ErrorKind::InvalidInput) (bound already).
pub fn bind(fd: impl AsFd, addr: &Addr) -> io::Result<()> {
    let raw = RawAddr::encode(addr)?;
    // SAFETY: `raw` is a readable address of that length.
    check(unsafe { libc::bind(fd.as_fd().as_raw_fd(), raw.as_ptr(), raw.len()) }).map(drop)
}

/// Makes a bound socket accept connections. The kernel cuts `backlog`, the number of connections
/// that may wait, to `/proc/sys/net/core/somaxconn`. May be called again, to change it.
///
/// # Errors
///
/// [`AddrInUse`](io::ErrorKind::AddrInUse): another socket listens there.
pub fn listen(fd: impl AsFd, backlog: u32) -> io::Result<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    // SAFETY: takes no pointers.
    check(unsafe { libc::listen(fd.as_fd().as_raw_fd(), backlog) }).map(drop)
}

/// Takes the next connection off a listener's queue, and where it came from.
///
/// Connections whose peer gave up meanwhile are passed over.
///
/// # Errors
///
/// [`WouldBlock`](io::ErrorKind::WouldBlock) when none waits. What the other errors mean for the
/// listener is answered by [`accept_failure`](super::accept_failure).
pub fn accept(fd: impl AsFd) -> io::Result<(OwnedFd, Addr)> {
    let fd = fd.as_fd().as_raw_fd();
    loop {
        let mut addr = RawAddr::room();
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let room: *mut libc::socklen_t = addr.len_mut();
        // SAFETY: `addr` is writable for the length that it says.
        match check(unsafe { libc::accept4(fd, addr.as_mut_ptr(), room, flags) }) {
            Ok(new) => {
                // SAFETY: the kernel just made this descriptor, and nobody else knows it.
                let new = unsafe { OwnedFd::from_raw_fd(new) };
                return Ok((new, addr.decode()));
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::ECONNABORTED) => {}
                _ => return Err(error),
            },
        }
    }
}

/// How far [`connect`] got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectStatus {
    /// Connected.
    Connected,
    /// Under way: when the socket becomes writable, [`take_error`] tells how it went.
    InProgress,
}

/// Starts connecting.
///
/// # Errors
///
/// [`WouldBlock`](io::ErrorKind::WouldBlock) when a Unix listener's queue is full: nothing is under
/// way then, and no event will come; try again later. Otherwise why it cannot be reached, such as
/// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused),
/// [`NetworkUnreachable`](io::ErrorKind::NetworkUnreachable),
/// [`HostUnreachable`](io::ErrorKind::HostUnreachable), [`NotFound`](io::ErrorKind::NotFound) (no
/// such Unix socket), [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable) (out of local ports).
pub fn connect(fd: impl AsFd, addr: &Addr) -> io::Result<ConnectStatus> {
    let raw = RawAddr::encode(addr)?;
    // SAFETY: `raw` is a readable address of that length.
    let result = check(unsafe { libc::connect(fd.as_fd().as_raw_fd(), raw.as_ptr(), raw.len()) });
    let Err(error) = result else {
        return Ok(ConnectStatus::Connected);
    };
    match error.raw_os_error() {
        // An interrupted attempt goes on by itself.
        Some(libc::EINPROGRESS | libc::EALREADY | libc::EINTR) => Ok(ConnectStatus::InProgress),
        Some(libc::EISCONN) => Ok(ConnectStatus::Connected),
        // The kernel's word for "all local ports are taken" on Internet sockets; only for Unix ones
        // does it mean "later".
        Some(libc::EAGAIN) if !addr.is_unix() => {
            Err(explain(io::ErrorKind::AddrNotAvailable, "no local port or route is free", error))
        }
        // A Unix path whose file is no socket, or a socket of another type.
        Some(libc::EPROTOTYPE) => Err(explain(
            io::ErrorKind::InvalidInput,
            "the socket there is of another type than stream",
            error,
        )),
        // A firewall of this machine says EPERM or EACCES; so does a Unix path without rights.
        _ => Err(error),
    }
}

/// The error that is pending on a socket, which this clears: how an attempt to connect went.
///
/// # Errors
///
/// When `fd` is no socket.
pub fn take_error(fd: impl AsFd) -> io::Result<Option<io::Error>> {
    let errno: libc::c_int = get_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_ERROR)?;
    Ok((errno != 0).then(|| io::Error::from_raw_os_error(errno)))
}

/// Reads into `buf`, and says how many bytes of it are initialised now. 0 is the end of the stream
/// (or an empty `buf`).
///
/// # Errors
///
/// [`WouldBlock`](io::ErrorKind::WouldBlock), [`ConnectionReset`](io::ErrorKind::ConnectionReset),
/// [`TimedOut`](io::ErrorKind::TimedOut) (TCP gave up on its retransmissions or keep-alives),
/// [`HostUnreachable`](io::ErrorKind::HostUnreachable) and the like, each once.
#[inline]
pub fn recv(fd: impl AsFd, buf: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    let nobody = ptr::null::<libc::sockaddr>();
    retry(|| {
        // SAFETY: the kernel only writes to `buf`, which is writable for its length.
        check_long(unsafe {
            let (at, len, flags) = (buf.as_mut_ptr(), buf.len(), libc::MSG_DONTWAIT);
            libc::syscall(libc::SYS_recvfrom, fd, at, len, flags, nobody, nobody)
        })
    })
}

/// Room to read into, one of several; see [`recv_vectored`].
#[repr(transparent)]
pub struct UninitSlice<'a> {
    raw: libc::iovec,
    bytes: PhantomData<&'a mut [MaybeUninit<u8>]>,
}

// SAFETY: it is a `&mut [MaybeUninit<u8>]` in the kernel's form, which is Send and Sync.
unsafe impl Send for UninitSlice<'_> {}
// SAFETY: as above.
unsafe impl Sync for UninitSlice<'_> {}

impl<'a> UninitSlice<'a> {
    /// The bytes of `buf`.
    pub fn new(buf: &'a mut [MaybeUninit<u8>]) -> UninitSlice<'a> {
        let raw = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
        UninitSlice { raw, bytes: PhantomData }
    }

    /// How many bytes fit.
    pub fn len(&self) -> usize {
        self.raw.iov_len
    }

    /// Whether none fit.
    pub fn is_empty(&self) -> bool {
        self.raw.iov_len == 0
    }
}

impl fmt::Debug for UninitSlice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UninitSlice").field("len", &self.len()).finish()
    }
}

/// [`recv`] into several buffers, filled one after another. Those beyond 1024 are left alone.
///
/// # Errors
///
/// As [`recv`].
pub fn recv_vectored(fd: impl AsFd, bufs: &mut [UninitSlice<'_>]) -> io::Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    let mut message = message(bufs.as_mut_ptr().cast(), bufs.len());
    retry(|| {
        // SAFETY: `message` holds room for nothing but the slices, which are writable for their
        // lengths, and the kernel only writes to them.
        check_long(unsafe {
            libc::syscall(libc::SYS_recvmsg, fd, &raw mut message, libc::MSG_DONTWAIT)
        })
    })
}

/// Writes from `buf`, and says how many bytes were taken.
///
/// # Errors
///
/// [`WouldBlock`](io::ErrorKind::WouldBlock), [`BrokenPipe`](io::ErrorKind::BrokenPipe) (the
/// direction is closed), [`ConnectionReset`](io::ErrorKind::ConnectionReset),
/// [`TimedOut`](io::ErrorKind::TimedOut) and others as for [`recv`].
#[inline]
pub fn send(fd: impl AsFd, buf: &[u8]) -> io::Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let nobody = ptr::null::<libc::sockaddr>();
    retry(|| {
        // SAFETY: the kernel only reads `buf`, which is readable for its length.
        check_long(unsafe {
            libc::syscall(libc::SYS_sendto, fd, buf.as_ptr(), buf.len(), flags, nobody, 0)
        })
    })
}

/// [`send`] from several buffers, one after another, in one call. Those beyond 1024 are left for the
/// next.
///
/// # Errors
///
/// As [`send`].
#[inline]
pub fn send_vectored(fd: impl AsFd, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    // An IoSlice is an iovec, by its documentation.
    let message = message(bufs.as_ptr().cast_mut().cast(), bufs.len());
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `message` holds nothing but the slices, which are readable for their lengths, and the
    // kernel only reads them.
    retry(|| check_long(unsafe { libc::syscall(libc::SYS_sendmsg, fd, &raw const message, flags) }))
}

/// A message of `count` slices without address or control data.
fn message(slices: *mut libc::iovec, count: usize) -> libc::msghdr {
    // SAFETY: all zero bytes are a valid msghdr: null pointers and lengths. (Some systems have
    // private padding in it, so it cannot be written out.)
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = slices;
    message.msg_iovlen = count.min(MAX_SLICES) as _;
    message
}

/// What is there to be read, without reading it; see [`has_input`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Nothing now: the connection is idle.
    Nothing,
    /// At least one byte.
    Bytes,
    /// The end of the stream.
    Ended,
}

/// Looks what a read would find, and consumes nothing: the health of a pooled connection.
///
/// # Errors
///
/// What a read would report. A pending error is consumed by this, but the next call on the socket
/// fails too.
pub fn has_input(fd: impl AsFd) -> io::Result<Input> {
    let fd = fd.as_fd().as_raw_fd();
    let mut byte = 0_u8;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: one byte is writable at `byte`.
    let result = retry(|| check_size(unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, flags) }));
    match result {
        Ok(0) => Ok(Input::Ended),
        Ok(_) => Ok(Input::Bytes),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Input::Nothing),
        Err(error) => Err(error),
    }
}

/// Closes one direction or both, for everybody who has the socket.
///
/// # Errors
///
/// [`NotConnected`](io::ErrorKind::NotConnected) when it is not, any more or yet.
pub fn shutdown(fd: impl AsFd, how: How) -> io::Result<()> {
    let how = match how {
        How::Read => libc::SHUT_RD,
        How::Write => libc::SHUT_WR,
        How::Both => libc::SHUT_RDWR,
    };
    // SAFETY: takes no pointers.
    check(unsafe { libc::shutdown(fd.as_fd().as_raw_fd(), how) }).map(drop)
}

/// The address that a socket is bound to.
///
/// # Errors
///
/// When `fd` is no socket, or the system is out of memory.
pub fn local_addr(fd: impl AsFd) -> io::Result<Addr> {
    name(fd.as_fd(), libc::getsockname)
}

/// The address that a socket is connected to.
///
/// # Errors
///
/// [`NotConnected`](io::ErrorKind::NotConnected) when it is not, any more or yet.
pub fn peer_addr(fd: impl AsFd) -> io::Result<Addr> {
    name(fd.as_fd(), libc::getpeername)
}

fn name(
    fd: BorrowedFd<'_>,
    call: unsafe extern "C" fn(i32, *mut libc::sockaddr, *mut libc::socklen_t) -> i32,
) -> io::Result<Addr> {
    let mut addr = RawAddr::room();
    let room: *mut libc::socklen_t = addr.len_mut();
    // SAFETY: both calls write to `addr`, which is writable for the length that it says.
    check(unsafe { call(fd.as_raw_fd(), addr.as_mut_ptr(), room) })?;
    Ok(addr.decode())
}
