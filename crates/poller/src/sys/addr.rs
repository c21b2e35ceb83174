//! Where a stream socket lives: an Internet address, or a Unix path or name.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::Path;
use std::str::FromStr;

/// The address of a stream socket.
///
/// Parses from and prints as `1.2.3.4:80`, `[::1]:80`, `unix:/path`, `unix:@name` (a name in Linux's
/// abstract namespace). Names of hosts are not addresses yet: resolving them can take long and give
/// several.
///
/// ```
/// use poller::sys::Addr;
///
/// let addr: Addr = "[::1]:80".parse()?;
/// assert_eq!(addr.to_string(), "[::1]:80");
/// assert!("unix:/run/app.sock".parse::<Addr>()?.as_path().is_some());
/// assert_eq!("unix:@app".parse::<Addr>()?.to_string(), "unix:@app");
/// assert!("localhost:80".parse::<Addr>().is_err());
/// # Ok::<(), poller::sys::ParseAddrError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Addr {
    /// IPv4 or IPv6.
    Inet(SocketAddr),
    /// A Unix path, an abstract name, or no name at all (most clients).
    ///
    /// Boxed: it is more than three times as large as the others, and connections keep addresses.
    Unix(Box<UnixAddr>),
    /// Something else that an adopted socket speaks.
    Other {
        /// Its address family (`AF_…`).
        family: i32,
    },
}

impl Addr {
    /// The Internet address, if it is one.
    pub fn as_inet(&self) -> Option<SocketAddr> {
        match self {
            Addr::Inet(addr) => Some(*addr),
            _ => None,
        }
    }

    /// The path of a Unix socket that has one.
    pub fn as_path(&self) -> Option<&Path> {
        match self {
            Addr::Unix(addr) => addr.as_pathname(),
            _ => None,
        }
    }

    /// Whether this is a Unix socket's address.
    pub fn is_unix(&self) -> bool {
        matches!(self, Addr::Unix(_))
    }

    /// The address of a Unix socket at `path`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when the path is empty, holds a zero byte, or
    /// is longer than the kernel takes (107 bytes).
    pub fn unix_path(path: impl AsRef<Path>) -> io::Result<Addr> {
        let path = path.as_ref();
        if path.as_os_str().is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "empty Unix socket path"));
        }
        UnixAddr::from_pathname(path).map(Addr::from)
    }

    /// The address of a Unix socket with an abstract name, which may hold any bytes.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when it is longer than the kernel takes (107
    /// bytes).
    pub fn unix_name(name: impl AsRef<[u8]>) -> io::Result<Addr> {
        UnixAddr::from_abstract_name(name).map(Addr::from)
    }

    pub(super) fn family(&self) -> i32 {
        match self {
            Addr::Inet(SocketAddr::V4(_)) => libc::AF_INET,
            Addr::Inet(SocketAddr::V6(_)) => libc::AF_INET6,
            Addr::Unix(_) => libc::AF_UNIX,
            Addr::Other { family } => *family,
        }
    }
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Addr {
        Addr::Inet(addr)
    }
}

impl From<UnixAddr> for Addr {
    fn from(addr: UnixAddr) -> Addr {
        Addr::Unix(Box::new(addr))
    }
}

/// Two addresses are equal when they mean the same; unnamed Unix sockets all look alike.
impl PartialEq for Addr {
    fn eq(&self, other: &Addr) -> bool {
        match (self, other) {
            (Addr::Inet(one), Addr::Inet(two)) => one == two,
            (Addr::Unix(one), Addr::Unix(two)) => {
                one.as_pathname() == two.as_pathname()
                    && one.as_abstract_name() == two.as_abstract_name()
            }
            (Addr::Other { family: one }, Addr::Other { family: two }) => one == two,
            _ => false,
        }
    }
}

impl Eq for Addr {}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Addr::Inet(addr) => addr.fmt(f),
            Addr::Unix(addr) => {
                if let Some(path) = addr.as_pathname() {
                    write!(f, "unix:{}", path.display())
                } else if let Some(name) = addr.as_abstract_name() {
                    write!(f, "unix:@{}", name.escape_ascii())
                } else {
                    f.write_str("unix:(unnamed)")
                }
            }
            Addr::Other { family } => write!(f, "(address family {family})"),
        }
    }
}

