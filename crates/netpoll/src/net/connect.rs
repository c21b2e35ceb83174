//! Dialing: from a target to a connected socket, waiting on the calling thread.
//!
//! The addresses of a name are tried in turn, a new one every [`ConnectOptions::stagger`] while the
//! earlier attempts go on, and at once when one fails; the first that answers wins and the others
//! are closed. The thread waits in `ppoll`: nothing is registered anywhere, and every socket is
//! owned by a local variable, so that nothing stays open on any way out.

use std::collections::VecDeque;
use std::error;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use poller::Interest;
use poller::sys::{self, ConnectStatus, PollFd};

use super::addr::{Addr, ParseAddrError, Target, ToTarget};
use super::options::SocketOptions;
use super::resolve::{interleave, resolve};

/// How to [`connect`].
///
/// ```
/// use std::time::Duration;
/// use netpoll::ConnectOptions;
///
/// let options = ConnectOptions::new()
///     .local_addr("127.0.0.1:0".parse::<netpoll::Addr>()?)
///     .stagger(Duration::from_millis(100));
/// # Ok::<(), netpoll::ParseAddrError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    local: Option<Addr>,
    stagger: Duration,
    socket: SocketOptions,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            local: None,
            // What RFC 8305 recommends.
            stagger: Duration::from_millis(250),
            socket: SocketOptions::default(),
        }
    }
}

impl ConnectOptions {
    /// The defaults.
    pub fn new() -> ConnectOptions {
        ConnectOptions::default()
    }

    /// The local address to connect from; port 0 for any. Addresses of the other family are then
    /// passed over. Default: the system's choice.
    #[must_use]
    pub fn local_addr(mut self, addr: impl Into<Option<Addr>>) -> Self {
        self.local = addr.into();
        self
    }

    /// How long to wait for one address before the next is tried beside it. Default: 250 ms.
    #[must_use]
    pub fn stagger(mut self, stagger: Duration) -> Self {
        self.stagger = stagger;
        self
    }

    /// The options of the connection's socket.
    #[must_use]
    pub fn socket(mut self, options: SocketOptions) -> Self {
        self.socket = options;
        self
    }
}

/// Why [`connect`] did not connect: what was tried, and what came of it.
#[derive(Debug)]
pub struct ConnectError {
    target: String,
    reason: Reason,
    attempts: Vec<Attempt>,
}

#[derive(Debug)]
enum Reason {
    Target(ParseAddrError),
    Lookup(io::Error),
    NoAddress,
    TimedOut,
    AllFailed,
    Wait(io::Error),
    /// Who dials is told to stop.
    Called,
}

/// One address that was tried in vain; see [`ConnectError::attempts`].
#[derive(Debug)]
pub struct Attempt {
    addr: Addr,
    error: Option<io::Error>,
}

impl Attempt {
    /// The address.
    pub fn addr(&self) -> &Addr {
        &self.addr
    }

    /// What came back; `None` if nothing did until time was over.
    pub fn error(&self) -> Option<&io::Error> {
        self.error.as_ref()
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "{}: {error}", self.addr),
            None => write!(f, "{}: no answer in time", self.addr),
        }
    }
}

impl ConnectError {
    /// What was dialed.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The addresses that were tried, in the order in which they failed; those that did not answer
    /// come last.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// Whether it was given up since nobody wants it any more.
    pub(crate) fn is_called_off(&self) -> bool {
        matches!(self.reason, Reason::Called)
    }

    /// Whether time was over, for looking up the name or for connecting.
    pub fn is_timeout(&self) -> bool {
        self.kind() == io::ErrorKind::TimedOut
    }

