//! What users write to say where to listen or whom to dial.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

pub use poller::sys::{Addr, ParseAddrError};

/// Where to listen, or whom to dial: an address, or the name of a host that has addresses.
///
/// | text | means |
/// |---|---|
/// | `1.2.3.4:80`, `[::1]:80` | this address |
/// | `example.com:80` | every address of the host, looked up when used |
/// | `:80` | listening: every address of this machine; dialing: this machine |
/// | `unix:/run/app.sock` | the Unix socket at this path |
/// | `unix:@app` | the Unix socket of this name in Linux's abstract namespace |
///
/// Port 0 lets the kernel choose when listening.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// An address.
    Addr(Addr),
    /// A host to be looked up.
    Host {
        /// Its name; empty for this machine.
        name: String,
        /// The port on it.
        port: u16,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Addr(addr) => addr.fmt(f),
            Target::Host { name, port } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Target::Host { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

impl FromStr for Target {
    type Err = ParseAddrError;

    fn from_str(text: &str) -> Result<Target, ParseAddrError> {
        if text.starts_with("unix:") {
            return text.parse().map(Target::Addr);
        }
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Ok(Target::Addr(addr.into()));
        }
        let wrong = |why| ParseAddrError::new(text, why);
        let missing = "expected HOST:PORT, [IPV6]:PORT, unix:PATH or unix:@NAME";
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong(missing))?;
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits);
        let port = port.ok_or_else(|| wrong("the port is not a number from 0 to 65535"))?;
        // A scope may be a name (`[fe80::1%eth0]:80`), which only the resolver understands.
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let name = match bracketed {
            Some(scoped) if scoped.contains('%') => scoped,
            Some(_) => return Err(wrong("no IPv6 address in the brackets")),
            None if host.contains(':') => return Err(wrong("an IPv6 address needs brackets")),
            None if host.contains(|c: char| c == '\0' || c.is_whitespace() || c == '/') => {
                return Err(wrong("a character that no host name has"));
            }
            None => host,
        };
        Ok(Target::Host { name: name.to_owned(), port })
    }
}

/// What can be listened on or dialed: text, addresses, a pair of host and port.
///
/// ```
/// use netpoll::{Target, ToTarget};
///
/// let local = ("localhost", 80).to_target()?;
/// assert_eq!(local, "localhost:80".to_target()?);
/// assert!("localhost".to_target().is_err()); // no port
/// # Ok::<(), netpoll::ParseAddrError>(())
/// ```
pub trait ToTarget {
    /// The target that this stands for.
    ///
    /// # Errors
    ///
    /// When text is not of one of the forms of [`Target`].
    fn to_target(&self) -> Result<Target, ParseAddrError>;
}

impl ToTarget for str {
    fn to_target(&self) -> Result<Target, ParseAddrError> {
        self.parse()
    }
}

impl ToTarget for String {
    fn to_target(&self) -> Result<Target, ParseAddrError> {
        self.parse()
    }
}

impl ToTarget for Target {
    fn to_target(&self) -> Result<Target, ParseAddrError> {
        Ok(self.clone())
    }
}

impl ToTarget for Addr {
    fn to_target(&self) -> Result<Target, ParseAddrError> {
        Ok(Target::Addr(self.clone()))
    }
}

impl ToTarget for SocketAddr {
    fn to_target(&self) -> Result<Target, ParseAddrError> {
        Ok(Target::Addr((*self).into()))
    }
}

impl ToTarget for (&str, u16) {
    fn to_target(&self) -> Result<Target, ParseAddrError> {
        let (host, port) = *self;
        match host.parse() {
            Ok(ip) => Ok(Target::Addr(SocketAddr::new(ip, port).into())),
            Err(_) => format!("{host}:{port}").parse(),
        }
    }
}

impl<T: ToTarget + ?Sized> ToTarget for &T {
    fn to_target(&self) -> Result<Target, ParseAddrError> {
        (**self).to_target()
    }
}