/// What was wrong with the text of an address; see [`Addr`] for what is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseAddrError {
    text: String,
    why: &'static str,
}

impl ParseAddrError {
    /// Says why `text` is not an address; for those who accept more than this module does.
    pub fn new(text: &str, why: &'static str) -> ParseAddrError {
        ParseAddrError { text: text.to_owned(), why }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for ParseAddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not an address: {}", self.text, self.why)
    }
}

impl std::error::Error for ParseAddrError {}

impl From<ParseAddrError> for io::Error {
    fn from(error: ParseAddrError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

impl FromStr for Addr {
    type Err = ParseAddrError;

    fn from_str(text: &str) -> Result<Addr, ParseAddrError> {
        let wrong = |why| ParseAddrError::new(text, why);
        let Some(unix) = text.strip_prefix("unix:") else {
            let expected = "expected IP:PORT, [IPV6]:PORT, unix:PATH or unix:@NAME";
            return text.parse().map(Addr::Inet).map_err(|_| wrong(expected));
        };
        if unix.contains('\0') {
            return Err(wrong("a zero byte in a Unix path or name"));
        }
        match unix.strip_prefix('@') {
            Some("") => Err(wrong("empty abstract name")),
            Some(name) => Addr::unix_name(name).map_err(|_| wrong("over 107 bytes")),
            None if unix.is_empty() => Err(wrong("empty Unix path")),
            None => Addr::unix_path(unix).map_err(|_| wrong("over 107 bytes")),
        }
    }
}

/// An address as the kernel writes and reads it.
pub(super) struct RawAddr {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl RawAddr {
    /// Room for the kernel to write any address.
    pub(super) fn room() -> RawAddr {
        // SAFETY: all zero bytes are a valid sockaddr_storage: numbers and padding.
        let storage = unsafe { MaybeUninit::zeroed().assume_init() };
        RawAddr { storage, len: size_of::<libc::sockaddr_storage>() as libc::socklen_t }
    }

    pub(super) fn encode(addr: &Addr) -> io::Result<RawAddr> {
        let mut raw = RawAddr::room();
        match addr {
            Addr::Inet(SocketAddr::V4(v4)) => raw.put(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            }),
            Addr::Inet(SocketAddr::V6(v6)) => raw.put(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            }),
            Addr::Unix(unix) => raw.put_unix(unix),
            Addr::Other { .. } => {
                let unknown = "an address of this family cannot be bound or connected to";
                return Err(io::Error::new(io::ErrorKind::Unsupported, unknown));
            }
        }
        Ok(raw)
    }

    fn put<T: Copy>(&mut self, addr: T) {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        // SAFETY: the storage is larger than `T` (above) and aligned for every address.
        unsafe { (&raw mut self.storage).cast::<T>().write(addr) };
        self.len = size_of::<T>() as libc::socklen_t;
    }

    fn put_unix(&mut self, addr: &UnixAddr) {
        let mut raw = libc::sockaddr_un {
            sun_family: libc::AF_UNIX as libc::sa_family_t,
            sun_path: [0; 108],
        };
        // A path is followed by its zero byte, an abstract name has one in front.
        let (start, bytes, end) = if let Some(path) = addr.as_pathname() {
            (0, path.as_os_str().as_bytes(), 1)
        } else if let Some(name) = addr.as_abstract_name() {
            (1, name, 0)
        } else {
            (0, &[][..], 0)
        };
        let room = &mut raw.sun_path[start..];
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from as libc::c_char;
        }
        self.put(raw);
        self.len = (UNIX_HEAD + start + bytes.len() + end) as libc::socklen_t;
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        (&raw mut self.storage).cast()
    }

    pub(super) fn len(&self) -> libc::socklen_t {
        self.len
    }

    /// Where the kernel finds how much room there is and says how much it wrote.
    pub(super) fn len_mut(&mut self) -> &mut libc::socklen_t {
        &mut self.len
    }

