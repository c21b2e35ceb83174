//! What the scheduler asks of its host: events, handlers, and what moves between threads.

#![allow(unsafe_code)] // Reading sockets is for the role's holder: each such place says why it is.

use std::{sync::Arc, time::Duration};

use poller::{Event, Token, sys::ThreadClock};

use super::{Command, Core, Entry, Net, Shared, ahead, habit::Watched, lock_std};
use crate::{
    config::Runner,
    connection::inner::{Fill, Inner},
    contain::contained,
    current,
    sched::{At, Host, Lane, Mode, Outcome, Scheduler, Seat, Step, turn::Turn},
    sync::lock,
    watch::Rules,
};

/// So many sockets are read in a row before their handlers run: the kernel's code for reading and all the
/// code for handling do not drive each other out of the CPU's cache for each of them. More would drive out
/// the bytes.
const ROW: usize = 8;

/// What an event says, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    readable: bool,
    writable: bool,
    hung_up: bool,
    /// Nothing but bytes was reported: a short read on TCP has drained the socket.
    plain: bool,
}

impl Ready {
    pub(super) const AGAIN: Self =
        Self { readable: true, writable: false, hung_up: false, plain: false };

    fn of(event: &Event) -> Self {
        let hung_up = event.is_read_closed() || event.is_hangup() || event.is_error();
        let plain = !hung_up && !event.is_priority();
        Self {
            readable: event.is_readable() || !plain,
            writable: event.is_writable() || hung_up,
            hung_up,
            plain,
        }
    }
}

impl Net {
    pub(super) fn event(
        &self,
        seat: &Arc<Seat<Self>>,
        core: &mut Core,
        token: Token,
        ready: Ready,
    ) -> Step<Arc<Inner>> {
        let inner = match core.batch.get(token) {
            None => return Step::Again,
            Some(Entry::Listener(acceptor)) => {
                if let Some(acceptor) = acceptor.upgrade() {
                    self.accept(seat, core, token, &acceptor);
                }
                return Step::Again;
            }
            Some(Entry::Connection(inner, _)) => match inner.upgrade() {
                Some(inner) => inner,
                None => return Step::Again,
            },
            Some(Entry::Lingering(_)) => {
                self.linger_on(core, token);
                return Step::Again;
            }
        };
        if ready.writable {
            inner.on_writable();
        }
        let gone = ready.hung_up && inner.shared.life.hang_up();
        if !inner.is_polled() || !ready.readable {
            return Step::Again;
        }
        // SAFETY: `advance` has the core of this poller, so this thread holds its role, outside
        // user code; and the token says that the connection is in its table.
        let fill = unsafe { inner.fill(core.read_budget, ready.plain) };
        if fill == Fill::More {
            core.again.push(token);
        }
        if fill != Fill::Nothing {
            if inner.turn.claim() {
                return Step::Run(inner);
            }
            // SAFETY: as above.
            unsafe { inner.tell_reader() };
        }
        // Whoever runs callbacks now is told; what runs later asks `is_active`.
        if gone && inner.is_served() && inner.shared.life.is_opened() && inner.turn.is_taken() {
            let mut asides = lock(&seat.shared.asides);
            asides.due.push_back(inner);
            // Whoever runs one now runs this one behind it.
            return if asides.running { Step::Again } else { Step::Aside };
        }
        Step::Again
    }

    /// Gives back the block that was sealed, or leaves that to the turn's owner. True: the turn is
    /// claimed, and is to be run.
    ///
    /// Nothing is to be handled, so this takes no place under the cap: it would queue there before
    /// those who have something.
    fn tidy(&self, inner: &Inner) -> bool {
        if !inner.turn.try_take() {
            return inner.turn.claim();
        }
        inner.with_session(|session| session.iter_mut().for_each(|session| session.rest(None)));
        !inner.turn.finish()
    }
}

impl Host for Net {
    type Core = Core;
    type Shared = Shared;
    type Work = Arc<Inner>;
    type Command = Command;
    type Watch = Rules;

    fn advance(&self, seat: &Arc<Seat<Self>>, core: &mut Core) -> Step<Arc<Inner>> {
        if core.row.is_empty() {
            while core.row.len() < ROW {
                let Some(event) = core.events.get(core.cursor) else { break };
                core.cursor += 1;
                if self.served() > ahead::FEW {
                    core.look_ahead();
                }
                match self.event(seat, core, event.token(), Ready::of(&event)) {
                    Step::Run(inner) => core.row.push_back(inner),
                    Step::Again => {}
                    step => return step,
                }
            }
        }
        if let Some(inner) = core.row.pop_front() {
            return Step::Run(inner);
        }
        if let Some(token) = core.walk.pop() {
            return self.event(seat, core, token, Ready::AGAIN);
        }
        if let Some(inner) = core.ready.pop_front() {
            return Step::Run(inner);
        }
        core.next_due().map_or(Step::Empty, |(at, token)| self.look(seat, core, at, token))
    }

