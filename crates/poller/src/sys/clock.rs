//! Monotonic time, and how much processor time a thread has used.

use std::io;
use std::time::{Duration, Instant};

use super::errno::check;

/// The monotonic clock that all timeouts and deadlines go by.
#[inline]
pub fn now() -> Instant {
    Instant::now()
}

/// The processor-time clock of one thread, readable from any other.
///
/// Two readings tell whether the thread was on a processor in between or waited.
///
/// ```
/// use poller::sys::ThreadClock;
///
/// let clock = ThreadClock::current();
/// let before = clock.cpu_time();
/// let busy: u64 = (0..1_000_000).fold(0, |sum, n| std::hint::black_box(sum ^ n));
/// # let _ = busy;
/// assert!(clock.cpu_time() > before);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadClock {
    /// Made from the thread's kernel id, so using it after the thread ended is harmless: the kernel
    /// then says so, or answers for a thread that got the same id.
    id: libc::clockid_t,
}

impl ThreadClock {
    /// The clock of the calling thread.
    pub fn current() -> ThreadClock {
        let mut id = 0;
        // SAFETY: pthread_self is the calling thread, which exists; `id` is writable.
        let error = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut id) };
        if error != 0 {
            // Only documented for systems without such clocks: a clock that stands still.
            id = libc::clockid_t::MAX;
        }
        ThreadClock { id }
    }

    /// The processor time that the thread has used; zero once it has ended.
    pub fn cpu_time(&self) -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is writable; an id that means nothing is answered with EINVAL.
        let result = unsafe { libc::clock_gettime(self.id, &mut time) };
        if result == -1 {
            return Duration::ZERO;
        }
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

/// How late the calling thread's sleeps and timeouts may end, beyond what the machine's load makes of
/// them. Threads start with the slack of who started them, 50 µs unless that was changed.
///
/// # Errors
///
/// None that the kernel documents; a sandbox may forbid it.
pub fn set_timer_slack(slack: Duration) -> io::Result<()> {
    // 0 would mean the default.
    let nanos = libc::c_ulong::try_from(slack.as_nanos()).unwrap_or(libc::c_ulong::MAX).max(1);
    // SAFETY: this option takes a number, and changes nothing but the calling thread's slack.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanos) }).map(drop)
}

/// Whether the calling thread, when it wakes, lets the thread that runs there go on until that waits
/// or has had its time (Linux: `SCHED_BATCH`). Threads start as those are that start them.
///
/// A thread of any but the two ordinary policies stays as it is.
///
/// # Errors
///
/// None that the kernel documents; a sandbox may forbid it.
pub fn set_unobtrusive(on: bool) -> io::Result<()> {
    // SAFETY: both calls are about the calling thread; `param` outlives the second one.
    let before = check(unsafe { libc::sched_getscheduler(0) })?;
    let flags = before & libc::SCHED_RESET_ON_FORK;
    if ![libc::SCHED_OTHER, libc::SCHED_BATCH].contains(&(before ^ flags)) {
        return Ok(());
    }
    let policy = if on { libc::SCHED_BATCH } else { libc::SCHED_OTHER };
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: as above.
    check(unsafe { libc::sched_setscheduler(0, policy | flags, &raw const param) }).map(drop)
}

/// A timeout as the kernel takes it. What is beyond its range is as good as forever.
pub(super) fn timespec(timeout: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos() as _,
    }
}

/// Makes a waiting call again for as long as a signal handler interrupts it, each time with what is
/// left of the timeout.
pub(super) fn retry_until<T>(
    timeout: Option<Duration>,
    mut call: impl FnMut(Option<Duration>) -> io::Result<T>,
) -> io::Result<T> {
    // A look needs no clock, and a timeout beyond the clock's range never ends.
    let deadline = match timeout {
        None | Some(Duration::ZERO) => None,
        Some(timeout) => now().checked_add(timeout),
    };
    let mut left = timeout;
    loop {
        match call(left) {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {
                left = deadline.map(|at| at.saturating_duration_since(now())).or(timeout);
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_threads_read_the_clock() {
        let (send, recv) = std::sync::mpsc::channel();
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            send.send(ThreadClock::current()).unwrap();
            let _ = wait.recv();
        });
        let clock = recv.recv().unwrap();
        let asleep = clock.cpu_time();
        assert!(asleep > Duration::ZERO);
        std::thread::sleep(Duration::from_millis(20));
        assert!(clock.cpu_time() - asleep < Duration::from_millis(10), "it sleeps");
        drop(stop);
        thread.join().unwrap();
        let _ = clock.cpu_time();
    }

    #[test]
    fn interrupted_waits_get_the_rest() {
        let mut seen = Vec::new();
        let result: io::Result<()> = retry_until(Some(Duration::from_millis(50)), |left| {
            seen.push(left.unwrap());
            if seen.len() == 3 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
            Err(io::Error::from_raw_os_error(libc::EINTR))
        });
        result.unwrap();
        assert!(seen[0] > seen[1] && seen[1] > seen[2], "{seen:?}");

        let mut times = 0;
        let forever = retry_until(Some(Duration::MAX), |left| {
            times += 1;
            if times == 1 { Err(io::Error::from_raw_os_error(libc::EINTR)) } else { Ok(left) }
        });
        assert_eq!(forever.unwrap(), Some(Duration::MAX));
    }

    #[test]
    fn slack_is_this_threads() {
        // SAFETY: this option takes and returns a number.
        let slack = || unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) };
        set_timer_slack(Duration::from_micros(7)).unwrap();
        assert_eq!(slack(), 7_000);
        set_timer_slack(Duration::ZERO).unwrap();
        assert_eq!(slack(), 1);
    }

    #[test]
    fn unobtrusive_is_this_threads() {
        // SAFETY: about the calling thread.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        assert_eq!(policy(), libc::SCHED_OTHER);
        set_unobtrusive(true).unwrap();
        assert_eq!(policy(), libc::SCHED_BATCH);
        assert_eq!(std::thread::spawn(policy).join().unwrap(), libc::SCHED_BATCH);
        set_unobtrusive(false).unwrap();
        assert_eq!(policy(), libc::SCHED_OTHER);
    }

    #[test]
    fn timespec_saturates() {
        let time = timespec(Duration::MAX);
        assert_eq!(time.tv_sec, libc::time_t::MAX);
        assert!(time.tv_nsec < 1_000_000_000);
    }
}
