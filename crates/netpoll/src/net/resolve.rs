//! From names to addresses, no longer than a deadline.
//!
//! The system's resolver cannot be interrupted. So with a deadline it runs on a thread of its own,
//! which is left alone when time is over; it ends when the resolver gives up (by default after some
//! ten seconds). There are never more than [`MAX_LOOKUPS`] such threads: whoever comes then waits
//! for a place until its own deadline.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use poller::sys;

use super::addr::{Addr, Target};
use crate::sync::thread;

/// How many names are looked up at the same time in a process, of those with a deadline.
const MAX_LOOKUPS: usize = 32;

static LOOKUPS: Mutex<usize> = Mutex::new(0);
static PLACE_FREE: Condvar = Condvar::new();

/// The addresses of a target for dialing, in the order of the system's resolver.
///
/// # Errors
///
/// [`TimedOut`](io::ErrorKind::TimedOut) at the deadline, otherwise what the resolver says.
pub(super) fn resolve(target: &Target, deadline: Option<Instant>) -> io::Result<Vec<Addr>> {
    match target {
        Target::Addr(addr) => Ok(vec![addr.clone()]),
        Target::Host { name, port } if name.is_empty() => {
            let ips = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
            Ok(ips.map(|ip| SocketAddr::new(ip, *port).into()).to_vec())
        }
        Target::Host { name, port } => match deadline {
            None => lookup(name, *port),
            Some(deadline) => lookup_until(name.clone(), *port, deadline),
        },
    }
}

fn lookup(name: &str, port: u16) -> io::Result<Vec<Addr>> {
    Ok(sys::lookup(name, port)?.into_iter().map(Addr::from).collect())
}

fn lookup_until(name: String, port: u16, deadline: Instant) -> io::Result<Vec<Addr>> {
    let timeout = || io::Error::new(io::ErrorKind::TimedOut, "looking up the name took too long");
    if deadline <= sys::now() {
        // Not worth a thread, which might even win.
        return Err(timeout());
    }
    let place = Place::wait(deadline).ok_or_else(timeout)?;
    let (answer, wait) = sync_channel(1);
    thread::Builder::new().name("netpoll-lookup".into()).spawn(move || {
        let result = lookup(&name, port);
        drop(place);
        // Nobody waits any more when time was over.
        let _ = answer.send(result);
    })?;
    match wait.recv_timeout(deadline.saturating_duration_since(sys::now())) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(timeout()),
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the lookup panicked")),
    }
}

/// The right to look up a name; given back on drop, also when the thread could not be started.
struct Place;

impl Place {
    fn wait(deadline: Instant) -> Option<Place> {
        let mut lookups = lock();
        while *lookups >= MAX_LOOKUPS {
            let left =
                deadline.checked_duration_since(sys::now()).filter(|left| !left.is_zero())?;
            let waited = PLACE_FREE.wait_timeout(lookups, left);
            lookups = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *lookups += 1;
        Some(Place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *lock() -= 1;
        PLACE_FREE.notify_one();
    }
}

fn lock() -> MutexGuard<'static, usize> {
    LOOKUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes turns between IPv6 and IPv4, beginning with what the resolver prefers, so that a family
/// without a way out costs one attempt before the other gets its turn.
pub(super) fn interleave(addrs: Vec<Addr>) -> Vec<Addr> {
    let is_v6 = |addr: &Addr| addr.as_inet().is_some_and(|addr| addr.is_ipv6());
    let first_is_v6 = addrs.first().is_some_and(is_v6);
    let (first, second): (Vec<_>, Vec<_>) =
        addrs.into_iter().partition(|addr| is_v6(addr) == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed: Vec<Addr> = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair.iter().all(Option::is_none) {
            return mixed;
        }
        for addr in pair.into_iter().flatten() {
            // Resolvers repeat themselves (a line in the hosts file for each alias).
            if !mixed.contains(&addr) {
                mixed.push(addr);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn addrs(texts: &[&str]) -> Vec<Addr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let mixed = interleave(addrs(&[
            "[::1]:1",
            "[::2]:1",
            "[::3]:1",
            "1.1.1.1:1",
            "1.1.1.1:1",
            "2.2.2.2:1",
        ]));
        assert_eq!(mixed, addrs(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1", "2.2.2.2:1"]));
        assert_eq!(interleave(addrs(&["unix:@x"])), addrs(&["unix:@x"]));
        assert!(interleave(Vec::new()).is_empty());
    }

    #[test]
    fn lookups_end_at_the_deadline() {
        let target: Target = "localhost:80".parse().unwrap();
        let error = resolve(&target, Some(sys::now())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let deadline = sys::now() + Duration::from_secs(60);
        let found = resolve(&target, Some(deadline)).unwrap();
        assert!(found.iter().all(|addr| addr.as_inet().unwrap().ip().is_loopback()));
        assert_eq!(found, resolve(&target, None).unwrap());
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let soon = || sys::now() + Duration::from_millis(20);
        let mut places: Vec<Place> = Vec::new();
        while let Some(place) = Place::wait(soon()) {
            places.push(place);
            assert!(places.len() <= MAX_LOOKUPS);
        }
        places.pop();
        assert!(Place::wait(sys::now() + Duration::from_secs(10)).is_some());
    }
}
