//! The system calls that `std` does not offer.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

pub(crate) use libc::epoll_event as Event;

pub(crate) const IN: u32 = libc::EPOLLIN as u32;
pub(crate) const OUT: u32 = libc::EPOLLOUT as u32;
/// The stream ended, or failed.
pub(crate) const ENDING: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// An event that is still to be filled in.
pub(crate) const NO_EVENT: Event = Event { events: 0, u64: 0 };

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// An epoll instance.
#[derive(Debug)]
pub(crate) struct Epoll(OwnedFd);

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel just gave it to us.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Registers both directions, edge-triggered.
    pub(crate) fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let events = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = Event { events: events as u32, u64: token };
        // SAFETY: `event` outlives the call.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) })?;
        Ok(())
    }

    /// Waits for events, at most so long.
    pub(crate) fn wait<'a>(
        &self,
        events: &'a mut [Event],
        timeout: Duration,
    ) -> io::Result<&'a [Event]> {
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
        };
        let len = events.len() as i32;
        // SAFETY: the kernel writes at most `len` events to a slice of that length; no signal mask.
        let n = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                len,
                &timeout,
                std::ptr::null::<libc::sigset_t>(),
                0,
            )
        };
        match check(n as i32) {
            Ok(n) => Ok(&events[..n as usize]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(&[]),
            Err(error) => Err(error),
        }
    }
}

/// A TCP connection on its way, on a socket that does not block, from one of the loopback addresses:
/// thousands of short connections would use up the ports of a single one.
pub(crate) fn connect(from: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes no pointers.
    let fd = check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    // SAFETY: the kernel just gave it to us.
    let stream = unsafe { TcpStream::from_raw_fd(fd) };
    let len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let late = 1_i32;
    let int = size_of::<i32>() as libc::socklen_t;
    // The port is chosen by `connect`, when the whole connection is known.
    let option = libc::IP_BIND_ADDRESS_NO_PORT;
    // SAFETY: `late` is an int, as the option takes.
    check(unsafe {
        libc::setsockopt(fd, libc::IPPROTO_IP, option, (&raw const late).cast(), int)
    })?;
    let addr = sockaddr(SocketAddrV4::new(from, 0));
    // SAFETY: `addr` is a valid address of that length.
    check(unsafe { libc::bind(fd, (&raw const addr).cast(), len) })?;
    let addr = sockaddr(to);
    // SAFETY: `addr` is a valid address of that length.
    let result = unsafe { libc::connect(fd, (&raw const addr).cast(), len) };
    match check(result) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(stream),
    }
}

fn sockaddr(addr: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: addr.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*addr.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

/// Binds the calling thread, and what it starts, to these cores.
pub(crate) fn pin(cores: &[usize]) -> io::Result<()> {
    // SAFETY: all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for core in cores {
        // SAFETY: the set is ours; CPU_SET ignores cores beyond its size.
        unsafe { libc::CPU_SET(*core, &mut set) };
    }
    // SAFETY: the set outlives the call.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) })?;
    Ok(())
}

/// The cores that this process may use.
pub(crate) fn cores() -> io::Result<Vec<usize>> {
    // SAFETY: all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the size of the set.
    check(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) })?;
    // SAFETY: the index stays below the size of the set.
    Ok((0..libc::CPU_SETSIZE as usize)
        .filter(|core| unsafe { libc::CPU_ISSET(*core, &set) })
        .collect())
}

/// Makes a child end with its parent, whatever ends the parent. For `pre_exec`.
pub(crate) fn end_with_parent() -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    Ok(())
}

/// Lets timeouts of this thread end on time.
pub(crate) fn exact_timers() -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) })?;
    Ok(())
}

/// Raises the limit of descriptors as far as it goes, and says how far that is.
pub(crate) fn raise_descriptors() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` outlives the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(limit.rlim_cur)
}

/// Sends a signal to a process of ours.
pub(crate) fn signal(pid: u32, signal: i32) {
    // SAFETY: takes no pointers. The process is our child and not yet waited for, so its number is its.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// The CPU time of a process, threads that ended included, from the clock that the kernel keeps for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuClock(libc::clockid_t);

impl CpuClock {
    pub(crate) fn of(pid: u32) -> io::Result<CpuClock> {
        let mut clock = 0;
        // SAFETY: `clock` outlives the call.
        match unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) } {
            0 => Ok(CpuClock(clock)),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    pub(crate) fn now(self) -> io::Result<Duration> {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` outlives the call.
        check(unsafe { libc::clock_gettime(self.0, &mut now) })?;
        Ok(Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
    }
}

/// CPU time of a child that ended, while waiting for it.
pub(crate) fn wait_with_cpu(pid: u32) -> io::Result<(i32, Duration)> {
    let mut status = 0;
    // SAFETY: all zeroes is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both outlive the call.
    check(unsafe { libc::wait4(pid as libc::pid_t, &mut status, 0, &mut usage) })?;
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    Ok((status, time(usage.ru_utime) + time(usage.ru_stime)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_counts_the_work_of_this_process() {
        let me = std::process::id();
        let clock = CpuClock::of(me).unwrap();
        let before = clock.now().unwrap();
        (0..100_000).for_each(|x| {
            std::hint::black_box(x);
        });
        assert!(clock.now().unwrap() > before);
        assert!(!cores().unwrap().is_empty());
    }
}
