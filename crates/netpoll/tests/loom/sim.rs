//! The host of the scheduler's models: sockets that are numbers, an edge-triggered ready list per
//! poller, and handlers that are one of [`Job`].
//!
//! What it does itself (filling, sending, waiting) follows `connection/` step by step.
#![allow(unreachable_pub)]

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
    At, Host, Lane, Mode, Outcome, Scheduler, Seat, Step, flow::Flow, full::Full, role::Look,
    role::State, slot::Slot, turn::Turn, watchdog,
};

/// What a handler does.
#[derive(Clone, Copy, PartialEq)]
pub enum Job {
    /// Takes one byte that is there.
    Plain,
    /// Announces blocking, then takes one byte.
    Leave,
    /// Waits for so many bytes.
    Need(usize),
    /// Waits, unseen by the library, until that connection has handled one.
    WaitFor(usize),
    /// Passes the role on, and waits until that connection has handled so many.
    LeaveFor(usize, usize),
    /// Passes the role on, takes one byte, sends one, and waits until the socket has taken it.
    Flush,
}

pub struct Conn {
    id: usize,
    home: usize,
    job: Job,
    lane: Lane,
    turn: Turn,
    flow: Flow,
    readable: Slot,
    /// Who sends; bytes flushed, stored by the turn's owner; bytes sent, stored by the sender.
    sender: Turn,
    full: Full,
    flushed: AtomicUsize,
    sent: AtomicUsize,
    drained: Slot,
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
    /// How many bytes it takes before it is full.
    room: usize,
}

/// Bytes per socket; per poller the ready list and the eventfd.
struct Kernel {
    sockets: Vec<Socket>,
    ready: Vec<Vec<Event>>,
    woken: Vec<bool>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Event {
    In(usize),
    Out(usize),
}

#[derive(Default)]
pub struct Core {
    batch: VecDeque<Event>,
    again: Vec<usize>,
    ready: VecDeque<Arc<Conn>>,
}

pub enum Command {
    Run(Arc<Conn>),
}

pub struct Sim {
    kernel: Mutex<Kernel>,
    ready: Vec<Condvar>,
    conns: Vec<Arc<Conn>>,
    budget: usize,
    /// Roles on offer, and the spare threads that wait for one.
    offered: Mutex<Vec<Arc<Seat<Sim>>>>,
    spare: Condvar,
    /// Handlers finished, per connection, and how many there are to be.
    done: Mutex<Vec<usize>>,
    done_changed: Condvar,
    wanted: &'static [(usize, usize)],
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

    fn edge(&self, kernel: &mut Kernel, event: Event) {
        let (Event::In(conn) | Event::Out(conn)) = event;
        let home = self.home(conn);
        if !kernel.ready[home].contains(&event) {
            kernel.ready[home].push(event);
        }
        self.ready[home].notify_one();
    }

    pub fn send(&self, conn: usize, bytes: usize) {
        let mut kernel = self.kernel.lock().unwrap();
        kernel.sockets[conn].bytes += bytes;
        self.edge(&mut kernel, Event::In(conn));
    }

    /// The peer takes what fills the socket.
    pub fn drain(&self, conn: usize) {
        let mut kernel = self.kernel.lock().unwrap();
        kernel.sockets[conn].room += 1;
        self.edge(&mut kernel, Event::Out(conn));
    }