    fn receive(&self, seat: &Arc<Seat<Self>>, core: &mut Core, commands: &mut Vec<Command>) {
        for command in commands.drain(..) {
            match command {
                Command::Run(inner) => core.ready.push_back(inner),
                Command::Tidy(inner) => {
                    let Some(inner) = inner.upgrade() else { continue };
                    if inner.is_polled() && inner.lives_at(seat) {
                        // SAFETY: this thread holds the role of the poller whose inbox this is,
                        // which is the one that polls the connection.
                        unsafe { inner.seal_input() };
                    }
                    if inner.is_served() && self.tidy(&inner) {
                        core.ready.push_back(inner);
                    }
                }
                Command::Linger(inner) => self.linger(seat, core, &inner),
                Command::Time(inner) => {
                    let inner = inner.upgrade();
                    if let Some(inner) = inner.filter(|inner| inner.lives_at(seat)) {
                        core.arm(&inner);
                    }
                }
                Command::Leave(inner, then) => {
                    inner.deregister();
                    then();
                }
                Command::Drain { at_once } => self.drain_seat(core, at_once),
            }
        }
    }

    fn finished(&self, seat: &Arc<Seat<Self>>, core: &Core) -> bool {
        let rests = core.ready.is_empty() && core.sated.is_empty() && core.lingering == 0;
        // A connection that is served may still need its poller, at least to be closed; and so may
        // any that has a lease on one that is removed while the loop goes on.
        let over = self.is_closed() && self.served() == 0;
        rests && (over || seat.shared.poller.is_drained())
    }

    fn has_leftovers(&self, core: &Core) -> bool {
        !core.again.is_empty() || !core.ready.is_empty() || !core.sated.is_empty()
    }

    fn poll(&self, seat: &Arc<Seat<Self>>, core: &mut Core, block: bool) {
        debug_assert!(core.row.is_empty(), "`advance` leaves nothing");
        end_batch(core);
        core.cursor = 0;
        if !core.sated.is_empty() {
            core.ready.append(&mut core.sated);
        }
        let timeout = if block { core.timers.wait() } else { Some(Duration::ZERO) };
        if seat.shared.poller.wait(&mut core.events, timeout).is_err() {
            core.events.clear();
        }
        std::mem::swap(&mut core.walk, &mut core.again);
    }

    fn ending(&self, _: &Arc<Seat<Self>>, core: &mut Core) {
        self.let_all_go(core);
        for entry in core.batch.iter() {
            let Entry::Connection(inner, _) = entry else { continue };
            if let Some(inner) = inner.upgrade() {
                // One that was taken out of the loop: from here on its reader reads for itself.
                inner.let_go();
            }
        }
        // What was removed goes now: listeners close.
        end_batch(core);
    }

    fn too_late(&self, commands: Vec<Command>) {
        for command in commands {
            // Nothing is served here any more, so the others have nothing to do.
            match command {
                Command::Leave(inner, then) => {
                    inner.deregister();
                    then();
                }
                Command::Linger(inner) => inner.cut(),
                _ => {}
            }
        }
    }

    fn ended(&self) {
        *lock_std(&self.stopped) = true;
        self.changed.notify_all();
    }

    fn wake(&self, seat: &Seat<Self>) {
        // An eventfd cannot refuse 1: its counter is cleared long before it is full.
        let _ = seat.shared.waker.wake();
    }

    fn offer(&self, sched: &Arc<Scheduler<Self>>, seat: Arc<Seat<Self>>) {
        let scheduler = Arc::clone(sched);
        self.hire(sched, move || scheduler.drive(seat));
    }

    fn bring(&self, sched: &Arc<Scheduler<Self>>, work: Arc<Inner>) {
        let scheduler = Arc::clone(sched);
        self.hire(sched, move || scheduler.run_placed(work));
    }

    fn recruit(&self) -> bool {
        self.hire_again() | self.accepting.tell(&self.options)
    }

    fn turn(work: &Arc<Inner>) -> &Turn {
        &work.turn
    }

