//! Listeners in their pollers' tables: accepting, resting when nothing can be accepted, and moving
//! when pollers come and go.

use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use poller::{
    Interest, Member, Token,
    sys::{self, AcceptFailure},
};

use super::{
    Command, Core, Entry, Net, lock_std,
    pollers::{Link, seat_of},
};
use crate::{
    accept::Acceptor,
    sched::Seat,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
        lock,
    },
    timers::{Stamp, after, stamp},
    trace::event,
};

/// How long accepting rests when it has failed: at first, and, growing with each failure in a row,
/// at most. Who makes room waits no longer than this.
const FIRST_REST: Duration = Duration::from_millis(5);
const LAST_REST: Duration = Duration::from_millis(50);

/// What one call of `listen` opened: a socket, or one per poller.
pub(crate) struct Door {
    stands: Vec<Stand>,
}

/// A listener in a poller's table. The strong reference is here, so that a service is dropped by
/// who ends the loop, and not by the thread that polls.
struct Stand {
    acceptor: Arc<Acceptor>,
    seat: Arc<Seat<Net>>,
    token: Token,
}

/// When a listener that has failed is tried again. At that moment its driver looks, and not before,
/// whoever comes: or every one that comes would have it tried again and again.
#[derive(Default)]
pub(crate) struct Rest {
    /// Whether there is anything behind the lock.
    failing: AtomicBool,
    last: Mutex<Option<Failure>>,
}

struct Failure {
    in_a_row: u32,
    /// What the listener was to its poller: another one, to which it has moved, knows of no rest.
    token: Token,
    until: Stamp,
}

impl Rest {
    fn lasts(&self, token: Token) -> bool {
        // ORDERING: the driver's own note; one of another poller is not about this token.
        self.failing.load(Relaxed)
            && lock(&self.last).as_ref().is_some_and(|it| it.token == token && stamp() < it.until)
    }

    /// It has failed once more: until when it rests.
    fn begin(&self, token: Token) -> Stamp {
        let mut last = lock(&self.last);
        let before = last.as_ref().map_or(0, |it| it.in_a_row);
        let until = after(stamp(), FIRST_REST.saturating_mul(1 << before.min(8)).min(LAST_REST));
        *last = Some(Failure { in_a_row: before.saturating_add(1), token, until });
        // ORDERING: as in `lasts`.
        self.failing.store(true, Relaxed);
        until
    }

    fn end(&self) {
        // ORDERING: as in `lasts`.
        if self.failing.load(Relaxed) {
            self.failing.store(false, Relaxed);
            *lock(&self.last) = None;
        }
    }
}

impl Stand {
    fn new(seat: Arc<Seat<Net>>, acceptor: Arc<Acceptor>) -> io::Result<Self> {
        let entry = Entry::Listener(Arc::downgrade(&acceptor));
        let full = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        let token = seat.shared.slots.insert(entry).map_err(full)?;
        let polled = seat.shared.poller.register(&acceptor.listener, token, Interest::READABLE);
        if let Err(error) = polled {
            seat.shared.slots.remove(token);
            return Err(error);
        }
        Ok(Self { acceptor, seat, token })
    }

    fn leave(&self) {
        // It fails only where the listener was never registered.
        let _ = self.seat.shared.poller.deregister(&self.acceptor.listener);
        self.seat.shared.slots.remove(self.token);
    }

    /// Goes to another poller. What waits in its queue is reported there.
    fn move_to(&mut self, seat: Arc<Seat<Net>>) -> io::Result<()> {
        if !Arc::ptr_eq(&self.seat, &seat) {
            // In this order: if it fails, the old poller goes on accepting.
            let new = Self::new(seat, Arc::clone(&self.acceptor))?;
            self.leave();
            *self = new;
        }
        Ok(())
    }
}

