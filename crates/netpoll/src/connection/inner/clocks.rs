//! What a connection's timers go by. What happens only notes when it was; whether a time has come is
//! worked out by the driver, when it looks.
//!
//! | clock | runs | at its end |
//! |---|---|---|
//! | idle | since the last bytes, either way, or the end of the last callback; stands still while a callback runs or is queued, or input is paused | closed |
//! | frame | since the first look at a message that was not whole; stands still while input is paused, and goes on from there | closed, unless the message is whole by then |
//! | stuck | since an inline handler left bytes for the driver to send | as after any write timeout |

use std::time::Duration;

use linkbuffer::Error;

use super::{Fill, Inner};
use crate::{
    lazy::Lazy,
    sync::{
        Mutex,
        atomic::{
            AtomicU8, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
            fence,
        },
        lock,
    },
    timers::{NEVER, Stamp, after, before, stamp},
};

const IDLE: u8 = 1;
const FRAME: u8 = 1 << 1;
const STUCK: u8 = 1 << 2;
/// The frame's time was up when the driver looked last; the turn's owner decides.
const LATE: u8 = 1 << 3;
/// Not a clock: reading has stopped, and was not resumed since.
const STOPPED: u8 = 1 << 4;

/// See the module's text.
pub(super) struct Clocks {
    /// Those that run.
    running: AtomicU8,
    /// Since one of them ran for the first time.
    times: Lazy<Times>,
}

struct Times {
    /// For when the driver's timers have this connection; later entries do not count.
    armed: AtomicU64,
    stirred: AtomicU64,
    /// Less what had been paused by then.
    begun: AtomicU64,
    stuck: AtomicU64,
    pauses: Mutex<Pauses>,
}

/// How long reading was paused, since its connection has a clock.
struct Pauses {
    /// Those that are over.
    total: Duration,
    /// When the present one began.
    since: Option<Stamp>,
}

impl Pauses {
    fn until(&self, now: Stamp) -> Duration {
        let present = self.since.map_or(0, |since| now.saturating_sub(since));
        self.total + Duration::from_nanos(present)
    }
}

impl Times {
    /// Since when a message is awaited, as if nothing had been paused behind it, and whether something is.
    fn begun(&self) -> (bool, Stamp) {
        let pauses = lock(&self.pauses);
        // ORDERING: the turn's owner's note; `running` has published it.
        (pauses.since.is_some(), after(self.begun.load(Relaxed), pauses.total))
    }
}

impl Clocks {
    pub(super) fn new(idle: bool) -> Self {
        let clocks = Self { running: AtomicU8::new(0), times: Lazy::new() };
        if idle {
            clocks.start(IDLE, |times| &times.stirred);
        }
        clocks
    }

    fn times(&self) -> &Times {
        self.times.get_or_init(|| Times {
            armed: AtomicU64::new(NEVER),
            stirred: AtomicU64::new(NEVER),
            begun: AtomicU64::new(NEVER),
            stuck: AtomicU64::new(NEVER),
            pauses: Mutex::new(Pauses { total: Duration::ZERO, since: None }),
        })
    }

    fn start(&self, clock: u8, since: impl Fn(&Times) -> &AtomicU64) {
        self.start_at(clock, since(self.times()), stamp());
    }

    fn start_at(&self, clock: u8, since: &AtomicU64, moment: Stamp) {
        // ORDERING: release: who sees that the clock runs sees since when.
        since.store(moment, Relaxed);
        self.running.fetch_or(clock, Release);
    }

    fn stop(&self, clock: u8) -> bool {
        // ORDERING: publishes nothing; a timer that still sees it looks for nothing.
        self.running.fetch_and(!clock, AcqRel) & clock != 0
    }
}

impl Inner {
    /// Whether any clock runs.
    #[inline]
    pub(crate) fn is_timed(&self) -> bool {
        // ORDERING: a hint: whoever starts a clock also sees to it that the driver hears of it.
        self.clocks.running.load(Relaxed) & !STOPPED != 0
    }

    /// Something happened: the idle clock begins anew.
    #[inline]
    pub(crate) fn stir(&self) {
        // ORDERING: as in `is_timed`.
        if self.clocks.running.load(Relaxed) & IDLE != 0 {
            if let Some(times) = self.clocks.times.get() {
                // ORDERING: a moment; nothing is read through it.
                times.stirred.store(stamp(), Relaxed);
            }
        }
    }

    /// The idle timeout has changed.
    pub(crate) fn set_idle_clock(&self, runs: bool) {
        if runs {
            self.clocks.start(IDLE, |times| &times.stirred);
        } else {
            self.clocks.stop(IDLE);
        }
    }

    /// The turn's owner has found the beginning of a message. True: and its time is up, although
    /// all that had come was looked at.
    pub(crate) fn begin_frame(&self) -> bool {
        // ORDERING: the owner's own notes, but for LATE, which came with the turn.
        let running = self.clocks.running.load(Relaxed);
        if running & FRAME == 0 {
            if self.shared.frame_timeout().is_some() {
                let times = self.clocks.times();
                self.note_pause();
                let now = stamp();
                let paused = lock(&times.pauses).until(now);
                self.clocks.start_at(FRAME, &times.begun, before(now, paused));
            }
            return false;
        }
        self.clocks.stop(LATE)
    }

