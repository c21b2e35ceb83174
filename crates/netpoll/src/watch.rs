//! The watchdog's rules: when a handler that stays has its role taken.
//!
//! A handler that sleeps keeps the role from others for nothing, and is taken at the second look.
//! One that burns CPU is taken early only while fewer handlers burn than there are cores; past
//! that another thread would only compete with it, and it is taken when it has had its time.

use std::{
    num::NonZeroUsize,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use poller::sys::{self, ThreadClock};

use crate::{
    config::Notice,
    net_host::Net,
    sched::{Lane, Scheduler, Seat, role::Look, watchdog::Watch},
    sync::lock,
};

/// Between looks that find nothing.
const CALM: Duration = Duration::from_millis(10);
/// Between two looks at the same handler; and always, while rescues are frequent.
const SOON: Duration = Duration::from_micros(200);
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
    /// It was there at the last look as well.
    stays: bool,
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
    /// Of each lane.
    full: [Option<Full>; 2],
    cores: usize,
    suspects: Vec<Suspect>,
    /// Threads whose role was taken while they burned, and their CPU time at the last look.
    burners: Vec<(ThreadClock, Duration)>,
    rescues: Vec<Instant>,
}

impl Rules {
    pub(crate) fn new() -> Self {
        Self {
            cores: thread::available_parallelism().map_or(1, NonZeroUsize::get),
            counted: None,
            full: [None, None],
            suspects: Vec::new(),
            burners: Vec::new(),
            rescues: Vec::new(),
        }
    }

    /// Adds up how long places are taken: what is taken now, for all the time since the last look.
    /// (What was taken then would not do: finding something makes the next look come sooner.)
    fn count_time(&mut self, sched: &Scheduler<Net>, now: Instant) {
        let taken = sched.places.taken() + sched.attached.taken();
        let Some((then, before)) = self.counted.replace((now, taken)) else { return };
        let elapsed = now.saturating_duration_since(then);
        // All pollers slept meanwhile, so nothing began.
        let all_along = if elapsed > 2 * CALM { taken.min(before) } else { taken };
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

    /// How many of the threads that lost their role still burn.
    fn still_burning(&mut self) -> usize {
        self.burners.retain_mut(|(clock, then)| {
            let now = clock.cpu_time();
            let burns = now.saturating_sub(*then) >= SOON / 2;
            *then = now;
            burns
        });
        self.burners.len()
    }
}

impl Watch<Net> for Rules {
    const QUIET_LOOKS: usize = 1;

    fn look(&mut self, sched: &Scheduler<Net>) {
        let now = sys::now();
        self.count_time(sched, now);
        self.look_at_cap(Lane::Accepted, sched, now);
        self.look_at_cap(Lane::Attached, sched, now);
    }

    fn pause(&mut self, soon: bool) {
        let now = sys::now();
        self.rescues.retain(|&at| now.saturating_duration_since(at) < WINDOW);
        self.suspects.retain_mut(|suspect| std::mem::take(&mut suspect.stays));
        let frequent = self.rescues.len() >= FREQUENT;
        thread::sleep(if soon || frequent || !self.suspects.is_empty() { SOON } else { CALM });
    }

    fn suspect(&mut self, seat: &Arc<Seat<Net>>, look: Look) {
        let id = Arc::as_ptr(seat) as usize;
        let known = self.suspects.iter_mut().find(|s| s.seat == id);
        if let Some(suspect) = known {
            if suspect.look == look {
                suspect.stays = true;
                return;
            }
        }
        self.suspects.retain(|s| s.seat != id);
        let Some(clock) = *lock(&seat.shared.clock) else { return };
        let (since, cpu_then) = (sys::now(), clock.cpu_time());
        self.suspects.push(Suspect { seat: id, look, clock, since, cpu_then, stays: true });
    }

    fn may_take(&mut self, seat: &Arc<Seat<Net>>, look: Look) -> bool {
        let id = Arc::as_ptr(seat) as usize;
        let suspect = self.suspects.iter().find(|s| s.seat == id && s.look == look);
        let Some(suspect) = suspect else { return false };
        let elapsed = sys::now().saturating_duration_since(suspect.since);
        let burnt = suspect.clock.cpu_time().saturating_sub(suspect.cpu_then);
        burnt < elapsed / 2 || elapsed >= BURN || self.still_burning() + 1 < self.cores
    }

    fn took(&mut self, seat: &Arc<Seat<Net>>) {
        let id = Arc::as_ptr(seat) as usize;
        if let Some(at) = self.suspects.iter().position(|s| s.seat == id) {
            let suspect = self.suspects.swap_remove(at);
            let cpu = suspect.clock.cpu_time();
            if cpu > suspect.cpu_then {
                self.burners.push((suspect.clock, cpu));
            }
        }
        self.rescues.push(sys::now());
    }
}