    fn rearm(&self, conn: &Conn) {
        let mut kernel = self.kernel.lock().unwrap();
        if kernel.sockets[conn.id].bytes > 0 {
            self.edge(&mut kernel, Event::In(conn.id));
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
            let done = || conn.unread() >= n || conn.closed.load(Acquire);
            park_until(&conn.readable, n, &waker, done);
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

    /// As `Inner::push` and `Inner::send`.
    fn push(&self, conn: &Conn) {
        if !conn.sender.claim() {
            return;
        }
        loop {
            conn.sender.begin();
            while conn.sent.load(Relaxed) < conn.flushed.load(Acquire) {
                let mut kernel = self.kernel.lock().unwrap();
                let room = &mut kernel.sockets[conn.id].room;
                if *room > 0 {
                    *room -= 1;
                    drop(kernel);
                    conn.sent.store(conn.sent.load(Relaxed) + 1, Release);
                    conn.full.clear();
                    conn.drained.notify(conn.sent.load(Relaxed));
                } else {
                    drop(kernel);
                    if conn.full.found() {
                        break;
                    }
                }
            }
            if conn.sender.finish() {
                return;
            }
        }
    }

    /// As `WriteHalf::flush` of one byte.
    fn flush(&self, at: &At<Self>, conn: &Conn) {
        let target = conn.flushed.load(Relaxed) + 1;
        conn.flushed.store(target, Release);
        self.push(conn);
        if conn.sent.load(Acquire) < target {
            at.hand_over();
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            park_until(&conn.drained, target, &waker, || conn.sent.load(Acquire) >= target);
        }
    }

    /// Everything that was to be handled has been: the loop ends, at whatever moment that is.
    fn end(&self, sched: &Scheduler<Self>) {
        sched.end();
        for conn in &self.conns {
            conn.closed.store(true, Release);
            loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
            conn.readable.wake();
        }
        self.tick();
    }
}

/// As `connection/wait.rs`.
fn park_until(slot: &Slot, want: usize, waker: &Waker, done: impl Fn() -> bool) {
    if cfg!(netpoll_mutant = "sleep_then_register") {
        if !done() {
            slot.register(want, waker);
            thread::park();
        }
    } else {
        loop {
            slot.register(want, waker);
            if done() {
                break;
            }
            thread::park();
        }
    }
    slot.clear();
}

impl Host for Sim {
    type Core = Core;
    type Shared = usize;
    type Work = Arc<Conn>;
    type Command = Command;
    type Watch = Ticker;

    fn advance(&self, seat: &Arc<Seat<Self>>, core: &mut Core) -> Step<Arc<Conn>> {
        let _ = seat;
        let id = match core.batch.pop_front() {
            None => return core.ready.pop_front().map_or(Step::Empty, Step::Run),
            Some(Event::In(id)) => id,
            Some(Event::Out(id)) => {
                // As `Inner::on_writable`.
                if self.conns[id].full.is_set() {
                    self.push(&self.conns[id]);
                }
                return Step::Again;
            }
        };
        let conn = &self.conns[id];
        if cfg!(netpoll_mutant = "mark_before_bytes") {
            let claimed = conn.turn.claim();
            self.fill(conn);
            if claimed {
                return Step::Run(Arc::clone(conn));
            }
            conn.readable.notify(conn.unread());
            return Step::Again;
        }
        let (any, more) = self.fill(conn);
        if more && !cfg!(netpoll_mutant = "budget_forgotten") {
            core.again.push(id);
        }
        if any {
            if conn.turn.claim() {
                return Step::Run(Arc::clone(conn));
            }
            conn.readable.notify(conn.unread());
        }
        Step::Again
    }

    fn receive(&self, _: &Arc<Seat<Self>>, core: &mut Core, commands: &mut Vec<Command>) {
        for Command::Run(conn) in commands.drain(..) {
            core.ready.push_back(conn);
        }
    }

    fn finished(&self, _: &Arc<Seat<Self>>, core: &Core) -> bool {
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
            if !core.batch.contains(&Event::In(id)) {
                core.batch.push_back(Event::In(id));
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

    fn bring(&self, sched: &Arc<Scheduler<Self>>, work: Arc<Conn>) {
        sched.run_placed(work);
    }

    fn lane(work: &Arc<Conn>) -> Lane {
        work.lane
    }

    fn turn(work: &Arc<Conn>) -> &Turn {
        &work.turn
    }

    fn handle(&self, at: &At<Self>, work: &Arc<Conn>, share: &mut usize) -> Outcome {
        let idle = || work.unread() == 0 || work.closed.load(Acquire);
        if idle() {
            return Outcome::Nothing;
        }
        loop {
            self.step(at, work);
            *share -= 1;
            if idle() {
                return Outcome::Nothing;
            }
            if *share == 0 {
                return Outcome::More;
            }
            at.renew();
        }
    }

    fn aside(&self, _: &Arc<Seat<Self>>) {}

    fn rest(&self, _: &At<Self>, _: &Arc<Conn>) {}

    fn later(&self, at: &At<Self>, work: Arc<Conn>) {
        let home = work.home;
        let here = at
            .with_core_of(|seat| seat.shared == home, |core| core.ready.push_back(work.clone()))
            .is_some();
        if !here {
            at.sched.seats()[home].send(self, Command::Run(work));
        }
    }

    fn seated(&self, _: &Seat<Self>) {}

    fn scope(&self, _: &At<Self>, f: impl FnOnce()) {
        f();
    }
}

impl Sim {
    /// One handler.
    fn step(&self, at: &At<Self>, work: &Arc<Conn>) {
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
            Job::LeaveFor(other, count) => {
                at.hand_over();
                self.wait_done(other, count);
                self.next(at, work, 1)
            }
            Job::Flush => {
                at.hand_over();
                let ok = self.next(at, work, 1);
                self.flush(at, work);
                ok
            }
        };
        self.running.fetch_sub(1, S);
        if ok {
            let mut done = self.done.lock().unwrap();
            done[work.id] += 1;
            let all = self.wanted.iter().all(|&(conn, count)| done[conn] >= count);
            drop(done);
            self.done_changed.notify_all();
            if all && !self.wanted.is_empty() {
                self.end(&at.sched);
            }
        }
    }
}

/// The watchdog's rules in a model: every second look takes.
pub struct Ticker(Arc<Scheduler<Sim>>, usize);

impl watchdog::Watch<Sim> for Ticker {
    const QUIET_LOOKS: usize = 0;

    fn pause(&mut self, _: &Scheduler<Sim>, soon: bool) {
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
pub enum Dog {
    /// None.
    No,
    /// One look, at a moment of loom's choosing.
    Once,
    /// The real one.
    Whole,
}

#[derive(Clone, Copy)]
pub struct Case {
    pub jobs: &'static [Job],
    pub homes: &'static [usize],
    pub cap: usize,
    /// The connection whose handlers have a cap of their own, of one.
    pub attached: Option<usize>,
    /// Threads that drive, or wait for a role.
    pub threads: usize,
    pub limit: usize,
    pub budget: usize,
    /// Bytes that a socket takes before it is full.
    pub room: usize,
    pub dog: Dog,
    pub bound: usize,
}

pub const BASE: Case = Case {
    jobs: &[Job::Plain],
    homes: &[0],
    cap: 1,
    attached: None,
    threads: 2,
    limit: 9,
    budget: 9,
    room: 9,
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

/// `peer` sends. The loop ends when every (connection, count) of `wanted` is handled, or, where
/// nothing is wanted, at any moment.
pub fn check(case: Case, peer: fn(&Sim), wanted: &'static [(usize, usize)]) {
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
                lane: if case.attached == Some(id) { Lane::Attached } else { Lane::Accepted },
                turn: Turn::idle(),
                flow: Flow::new(case.limit, case.limit / 2),
                readable: Slot::new(),
                sender: Turn::idle(),
                full: Full::new(),
                flushed: AtomicUsize::new(0),
                sent: AtomicUsize::new(0),
                drained: Slot::new(),
                produced: AtomicUsize::new(0),
                consumed: AtomicUsize::new(0),
                closed: AtomicBool::new(false),
                write_side: UnsafeCell::new(()),
                read_side: UnsafeCell::new(()),
            })
        };
        let sim = Sim {
            kernel: Mutex::new(Kernel {
                sockets: case.jobs.iter().map(|_| Socket { bytes: 0, room: case.room }).collect(),
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
            wanted,
            running: Plain::new(0),
            cap: case.cap + usize::from(case.attached.is_some()),
            driving: (0..pollers).map(|_| Plain::new(0)).collect(),
            clock: (case.dog == Dog::Whole).then(|| (Mutex::new(0), Condvar::new())),
        };
        let sched = Arc::new(Scheduler::new(sim, Mode::Auto, case.cap as u32, 1, 64));
        for p in 0..pollers {
            sched.add(p, Core::default());
        }
        let threads =
            if cfg!(netpoll_mutant = "threads_equal_cap") { case.cap } else { case.threads };
        let mut threads: Vec<_> = (0..threads)
            .map(|_| {
                let sched = Arc::clone(&sched);
                thread::spawn(move || spare(&sched))
            })
            .collect();
        let watched = Arc::clone(&sched);
        match case.dog {
            Dog::No => {}
            Dog::Once => threads.push(thread::spawn(move || {
                let seat = Arc::clone(&watched.seats()[0]);
                let look = seat.role.look();
                seat.role.suspect(look);
                if seat.role.seize(look) {
                    watched.host.offer(&watched, seat);
                }
            })),
            Dog::Whole => threads.push(thread::spawn(move || {
                watchdog::run(&watched, Ticker(Arc::clone(&watched), 0));
            })),
        }
        peer(&sched.host);
        if wanted.is_empty() {
            sched.host.end(&sched);
        }
        for thread in threads {
            thread.join().unwrap();
        }
        for seat in sched.seats() {
            assert_eq!(seat.role.look().state(), State::Ended, "a role has not ended");
        }
        if !wanted.is_empty() {
            assert_eq!(sched.places.queued(), 0, "a connection was left in the queue");
        }
    });
}
