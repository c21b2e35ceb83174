#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

mod accept;
#[cfg(not(netpoll_loom))]
mod budget;
/// The shared budget, for the models in `tests/loom.rs`.
#[cfg(netpoll_loom)]
pub mod budget;
mod config;
mod connection;
mod contain;
mod current;
mod dialer;
mod event_loop;
mod framing;
pub mod guide;
mod lazy;
pub mod mux;
mod net;
mod net_host;
#[cfg(not(netpoll_loom))]
mod sched;
/// The scheduler, for the models in `tests/loom.rs`.
#[cfg(netpoll_loom)]
pub mod sched;
/// Parts of connections, for the models in `tests/loom.rs`.
#[cfg(netpoll_loom)]
pub mod model {
    pub use crate::connection::{ends, state::Life, wait::park_until};
}
mod service;
mod sync;
mod timers;
mod trace;
mod watch;

pub use linkbuffer::{
    BINARY_INPLACE_THRESHOLD, ByteReader, Error, LinkBuffer, Owned, Placeholder, Reader, ReaderExt,
    Reserve, Result, Slice, VecWriter, Writer, WriterExt,
};

pub use poller::Balance;

pub use crate::{
    budget::MemoryBudget,
    config::{BuildError, Notice, Runner},
    connection::{Connection, ConnectionStats, Detached, Handle, ReadHalf, WriteHalf},
    current::block_in_place,
    dialer::{CallOff, Dialer},
    event_loop::{Builder, EventLoop, PollerStats, Stats, Unfinished},
    framing::{Buffered, Delimited, Frame, Framing, LengthPrefixed},
    net::{
        AcceptFailure, Addr, Attempt, ConnectError, ConnectOptions, Keepalive, Listener,
        ListenerOptions, ParseAddrError, SocketOptions, Target, ToTarget, accept_failure, connect,
    },
    net_host::Closes,
    service::{BoxError, Callbacks, HandlerResult, Service, service_fn},
};
