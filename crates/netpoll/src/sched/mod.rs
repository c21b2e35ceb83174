//! Where handlers run: on the thread that read the bytes, and nobody waits behind them.
//!
//! Driving a poller is a [role], held by one thread at a time. Its holder waits in the
//! kernel, reads ready sockets, and runs handlers itself, in the HANDLER state. A handler that is
//! about to wait inside the library passes the role on first ([`At::hand_over`]); from one that
//! blocks or burns unseen, the [watchdog] takes it. A thread that finds on return that the role is
//! gone finishes what it owns and becomes a spare.
//!
//! | file | protocol |
//! |---|---|
//! | `role.rs` | who drives a poller |
//! | `turn.rs` | who runs a connection's handlers |
//! | `places.rs` | the cap on handlers, and the queue at the cap |
//! | `queued.rs` | sending what a handler that lost its role has left |
//! | `slot.rs` | waiting and waking |
//! | `flow.rs` | pausing input at its limit |
//! | `full.rs` | a socket that takes no more |
//! | `watchdog.rs` | taking the role from handlers that block unseen |
//! | this file | how a thread goes through them |
//!
//! Nothing here knows sockets: the [`Host`] does. The models in `tests/loom.rs` bring a simulated
//! kernel as their host, and so run the code that ships.

#![allow(unsafe_code)] // The core of a seat, which belongs to the holder of its role.
#![allow(unreachable_pub)] // Public for the models alone.

pub mod flow;
pub mod full;
pub mod places;
pub mod queued;
pub mod role;
pub mod slot;
pub mod turn;
pub mod watchdog;

use std::{cell::Cell, fmt, sync::Arc};

use self::{
    places::Places,
    role::{Hold, Role, State},
    turn::Turn,
};
use crate::sync::{
    Counter, Mutex,
    atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
        fence,
    },
    cell::UnsafeCell,
    lock,
};

/// What a thread finds when it takes the next thing off its core.
#[derive(Debug)]
pub enum Step<W> {
    /// A turn was claimed: its handlers are to be run.
    Run(W),
    /// User code that needs neither turn nor place: [`Host::aside`] is called in the HANDLER state.
    Aside,
    /// Something was dealt with; look again.
    Again,
    /// Nothing is left.
    Empty,
}

/// What one step of a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There may be more to handle.
    More,
    /// There is nothing to handle.
    Nothing,
    /// The turn is not given back: the connection is over, or somebody else continues it.
    Over,
}

/// Whose cap a handler counts against. A handler that a client's bytes start never waits for a place
/// that the handlers of a server hold, who may be waiting for just these bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Connections that a listener has accepted.
    Accepted,
    /// Connections that were attached: dialed, mostly.
    Attached,
}

