//! The thread that gives back what nobody uses, when nobody else is there to do it.
//!
//! There is at most one in a process, whatever the number of caches. It starts when a cache begins
//! to keep something, looks at each cache twice per decay time, and ends when all of them keep
//! nothing. It keeps no process and no cache alive.
//!
//! What lay unused from one look to the next goes back: at the latest one decay time after its
//! last use.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::cache::Home;
use crate::core::Core;
use crate::sync::atomic::{Ordering, fence};
use crate::sync::thread;

/// How long to wait after a thread could not be started.
const RETRY: Duration = Duration::from_secs(1);

static STATE: Mutex<State> = Mutex::new(State { running: false, retry: None, caches: Vec::new() });
static CHANGED: Condvar = Condvar::new();

struct State {
    running: bool,
    retry: Option<Instant>,
    caches: Vec<Watched>,
}

struct Watched {
    cache: Handle,
    due: Instant,
}

/// A cache, not kept alive.
enum Handle {
    Global,
    Private(Weak<Core>),
}

impl Handle {
    fn home(&self) -> Option<Home> {
        match self {
            Handle::Global => Some(Home::Global),
            Handle::Private(core) => core.upgrade().map(Home::Private),
        }
    }
}

fn state() -> MutexGuard<'static, State> {
    // Nothing panics while it is locked.
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the reaper look after a cache that may have begun to keep something.
#[inline]
pub(crate) fn watch(home: &Home) {
    let core = home.core();
    // ORDERING: this fence between the caller's reservation and the load pairs with the one in
    // `forget`: either we see that the reaper forgot the cache, or it sees the reservation.
    fence(Ordering::SeqCst);
    if !core.watched.load(Ordering::Relaxed) && core.reserved() > 0 {
        begin(home);
    }
}

#[cold]
fn begin(home: &Home) {
    let core = home.core();
    let Some(decay) = core.decay_time() else { return };
    let mut state = state();
    let now = Instant::now();
    // ORDERING: Relaxed here and below, `watched` is written under the lock.
    if core.watched.load(Ordering::Relaxed) || state.retry.is_some_and(|at| now < at) {
        return;
    }
    if state.caches.try_reserve(1).is_err() || !(state.running || start()) {
        state.retry = Some(now + RETRY);
        return;
    }
    state.running = true;
    state.retry = None;
    let cache = match home {
        Home::Global => Handle::Global,
        Home::Private(core) => Handle::Private(std::sync::Arc::downgrade(core)),
    };
    state.caches.push(Watched { cache, due: now + decay / 2 });
    core.watched.store(true, Ordering::Relaxed);
    CHANGED.notify_one();
}

/// Has the reaper go by a decay time that was changed.
pub(crate) fn reconsider(home: &Home) {
    let Some(decay) = home.core().decay_time() else { return };
    watch(home);
    let soon = Instant::now() + decay / 2;
    for watched in &mut state().caches {
        watched.due = watched.due.min(soon);
    }
    CHANGED.notify_one();
}

fn start() -> bool {
    let builder = thread::Builder::new().name("mcache-reaper".into()).stack_size(64 << 10);
    builder.spawn(run).is_ok()
}

fn run() {
    let mut state = state();
    while let Some(first) = (0..state.caches.len()).min_by_key(|&at| state.caches[at].due) {
        let wait = state.caches[first].due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            state = CHANGED.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        let Some(home) = state.caches[first].cache.home() else {
            state.caches.swap_remove(first);
            continue;
        };
        match home.core().decay_time() {
            Some(decay) if home.core().reserved() > 0 => {
                state.caches[first].due = Instant::now() + decay / 2;
                drop(state);
                home.core().decay();
            }
            _ => drop(forget(state, first, &home)),
        }
        // Perhaps the last reference to a cache: it is dropped without the lock.
        drop(home);
        state = self::state();
    }
    state.running = false;
}

/// Takes a cache that keeps nothing, or never lets go, off the list.
fn forget<'a>(mut state: MutexGuard<'a, State>, at: usize, home: &Home) -> MutexGuard<'a, State> {
    let core = home.core();
    core.watched.store(false, Ordering::Relaxed);
    // ORDERING: pairs with the fence in `watch`.
    fence(Ordering::SeqCst);
    if core.reserved() > 0 && core.decay_time().is_some() {
        core.watched.store(true, Ordering::Relaxed);
    } else {
        state.caches.swap_remove(at);
    }
    state
}
