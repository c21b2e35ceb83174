//! Every system call that this crate and `netpoll` make for sockets, events and clocks.
//!
//! Nothing else in the two crates calls the kernel. The functions are thin: borrowed descriptors
//! in, `std::io::Result` out, no `unsafe` at the border, and the same few rules everywhere:
//!
//! - Every descriptor is close-on-exec and non-blocking from birth. Numbers 0 to 2 are ordinary.
//! - No call blocks, except [`ppoll`] and [`Poller::wait`](crate::Poller::wait), whose job it is, and
//!   [`lookup()`]; reading and writing do not even when an adopted descriptor is in blocking mode.
//! - No write raises `SIGPIPE`.
//! - `EINTR` never gets out: the call is made again, with what is left of its timeout.
//! - An errno whose usual [`ErrorKind`](std::io::ErrorKind) would mislead is given a fitting one, each by name, in
//!   the file that owns the call; every other error is the operating system's, with its
//!   [`raw_os_error`](std::io::Error::raw_os_error).
//!
//! The contract that a backend for another kernel (or a simulated one) meets is the set of names
//! that this module exports.

#![allow(unsafe_code)]

#[cfg(not(any(target_os = "linux", target_os = "android")))]
compile_error!("only Linux is supported so far: a backend for this system belongs into sys");

mod addr;
mod clock;
#[cfg(not(netpoll_loom))]
mod epoll;
mod errno;
#[cfg(not(netpoll_loom))]
mod eventfd;
mod file;
mod limits;
mod lookup;
#[cfg(netpoll_loom)]
mod model;
mod poll;
mod socket;
mod sockopt;
mod timerfd;

pub use addr::{Addr, ParseAddrError};
pub use clock::{ThreadClock, now, set_timer_slack, set_unobtrusive};
#[cfg(not(netpoll_loom))]
pub(crate) use epoll::{Epoll, RawEvent};
pub use errno::{AcceptFailure, accept_failure};
#[cfg(not(netpoll_loom))]
pub use eventfd::EventFd;
pub use file::{FileId, remove_file, set_file_mode, socket_file};
pub use limits::{FileLimit, nofile_limit, raise_nofile_limit, set_nofile_limit};
pub use lookup::lookup;
#[cfg(netpoll_loom)]
pub use model::EventFd;
#[cfg(netpoll_loom)]
pub(crate) use model::{Epoll, RawEvent};
pub use poll::{PollFd, ppoll};
pub use socket::{
    ConnectStatus, How, Input, UninitSlice, accept, bind, connect, has_input, listen, local_addr,
    peer_addr, recv, recv_vectored, send, send_vectored, shutdown, stream_socket, take_error,
};
pub use sockopt::{
    Keepalive, is_listening, is_stream, is_tcp, recv_buffer, send_buffer, set_bind_without_port,
    set_cloexec, set_keepalive, set_linger, set_nodelay, set_nonblocking, set_only_v6,
    set_recv_buffer, set_reuse_addr, set_reuse_port, set_send_buffer, set_user_timeout,
};
pub use timerfd::TimerFd;