/// The world around the scheduler: sockets and handlers in a program, a model in a test.
pub trait Host: Send + Sync + Sized + 'static {
    /// What moves with a poller's role.
    type Core: Send;
    /// What any thread may see of a poller.
    type Shared: Send + Sync;
    /// What a turn belongs to: a connection. Cheap to clone.
    type Work: Clone + Send + Sync + 'static;
    /// What other threads ask of a poller's driver.
    type Command: Send;

    /// DRIVING: takes one thing off the core and deals with it.
    fn advance(&self, seat: &Arc<Seat<Self>>, core: &mut Self::Core) -> Step<Self::Work>;
    /// DRIVING: takes over what other threads asked for.
    fn receive(
        &self,
        seat: &Arc<Seat<Self>>,
        core: &mut Self::Core,
        commands: &mut Vec<Self::Command>,
    );
    /// DRIVING: nothing is left to do. May this role end, if it is to?
    fn finished(&self, seat: &Arc<Seat<Self>>, core: &Self::Core) -> bool;
    /// DRIVING: must polling not block, because something stopped at a budget?
    fn has_leftovers(&self, core: &Self::Core) -> bool;
    /// ASLEEP: waits in the kernel for events, or only looks.
    fn poll(&self, seat: &Arc<Seat<Self>>, core: &mut Self::Core, block: bool);
    /// DRIVING, for the last time: this role ends, and nobody touches the core again.
    fn ending(&self, seat: &Arc<Seat<Self>>, core: &mut Self::Core) {
        let _ = (seat, core);
    }
    /// Commands that nobody will receive, since the role has ended. Any thread, once each.
    fn too_late(&self, commands: Vec<Self::Command>) {
        drop(commands);
    }
    /// The last role has ended.
    fn ended(&self) {}
    /// Wakes the poller out of the kernel.
    fn wake(&self, seat: &Seat<Self>);
    /// Brings a thread to `Scheduler::drive` for this seat.
    fn offer(&self, sched: &Arc<Scheduler<Self>>, seat: Arc<Seat<Self>>);
    /// Brings a thread to `Scheduler::run_placed` for a turn that has a place already.
    fn bring(&self, sched: &Arc<Scheduler<Self>>, work: Self::Work);
    /// Watchdog: tries again where the system refused a thread, and does what else is its business.
    /// True: something waits for the next look.
    fn recruit(&self) -> bool {
        false
    }

    /// The turn of a piece of work.
    fn turn(work: &Self::Work) -> &Turn;
    /// Turn owned: whose cap its handlers count against. It does not change while they run or queue.
    fn lane(work: &Self::Work) -> Lane;
    /// Turn owned, HANDLER: steps of user code, each counted off `share`, until nothing is to be
    /// handled or the share is used up; [`At::renew`] is called between two.
    fn handle(&self, at: &At<Self>, work: &Self::Work, share: &mut usize) -> Outcome;
    /// HANDLER, perhaps without the role before it returns: what `Step::Aside` asked for.
    fn aside(&self, seat: &Arc<Seat<Self>>);
    /// Turn owned, before it is given back; DRIVING, with the core, where this thread drives.
    fn rest(&self, at: &At<Self>, work: &Self::Work);
    /// Turn owned: its fair share is used up. It is to be run again behind the others.
    fn later(&self, at: &At<Self>, work: Self::Work);

    /// The calling thread begins to drive this seat.
    fn seated(&self, seat: &Seat<Self>);
    /// Runs `f` with `at` as the calling thread's place in the world.
    fn scope(&self, at: &At<Self>, f: impl FnOnce());
    /// The watchdog's clock and rules.
    type Watch: watchdog::Watch<Self>;
}

/// One poller: its role, and what the role guards.
pub struct Seat<H: Host> {
    /// Who drives.
    pub role: Role,
    core: UnsafeCell<H::Core>,
    /// Set by who filled the inbox; cleared before the inbox is read.
    called: AtomicBool,
    inbox: Mutex<Vec<H::Command>>,
    /// Its role may end before the others'.
    retiring: AtomicBool,
    /// What the host keeps of this poller for any thread.
    pub shared: H::Shared,
}

// SAFETY: `core` is the only part that is not Sync by itself. It is touched only in
// `At::with_core` and `Scheduler::sleep`, by the holder of the role, in DRIVING or ASLEEP (R2),
// and the role changes hands with release and acquire; `H::Core: Send`.
unsafe impl<H: Host> Sync for Seat<H> {}

impl<H: Host> fmt::Debug for Seat<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("role", &self.role).finish_non_exhaustive()
    }
}

impl<H: Host> Seat<H> {
    fn new(shared: H::Shared, core: H::Core) -> Self {
        Self {
            role: Role::vacant(),
            core: UnsafeCell::new(core),
            called: AtomicBool::new(false),
            inbox: Mutex::new(Vec::new()),
            retiring: AtomicBool::new(false),
            shared,
        }
    }

    /// Leaves a command for whoever drives, and wakes it if it sleeps.
    pub fn send(&self, host: &H, command: H::Command) {
        lock(&self.inbox).push(command);
        self.call(host);
        // The fence in `call` pairs with the one behind `Role::end`: one of the two threads sees
        // that the command would stay.
        if self.role.look().state() == State::Ended {
            self.clear_out(host);
        }
    }

    /// The role has ended: what was left in the inbox is for nobody.
    fn clear_out(&self, host: &H) {
        let commands = std::mem::take(&mut *lock(&self.inbox));
        if !commands.is_empty() {
            host.too_late(commands);
        }
    }