    /// Whoever has paused reading, or ended a pause, says so.
    pub(crate) fn note_pause(&self) {
        // ORDERING: either who changed the pause sees the times, or who makes them sees the change.
        fence(SeqCst);
        let Some(times) = self.clocks.times.get() else { return };
        let mut pauses = lock(&times.pauses);
        // Under the lock, so that the last to come tells how things are.
        match (self.flow.is_paused(), pauses.since) {
            (true, None) => pauses.since = Some(stamp()),
            (false, Some(_)) => {
                pauses.total = pauses.until(stamp());
                pauses.since = None;
            }
            _ => {}
        }
    }

    /// Driver: what is to be read stays in the socket.
    pub(super) fn stop_reading(&self) {
        // ORDERING: publishes nothing; who counts one twice, or misses one, does no harm.
        if self.clocks.running.fetch_or(STOPPED, Relaxed) & STOPPED == 0 {
            self.home().sched.host.tally.read_pauses.count();
        }
        self.note_pause();
    }

    /// Whoever has ended a pause: the times without bytes begin anew, and those of a message go on.
    pub(crate) fn go_on_reading(&self) {
        self.clocks.stop(STOPPED);
        self.note_pause();
        if self.is_timed() {
            self.stir();
            if let Some(inner) = self.handle().inner() {
                inner.rearm_clocks();
            }
        }
    }

    /// The message is whole.
    pub(crate) fn end_frame(&self) {
        self.clocks.stop(FRAME | LATE);
    }

    /// An inline handler has left bytes to the driver.
    pub(super) fn start_stuck_clock(&self) {
        self.clocks.start(STUCK, |times| &times.stuck);
    }

    /// When the driver has to look, as things are now. `busy`: the turn is taken, by somebody else.
    fn due(&self, busy: bool) -> Stamp {
        let clocks = &self.clocks;
        // ORDERING: pairs with the release in `start`.
        let running = clocks.running.load(Acquire);
        let Some(times) = clocks.times.get() else { return NEVER };
        let paused = self.flow.is_paused();
        let mut due = NEVER;
        let mut consider = |still: bool, since: Stamp, timeout| {
            if let Some(timeout) = timeout {
                due = due.min(after(if still { stamp() } else { since }, timeout));
            }
        };
        if running & IDLE != 0 {
            let since = times.stirred.load(Relaxed);
            consider(busy || paused, since, self.shared.idle_timeout());
        }
        if running & FRAME != 0 {
            let (still, since) = times.begun();
            consider(paused || still, since, self.shared.frame_timeout());
        }
        if running & STUCK != 0 {
            if self.unsent() > 0 {
                consider(false, times.stuck.load(Relaxed), self.shared.write_timeout());
            } else {
                clocks.stop(STUCK);
            }
        }
        due
    }

    /// When the driver has to look, if its timers do not have that yet. It enters what this says.
    pub(crate) fn arm(&self) -> Option<Stamp> {
        let due = self.due(self.turn.is_taken());
        (due < self.armed()).then_some(due)
    }

    fn armed(&self) -> Stamp {
        // ORDERING: the driver's own; another thread's look is a guess that costs a command.
        self.clocks.times.get().map_or(NEVER, |times| times.armed.load(Relaxed))
    }

    /// The driver has entered it.
    pub(crate) fn set_armed(&self, at: Stamp) {
        if let Some(times) = self.clocks.times.get() {
            // ORDERING: as in `armed`.
            times.armed.store(at, Relaxed);
        }
    }

    /// Whether the entry of the driver's timers for this moment counts.
    pub(crate) fn is_armed(&self, at: Stamp) -> bool {
        self.armed() == at
    }

    /// Whether a time seems to have come.
    pub(crate) fn may_be_due(&self) -> bool {
        self.due(self.turn.is_taken()) <= stamp()
    }

    /// A time had come, and then the driver took the turn and looked for bytes, with this result:
    /// ends what is over. The turn's owner goes on with it.
    pub(crate) fn time_is_up(&self, fill: Fill) {
        let clocks = &self.clocks;
        let now = stamp();
        // ORDERING: as in `due`.
        let running = clocks.running.load(Acquire);
        let Some(times) = clocks.times.get() else { return };
        let over = |clock: u8, since: Stamp, timeout: Option<_>| {
            running & clock != 0 && timeout.is_some_and(|timeout| after(since, timeout) <= now)
        };
        let (still, begun) = times.begun();
        let paused = still || self.flow.is_paused();
        let stuck = times.stuck.load(Relaxed);
        if over(STUCK, stuck, self.shared.write_timeout()) && self.unsent() > 0 {
            self.shared.life.break_down();
        } else if fill != Fill::More && !paused {
            if over(FRAME, begun, self.shared.frame_timeout()) {
                // ORDERING: for the turn's owner, who is this thread or gets the turn from it.
                clocks.running.fetch_or(LATE, Relaxed);
            } else if fill == Fill::Nothing
                && over(IDLE, times.stirred.load(Relaxed), self.shared.idle_timeout())
            {
                self.give_up(Error::IdleTimeout.into());
            }
        }
    }
}
