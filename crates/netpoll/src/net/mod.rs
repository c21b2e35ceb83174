//! Sockets before they are connections: addresses, listeners, options, and the blocking part of
//! dialing.
//!
//! Nothing here knows an event loop. What calls the kernel is `poller::sys`.

mod addr;
mod connect;
mod listener;
mod options;
mod resolve;

pub use addr::{Addr, ParseAddrError, Target, ToTarget};
pub(crate) use connect::connect_unless;
pub use connect::{Attempt, ConnectError, ConnectOptions, connect};
pub use listener::{AcceptFailure, Listener, ListenerOptions, accept_failure};
pub use options::{Keepalive, SocketOptions};