    /// The kind that fits best: that of the last address that failed.
    pub fn kind(&self) -> io::ErrorKind {
        match &self.reason {
            Reason::Target(_) => io::ErrorKind::InvalidInput,
            Reason::Lookup(error) | Reason::Wait(error) => error.kind(),
            Reason::NoAddress => io::ErrorKind::NotFound,
            Reason::Called => io::ErrorKind::Interrupted,
            Reason::TimedOut => io::ErrorKind::TimedOut,
            Reason::AllFailed => {
                let last = self.attempts.iter().rev().find_map(Attempt::error);
                last.map_or(io::ErrorKind::Other, io::Error::kind)
            }
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to {}", self.target)?;
        match &self.reason {
            Reason::Target(error) => write!(f, ": {error}")?,
            Reason::Lookup(error) | Reason::Wait(error) => write!(f, ": {error}")?,
            Reason::NoAddress => f.write_str(": the name has no address")?,
            Reason::TimedOut => f.write_str(": timed out")?,
            Reason::Called => f.write_str(": called off")?,
            Reason::AllFailed => {}
        }
        match &self.attempts[..] {
            // The target is the address: not twice.
            [Attempt { addr, error: Some(error) }] if addr.to_string() == self.target => {
                write!(f, ": {error}")
            }
            [Attempt { addr, error: None }] if addr.to_string() == self.target => Ok(()),
            attempts => attempts.iter().enumerate().try_for_each(|(n, attempt)| {
                write!(f, "{}{attempt}", if n == 0 { ": " } else { "; " })
            }),
        }
    }
}

impl error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.reason {
            Reason::Target(error) => Some(error),
            Reason::Lookup(error) | Reason::Wait(error) => Some(error),
            Reason::NoAddress | Reason::TimedOut | Reason::Called => None,
            Reason::AllFailed => {
                let last = self.attempts.iter().rev().find_map(Attempt::error);
                last.map(|error| error as &(dyn error::Error + 'static))
            }
        }
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

/// Connects to `target`, waiting on the calling thread, until `deadline` (`None`: for as long as the
/// system tries).
///
/// The socket is non-blocking and has the options.
///
/// # Errors
///
/// [`ConnectError`] tells each address that was tried, and why it failed. With a deadline that is
/// over, the error is a timeout, however early that is.
pub fn connect(
    target: impl ToTarget,
    options: &ConnectOptions,
    deadline: Option<Instant>,
) -> Result<OwnedFd, ConnectError> {
    connect_unless(target, options, deadline, &[])
}

/// [`connect`], given up as soon as one of `off` can be read; then `is_called_off` tells so.
pub(crate) fn connect_unless(
    target: impl ToTarget,
    options: &ConnectOptions,
    deadline: Option<Instant>,
    off: &[BorrowedFd<'_>],
) -> Result<OwnedFd, ConnectError> {
    let target = target.to_target().map_err(|error| ConnectError {
        target: error.text().to_owned(),
        reason: Reason::Target(error),
        attempts: Vec::new(),
    })?;
    let mut dial = Dial { off, ..Dial::new(options) };
    let result = dial.run(&target, deadline);
    result.map_err(|reason| dial.error(target.to_string(), reason))
}

/// One dial under way.
struct Dial<'a> {
    options: &'a ConnectOptions,
    /// One of them can be read when it is not wanted any more.
    off: &'a [BorrowedFd<'a>],
    /// Addresses that are still to be tried.
    queue: VecDeque<Addr>,
    /// Attempts without an answer yet.
    open: Vec<Open>,
    failed: Vec<Attempt>,
}

struct Open {
    addr: Addr,
    fd: OwnedFd,
    waits: Waits,
}

/// What an attempt waits for.
enum Waits {
    /// The socket tells.
    Answer,
    /// The queue of a Unix listener is full, and nothing tells when that changes: ask again then.
    Room { again: Instant, pause: Duration },
}

/// The pauses between asking a full Unix listener double from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LAST_PAUSE: Duration = Duration::from_millis(10);

impl<'a> Dial<'a> {
    fn new(options: &'a ConnectOptions) -> Dial<'a> {
        Dial { options, off: &[], queue: VecDeque::new(), open: Vec::new(), failed: Vec::new() }
    }

    fn error(mut self, target: String, reason: Reason) -> ConnectError {
        let silent = self.open.drain(..).map(|open| Attempt { addr: open.addr, error: None });
        self.failed.extend(silent);
        ConnectError { target, reason, attempts: self.failed }
    }

    fn run(&mut self, target: &Target, deadline: Option<Instant>) -> Result<OwnedFd, Reason> {
        if is_over(deadline) {
            return Err(Reason::TimedOut);
        }
        let addrs = resolve(target, deadline).map_err(Reason::Lookup)?;
        if addrs.is_empty() {
            return Err(Reason::NoAddress);
        }
        self.queue = interleave(addrs).into();
        self.race(deadline)
    }

    /// Tries the addresses of the queue until one is connected.
    fn race(&mut self, deadline: Option<Instant>) -> Result<OwnedFd, Reason> {
        // `None`: not before an attempt fails.
        let mut next_start = Some(sys::now());
        loop {
            let now = sys::now();
            if self.open.is_empty() || next_start.is_some_and(|at| at <= now) {
                if let Some(addr) = self.queue.pop_front() {
                    next_start = now.checked_add(self.options.stagger);
                    if let Some(fd) = self.start(addr) {
                        return Ok(fd);
                    }
                    continue;
                }
                if self.open.is_empty() {
                    return Err(Reason::AllFailed);
                }
            }
            let start = next_start.filter(|_| !self.queue.is_empty());
            let wake_at = [deadline, start, self.next_ask()].into_iter().flatten().min();
            let timeout = wake_at.map(|at| at.saturating_duration_since(now));
            let failures = self.failed.len();
            if let Some(fd) = self.wait(timeout)? {
                return Ok(fd);
            }
            if is_over(deadline) {
                return Err(Reason::TimedOut);
            }
            if self.failed.len() > failures {
                next_start = Some(now);
            }
        }
    }

    /// Starts an attempt. The socket, if it is connected at once.
    fn start(&mut self, addr: Addr) -> Option<OwnedFd> {
        match self.socket(&addr) {
            Ok(fd) => self.ask(fd, addr, FIRST_PAUSE),
            Err(error) => self.fail(addr, error),
        }
    }

    /// A socket that is ready to connect to `addr`.
    fn socket(&self, addr: &Addr) -> io::Result<OwnedFd> {
        let fd = sys::stream_socket(addr)?;
        // Before connecting, when the receive window is negotiated.
        self.options.socket.apply_to(&fd, addr.as_inet().is_some())?;
        if let Some(local) = &self.options.local {
            bind_local(&fd, local, addr)?;
        }
        Ok(fd)
    }

    /// Asks the kernel to connect. The socket, if it is connected at once.
    fn ask(&mut self, fd: OwnedFd, addr: Addr, pause: Duration) -> Option<OwnedFd> {
        let waits = match sys::connect(&fd, &addr) {
            Ok(ConnectStatus::Connected) => return self.accept(fd, addr),
            Ok(ConnectStatus::InProgress) => Waits::Answer,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Waits::Room { again: sys::now() + pause, pause: (pause * 2).min(LAST_PAUSE) }
            }
            Err(error) => return self.fail(addr, error),
        };
        self.open.push(Open { addr, fd, waits });
        None
    }

