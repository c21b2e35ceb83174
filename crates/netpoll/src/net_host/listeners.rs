//! Listeners in the pollers' tables: adding them, accepting from them, removing them.

use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use poller::{
    Interest, Token,
    sys::{self, AcceptFailure},
};

use super::{Command, Core, Entry, Net, lock_std};
use crate::{
    accept::Acceptor,
    sched::Seat,
    timers::{after, stamp},
};

/// How long accepting rests when descriptors have run out.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// A listener in a poller's table.
pub(super) struct Registered {
    seat: Weak<Seat<Net>>,
    token: Token,
    acceptor: Weak<Acceptor>,
}

impl Net {
    /// Has `seat` accept from a listener.
    pub(crate) fn add_listener(
        &self,
        seat: &Arc<Seat<Self>>,
        acceptor: &Arc<Acceptor>,
    ) -> linkbuffer::Result<()> {
        // Under the lock of `remove_listeners`: no listener is left behind by a drain.
        let mut listeners = lock_std(&self.listeners);
        if self.is_draining() {
            return Err(linkbuffer::Error::Closed);
        }
        let slots = &seat.shared.slots;
        let token = slots
            .insert(Entry::Listener(Arc::clone(acceptor)))
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let registered = seat.shared.poller.register(&acceptor.listener, token, Interest::READABLE);
        if let Err(error) = registered {
            slots.remove(token);
            return Err(error.into());
        }
        let acceptor = Arc::downgrade(acceptor);
        listeners.push(Registered { seat: Arc::downgrade(seat), token, acceptor });
        Ok(())
    }

    /// Accepts no more. The listeners close as soon as their pollers let go of them.
    pub(crate) fn remove_listeners(&self) {
        // The lock is held throughout: who finds the list empty finds the listeners removed.
        for Registered { seat, token, acceptor } in lock_std(&self.listeners).drain(..) {
            let Some(seat) = seat.upgrade() else { continue };
            if let Some(acceptor) = acceptor.upgrade() {
                // It fails only where the listener was never registered.
                let _ = seat.shared.poller.deregister(&acceptor.listener);
            }
            seat.shared.slots.remove(token);
        }
    }

    /// DRIVING: takes a batch of what `acceptor` has; `token` is looked at again if there is more.
    pub(super) fn accept(
        &self,
        seat: &Arc<Seat<Self>>,
        core: &mut Core,
        token: Token,
        acceptor: &Acceptor,
    ) {
        for _ in 0..self.options.accept_batch {
            match acceptor.accept() {
                Ok(Some((fd, peer))) => {
                    let Some(sched) = self.sched.get().and_then(Weak::upgrade) else { return };
                    if !self.join() {
                        continue;
                    }
                    let home = self.next_seat(&sched);
                    match acceptor.admit(fd, peer, &sched, Arc::clone(&home)) {
                        Ok(inner) if Arc::ptr_eq(&home, seat) => core.ready.push_back(inner),
                        Ok(inner) => home.send(self, Command::Run(inner)),
                        Err(_) => self.left(),
                    }
                }
                Ok(None) => return,
                Err(error) => match sys::accept_failure(&error) {
                    AcceptFailure::Connection => {}
                    _ => {
                        // Nothing can be accepted for now, and the edge is used up.
                        core.look_at(after(stamp(), ACCEPT_REST), token);
                        return;
                    }
                },
            }
        }
        core.again.push(token);
    }
}