    /// Makes whoever drives look at its inbox, and at whether the scheduler is ending.
    pub fn call(&self, host: &H) {
        // ORDERING: release, for the swap in `answer`; `wants_wake` fences between this and its look
        // at the role (R5). A read-modify-write, so that who answers the last of several callers
        // sees what all of them did before.
        if cfg!(netpoll_mutant = "call_by_store") {
            self.called.store(true, Release);
        } else {
            self.called.swap(true, AcqRel);
        }
        if self.role.wants_wake() {
            host.wake(self);
        }
    }

    /// Whether [`Scheduler::retire`] was called for it.
    pub fn is_retiring(&self) -> bool {
        // ORDERING: pairs with the store in `retire`.
        self.retiring.load(Acquire)
    }

    /// Was anything left? Clears the flag, so that it is cleared before the inbox is read.
    fn answer(&self) -> bool {
        // ORDERING: the plain load spares the common case the swap; it is ordered behind ASLEEP by
        // the fence in `Role::sleep`.
        self.called.load(Relaxed) && self.called.swap(false, AcqRel)
    }
}

/// Figures that show the scheduler at work; they only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Roles that a handler's thread passed on before it waited.
    pub handovers: Counter,
    /// Roles that the watchdog took.
    pub rescues: Counter,
    /// Times the watchdog was woken from its sleep.
    pub watchdog_wakes: Counter,
    /// Times a full cap with a queue was found not to move.
    pub standstills: Counter,
    /// Nanoseconds that places were taken for, all of them together, as the watchdog's looks tell.
    pub place_nanos: Counter,
}

/// Where the handlers of a scheduler run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// On the thread that drives; the role is passed on before every wait.
    Auto,
    /// On the thread that drives, and they promise never to wait.
    Inline,
    /// On threads that never drive: the host brings them to `Scheduler::run_apart`.
    Pool,
}

/// All pollers of one event loop, and what their threads share.
pub struct Scheduler<H: Host> {
    /// The world around.
    pub host: H,
    /// Where handlers run.
    pub mode: Mode,
    /// The cap on handlers of accepted connections.
    pub places: Places<H::Work>,
    /// The cap on handlers of attached ones.
    pub attached: Places<H::Work>,
    /// Messages of one connection that are handled in a row while others wait.
    share: usize,
    seats: Mutex<Vec<Arc<Seat<H>>>>,
    /// Roles that have not ended.
    live: AtomicUsize,
    ending: AtomicBool,
    /// See `watchdog.rs`.
    pub(crate) dog: watchdog::Bed,
    /// See [`Counters`].
    pub counters: Counters,
}