    /// Takes a connected socket, unless it is connected to itself: a port of this machine where
    /// nobody listens can be the one that the kernel chose for our own end.
    fn accept(&mut self, fd: OwnedFd, addr: Addr) -> Option<OwnedFd> {
        if addr.as_inet().is_some() && sys::local_addr(&fd).is_ok_and(|local| local == addr) {
            let refused = io::ErrorKind::ConnectionRefused;
            return self.fail(addr, io::Error::new(refused, "nobody but this socket is there"));
        }
        Some(fd)
    }

    fn fail(&mut self, addr: Addr, error: io::Error) -> Option<OwnedFd> {
        self.failed.push(Attempt { addr, error: Some(error) });
        None
    }

    /// When to ask a full listener again.
    fn next_ask(&self) -> Option<Instant> {
        let asks = self.open.iter().filter_map(|open| match open.waits {
            Waits::Room { again, .. } => Some(again),
            Waits::Answer => None,
        });
        asks.min()
    }

    /// Waits for an answer to one of the attempts, and deals with all that came. The socket, if one
    /// is connected.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<OwnedFd>, Reason> {
        let open = self.open.iter();
        // A socket that did not start to connect would only report that: not asked about.
        let mut fds: Vec<_> = open
            .filter(|open| matches!(open.waits, Waits::Answer))
            .map(|open| PollFd::new(open.fd.as_fd(), Interest::WRITABLE))
            .collect();
        let asked = fds.len();
        fds.extend(self.off.iter().map(|&off| PollFd::new(off, Interest::READABLE)));
        sys::ppoll(&mut fds, timeout).map_err(Reason::Wait)?;
        if fds[asked..].iter().any(PollFd::is_ready) {
            return Err(Reason::Called);
        }
        let answered: Vec<bool> = fds.iter().map(PollFd::is_ready).collect();
        let mut answered = answered.into_iter();
        let now = sys::now();
        let mut connected = None;
        for Open { addr, fd, waits } in mem::take(&mut self.open) {
            if connected.is_some() {
                break;
            }
            match waits {
                Waits::Answer if answered.next() == Some(true) => {
                    connected = match sys::take_error(&fd).map_err(Reason::Wait)? {
                        None => self.accept(fd, addr),
                        Some(error) => self.fail(addr, error),
                    };
                }
                Waits::Room { again, pause } if again <= now => {
                    connected = self.ask(fd, addr, pause);
                }
                waits => self.open.push(Open { addr, fd, waits }),
            }
        }
        Ok(connected)
    }
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= sys::now())
}

fn bind_local(fd: &OwnedFd, local: &Addr, remote: &Addr) -> io::Result<()> {
    match (local, remote) {
        (Addr::Inet(from), Addr::Inet(to)) if from.is_ipv4() == to.is_ipv4() => {
            if from.port() == 0 {
                sys::set_bind_without_port(fd, true)?;
            } else {
                // The last connection from this port may still linger.
                sys::set_reuse_addr(fd, true)?;
            }
        }
        (Addr::Unix(_), Addr::Unix(_)) => {}
        _ => {
            let other = "the local address is of another family";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, other));
        }
    }
    sys::bind(fd, local)
}

#[cfg(test)]
mod tests;
