//! Loom models of the scheduler that ships, on a simulated kernel.
//!
//! The host of a model has sockets that are numbers, an edge-triggered ready list per poller, and
//! handlers that are one of [`Job`]. Everything between (roles, turns, places, slots, flow, the
//! watchdog) is the crate's own. What a model's host does itself (filling, waiting) follows
//! `connection/inner/` step by step.
//!
//! `mutants.txt` beside this file names, for each planted mistake, the model that finds it.
#![cfg(netpoll_loom)]

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize as Plain, Ordering::SeqCst as S},
    },
    task::{Wake, Waker},
};

use loom::{
    cell::UnsafeCell,
    sync::{
        Condvar, Mutex,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    thread,
};
use netpoll::sched::{
    At, Host, Mode, Outcome, Scheduler, Seat, Step, flow::Flow, role::Look, role::State,
    slot::Slot, turn::Turn, watchdog,
};

/// What a handler does.
#[derive(Clone, Copy, PartialEq)]
enum Job {
    /// Takes one byte that is there.
    Plain,
    /// Announces blocking, then takes one byte.
    Leave,
    /// Waits for so many bytes.
    Need(usize),
    /// Waits, unseen by the library, until that connection has handled one.
    WaitFor(usize),
}

struct Conn {
    id: usize,
    home: usize,
    job: Job,
    turn: Turn,
    flow: Flow,
    readable: Slot,
    /// Stored by the driver only.
    produced: AtomicUsize,
    /// Stored by the turn's owner only.
    consumed: AtomicUsize,
    closed: AtomicBool,
    /// The driver's side of the input, and the owner's: loom sees two at once.
    write_side: UnsafeCell<()>,
    read_side: UnsafeCell<()>,
}

// SAFETY: the two cells hold nothing; loom reports accesses that overlap.
unsafe impl Sync for Conn {}

impl Conn {
    fn unread(&self) -> usize {
        self.produced.load(Acquire) - self.consumed.load(Acquire)
    }
}

#[derive(Default)]
struct Socket {
    bytes: usize,
}

/// Bytes per socket; per poller the ready list and the eventfd.
struct Kernel {
    sockets: Vec<Socket>,
    ready: Vec<Vec<usize>>,
    woken: Vec<bool>,
}

#[derive(Default)]
struct Core {
    batch: VecDeque<usize>,
    again: Vec<usize>,
    ready: VecDeque<Arc<Conn>>,
}

enum Command {
    Run(Arc<Conn>),
}

struct Sim {
    kernel: Mutex<Kernel>,
    ready: Vec<Condvar>,
    conns: Vec<Arc<Conn>>,
    budget: usize,
    /// Roles on offer, and the spare threads that wait for one.
    offered: Mutex<Vec<Arc<Seat<Sim>>>>,
    spare: Condvar,
    /// Handlers finished, per connection.
    done: Mutex<Vec<usize>>,
    done_changed: Condvar,
    running: Plain,
    cap: usize,
    driving: Vec<Plain>,
    /// The watchdog's clock stands still until something happens.
    clock: Option<(Mutex<usize>, Condvar)>,
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Sim {
    fn home(&self, conn: usize) -> usize {
        self.conns[conn].home
    }

    fn edge(&self, kernel: &mut Kernel, conn: usize) {
        let home = self.home(conn);
        if !kernel.ready[home].contains(&conn) {
            kernel.ready[home].push(conn);
        }
        self.ready[home].notify_one();
    }

    fn send(&self, conn: usize, bytes: usize) {
        let mut kernel = self.kernel.lock().unwrap();
        kernel.sockets[conn].bytes += bytes;
        self.edge(&mut kernel, conn);
    }

    fn rearm(&self, conn: &Conn) {
        let mut kernel = self.kernel.lock().unwrap();
        if kernel.sockets[conn.id].bytes > 0 {
            self.edge(&mut kernel, conn.id);
        }
    }

    fn recv(&self, conn: usize, max: usize) -> usize {
        let mut kernel = self.kernel.lock().unwrap();
        let n = kernel.sockets[conn].bytes.min(max);
        kernel.sockets[conn].bytes -= n;
        n
    }

    fn wait_done(&self, conn: usize, count: usize) {
        let mut done = self.done.lock().unwrap();
        while done[conn] < count {
            done = self.done_changed.wait(done).unwrap();
        }
    }

    fn tick(&self) {
        if let Some((count, changed)) = &self.clock {
            *count.lock().unwrap() += 1;
            changed.notify_one();
        }
    }

    /// As `Inner::fill`: true if the budget was used up.
    fn fill(&self, conn: &Conn) -> (bool, bool) {
        let mut left = self.budget;
        let mut any = false;
        let more = conn.write_side.with_mut(|_| {
            loop {
                let have = conn.produced.load(Relaxed);
                let room = conn.flow.room(|| have - conn.consumed.load(Acquire));
                if room == 0 {
                    break false;
                }
                if left == 0 {
                    break true;
                }
                let n = self.recv(conn.id, room.min(left));
                if n == 0 {
                    break false;
                }
                any = true;
                left -= n;
                conn.produced.store(have + n, Release);
            }
        });
        if any {
            conn.readable.notify(conn.unread());
        }
        (any, more)
    }

    /// As `ReadHalf::wait` and `ReadHalf::release`: false if closed.
    fn next(&self, at: &At<Self>, conn: &Conn, n: usize) -> bool {
        if conn.unread() < n {
            at.aside_from_handler(
                |seat| seat.shared == conn.home,
                |core| {
                    if self.fill(conn).1 {
                        core.again.push(conn.id);
                    }
                },
            );
        }
        if conn.unread() < n {
            at.hand_over();
            if conn.flow.raise(n) {
                self.rearm(conn);
            }
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            loop {
                conn.readable.register(n, &waker);
                if conn.unread() >= n || conn.closed.load(Acquire) {
                    break;
                }
                thread::park();
            }
            conn.readable.clear();
            if conn.unread() < n {
                return false;
            }
        }
        let before = conn.unread();
        conn.consumed.store(conn.consumed.load(Relaxed) + n, Release);
        if conn.flow.released(before, conn.unread()) {
            self.rearm(conn);
        }
        true
    }
}

impl Host for Sim {
    type Core = Core;
    type Shared = usize;
    type Work = Arc<Conn>;
    type Command = Command;
    type Watch = Ticker;

    fn advance(&self, seat: &Arc<Seat<Self>>, core: &mut Core) -> Step<Arc<Conn>> {
        let _ = seat;
        let Some(id) = core.batch.pop_front() else {
            return core.ready.pop_front().map_or(Step::Empty, Step::Run);
        };
        let conn = &self.conns[id];
        if cfg!(netpoll_mutant = "mark_before_bytes") {
            let claimed = conn.turn.claim();
            self.fill(conn);
            return if claimed { Step::Run(Arc::clone(conn)) } else { Step::Again };
        }
        let (any, more) = self.fill(conn);
        if more && !cfg!(netpoll_mutant = "budget_forgotten") {
            core.again.push(id);
        }
        if any && conn.turn.claim() { Step::Run(Arc::clone(conn)) } else { Step::Again }
    }

    fn receive(&self, _: &Arc<Seat<Self>>, core: &mut Core, commands: &mut Vec<Command>) {
        for Command::Run(conn) in commands.drain(..) {
            core.ready.push_back(conn);
        }
    }

    fn finished(&self, core: &Core) -> bool {
        core.ready.is_empty()
    }

    fn has_leftovers(&self, core: &Core) -> bool {
        !core.again.is_empty()
    }

    fn poll(&self, seat: &Arc<Seat<Self>>, core: &mut Core, block: bool) {
        let p = seat.shared;
        self.tick();
        assert_eq!(self.driving[p].fetch_add(1, S), 0, "two drivers");
        let mut kernel = self.kernel.lock().unwrap();
        while block && kernel.ready[p].is_empty() && !kernel.woken[p] {
            kernel = self.ready[p].wait(kernel).unwrap();
        }
        kernel.woken[p] = false;
        core.batch.extend(kernel.ready[p].drain(..));
        for id in core.again.drain(..) {
            if !core.batch.contains(&id) {
                core.batch.push_back(id);
            }
        }
        self.driving[p].fetch_sub(1, S);
    }

    fn wake(&self, seat: &Seat<Self>) {
        self.kernel.lock().unwrap().woken[seat.shared] = true;
        self.ready[seat.shared].notify_one();
    }

    fn offer(&self, _: &Arc<Scheduler<Self>>, seat: Arc<Seat<Self>>) {
        self.offered.lock().unwrap().push(seat);
        self.spare.notify_one();
    }

    fn turn(work: &Arc<Conn>) -> &Turn {
        &work.turn
    }

    fn is_idle(&self, work: &Arc<Conn>) -> bool {
        work.unread() == 0 || work.closed.load(Acquire)
    }

    fn handle(&self, at: &At<Self>, work: &Arc<Conn>) -> Outcome {
        self.tick();
        assert!(self.running.fetch_add(1, S) < self.cap, "more handlers than the cap");
        // Held through the handler: a second one beside it is found.
        let _mine = work.read_side.get_mut();
        let ok = match work.job {
            Job::Plain => self.next(at, work, 1),
            Job::Leave => {
                at.hand_over();
                self.next(at, work, 1)
            }
            Job::Need(n) => self.next(at, work, n),
            Job::WaitFor(other) => {
                self.wait_done(other, 1);
                self.next(at, work, 1)
            }
        };
        if ok {
            self.done.lock().unwrap()[work.id] += 1;
            self.done_changed.notify_all();
        }
        self.running.fetch_sub(1, S);
        Outcome::More
    }

    fn aside(&self, _: &Arc<Seat<Self>>) {}

    fn rest(&self, _: &At<Self>, _: &Arc<Conn>) {}

    fn later(&self, at: &At<Self>, work: Arc<Conn>) {
        let home = work.home;
        let here = at
            .with_core_of(|seat| seat.shared == home, |core| core.ready.push_back(work.clone()))
            .is_some();
        if !here {
            at.sched.seat(home).send(self, Command::Run(work));
        }
    }

    fn seated(&self, _: &Seat<Self>) {}

    fn scope(&self, _: &At<Self>, f: impl FnOnce()) {
        f();
    }
}

/// The watchdog's rules in a model: every second look takes.
struct Ticker(Arc<Scheduler<Sim>>, usize);

impl watchdog::Watch<Sim> for Ticker {
    const QUIET_LOOKS: usize = 0;

    fn pause(&mut self, soon: bool) {
        if soon {
            return thread::yield_now();
        }
        if let Some((count, changed)) = &self.0.host.clock {
            let mut now = count.lock().unwrap();
            while *now == self.1 {
                now = changed.wait(now).unwrap();
            }
            self.1 = *now;
        }
    }

    fn may_take(&mut self, _: &Arc<Seat<Sim>>, _: Look) -> bool {
        true
    }

    fn took(&mut self, _: &Arc<Seat<Sim>>) {}
}

#[derive(Clone, Copy, PartialEq)]
enum Dog {
    /// None.
    No,
    /// One look, at a moment of loom's choosing.
    Once,
    /// The real one.
    Whole,
}

#[derive(Clone, Copy)]
struct Case {
    jobs: &'static [Job],
    homes: &'static [usize],
    cap: usize,
    /// Threads that drive, or wait for a role.
    threads: usize,
    limit: usize,
    budget: usize,
    dog: Dog,
    bound: usize,
}

const BASE: Case = Case {
    jobs: &[Job::Plain],
    homes: &[0],
    cap: 1,
    threads: 2,
    limit: 9,
    budget: 9,
    dog: Dog::No,
    bound: 2,
};

fn spare(sched: &Arc<Scheduler<Sim>>) {
    loop {
        let seat = {
            let mut offered = sched.host.offered.lock().unwrap();
            loop {
                if let Some(seat) = offered.pop() {
                    break seat;
                }
                let over = if cfg!(netpoll_mutant = "spares_end_early") {
                    sched.is_ending()
                } else {
                    sched.has_ended()
                };
                if over {
                    return;
                }
                offered = sched.host.spare.wait(offered).unwrap();
            }
        };
        sched.drive(seat);
        sched.host.tick();
        if sched.has_ended() {
            let _order = sched.host.offered.lock().unwrap();
            sched.host.spare.notify_all();
        }
    }
}

/// `peer` sends; then every (connection, count) of `wait` is awaited; then the loop ends.
fn check(case: Case, peer: fn(&Sim), wait: &'static [(usize, usize)]) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(case.bound);
    builder.max_branches = 20_000;
    builder.check(move || {
        let pollers = case.homes.iter().max().unwrap() + 1;
        let conn = |id: usize| {
            Arc::new(Conn {
                id,
                home: case.homes[id],
                job: case.jobs[id],
                turn: Turn::idle(),
                flow: Flow::new(case.limit),
                readable: Slot::new(),
                produced: AtomicUsize::new(0),
                consumed: AtomicUsize::new(0),
                closed: AtomicBool::new(false),
                write_side: UnsafeCell::new(()),
                read_side: UnsafeCell::new(()),
            })
        };
        let sim = Sim {
            kernel: Mutex::new(Kernel {
                sockets: case.jobs.iter().map(|_| Socket::default()).collect(),
                ready: vec![Vec::new(); pollers],
                woken: vec![false; pollers],
            }),
            ready: (0..pollers).map(|_| Condvar::new()).collect(),
            conns: (0..case.jobs.len()).map(conn).collect(),
            budget: case.budget,
            offered: Mutex::new(Vec::new()),
            spare: Condvar::new(),
            done: Mutex::new(vec![0; case.jobs.len()]),
            done_changed: Condvar::new(),
            running: Plain::new(0),
            cap: case.cap,
            driving: (0..pollers).map(|_| Plain::new(0)).collect(),
            clock: (case.dog == Dog::Whole).then(|| (Mutex::new(0), Condvar::new())),
        };
        let sched = Arc::new(Scheduler::new(sim, Mode::Auto, case.cap as u32, 64));
        for p in 0..pollers {
            sched.add(p, Core::default());
        }
        let mut threads: Vec<_> = (0..case.threads)
            .map(|_| {
                let sched = Arc::clone(&sched);
                thread::spawn(move || spare(&sched))
            })
            .collect();
        let watched = Arc::clone(&sched);
        match case.dog {
            Dog::No => {}
            Dog::Once => threads.push(thread::spawn(move || {
                let seat = watched.seat(0);
                let look = seat.role.look();
                if seat.role.seize(look) {
                    watched.host.offer(&watched, seat);
                }
            })),
            Dog::Whole => threads.push(thread::spawn(move || {
                watchdog::run(&watched, Ticker(Arc::clone(&watched), 0));
            })),
        }
        peer(&sched.host);
        for &(conn, count) in wait {
            sched.host.wait_done(conn, count);
        }
        sched.end();
        for conn in &sched.host.conns {
            conn.closed.store(true, Release);
            loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
            conn.readable.wake();
        }
        sched.host.tick();
        for thread in threads {
            thread.join().unwrap();
        }
        for seat in sched.seats() {
            assert_eq!(seat.role.look().state(), State::Ended, "a role has not ended");
        }
        if !wait.is_empty() {
            assert_eq!(sched.places.queued(), 0, "a connection was left in the queue");
        }
    });
}

fn split_frame(kernel: &Sim) {
    kernel.send(0, 1);
    kernel.send(1, 1);
    kernel.send(0, 1);
}

fn one_each(kernel: &Sim) {
    kernel.send(0, 1);
    kernel.send(1, 1);
}

fn twice(kernel: &Sim) {
    kernel.send(0, 1);
    kernel.send(0, 1);
}

/// A role is handed over exactly once, and the other connection is served meanwhile.
#[test]
fn role_is_handed_over_once() {
    let case = Case {
        jobs: &[Job::Need(2), Job::Plain],
        homes: &[0, 0],
        cap: 2,
        threads: 3,
        bound: 1,
        ..BASE
    };
    check(case, split_frame, &[(0, 1), (1, 1)]);
}

/// The watchdog's look against a handler that returns.
#[test]
fn watchdog_against_return() {
    let case =
        Case { jobs: &[Job::Plain, Job::Plain], homes: &[0, 0], cap: 2, dog: Dog::Once, ..BASE };
    check(case, one_each, &[(0, 1), (1, 1)]);
}

/// The watchdog's look against a handler that hands over itself.
#[test]
fn watchdog_against_hand_over() {
    let case = Case { jobs: &[Job::Need(2)], dog: Dog::Once, ..BASE };
    check(case, twice, &[(0, 1)]);
}

/// A handler that blocks unseen is rescued by the whole watchdog, which may have been asleep.
#[test]
fn blocked_handler_is_rescued() {
    let case = Case {
        jobs: &[Job::WaitFor(1), Job::Plain],
        homes: &[0, 0],
        cap: 2,
        dog: Dog::Whole,
        bound: 1,
        ..BASE
    };
    check(case, one_each, &[(0, 1), (1, 1)]);
}

/// An event for a connection whose handler is leaving, by a thread that keeps the role.
#[test]
fn event_while_running() {
    let case = Case { dog: Dog::Once, ..BASE };
    check(case, twice, &[(0, 2)]);
}

/// The same where the handler announced blocking, and another thread drives.
#[test]
fn event_while_running_elsewhere() {
    let case = Case { jobs: &[Job::Leave], bound: 3, ..BASE };
    check(case, twice, &[(0, 2)]);
}

/// A freed place against a connection that queues.
#[test]
fn freed_place_against_queue() {
    let case = Case { jobs: &[Job::Leave, Job::Plain], homes: &[0, 0], bound: 3, ..BASE };
    check(case, one_each, &[(0, 1), (1, 1)]);
}

/// The same where the cap is full of one that waits.
#[test]
fn waiting_at_the_cap() {
    let case = Case { jobs: &[Job::Need(2), Job::Plain], homes: &[0, 0], bound: 2, ..BASE };
    check(case, split_frame, &[(0, 1), (1, 1)]);
}

/// Two pollers under one cap: a sleeping poller keeps no place.
#[test]
fn no_place_in_the_kernel() {
    let case =
        Case { jobs: &[Job::Need(2), Job::Plain], homes: &[0, 1], threads: 3, bound: 1, ..BASE };
    check(case, split_frame, &[(0, 1), (1, 1)]);
}

/// A wait that registers against bytes that are published.
#[test]
fn wait_against_bytes() {
    let case = Case { jobs: &[Job::Need(2)], bound: 3, ..BASE };
    check(case, twice, &[(0, 1)]);
}

/// A wait for more than the limit.
#[test]
fn wait_above_the_limit() {
    let case = Case { jobs: &[Job::Need(2)], limit: 1, bound: 3, ..BASE };
    check(case, twice, &[(0, 1)]);
}

/// Pausing at the limit against resuming below it.
#[test]
fn pause_against_resume() {
    let case = Case { jobs: &[Job::Leave], limit: 1, ..BASE };
    check(case, twice, &[(0, 2)]);
}

/// The same while the reader waits for what is behind the limit.
#[test]
fn pause_against_wait() {
    let case = Case { jobs: &[Job::Need(2)], limit: 2, bound: 3, ..BASE };
    let peer = |kernel: &Sim| {
        kernel.send(0, 1);
        kernel.send(0, 3);
    };
    check(case, peer, &[(0, 2)]);
}

/// What stopped at the read budget goes on.
#[test]
fn budget_leaves_nothing_behind() {
    let case = Case { budget: 1, bound: 3, ..BASE };
    check(case, |kernel| kernel.send(0, 2), &[(0, 2)]);
}

/// The end against a poller that goes to sleep.
#[test]
fn end_against_sleep() {
    check(Case { threads: 1, bound: 5, ..BASE }, |_| (), &[]);
}

/// The end against a role that is being offered: threads end when roles have, not before.
#[test]
fn end_against_offer() {
    check(Case { dog: Dog::Once, ..BASE }, |kernel| kernel.send(0, 1), &[(0, 1)]);
}

/// The end at any moment, a handler waiting.
#[test]
fn end_at_any_time() {
    let case = Case { jobs: &[Job::Need(2)], dog: Dog::Once, ..BASE };
    check(case, |kernel| kernel.send(0, 1), &[]);
}

#[path = "loom/mux.rs"]
mod mux;
