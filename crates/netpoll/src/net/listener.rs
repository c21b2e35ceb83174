//! Sockets that accept connections.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{self, Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use poller::sys::{self, ConnectStatus, FileId};
pub use poller::sys::{AcceptFailure, accept_failure};

use super::addr::{Addr, Target, ToTarget};
use super::options::SocketOptions;

/// A socket that accepts connections: TCP or Unix, made here or adopted.
///
/// ```
/// use std::net::TcpStream;
/// use netpoll::Listener;
///
/// let listener = Listener::bind("127.0.0.1:0")?;
/// assert!(listener.accept()?.is_none());
///
/// let client = TcpStream::connect(listener.local_addr()?.as_inet().unwrap())?;
/// let (_socket, from) = listener.accept()?.unwrap();
/// assert_eq!(from.as_inet(), Some(client.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Unix sockets
///
/// A socket file outlives its listener when that was killed. Binding to such a path removes the file
/// first: one that is a socket and at which nobody answers. A path where somebody listens, or where
/// a file of another kind is, is [`AddrInUse`](io::ErrorKind::AddrInUse). When the listener is
/// dropped, it removes the file if it is still its own, and not one that somebody else put there.
/// (Two processes that start on the same stale path in the same instant may both remove it.)
pub struct Listener {
    // Before `fd`, so that it is dropped first: while the socket is open, the number of its file
    // cannot be given to another.
    file: Mutex<Option<SocketFile>>,
    fd: OwnedFd,
    /// How to listen at the same address once more, where each poller is to have its own socket.
    again: Option<ListenerOptions>,
}