impl<H: Host> fmt::Debug for Scheduler<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler")
            .field("mode", &self.mode)
            .field("live", &self.live)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl<H: Host> Scheduler<H> {
    /// A scheduler without pollers. `share` is at least 1.
    pub fn new(host: H, mode: Mode, cap: u32, attached_cap: u32, share: usize) -> Self {
        Self {
            host,
            mode,
            places: Places::new(cap),
            attached: Places::new(attached_cap),
            share: share.max(1),
            seats: Mutex::new(Vec::new()),
            live: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
            dog: watchdog::Bed::new(),
            counters: Counters::default(),
        }
    }

    /// Adds a poller and offers its role.
    pub fn add(self: &Arc<Self>, shared: H::Shared, core: H::Core) -> Arc<Seat<H>> {
        let seat = Arc::new(Seat::new(shared, core));
        lock(&self.seats).push(Arc::clone(&seat));
        // ORDERING: before the role can end; `has_ended` acquires.
        self.live.fetch_add(1, AcqRel);
        self.host.offer(self, Arc::clone(&seat));
        seat
    }

    /// The places of a lane.
    #[inline]
    pub fn places_of(&self, lane: Lane) -> &Places<H::Work> {
        match lane {
            _ if cfg!(netpoll_mutant = "one_cap_for_all") => &self.places,
            Lane::Accepted => &self.places,
            Lane::Attached => &self.attached,
        }
    }

    /// Changes the cap on handlers of accepted connections.
    pub(crate) fn set_cap(self: &Arc<Self>, cap: u32) {
        for work in self.places.set_cap(cap) {
            self.host.bring(self, work);
        }
    }

    /// How many turns wait for a place.
    pub(crate) fn queued(&self) -> usize {
        self.places.queued() + self.attached.queued()
    }

    /// The pollers as of now.
    pub fn seats(&self) -> Vec<Arc<Seat<H>>> {
        lock(&self.seats).clone()
    }

    /// Calls `f` with each poller, under their lock.
    pub(crate) fn each_seat(&self, f: impl FnMut(&Arc<Seat<H>>)) {
        lock(&self.seats).iter().for_each(f);
    }

    /// Has the watchdog look at once, if it sleeps: something waits for [`Host::recruit`].
    pub(crate) fn rouse_watchdog(&self) {
        self.dog.rouse();
    }

    /// Lets every role end as soon as its host finds it finished.
    pub fn end(&self) {
        // ORDERING: release, for `is_ending`; drivers look after `call` has woken them.
        self.ending.store(true, Release);
        for seat in self.seats() {
            seat.call(&self.host);
        }
        self.dog.rouse();
    }

    /// Lets the role of one poller end as soon as its host finds it finished, whatever the others
    /// do. The host gives it nothing new.
    pub fn retire(&self, seat: &Seat<H>) {
        // ORDERING: release, for `is_retiring`; the driver looks after `call` has woken it.
        seat.retiring.store(true, Release);
        if !cfg!(netpoll_mutant = "retire_without_call") {
            seat.call(&self.host);
        }
    }

    /// Whether [`Scheduler::end`] was called.
    pub fn is_ending(&self) -> bool {
        // ORDERING: pairs with the store in `end`.
        self.ending.load(Acquire)
    }

    /// Whether every role has ended.
    pub fn has_ended(&self) -> bool {
        // ORDERING: pairs with the decrement in `sleep`: what the last driver did is visible.
        self.live.load(Acquire) == 0
    }

    /// Takes the vacant role of `seat`, drives until it is lost or ends, and finishes what this
    /// thread then still owns.
    pub fn drive(self: &Arc<Self>, seat: Arc<Seat<H>>) {
        let hold = seat.role.take();
        self.host.seated(&seat);
        let at = At::new(Arc::clone(self), Some((seat, hold)));
        self.host.scope(&at, || {
            while let Some(step) = at.with_core(|seat, core| self.host.advance(seat, core)) {
                match step {
                    Step::Run(work) => at.start(work),
                    Step::Aside => {
                        at.in_handler(|| at.seat.iter().for_each(|seat| self.host.aside(seat)));
                    }
                    Step::Again => {}
                    Step::Empty => {
                        // No place is held in the kernel.
                        let busy = !cfg!(netpoll_mutant = "place_kept_asleep") && at.share_place();
                        self.sleep(&at, !busy);
                    }
                }
            }
            at.settle();
        });
    }

    /// Runs one turn on a thread that drives nothing. Whoever brings the thread bounds how many.
    pub fn run_apart(self: &Arc<Self>, work: H::Work) {
        let at = At::new(Arc::clone(self), None);
        self.host.scope(&at, || at.run(work));
    }

    /// Runs a turn that was given a place, on a thread that drives nothing, and gives it back.
    pub fn run_placed(self: &Arc<Self>, work: H::Work) {
        let at = At::new(Arc::clone(self), None);
        at.place.set(Some(H::lane(&work)));
        self.host.scope(&at, || {
            at.run(work);
            at.settle();
        });
    }

    /// DRIVING → the kernel → DRIVING, or the end.
    fn sleep(&self, at: &At<H>, block: bool) {
        let (Some(seat), Some(hold)) = (&at.seat, at.hold.take()) else { return };
        let (finished, leftovers) = seat.core.with_mut(|core| {
            // SAFETY: `hold` says that this thread drives (R2); no other reference to the core is
            // alive, since `with_core` lends it only for the length of a call.
            let core = unsafe { &mut *core };
            (self.host.finished(seat, core), self.host.has_leftovers(core))
        });
        // ORDERING: pairs with the release in `call`: whoever called since is answered first.
        if finished && (self.is_ending() || seat.is_retiring()) && !seat.called.load(Acquire) {
            // SAFETY: as above.
            seat.core.with_mut(|core| self.host.ending(seat, unsafe { &mut *core }));
            seat.role.end(hold);
            // ORDERING: see `Seat::send`.
            fence(SeqCst);
            seat.clear_out(&self.host);
            if seat.is_retiring() {
                lock(&self.seats).retain(|other| !Arc::ptr_eq(other, seat));
            }
            if self.live.fetch_sub(1, AcqRel) == 1 {
                self.dog.rouse();
                self.host.ended();
            }
            return;
        }
        seat.role.sleep(&hold);
        let called = !cfg!(netpoll_mutant = "sleep_without_recheck") && seat.answer();
        seat.core.with_mut(|core| {
            // SAFETY: as above, in ASLEEP (R2).
            self.host.poll(seat, unsafe { &mut *core }, block && !called && !leftovers);
        });
        seat.role.awake(&hold);
        self.dog.look(&self.counters);
        if called | seat.answer() {
            let mut commands = std::mem::take(&mut *lock(&seat.inbox));
            seat.core.with_mut(|core| {
                // SAFETY: as above, in DRIVING (R2).
                self.host.receive(seat, unsafe { &mut *core }, &mut commands);
            });
            // Its memory serves again, unless somebody was faster.
            let mut inbox = lock(&seat.inbox);
            if inbox.capacity() == 0 {
                commands.clear();
                *inbox = commands;
            }
            drop(inbox);
        }
        at.hold.set(Some(hold));
    }
}

