//! Names of hosts.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// The addresses of a host, in the order in which the system suggests to try them.
///
/// This asks the system's resolver, which reads files and asks servers, can take many seconds, and
/// cannot be interrupted: the one function of this module besides [`ppoll`](super::ppoll) that
/// blocks.
///
/// # Errors
///
/// What the resolver says; most of it has no [`io::ErrorKind`] of its own.
pub fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}
