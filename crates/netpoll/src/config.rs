//! What an event loop can be told, and what it does when told nothing.

use std::{
    fmt,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use poller::Balance;
use thiserror::Error;

use crate::{budget::MemoryBudget, net::SocketOptions, trace::event};

/// Pollers of one loop.
pub(crate) const MOST_POLLERS: usize = 1024;
/// Handlers under one cap: both caps together have to find threads in one pool.
const MOST_HANDLERS: usize = 500_000;
const _: () = assert!(2 * (MOST_HANDLERS + MOST_POLLERS) <= gopool::MAX_CAP);

/// Where handlers run.
#[derive(Clone, Default)]
pub enum Runner {
    /// On the thread that read the bytes. Before a handler waits, another thread takes over.
    #[default]
    Auto,
    /// On the thread that read the bytes, which is never handed over: for handlers known to be
    /// short. A wait inside one is an error at once.
    Inline,
    /// On this pool, always: the classic shape. The pool's cap bounds the handlers; its queue
    /// limit must leave room for one task per connection, or connections that find it full are
    /// closed.
    Pool(gopool::Pool),
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "Auto",
            Self::Inline => "Inline",
            Self::Pool(_) => "Pool",
        })
    }
}

/// A value that an event loop cannot be built with.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The named option was given a value outside its bounds.
    #[error("option `{option}`: {value} is not possible: {reason}")]
    Option {
        /// The option's name, as the builder's method.
        option: &'static str,
        /// What was given.
        value: String,
        /// What would be possible.
        reason: &'static str,
    },
    /// The system refused a poller.
    #[error("no poller can be made: {0}")]
    Poller(#[source] std::io::Error),
    /// The sockets of a listener that has one per poller cannot be had, or not be polled.
    #[error("a listener cannot follow the pollers: {0}")]
    Listener(#[source] std::io::Error),
    /// The loop is shutting down, so its options change no more.
    #[error("the event loop is shutting down")]
    Ending,
    /// The loop's threads cannot be had.
    #[error("no threads can be had: {0}")]
    Threads(String),
}

/// Something that whoever runs an event loop may want to know, for a log line.
///
/// See [`Builder::on_notice`](crate::Builder::on_notice).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// For a second, all handlers under a cap have run or waited, others have queued, and nothing
    /// has moved. Handlers that wait for one of the queued wait until their timeouts.
    CapStandsStill {
        /// How many handlers there are.
        cap: usize,
        /// How many connections wait for one of them to end.
        queued: usize,
    },
    /// The system refused the loop a thread that it needs. It tries again, ever so often.
    ThreadsRefused {
        /// How many times so far.
        refused: usize,
    },
    /// A listener could not accept. What waits is kept waiting, and it tries again soon: most often it
    /// is out of descriptors.
    AcceptFailed {
        /// The system's error, as [`from_raw_os_error`](std::io::Error::from_raw_os_error) takes it.
        errno: i32,
        /// How many times since this was last told of.
        times: u64,
    },
    /// Connections were closed as soon as they were accepted: there are as many as there may be.
    ConnectionsRefused {
        /// [`Builder::max_connections`](crate::Builder::max_connections).
        max: usize,
        /// How many since this was last told of.
        refused: u64,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CapStandsStill { cap, queued } => {
                write!(f, "{cap} handlers fill the cap and none ends; {queued} connections wait")
            }
            Self::ThreadsRefused { refused } => {
                write!(f, "the system has refused {refused} threads")
            }
            Self::AcceptFailed { errno, times } => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "accepting has failed {times} more times: {error}")
            }
            Self::ConnectionsRefused { max, refused } => {
                write!(f, "{refused} more connections were refused: there are {max}")
            }
        }
    }
}

/// Who is told.
#[derive(Clone)]
pub(crate) struct OnNotice(pub(crate) Arc<dyn Fn(&Notice) + Send + Sync>);

impl fmt::Debug for OnNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnNotice")
    }
}

/// Every option of an event loop, with its default. See [`EventLoop::builder`].
///
/// | option | default | bounds what |
/// |---|---|---|
/// | `pollers` | the cores | threads that wait in the kernel |
/// | `cap` | 64 × cores, at least 128 | handlers running or blocked |
/// | `attached_cap` | as `cap` | the same, of connections given to it by `attach` |
/// | `input_limit` | 1 MiB | unread bytes of a connection |
/// | `input_resume` | half of that | unread bytes at which reading goes on after a pause |
/// | `max_message` | 16 MiB | one message, and what a handler may wait for |
/// | `output_limit` | 4 MiB | bytes written and not sent, above one message |
/// | `memory_budget` | none | received bytes of all connections of all loops that share it |
/// | `read_budget` | 256 KiB | bytes read from one socket before others have their turn |
/// | `accept_batch` | 16 | connections accepted before others have their turn |
/// | `fair_share` | 64 | messages of one connection handled before others have their turn |
/// | `max_connections` | none | connections at once; those above are closed when accepted |
/// | `read_timeout` | 60 s | one wait for bytes inside a handler |
/// | `write_timeout` | 60 s | one wait for room inside `flush` |
/// | `idle_timeout` | none | the time without bytes, either way |
/// | `frame_timeout` | 60 s | the time from a message's first byte until it is whole |
/// | `linger` | 1 s | how long the kernel and the peer are given when a connection closes |
///
/// [`EventLoop::builder`]: crate::EventLoop::builder
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) name: String,
    pub(crate) pollers: usize,
    pub(crate) balance: Balance,
    pub(crate) runner: Runner,
    pub(crate) cap: usize,
    pub(crate) attached_cap: Option<usize>,
    pub(crate) input_limit: usize,
    pub(crate) input_resume: Option<usize>,
    pub(crate) max_message: usize,
    pub(crate) output_limit: usize,
    pub(crate) memory_budget: Option<MemoryBudget>,
    pub(crate) read_budget: usize,
    pub(crate) accept_batch: usize,
    pub(crate) fair_share: usize,
    pub(crate) max_connections: Option<usize>,
    pub(crate) read_timeout: Option<Duration>,
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) frame_timeout: Option<Duration>,
    pub(crate) linger: Duration,
    pub(crate) socket: SocketOptions,
    pub(crate) on_notice: Option<OnNotice>,
}