/// What a thread has while it works for a scheduler: perhaps a role, perhaps a place.
pub struct At<H: Host> {
    /// The scheduler.
    pub sched: Arc<Scheduler<H>>,
    /// What it began to drive, if anything.
    seat: Option<Arc<Seat<H>>>,
    /// The role of that seat, as far as this thread knows.
    hold: Cell<Option<Hold>>,
    place: Cell<Option<Lane>>,
}

impl<H: Host> fmt::Debug for At<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("At").field("place", &self.place).finish_non_exhaustive()
    }
}

impl<H: Host> At<H> {
    fn new(sched: Arc<Scheduler<H>>, role: Option<(Arc<Seat<H>>, Hold)>) -> Self {
        let (seat, hold) = role.unzip();
        Self { sched, seat, hold: Cell::new(hold), place: Cell::new(None) }
    }

    /// Lends the core, in DRIVING. Nothing where this thread holds no role.
    ///
    /// Not to be called in the HANDLER state: see [`At::aside_from_handler`].
    #[inline]
    fn with_core<R>(&self, f: impl FnOnce(&Arc<Seat<H>>, &mut H::Core) -> R) -> Option<R> {
        let seat = self.seat.as_ref()?;
        // Out of the cell while the core is lent: a second borrow finds no role.
        let hold = self.hold.take()?;
        // SAFETY: this thread holds the role, in DRIVING (R2): `in_handler` is the only way into
        // HANDLER, it takes the role back by `leave`, and `aside_from_handler` goes through that
        // as well.
        let result = seat.core.with_mut(|core| f(seat, unsafe { &mut *core }));
        self.hold.set(Some(hold));
        Some(result)
    }

    /// In the HANDLER state of a seat that `which` accepts: leaves it, lends the core, enters
    /// again. Nothing where this thread does not drive such a seat, or has just lost it.
    pub fn aside_from_handler<R>(
        &self,
        which: impl FnOnce(&Arc<Seat<H>>) -> bool,
        f: impl FnOnce(&mut H::Core) -> R,
    ) -> Option<R> {
        if !self.drives(which) {
            return None;
        }
        if cfg!(netpoll_mutant = "handler_reads") {
            return self.with_core(|_, core| f(core));
        }
        self.leave();
        let result = self.with_core(|_, core| f(core));
        self.enter();
        result
    }

    /// DRIVING: lends the core of the seat that this thread drives, if `which` accepts it.
    pub fn with_core_of<R>(
        &self,
        which: impl FnOnce(&Arc<Seat<H>>) -> bool,
        f: impl FnOnce(&mut H::Core) -> R,
    ) -> Option<R> {
        if self.drives(which) { self.with_core(|_, core| f(core)) } else { None }
    }

    /// Whether this thread holds the role of a seat that `which` accepts, as far as it knows.
    #[inline]
    fn drives(&self, which: impl FnOnce(&Arc<Seat<H>>) -> bool) -> bool {
        self.seat().is_some_and(which)
    }