impl Net {
    /// Accepts from a listener, on one poller or on each.
    pub(crate) fn add_listener(&self, acceptor: Acceptor) -> linkbuffer::Result<()> {
        let mut doors = lock_std(&self.doors);
        if self.is_draining() {
            return Err(linkbuffer::Error::Closed);
        }
        let lease = self.group.pick().ok_or(linkbuffer::Error::Closed)?;
        let seat = seat_of(lease.member()).ok_or(linkbuffer::Error::Closed)?;
        let mut door = Door { stands: vec![Stand::new(seat, Arc::new(acceptor))?] };
        if let Err(error) = self.spread_one(&mut door, &self.group.members()) {
            door.stands.iter().for_each(Stand::leave);
            return Err(error.into());
        }
        doors.push(door);
        Ok(())
    }

    /// Accepts no more: the listeners close, and their socket files are gone.
    pub(super) fn remove_listeners(&self) {
        // The lock is held throughout: who finds the list empty finds the listeners removed. What
        // drops a user's service comes behind it.
        let mut doors = lock_std(&self.doors);
        let all: Vec<Stand> = doors.drain(..).flat_map(|door| door.stands).collect();
        for stand in &all {
            stand.leave();
            stand.acceptor.listener.remove_file();
        }
        drop(doors);
    }

    /// Gives every listener a poller among `members`: each poller one of a listener's sockets, where
    /// it has one per poller, and no listener to a poller that goes.
    pub(super) fn spread(
        &self,
        doors: &mut [Door],
        members: &[Arc<Member<Link>>],
    ) -> io::Result<()> {
        doors.iter_mut().try_for_each(|door| self.spread_one(door, members))
    }

    fn spread_one(&self, door: &mut Door, members: &[Arc<Member<Link>>]) -> io::Result<()> {
        let seats: Vec<_> = members.iter().filter_map(|member| seat_of(member)).collect();
        if door.stands[0].acceptor.listener.is_per_poller() {
            while door.stands.len() < seats.len() {
                let sibling = Arc::new(door.stands[0].acceptor.sibling()?);
                let seat = Arc::clone(&seats[door.stands.len()]);
                door.stands.push(Stand::new(seat, sibling)?);
            }
            // A socket too many is not closed, which would reset what waits in its queue: another
            // poller takes it, and a new one may have it later.
            for (n, stand) in door.stands.iter_mut().enumerate() {
                stand.move_to(Arc::clone(&seats[n % seats.len()]))?;
            }
            return Ok(());
        }
        for (n, stand) in door.stands.iter_mut().enumerate() {
            if !seats.iter().any(|seat| Arc::ptr_eq(seat, &stand.seat)) {
                stand.move_to(Arc::clone(&seats[n % seats.len()]))?;
            }
        }
        Ok(())
    }

    /// DRIVING: takes what waits at a listener, a batch at a time.
    pub(super) fn accept(
        &self,
        seat: &Arc<Seat<Self>>,
        core: &mut Core,
        token: Token,
        acceptor: &Acceptor,
    ) {
        if acceptor.rest.lasts(token) {
            return;
        }
        let Some(sched) = self.sched.get().and_then(Weak::upgrade) else { return };
        for _ in 0..self.options.accept_batch {
            match acceptor.listener.accept() {
                Ok(Some((fd, peer))) => {
                    acceptor.rest.end();
                    if !self.join() {
                        self.accepting.refused.count();
                        event!(DEBUG, %peer, "refused: too many connections, or the loop ends");
                        if !self.is_draining() {
                            self.accepting.refused_at_limit();
                        }
                        continue;
                    }
                    let admitted = self.admit(&sched, seat, acceptor, (fd, peer));
                    let Ok(inner) = admitted else {
                        self.accepting.refused.count();
                        self.left();
                        continue;
                    };
                    self.accepting.accepted.count();
                    if inner.lives_at(seat) {
                        core.ready.push_back(inner);
                    } else {
                        inner.command(Command::Run(Arc::clone(&inner)));
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    self.accepting.failed(&error);
                    if sys::accept_failure(&error) != AcceptFailure::Connection {
                        // Nothing can be accepted for now, and the edge is used up.
                        self.accepting.rests.count();
                        event!(DEBUG, %error, "nothing can be accepted for now");
                        core.look_at(acceptor.rest.begin(token), token);
                        return;
                    }
                }
            }
        }
        core.again.push(token);
    }
}
