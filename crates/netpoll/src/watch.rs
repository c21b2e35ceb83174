//! The watchdog's rules: when a handler that stays has its role taken.
//!
//! A handler that sleeps keeps the role from others for nothing, and is taken at the second look.
//! One that burns CPU is taken early only while fewer handlers burn than there are cores; past
//! that another thread would only compete with it, and it is taken when it has had its time.

mod pace;
mod vigil;

use std::{
    num::NonZeroUsize,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use poller::sys::{self, ThreadClock};

use self::{pace::Pace, vigil::Vigil};

use crate::{
    config::Notice,
    net_host::Net,
    sched::{Lane, Scheduler, Seat, role::Look, watchdog::Watch},
    sync::{lock, park_timeout},
    timers::{NEVER, until},
    trace::event,
};

/// Steps by which calm pauses vary. Without it, handlers that block for 5 ms can fall into step with the
/// looks, so that each is seen just before its end and never for long enough.
const DITHER: Duration = Duration::from_micros(170);
/// Until the second look at a handler.
const SOON: Duration = Duration::from_micros(200);
/// Until the next look at a handler that is on a CPU, while rescues are frequent.
const QUICK: Duration = Duration::from_micros(60);
/// How late the system may end a pause. Its default, 50 µs, is as long as `QUICK`.
const SLACK: Duration = Duration::from_micros(5);
/// How long a handler may burn while all cores do.
const BURN: Duration = Duration::from_millis(10);
/// Rescues within `WINDOW` that count as frequent.
const FREQUENT: usize = 4;
const WINDOW: Duration = Duration::from_millis(100);
/// How long a full cap with a queue may stand still before it is worth a notice.
const STANDSTILL: Duration = Duration::from_secs(1);

/// A handler under suspicion, or one that was taken and may still burn.
struct Suspect {
    seat: usize,
    look: Look,
    clock: ThreadClock,
    since: Instant,
    cpu_then: Duration,
    /// Until it is looked at again: longer each time that it is left alone.
    patience: Duration,
    /// It was there at the last look as well.
    stays: bool,
    /// It has used its CPU since it was first seen.
    burns: bool,
}

/// A thread whose role was taken while it burned.
struct Burner {
    clock: ThreadClock,
    /// When it was last seen to have used its CPU, and how much by then.
    seen: (Instant, Duration),
}

/// A cap that is full while others queue.
struct Full {
    /// What had left its queue when it was first seen so.
    moved: u64,
    since: Instant,
    told: bool,
}

/// See the module's text.
pub(crate) struct Rules {
    /// When places were last counted, and how many were taken.
    counted: Option<(Instant, usize)>,
    /// The watchdog has slept since the last look.
    slept: bool,
    /// How long until something is due, or could go on.
    hurry: Option<Duration>,
    pace: Pace,
    vigil: Vigil,
    /// Of each lane.
    full: [Option<Full>; 2],
    cores: usize,
    suspects: Vec<Suspect>,
    burners: Vec<Burner>,
    rescues: Vec<Instant>,
    /// Only counts.
    pauses: u32,
}

impl Rules {
    /// Rules for a watchdog on the calling thread.
    pub(crate) fn new() -> Self {
        // Without it, pauses are a little longer than they are meant to be.
        let _ = sys::set_timer_slack(SLACK);
        Self {
            cores: thread::available_parallelism().map_or(1, NonZeroUsize::get),
            counted: None,
            slept: false,
            hurry: None,
            pace: Pace::new(),
            vigil: Vigil::default(),
            full: [None, None],
            suspects: Vec::new(),
            burners: Vec::new(),
            rescues: Vec::new(),
            pauses: 0,
        }
    }

    /// Adds up how long places are taken: what is taken now, for all the time since the last look.
    /// (What was taken then would not do: finding something makes the next look come sooner.)
    fn count_time(&mut self, sched: &Scheduler<Net>, now: Instant) {
        let taken = sched.places.taken() + sched.attached.taken();
        let Some((then, before)) = self.counted.replace((now, taken)) else { return };
        let elapsed = now.saturating_duration_since(then);
        let all_along = if std::mem::take(&mut self.slept) {
            self.pace.slept(elapsed);
            // All pollers slept meanwhile, so nothing began.
            taken.min(before)
        } else {
            taken
        };
        let nanos = elapsed.as_nanos() * all_along as u128;
        sched.counters.place_nanos.add(u64::try_from(nanos).unwrap_or(0));
    }

    /// Notices a full cap that does not move.
    fn look_at_cap(&mut self, lane: Lane, sched: &Scheduler<Net>, now: Instant) {
        let places = sched.places_of(lane);
        let full = &mut self.full[lane as usize];
        if places.queued() == 0 {
            *full = None;
            return;
        }
        match full {
            Some(full) if full.moved == places.moved() => {
                if !full.told && now.saturating_duration_since(full.since) >= STANDSTILL {
                    full.told = true;
                    sched.counters.standstills.count();
                    let notice =
                        Notice::CapStandsStill { cap: places.cap(), queued: places.queued() };
                    sched.host.options.notice(&notice);
                }
            }
            _ => *full = Some(Full { moved: places.moved(), since: now, told: false }),
        }
    }

    fn is_frequent(&self) -> bool {
        self.rescues.len() >= FREQUENT
    }

    /// How many of the threads that lost their role still burn, or wait for a core to do so.
    fn still_burning(&mut self, now: Instant) -> usize {
        self.burners.retain_mut(|burner| {
            let (at, then) = burner.seen;
            let cpu = burner.clock.cpu_time();
            if cpu > then {
                burner.seen = (now, cpu);
            }
            cpu > then || now.saturating_duration_since(at) < BURN
        });
        self.burners.len()
    }
}

/// How long until the first moment comes that a poller's driver is to look at; `None`: there is none.
fn first_due(sched: &Scheduler<Net>) -> Option<Duration> {
    let mut first = NEVER;
    sched.each_seat(|seat| first = first.min(seat.shared.due.get()));
    (first != NEVER).then(|| until(first))
}

impl Watch<Net> for Rules {
    const QUIET_LOOKS: usize = 1;

    fn slept(&mut self) {
        self.slept = true;
    }

    fn look(&mut self, sched: &Scheduler<Net>, waiting: bool) {
        let now = sys::now();
        if !self.burners.is_empty() {
            // Who drives again is done with its handler.
            sched.each_seat(|seat| {
                let driver = *lock(&seat.shared.clock);
                self.burners.retain(|burner| Some(burner.clock) != driver);
            });
        }
        self.count_time(sched, now);
        self.look_at_cap(Lane::Accepted, sched, now);
        self.look_at_cap(Lane::Attached, sched, now);
        self.hurry = waiting.then_some(Duration::ZERO).or_else(|| first_due(sched));
    }

    fn pause(&mut self, sched: &Scheduler<Net>, soon: bool) {
        let now = sys::now();
        self.rescues.retain(|&at| now.saturating_duration_since(at) < WINDOW);
        self.suspects.retain_mut(|suspect| std::mem::take(&mut suspect.stays));
        self.pauses = self.pauses.wrapping_add(1);
        let soonest = self.suspects.iter().map(|s| s.patience).min();
        let frequent = self.is_frequent();
        if soon {
            self.vigil.found();
        }
        let pause = match soonest {
            // Just seen. One that was only interrupted, perhaps by this thread, goes on now.
            Some(Duration::ZERO) => return thread::yield_now(),
            Some(soonest) if frequent => soonest.min(SOON),
            Some(soonest) => soonest,
            None if frequent => return self.vigil.wait(sched, QUICK),
            None => self.pace.next(now, self.hurry) - DITHER * (self.pauses % 8),
        };
        // `Bed::rouse` may end it early.
        park_timeout(pause);
    }

    fn suspect(&mut self, seat: &Arc<Seat<Net>>, look: Look) {
        let id = Arc::as_ptr(seat) as usize;
        let now = sys::now();
        if let Some(at) = self.suspects.iter().position(|s| s.seat == id) {
            let suspect = &mut self.suspects[at];
            if suspect.look == look {
                let due = BURN.saturating_sub(now.saturating_duration_since(suspect.since));
                suspect.patience = (2 * suspect.patience).max(QUICK).min(due.max(SOON));
                suspect.stays = true;
                return;
            }
            self.suspects.swap_remove(at);
            if !self.is_frequent() {
                // Handlers come and go there. To suspect each that is seen would be to look all the
                // time at a poller that is merely busy.
                return;
            }
        }
        let Some(clock) = *lock(&seat.shared.clock) else { return };
        let patience = if self.is_frequent() { Duration::ZERO } else { SOON };
        let (since, cpu_then) = (now, clock.cpu_time());
        let suspect =
            Suspect { seat: id, look, clock, since, cpu_then, patience, stays: true, burns: false };
        self.suspects.push(suspect);
    }

    fn may_take(&mut self, seat: &Arc<Seat<Net>>, look: Look) -> bool {
        let id = Arc::as_ptr(seat) as usize;
        let suspect = self.suspects.iter_mut().find(|s| s.seat == id && s.look == look);
        let Some(suspect) = suspect else { return false };
        self.pace.found();
        let now = sys::now();
        let elapsed = now.saturating_duration_since(suspect.since);
        let burnt = suspect.clock.cpu_time().saturating_sub(suspect.cpu_then);
        suspect.burns = burnt >= elapsed / 2;
        if suspect.burns && elapsed < QUICK {
            // On a CPU, and not for long yet.
            return false;
        }
        !suspect.burns || elapsed >= BURN || self.still_burning(now) + 1 < self.cores
    }

    fn took(&mut self, seat: &Arc<Seat<Net>>) {
        event!(DEBUG, "a handler blocks: its poller goes on with another thread");
        let id = Arc::as_ptr(seat) as usize;
        let now = sys::now();
        let Some(at) = self.suspects.iter().position(|s| s.seat == id) else { return };
        let suspect = self.suspects.swap_remove(at);
        self.pace.rescued(now);
        if !suspect.burns {
            seat.shared.habit.blocked();
        } else {
            self.burners
                .push(Burner { clock: suspect.clock, seen: (now, suspect.clock.cpu_time()) });
        }
        // What was left alone for its time would not have been taken sooner by more looks.
        if now.saturating_duration_since(suspect.since) < BURN {
            self.rescues.push(now);
        }
    }
}