    fn lane(work: &Arc<Inner>) -> Lane {
        if work.is_attached() { Lane::Attached } else { Lane::Accepted }
    }

    fn handle(&self, at: &At<Self>, work: &Arc<Inner>, share: &mut usize) -> Outcome {
        current::running(work, || {
            // Out of its place while it runs: a callback may take the connection and attach it
            // elsewhere, and then another thread puts the next session there.
            let Some(mut session) = work.with_session(Option::take) else { return Outcome::Over };
            let watched = passed_early(at);
            let outcome = session.run(work, at, share);
            match watched {
                Some((seat, watched)) => watched.end(&seat.shared.habit),
                None => at.seat().into_iter().for_each(|seat| seat.shared.habit.came_back()),
            }
            if outcome == Outcome::Over {
                // Taken with replies in the queue, or closed: they leave now, if they can.
                work.send_queued();
                current::nothing_queued(work);
                // What the user's service kept is dropped here, in the handler state. The turn,
                // and with it the place, may belong to somebody else by now.
                contained(|| drop(session));
            } else {
                work.with_session(|place| *place = Some(session));
            }
            outcome
        })
    }

    fn aside(&self, seat: &Arc<Seat<Self>>) {
        loop {
            let work = {
                let mut asides = lock(&seat.shared.asides);
                let next = asides.due.pop_front();
                asides.running = next.is_some();
                next
            };
            let Some(work) = work else { return };
            // It is user code like any other, with all that it drops: a wait in it passes the role
            // on.
            current::running(&work, || {
                contained(|| {
                    if let Some(callback) = work.on_disconnect() {
                        callback.disconnected(&work.handle());
                    }
                });
            });
            contained(|| drop(work));
        }
    }

    fn rest(&self, at: &At<Self>, work: &Arc<Inner>) {
        work.send_queued();
        current::nothing_queued(work);
        work.stir();
        // Blocks go back behind each request, so that the next one, of whatever connection, finds
        // them in the CPU's cache.
        let rest = |core: &mut Core| {
            // SAFETY: with the core, this thread holds the role of this connection's poller.
            unsafe {
                work.rest_input(|input| {
                    work.with_session(|s| s.iter_mut().for_each(|s| s.rest(Some(&mut *input))));
                });
            }
            if work.is_timed() {
                core.arm(work);
            }
        };
        let sealed = at.with_core_of(|seat| work.lives_at(seat), rest);
        if sealed.is_none() {
            work.with_session(|session| session.iter_mut().for_each(|s| s.rest(None)));
            work.rearm_clocks();
        }
        if sealed.is_none() && work.is_open() {
            work.command(Command::Tidy(Arc::downgrade(work)));
        }
    }

    fn later(&self, at: &At<Self>, work: Arc<Inner>) {
        if at.sched.mode == Mode::Pool {
            let Runner::Pool(pool) = &self.options.runner else { return };
            let sched = Arc::clone(&at.sched);
            let task = Arc::clone(&work);
            if pool.try_go(move || sched.run_apart(task)).is_err() {
                // The user's pool is full or closed. The connection cannot be served; its turn
                // is run here for its last callbacks only, which may wait like any others.
                work.give_up("the pool of the event loop's handlers refused a task".into());
                at.run(work);
            }
            return;
        }
        // What was queued must not wait for the other connections.
        work.send_queued();
        current::nothing_queued(&work);
        work.with_session(|session| session.iter_mut().for_each(|s| s.release()));
        let here = at.with_core_of(
            |seat| work.lives_at(seat),
            |core| core.sated.push_back(Arc::clone(&work)),
        );
        if here.is_none() {
            work.command(Command::Run(Arc::clone(&work)));
        }
    }

    fn seated(&self, seat: &Seat<Self>) {
        *lock(&seat.shared.clock) = Some(ThreadClock::current());
        current::take_queued(seat);
    }

    fn scope(&self, at: &At<Self>, f: impl FnOnce()) {
        current::scope(at, f);
    }
}

/// Frees the slots of what was removed. A service may go with its listener, and may panic then.
fn end_batch(core: &mut Core) {
    contained(|| {
        core.batch.end();
    });
}

/// About to run a handler: passes the role on where handlers mostly block.
#[inline]
fn passed_early(at: &At<Net>) -> Option<(&Arc<Seat<Net>>, Watched)> {
    let seat = at.seat().filter(|seat| seat.shared.habit.is_to_block())?;
    at.hand_over();
    Some((seat, Watched::begin()))
}