    pub(super) fn decode(&self) -> Addr {
        let len = (self.len as usize).min(size_of::<libc::sockaddr_storage>());
        // Unix sockets without a name can come back without even a family.
        let family = i32::from(self.storage.ss_family);
        match family {
            libc::AF_INET if len >= size_of::<libc::sockaddr_in>() => {
                // SAFETY: it is made of numbers.
                let raw: libc::sockaddr_in = unsafe { self.read() };
                let ip = raw.sin_addr.s_addr.to_ne_bytes().into();
                Addr::Inet(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
            }
            libc::AF_INET6 if len >= size_of::<libc::sockaddr_in6>() => {
                // SAFETY: as above.
                let raw: libc::sockaddr_in6 = unsafe { self.read() };
                let (ip, port) = (Ipv6Addr::from(raw.sin6_addr.s6_addr), raw.sin6_port);
                let (flow, scope) = (raw.sin6_flowinfo, raw.sin6_scope_id);
                Addr::Inet(SocketAddrV6::new(ip, u16::from_be(port), flow, scope).into())
            }
            libc::AF_UNIX => self.decode_unix(len),
            _ => Addr::Other { family },
        }
    }

    /// The storage as another address type.
    ///
    /// # Safety
    ///
    /// Any bytes are a `T`.
    unsafe fn read<T: Copy>(&self) -> T {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        // SAFETY: the storage is no smaller than `T` (above), aligned for every address, and
        // initialised throughout; that its bytes are a `T` is the caller's promise.
        unsafe { self.as_ptr().cast::<T>().read() }
    }

    fn decode_unix(&self, len: usize) -> Addr {
        // SAFETY: the storage is `sockaddr_storage` large and initialised throughout; `len` is cut
        // to that in `decode`.
        let all = unsafe { std::slice::from_raw_parts(self.as_ptr().cast::<u8>(), len) };
        let name = all.get(UNIX_HEAD..).unwrap_or(&[]);
        let addr = match name.split_first() {
            None => UnixAddr::from_pathname(""),
            Some((0, name)) => UnixAddr::from_abstract_name(name),
            Some(_) => {
                let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
                UnixAddr::from_pathname(OsStr::from_bytes(&name[..end]))
            }
        };
        // A path that fills all 108 bytes is legal for the kernel and not for std.
        addr.map_or(Addr::Other { family: libc::AF_UNIX }, Addr::from)
    }
}

/// Where the path starts.
const UNIX_HEAD: usize = mem::offset_of!(libc::sockaddr_un, sun_path);

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) {
        let addr: Addr = text.parse().unwrap();
        assert_eq!(addr.to_string(), text);
        assert_eq!(RawAddr::encode(&addr).unwrap().decode(), addr);
    }

    #[test]
    fn addresses_survive_the_kernels_form() {
        round_trip("1.2.3.4:65535");
        round_trip("[::1]:0");
        round_trip("[fe80::1%7]:80");
        round_trip("unix:/tmp/x.sock");
        round_trip("unix:relative");
        round_trip("unix:@name");
        round_trip(&format!("unix:{}", "p".repeat(107)));
        round_trip(&format!("unix:@{}", "n".repeat(107)));
        let unnamed = Addr::from(UnixAddr::from_pathname("").unwrap());
        let raw = RawAddr::encode(&unnamed).unwrap();
        assert_eq!(raw.len() as usize, UNIX_HEAD);
        assert_eq!(raw.decode(), unnamed);
    }

    #[test]
    fn abstract_names_hold_any_bytes() {
        let addr = Addr::unix_name(b"a\0b\xff").unwrap();
        assert_eq!(RawAddr::encode(&addr).unwrap().decode(), addr);
        assert_eq!(addr.to_string(), r"unix:@a\x00b\xff");
    }

    #[test]
    fn what_is_not_an_address() {
        let long = "x".repeat(108);
        for text in [
            "",
            "1.2.3.4",
            "host:80",
            ":80",
            "::1:80:",
            "unix:",
            "unix:@",
            "unix:a\0b",
            &format!("unix:{long}"),
            &format!("unix:@{long}"),
        ] {
            let error = text.parse::<Addr>().unwrap_err();
            assert!(error.to_string().contains("is not an address"), "{text}");
        }
    }

    #[test]
    fn strange_families_are_told() {
        let mut raw = RawAddr::room();
        raw.storage.ss_family = 40;
        let addr = raw.decode();
        assert_eq!(addr, Addr::Other { family: 40 });
        assert!(RawAddr::encode(&addr).is_err());
    }
}