impl Default for Options {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            name: "netpoll".to_owned(),
            pollers: cores,
            balance: Balance::RoundRobin,
            runner: Runner::Auto,
            cap: cores.saturating_mul(64).clamp(128, 1 << 16),
            attached_cap: None,
            input_limit: 1 << 20,
            input_resume: None,
            max_message: 16 << 20,
            output_limit: 4 << 20,
            memory_budget: None,
            read_budget: 256 << 10,
            accept_batch: 16,
            fair_share: 64,
            max_connections: None,
            read_timeout: Some(Duration::from_secs(60)),
            write_timeout: Some(Duration::from_secs(60)),
            idle_timeout: None,
            frame_timeout: Some(Duration::from_secs(60)),
            linger: Duration::from_secs(1),
            socket: SocketOptions::default(),
            on_notice: None,
        }
    }
}

impl Options {
    /// The low mark of unread bytes.
    pub(crate) fn input_resume(&self) -> usize {
        self.input_resume.unwrap_or(self.input_limit / 2)
    }

    /// The most that may be written and not sent.
    pub(crate) fn most_output(&self) -> usize {
        self.max_message.saturating_add(self.output_limit)
    }

    /// The threads of a loop: one per handler that waits, one per poller, and one for a disconnect
    /// callback beside each.
    pub(crate) fn threads(&self, pollers: usize) -> usize {
        self.cap + self.attached_cap() + 2 * pollers
    }

    /// The cap on handlers of attached connections.
    pub(crate) fn attached_cap(&self) -> usize {
        self.attached_cap.unwrap_or(self.cap)
    }

    /// Tells the user, if they asked to be told.
    pub(crate) fn notice(&self, notice: &Notice) {
        event!(WARN, "{notice}");
        if let Some(OnNotice(tell)) = &self.on_notice {
            let _ = catch_unwind(AssertUnwindSafe(|| tell(notice)));
        }
    }

    /// Everything is within its bounds.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        // Sums of two of these are taken.
        let bytes = (usize::MAX / 4, "1 byte or more, and less than a quarter of all there can be");
        let handlers = (MOST_HANDLERS, "1 to 500000");
        let any = (usize::MAX, "1 or more");
        let numbers = [
            ("pollers", Some(self.pollers), (MOST_POLLERS, "1 to 1024")),
            ("cap", Some(self.cap), handlers),
            ("attached_cap", self.attached_cap, handlers),
            ("input_limit", Some(self.input_limit), bytes),
            ("max_message", Some(self.max_message), bytes),
            ("output_limit", Some(self.output_limit), bytes),
            ("read_budget", Some(self.read_budget), any),
            ("accept_batch", Some(self.accept_batch), any),
            ("fair_share", Some(self.fair_share), any),
            ("max_connections", self.max_connections, (usize::MAX, "1 or more, or none")),
        ];
        for (option, value, (most, reason)) in numbers {
            match value {
                Some(value) if !(1..=most).contains(&value) => {
                    return Err(BuildError::Option { option, value: value.to_string(), reason });
                }
                _ => {}
            }
        }
        if self.input_resume() > self.input_limit {
            let (value, reason) = (self.input_resume().to_string(), "no more than `input_limit`");
            return Err(BuildError::Option { option: "input_resume", value, reason });
        }
        let timeouts = [
            ("read_timeout", self.read_timeout),
            ("write_timeout", self.write_timeout),
            ("idle_timeout", self.idle_timeout),
            ("frame_timeout", self.frame_timeout),
        ];
        for (option, timeout) in timeouts {
            if timeout == Some(Duration::ZERO) {
                let (value, reason) = ("0ns".to_owned(), "more than no time, or none");
                return Err(BuildError::Option { option, value, reason });
            }
        }
        if self.name.is_empty() || self.name.contains('\0') {
            let value = format!("{:?}", self.name);
            let reason = "a thread's name is not empty and has no NUL";
            return Err(BuildError::Option { option: "name", value, reason });
        }
        Ok(())
    }
}
