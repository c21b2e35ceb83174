//! Waiting for a handler to block, while rescues are frequent.
//!
//! Looks by the clock are a poor way to see it. Many of them eat the CPU that they are to save; with few,
//! the other connections stand still until the next one, and where every hundredth of 100,000 requests
//! a second blocks, a fifth of a millisecond for each is a fifth of all time.
//!
//! So the watchdog waits for a poller that has events which nobody takes, and lets whoever runs on
//! its core go on when it is woken by them. It gets that core when the driver leaves it: because it
//! waits for events, and then none are left, so that the kernel lets the watchdog sleep on; or because
//! its handler blocks, and then the look that follows takes its role, microseconds later. A driver on
//! another core runs while it has events waiting; it is told by its thread's CPU clock, and looked at
//! by the clock.

use std::time::Duration;

use crate::{net_host::Net, sched::Scheduler, sync::park_timeout};

/// The longest wait: a driver may have taken all events along, and block before the last of them.
const LONGEST: Duration = Duration::from_millis(1);

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Vigil {
    /// Events waited, and the look that followed found no handler to blame.
    in_vain: bool,
}

impl Vigil {
    /// Until a poller has events that nobody takes; `tick` where that said nothing just now.
    pub(super) fn wait(&mut self, sched: &Scheduler<Net>, tick: Duration) {
        if std::mem::take(&mut self.in_vain) {
            park_timeout(tick);
        } else {
            self.in_vain = events_wait(sched);
        }
    }

    /// A look has found a handler.
    pub(super) fn found(&mut self) {
        self.in_vain = false;
    }
}

/// Waits for events that nobody takes. To call the watchdog does not end this: it is short.
#[cfg(not(netpoll_loom))]
fn events_wait(sched: &Scheduler<Net>) -> bool {
    use poller::{
        Interest,
        sys::{self, PollFd},
    };

    let seats = sched.seats();
    let watch = |seat| PollFd::new(std::os::fd::AsFd::as_fd(seat), Interest::READABLE);
    let mut pollers: Vec<_> = seats.iter().map(|seat| watch(&**seat.shared.poller)).collect();
    // Only here: a thread that is started by the watchdog would be unobtrusive as well. Where it is
    // refused, the watchdog interrupts drivers, and no more.
    let _ = sys::set_unobtrusive(true);
    let ready = sys::ppoll(&mut pollers, Some(LONGEST));
    let _ = sys::set_unobtrusive(false);
    // An error is answered by the clock.
    ready.map_or(true, |ready| ready > 0)
}

/// A model has no pollers that can be polled.
#[cfg(netpoll_loom)]
fn events_wait(_: &Scheduler<Net>) -> bool {
    park_timeout(LONGEST);
    false
}
