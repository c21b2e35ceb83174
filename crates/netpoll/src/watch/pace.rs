//! How long the watchdog pauses while it finds nothing.
//!
//! A thread that wakes by the clock costs its core tens of microseconds under virtualisation, whatever
//! it does then; a hundred times a second that is several percent of what a request costs on a quiet
//! connection. So the pauses grow while every handler comes back soon. They are short again as soon
//! as one does not, and stay so for a while: where one handler blocks, others will.

use std::time::{Duration, Instant};

/// The first pauses, and those after a finding.
const SHORTEST: Duration = Duration::from_millis(10);
/// As long as a first blocking handler may hold up its poller.
const LONGEST: Duration = Duration::from_millis(80);
/// So many looks in a row without a finding double the pause.
const PATIENCE: u32 = 4;
/// After a rescue pauses do not grow for so long.
const WARY: Duration = Duration::from_secs(60);

/// See the module's text.
#[derive(Debug)]
pub(super) struct Pace {
    pause: Duration,
    /// Looks at this pause.
    looks: u32,
    /// Until then it stays.
    wary: Option<Instant>,
    /// The next pause is short, whatever came before.
    fresh: bool,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { pause: SHORTEST, looks: 0, wary: None, fresh: false }
    }

    /// A handler stayed from one look to the next.
    pub(super) fn found(&mut self) {
        (self.pause, self.looks) = (SHORTEST, 0);
    }

    /// And its role was taken.
    pub(super) fn rescued(&mut self, now: Instant) {
        self.found();
        self.wary = Some(now + WARY);
    }

    /// The watchdog slept while nothing happened, for longer than any pause if `long`: what begins
    /// now may be of another kind.
    pub(super) fn slept(&mut self, time: Duration) {
        self.fresh = time >= LONGEST;
    }

    /// A look has found nothing new: the pause until the next one. `hurry`: something waits for it,
    /// or becomes due after so long.
    pub(super) fn next(&mut self, now: Instant, hurry: Option<Duration>) -> Duration {
        if self.wary.is_some_and(|until| now >= until) {
            self.wary = None;
        }
        if self.wary.is_none() && self.pause < LONGEST {
            self.looks += 1;
            if self.looks > PATIENCE {
                (self.pause, self.looks) = ((2 * self.pause).min(LONGEST), 0);
            }
        }
        if std::mem::take(&mut self.fresh) {
            return SHORTEST;
        }
        hurry.map_or(self.pause, |hurry| hurry.clamp(SHORTEST, self.pause))
    }
}

#[cfg(all(test, not(netpoll_loom)))]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    /// Pauses from `now` on, for so long.
    fn run(pace: &mut Pace, now: &mut Instant, time: Duration) -> Vec<Duration> {
        let end = *now + time;
        let mut pauses = Vec::new();
        while *now < end {
            let pause = pace.next(*now, None);
            *now += pause;
            pauses.push(pause);
        }
        pauses
    }

    #[test]
    fn pauses_grow_until_something_is_found() {
        let (mut pace, mut now) = (Pace::new(), poller::sys::now());
        let pauses = run(&mut pace, &mut now, Duration::from_secs(2));
        assert_eq!((pauses[0], *pauses.last().unwrap()), (SHORTEST, LONGEST));
        assert!(pauses.windows(2).all(|two| two[0] == two[1] || 2 * two[0] == two[1]));
        // What only stayed for a while is forgotten again.
        pace.found();
        let pauses = run(&mut pace, &mut now, Duration::from_secs(2));
        assert_eq!((pauses[0], *pauses.last().unwrap()), (SHORTEST, LONGEST));
        // What had to be rescued is not forgotten so soon.
        pace.rescued(now);
        assert!(run(&mut pace, &mut now, WARY).iter().all(|&pause| pause == SHORTEST));
        let pauses = run(&mut pace, &mut now, Duration::from_secs(2));
        assert_eq!(*pauses.last().unwrap(), LONGEST);
    }

    #[test]
    fn what_is_due_is_not_waited_past() {
        let (mut pace, mut now) = (Pace::new(), poller::sys::now());
        run(&mut pace, &mut now, Duration::from_secs(2));
        assert_eq!(pace.next(now, Some(Duration::ZERO)), SHORTEST);
        assert_eq!(pace.next(now, Some(33 * MILLI)), 33 * MILLI);
        assert_eq!(pace.next(now, Some(Duration::MAX)), LONGEST);
        assert_eq!(pace.next(now, None), LONGEST);
    }

    #[test]
    fn after_a_long_sleep_the_first_pause_is_short() {
        let (mut pace, mut now) = (Pace::new(), poller::sys::now());
        run(&mut pace, &mut now, Duration::from_secs(2));
        pace.slept(MILLI);
        assert_eq!(pace.next(now, None), LONGEST);
        pace.slept(LONGEST);
        assert_eq!(pace.next(now, None), SHORTEST);
        assert_eq!(pace.next(now, None), LONGEST);
    }
}
