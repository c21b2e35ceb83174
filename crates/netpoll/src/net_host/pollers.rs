//! The pollers of a loop: which of them gets the next connection, and how they come and go.
//!
//! A connection has a *lease* on its poller until it has left the table there. A poller that is
//! removed is chosen no more, and its listeners go to those that stay, with what waits in their
//! queues. Its role ends with its last lease, and its descriptors close with its seat.

use std::sync::{Arc, OnceLock, Weak};

use poller::{Lease, Member};

use super::{Core, Net, Shared, lock_std};
use crate::{
    config::{BuildError, MOST_POLLERS},
    connection::inner::Home,
    sched::{Scheduler, Seat},
};

/// From a poller in its group to its seat, which is made after it.
pub(crate) type Link = OnceLock<Weak<Seat<Net>>>;

/// A place for a connection: where it lives, and that it is counted there.
pub(crate) struct Berth {
    pub(crate) home: Home,
    pub(crate) lease: Lease<Link>,
}

impl Net {
    /// A place for the next connection, on the poller whose turn it is.
    ///
    /// # Errors
    ///
    /// There is no poller (yet).
    pub(crate) fn berth(&self, sched: &Arc<Scheduler<Self>>) -> linkbuffer::Result<Berth> {
        let lease = self.group.pick().ok_or(linkbuffer::Error::Closed)?;
        // A seat is linked before it is picked, and stays while it has a lease.
        let seat = seat_of(lease.member()).ok_or(linkbuffer::Error::Closed)?;
        Ok(Berth { home: Home { sched: Arc::clone(sched), seat }, lease })
    }

    /// A place on this poller; on another one, if this is removed.
    pub(crate) fn berth_at(
        &self,
        sched: &Arc<Scheduler<Self>>,
        seat: &Arc<Seat<Self>>,
    ) -> linkbuffer::Result<Berth> {
        match self.group.lease(&seat.shared.poller) {
            Some(lease) => {
                let home = Home { sched: Arc::clone(sched), seat: Arc::clone(seat) };
                Ok(Berth { home, lease })
            }
            None => self.berth(sched),
        }
    }

    /// Has the scheduler drive these pollers too, and connections come to them.
    pub(crate) fn add_pollers(&self, sched: &Arc<Scheduler<Self>>, parts: Vec<(Shared, Core)>) {
        for (shared, core) in parts {
            let member = Arc::clone(&shared.poller);
            let seat = sched.add(shared, core);
            let _ = member.data().set(Arc::downgrade(&seat));
            self.group.join(&member);
        }
        // Where the system refuses them threads, it alone tries again, and nothing else would wake it.
        sched.rouse_watchdog();
    }

    /// Adds or removes pollers until there are so many.
    pub(crate) fn set_pollers(
        &self,
        sched: &Arc<Scheduler<Self>>,
        pollers: usize,
    ) -> Result<(), BuildError> {
        let refuse = |reason| {
            Err(BuildError::Option { option: "pollers", value: pollers.to_string(), reason })
        };
        if pollers == 0 || pollers > MOST_POLLERS {
            return refuse("1 to 1024");
        }
        // Under the lock of everything that has to do with listeners: none is given to a poller
        // that goes, and none is left behind.
        let mut doors = lock_std(&self.doors);
        if self.is_draining() {
            return Err(BuildError::Ending);
        }
        let now = self.group.members();
        // Those that were removed and still have connections count: they have threads. The cap that was
        // raised for them falls with the first change after their end; until then it is only more than
        // is used, since threads come on demand and go.
        let follow = |all| {
            let cap = self.pool.set_cap(self.options.threads(all));
            cap.map_err(|error| BuildError::Threads(error.to_string()))
        };
        if pollers < now.len() {
            let (stay, go) = now.split_at(pollers);
            follow(sched.seats().len())?;
            self.spread(&mut doors, stay).map_err(BuildError::Listener)?;
            for member in go {
                self.group.remove(member);
                if let Some(seat) = seat_of(member) {
                    sched.retire(&seat);
                }
            }
            return Ok(());
        }
        let added = pollers - now.len();
        let all = sched.seats().len() + added;
        if all > MOST_POLLERS {
            return refuse("1 to 1024, with those that were removed and still have connections");
        }
        let parts = (0..added).map(|_| self.poller()).collect::<Result<_, _>>()?;
        follow(all)?;
        self.add_pollers(sched, parts);
        self.spread(&mut doors, &self.group.members()).map_err(BuildError::Listener)
    }
}

/// The seat of a poller that is in the group, or has a lease.
pub(super) fn seat_of(member: &Member<Link>) -> Option<Arc<Seat<Net>>> {
    member.data().get().and_then(Weak::upgrade)
}