    /// The seat that this thread drives, as far as it knows.
    #[inline]
    pub fn seat(&self) -> Option<&Arc<Seat<H>>> {
        let hold = self.hold.take();
        let drives = hold.is_some();
        self.hold.set(hold);
        self.seat.as_ref().filter(|_| drives)
    }

    /// In the HANDLER state: whether the role has not been taken yet. Whoever takes it later sees
    /// what this thread has done before this.
    #[inline]
    pub fn keeps_role(&self) -> bool {
        let (Some(seat), Some(hold)) = (&self.seat, self.hold.take()) else { return false };
        let kept = seat.role.is_kept(&hold);
        self.hold.set(Some(hold));
        kept
    }

    /// Runs user code: in the HANDLER state where this thread holds a role.
    #[inline]
    fn in_handler<R>(&self, f: impl FnOnce() -> R) -> R {
        self.enter();
        let result = f();
        self.leave();
        result
    }

    #[inline]
    fn enter(&self) {
        if let (Some(seat), Some(mut hold)) = (&self.seat, self.hold.take()) {
            seat.role.enter(&mut hold);
            self.hold.set(Some(hold));
        }
    }

    #[inline]
    fn leave(&self) {
        if let (Some(seat), Some(hold)) = (&self.seat, self.hold.take()) {
            self.hold.set(seat.role.leave(hold));
        }
    }

    /// In the HANDLER state, between two handlers that run in a row: the second is another one to
    /// the watchdog.
    #[inline]
    pub fn renew(&self) {
        if let (Some(seat), Some(hold)) = (&self.seat, self.hold.take()) {
            self.hold.set(seat.role.renew(hold));
        }
    }

    /// In a handler, before any wait: passes the role on, if this thread still has it.
    pub fn hand_over(&self) {
        if let (Some(seat), Some(hold)) = (&self.seat, self.hold.take()) {
            if seat.role.pass(hold) {
                self.sched.counters.handovers.count();
                self.sched.host.offer(&self.sched, Arc::clone(seat));
            }
        }
    }

    /// A claimed turn: runs it if there is a place, queues it otherwise.
    #[inline]
    fn start(&self, work: H::Work) {
        if self.sched.mode == Mode::Pool {
            return self.sched.host.later(self, work);
        }
        let lane = H::lane(&work);
        let places = self.sched.places_of(lane);
        match self.place.get() {
            Some(held) if held == lane => return self.run(places.exchange(work)),
            // It would not be free for its own while the other's handler waits.
            Some(held) if !cfg!(netpoll_mutant = "place_of_the_other_kept") => {
                if let Some(oldest) = self.sched.places_of(held).give_back() {
                    self.sched.host.bring(&self.sched, oldest);
                }
                self.place.set(None);
            }
            _ => {}
        }
        if let Some(work) = places.take_or_queue(work) {
            self.place.set(Some(lane));
            self.run(work);
        }
    }

    /// Before polling: gives the place back, or runs the oldest that queues for it. True: one was
    /// run, the place is still held, and polling must not block.
    ///
    /// One only: the connections of this poller are not to wait until nobody queues.
    #[inline]
    fn share_place(&self) -> bool {
        let Some(lane) = self.place.get() else { return false };
        match self.sched.places_of(lane).give_back() {
            Some(work) => {
                self.run(work);
                true
            }
            None => {
                self.place.set(None);
                false
            }
        }
    }

    /// Gives the place back, after running what queued for it, oldest first. For a thread without
    /// a role.
    #[inline]
    fn settle(&self) {
        while self.share_place() {}
    }

    /// Runs a turn until nothing is left to handle. Its owner has a place, and perhaps the role.
    pub fn run(&self, work: H::Work) {
        let host = &self.sched.host;
        let turn = H::turn(&work);
        let mut share = self.sched.share;
        loop {
            if !cfg!(netpoll_mutant = "mark_cleared_late") {
                turn.begin();
            }
            match self.in_handler(|| host.handle(self, &work, &mut share)) {
                Outcome::More => return host.later(self, work),
                Outcome::Nothing => {}
                Outcome::Over => return,
            }
            if cfg!(netpoll_mutant = "mark_cleared_late") {
                turn.begin();
            }
            host.rest(self, &work);
            if turn.finish() {
                return;
            }
        }
    }
}
