//! What became of accepting, over all listeners of a loop, and telling the user when it fails.
//!
//! The drivers only count: what the user does with a notice must not hold up a poller. The watchdog
//! tells, of each cause at most once a second, and does not sleep before all is told.

use std::{
    io,
    time::{Duration, Instant},
};

use poller::sys;

use crate::{
    config::{Notice, Options},
    sync::{Counter, Mutex, lock},
};

/// Between two notices of one cause.
pub(super) const NOTICE_EVERY: Duration = Duration::from_secs(1);

/// See the module's text.
#[derive(Default)]
pub(crate) struct Accepting {
    pub(crate) accepted: Counter,
    /// Over the limit on connections, or while shutting down.
    pub(crate) refused: Counter,
    pub(crate) rests: Counter,
    troubles: Mutex<Troubles>,
}

#[derive(Default)]
struct Troubles {
    last_errno: Option<i32>,
    /// One per cause that ever was: as many as `accept` has errors, at most.
    all: Vec<Trouble>,
}

struct Trouble {
    cause: Cause,
    /// How often since the user was told, and when that was.
    untold: u64,
    told: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Limit,
    Errno(i32),
}

impl Accepting {
    /// One connection was closed for being too many.
    pub(super) fn refused_at_limit(&self) {
        lock(&self.troubles).meet(Cause::Limit);
    }

    /// Accepting failed so.
    pub(super) fn failed(&self, error: &io::Error) {
        let Some(errno) = error.raw_os_error() else { return };
        let mut troubles = lock(&self.troubles);
        troubles.last_errno = Some(errno);
        troubles.meet(Cause::Errno(errno));
    }

    pub(crate) fn last_error(&self) -> Option<io::Error> {
        lock(&self.troubles).last_errno.map(io::Error::from_raw_os_error)
    }

    /// Watchdog: tells what is due. True: something will be, soon.
    pub(super) fn tell(&self, options: &Options) -> bool {
        let (due, later) = lock(&self.troubles).take_due(sys::now());
        for (cause, times) in due {
            options.notice(&match cause {
                Cause::Limit => {
                    let max = options.max_connections.unwrap_or(usize::MAX);
                    Notice::ConnectionsRefused { max, refused: times }
                }
                Cause::Errno(errno) => Notice::AcceptFailed { errno, times },
            });
        }
        later
    }
}

impl Troubles {
    fn meet(&mut self, cause: Cause) {
        match self.all.iter_mut().find(|trouble| trouble.cause == cause) {
            Some(trouble) => trouble.untold += 1,
            None => self.all.push(Trouble { cause, untold: 1, told: None }),
        }
    }

    /// What is to be told now, and whether more is to be told later.
    fn take_due(&mut self, now: Instant) -> (Vec<(Cause, u64)>, bool) {
        let (mut due, mut later) = (Vec::new(), false);
        for trouble in self.all.iter_mut().filter(|trouble| trouble.untold > 0) {
            if trouble.told.is_some_and(|at| now < at + NOTICE_EVERY) {
                later = true;
            } else {
                trouble.told = Some(now);
                due.push((trouble.cause, std::mem::take(&mut trouble.untold)));
            }
        }
        (due, later)
    }
}