impl Listener {
    /// Listens at `target` with the default [options](ListenerOptions).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for text that is no [`Target`],
    /// [`AddrInUse`](io::ErrorKind::AddrInUse),
    /// [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable),
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied), and what looking up a name reports.
    #[doc(alias = "CreateListener")]
    pub fn bind(target: impl ToTarget) -> io::Result<Listener> {
        ListenerOptions::default().bind(target)
    }

    /// Adopts a listening stream socket: one that was inherited, or made by hand. It becomes
    /// non-blocking and close-on-exec. A socket file stays when the listener is dropped.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when it is not a stream socket that listens.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Listener> {
        let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        match sys::is_stream(&fd) {
            Err(_) => return wrong("the descriptor is not a socket"),
            Ok(false) => return wrong("the socket is not a stream socket"),
            Ok(true) if !sys::is_listening(&fd)? => return wrong("the socket does not listen"),
            Ok(true) => {}
        }
        sys::set_nonblocking(&fd, true)?;
        sys::set_cloexec(&fd, true)?;
        Ok(Listener { file: Mutex::new(None), fd, again: None })
    }

    /// Adopts a listener of the standard library, of either kind; the same as
    /// [`from_fd`](Self::from_fd).
    ///
    /// # Errors
    ///
    /// When `listener` is not a stream socket that listens.
    pub fn from_std(listener: impl Into<OwnedFd>) -> io::Result<Listener> {
        Listener::from_fd(listener.into())
    }

    /// The next connection, non-blocking and close-on-exec, and where it came from; `None` if none
    /// waits. Never blocks.
    ///
    /// # Errors
    ///
    /// [`accept_failure`] tells whether an error is about this one connection, about missing
    /// descriptors or memory, or about the listener.
    pub fn accept(&self) -> io::Result<Option<(OwnedFd, Addr)>> {
        match sys::accept(&self.fd) {
            Ok(accepted) => Ok(Some(accepted)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where it listens, with the port that the kernel chose.
    ///
    /// # Errors
    ///
    /// When the system is out of memory.
    pub fn local_addr(&self) -> io::Result<Addr> {
        sys::local_addr(&self.fd)
    }

    /// Sets options that the connections which it accepts from now on will have.
    ///
    /// # Errors
    ///
    /// None that the kernel documents for a socket.
    pub fn set_options(&self, options: &SocketOptions) -> io::Result<()> {
        options.apply(self.fd.as_fd())
    }

    /// Gives up the descriptor, which goes on listening. A socket file is left to the caller too.
    pub fn detach(self) -> OwnedFd {
        if let Some(file) = self.file.into_inner().unwrap_or_else(PoisonError::into_inner) {
            file.keep();
        }
        self.fd
    }

    /// Removes the socket file now, if there is one and it is this listener's own.
    pub(crate) fn remove_file(&self) {
        drop(self.file.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Whether each poller of a loop is to have a socket of its own.
    pub(crate) fn is_per_poller(&self) -> bool {
        self.again.is_some()
    }

    /// Another socket at the same address, for another poller.
    pub(crate) fn sibling(&self) -> io::Result<Listener> {
        match &self.again {
            Some(options) => options.bind_addr(&self.local_addr()?),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Takes the listener over and makes it non-blocking and close-on-exec.
///
/// # Panics
///
/// When the kernel refuses to change the flags of an open descriptor, which it has no reason to.
impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Listener {
        Listener::from_std(listener).expect("a TcpListener is a listening stream socket")
    }
}

/// Takes the listener over and makes it non-blocking and close-on-exec. Its socket file stays when
/// the listener is dropped.
///
/// # Panics
///
/// When the kernel refuses to change the flags of an open descriptor, which it has no reason to.
impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Listener {
        Listener::from_std(listener).expect("a UnixListener is a listening stream socket")
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Listener");
        if let Ok(addr) = self.local_addr() {
            debug.field("addr", &format_args!("{addr}"));
        }
        debug.field("fd", &self.fd).finish()
    }
}

/// How to listen.
///
/// ```
/// use netpoll::ListenerOptions;
///
/// let listener = ListenerOptions::new().backlog(128).reuse_port(true).bind("[::1]:0")?;
/// # drop(listener);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerOptions {
    backlog: u32,
    reuse_port: bool,
    per_poller: bool,
    only_v6: Option<bool>,
    file_mode: Option<u32>,
    socket: SocketOptions,
}

impl Default for ListenerOptions {
    fn default() -> ListenerOptions {
        ListenerOptions {
            backlog: 4096,
            reuse_port: false,
            per_poller: false,
            only_v6: None,
            file_mode: None,
            socket: SocketOptions::default(),
        }
    }
}

impl ListenerOptions {
    /// The defaults.
    pub fn new() -> ListenerOptions {
        ListenerOptions::default()
    }

    /// How many connections may wait to be accepted. The kernel cuts it to
    /// `/proc/sys/net/core/somaxconn`. Default: 4096, which is that limit on most systems.
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Lets several listeners of this user listen at the same address, each with a queue of its
    /// own, over which the kernel spreads the connections. Internet addresses only. Default: no.
    #[must_use]
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.reuse_port = on;
        self
    }

    /// Has an event loop listen once for each of its pollers, by [`reuse_port`](Self::reuse_port),
    /// which this turns on. The kernel then spreads the connections, and each stays with the poller
    /// that accepted it: none is handed from thread to thread, and the loop's
    /// [`balance`](crate::Builder::balance) is not asked. When pollers are
    /// [added or removed](crate::EventLoop::set_pollers) the sockets move with what waits in their
    /// queues. Default: no, one poller accepts and the loop spreads.
    #[must_use]
    pub fn per_poller(mut self, on: bool) -> Self {
        self.per_poller = on;
        self
    }

    /// Whether a listener at an IPv6 address refuses IPv4. Default: the system's, usually no.
    #[must_use]
    pub fn only_v6(mut self, on: impl Into<Option<bool>>) -> Self {
        self.only_v6 = on.into();
        self
    }

    /// The permissions of a Unix socket's file, in force before anybody can connect. Default: what
    /// the process's umask leaves.
    #[must_use]
    pub fn file_mode(mut self, mode: impl Into<Option<u32>>) -> Self {
        self.file_mode = mode.into();
        self
    }

    /// The options of the connections that are accepted. They are set on the listener, from which
    /// connections inherit them at no cost.
    #[must_use]
    pub fn socket(mut self, options: SocketOptions) -> Self {
        self.socket = options;
        self
    }

    /// Listens at `target`. Of a name with several addresses, the first that works is taken.
    ///
    /// # Errors
    ///
    /// As [`Listener::bind`]; with several addresses, the error of the last.
    pub fn bind(&self, target: impl ToTarget) -> io::Result<Listener> {
        let mut last = None;
        for addr in candidates(target.to_target()?)? {
            match self.bind_addr(&addr) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| {
            io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address")
        }))
    }

    fn bind_addr(&self, addr: &Addr) -> io::Result<Listener> {
        let fd = sys::stream_socket(addr)?;
        let inet = addr.as_inet();
        if let Some(inet) = inet {
            // Connections of an earlier run may still linger on the port.
            sys::set_reuse_addr(&fd, true)?;
            if self.reuse_port || self.per_poller {
                sys::set_reuse_port(&fd, true)?;
            }
            if let (true, Some(only)) = (inet.is_ipv6(), self.only_v6) {
                sys::set_only_v6(&fd, only)?;
            }
        } else if self.reuse_port || self.per_poller {
            let refused = "only Internet addresses can be shared by several listeners";
            return Err(io::Error::new(io::ErrorKind::Unsupported, refused));
        }
        // Before listening, when the receive window of connections is negotiated.
        self.socket.apply_to(&fd, inet.is_some())?;
        let file = match addr.as_path() {
            None => {
                sys::bind(&fd, addr)?;
                None
            }
            Some(path) => {
                bind_path(&fd, addr, path)?;
                let file = SocketFile::new(path)?;
                if let Some(mode) = self.file_mode {
                    sys::set_file_mode(path, mode)?;
                }
                Some(file)
            }
        };
        sys::listen(&fd, self.backlog)?;
        let again = self.per_poller.then(|| self.clone());
        Ok(Listener { file: Mutex::new(file), fd, again })
    }
}

/// The addresses to try, one after another.
fn candidates(target: Target) -> io::Result<Vec<Addr>> {
    Ok(match target {
        Target::Addr(addr) => vec![addr],
        // IPv6 takes IPv4 along, where the system has it.
        Target::Host { name, port } if name.is_empty() => vec![
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into(),
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into(),
        ],
        Target::Host { name, port } => {
            sys::lookup(&name, port)?.into_iter().map(Addr::from).collect()
        }
    })
}

/// More than enough for the two system calls.
const BETWEEN_BIND_AND_LISTEN: Duration = Duration::from_millis(20);

/// Binds to a path, removing a socket file there at which nobody answers.
fn bind_path(fd: &OwnedFd, addr: &Addr, path: &Path) -> io::Result<()> {
    let in_use = match sys::bind(fd, addr) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => error,
        result => return result,
    };
    let Ok(Some(found)) = sys::socket_file(path) else {
        // Not a socket, or gone meanwhile: then somebody else is busy with the path.
        return Err(in_use);
    };
    // Who binds and listens just now is alive, but refuses in between: asked twice.
    if is_alive(addr)? {
        return Err(in_use);
    }
    sys::ppoll(&mut [], Some(BETWEEN_BIND_AND_LISTEN))?;
    if is_alive(addr)? || sys::socket_file(path)? != Some(found) {
        return Err(in_use);
    }
    sys::remove_file(path)?;
    sys::bind(fd, addr)
}

/// Whether somebody listens at a Unix address.
fn is_alive(addr: &Addr) -> io::Result<bool> {
    match sys::connect(sys::stream_socket(addr)?, addr) {
        Ok(ConnectStatus::Connected | ConnectStatus::InProgress) => Ok(true),
        // Bound, and not listening any more or yet.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        // A full queue, a socket of another type, no rights: somebody is there, or may be.
        Err(_) => Ok(true),
    }
}

/// The file of a Unix listener, removed on drop if it is still the same.
struct SocketFile {
    path: PathBuf,
    id: FileId,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<SocketFile> {
        // The working directory may be another one at the end.
        let path = path::absolute(path)?;
        let gone = || io::Error::new(io::ErrorKind::AddrInUse, "the socket file was replaced");
        let id = sys::socket_file(&path)?.ok_or_else(gone)?;
        Ok(SocketFile { path, id })
    }

    /// Leaves the file where it is.
    fn keep(mut self) {
        self.path.clear();
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.path.as_os_str().is_empty() {
            return;
        }
        if let Ok(Some(id)) = sys::socket_file(&self.path) {
            if id == self.id {
                // If the directory does not allow it (any more), the next start finds it stale.
                let _ = sys::remove_file(&self.path);
            }
        }
    }
}

#[cfg(test)]
mod tests;
