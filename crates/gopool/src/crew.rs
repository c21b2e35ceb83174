//! The workers of one pool: when one is woken, started, put to sleep or let go.
//!
//! A task is submitted by putting it in the queue and, if need be, calling for help. What makes
//! that cheap is that help is called one worker at a time: while one is awake without a task
//! (searching), nobody calls another, and the last searcher to find a task looks again and calls
//! the next. So a burst of small tasks costs few wake-ups, and a burst of long ones still gets a
//! worker each.
//!
//! C1. A task is in the queue, then a worker is alive (Q3). `workers` changes under the roster's
//!     lock; the change to zero, together with `Queue::unman` or after the queue has ended.
//! C2. A task is in the queue and no step is under way, then a worker searches, or none is parked
//!     and growth is not due: the cap is reached, or fewer tasks wait than the threshold asks.
//!     Whoever could break this (a submitter, a searcher that stops searching, a raised cap)
//!     makes its change, fences, and looks at the other side's.
//! C3. `workers` never grows beyond the cap of that moment.
//! C4. A worker is on the list of the parked, then `parked` counts it, and its `woken` is unset;
//!     all three change together under the lock.

use std::io;

use crossbeam_utils::CachePadded;

use crate::{
    config::Builder,
    counts::{AtomicCounts, Change, Counts},
    error::{BuildError, Refusal, Unfinished},
    panics::Panics,
    queue::{Queue, Unclaimed},
    stats::Stats,
    sync::{
        Arc, Backoff, Condvar, Deadline, Mutex, MutexGuard,
        atomic::{
            AtomicUsize,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
        spawn,
    },
    task::{Run, Task},
    worker::{self, Worker},
};

/// After the system refused a thread, it is not asked again for more for this long.
const RETRY: std::time::Duration = std::time::Duration::from_millis(10);

pub(crate) struct Crew {
    pub(crate) queue: Queue,
    counts: CachePadded<AtomicCounts>,
    cap: AtomicUsize,
    pub(crate) config: Builder,
    pub(crate) panics: Panics,
    roster: CachePadded<Mutex<Roster>>,
    ended: Condvar,
    /// How many producers wait for room in the queue.
    waiting: CachePadded<Mutex<usize>>,
    room: Condvar,
    refused: AtomicUsize,
    rejected: AtomicUsize,
}

#[derive(Default)]
struct Roster {
    /// Everyone who is alive and has come to work.
    workers: Vec<Arc<Worker>>,
    /// Who sleeps; the last to lie down is the first to be woken, so that the others retire.
    parked: Vec<Arc<Worker>>,
    /// How many workers wait, without a deadline, for tasks of this pool.
    joining: usize,
    /// Tasks that ended on workers that have left.
    departed: usize,
    threads_started: usize,
    threads_refused: usize,
    /// Set while the system refuses threads.
    retry: Option<Deadline>,
}

/// How long a submitter waits for room.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    None,
    Until(Deadline),
}

/// What a worker does after resting.
pub(crate) enum Rested {
    Search,
    Leave,
}

impl Crew {
    pub(crate) fn new(mut config: Builder) -> Result<Self, BuildError> {
        let limit = config.queue_limit;
        let queue = Queue::new(limit).ok_or(BuildError::NoMemory { queue_limit: limit })?;
        let panics = Panics::new(config.name.clone(), config.panic_handler.take());
        Ok(Self {
            queue,
            counts: CachePadded::new(AtomicCounts::new()),
            cap: AtomicUsize::new(config.cap),
            config,
            panics,
            roster: CachePadded::new(Mutex::new(Roster::default())),
            ended: Condvar::new(),
            waiting: CachePadded::new(Mutex::new(0)),
            room: Condvar::new(),
            refused: AtomicUsize::new(0),
            rejected: AtomicUsize::new(0),
        })
    }

    // Submitting.

    /// Puts a task in the queue and sees to it that somebody comes; or gives it back.
    #[inline]
    pub(crate) fn submit<R: Run>(
        this: &Arc<Self>,
        run: R,
        patience: Patience,
    ) -> Result<(), (R, Refusal)> {
        match this.queue.claim() {
            Ok(claim) => {
                claim.fill(Task::new(run));
                Self::call_if_needed(this);
                Ok(())
            }
            Err(why) => Self::submit_slowly(this, run, patience, why),
        }
    }

    #[cold]
    fn submit_slowly<R: Run>(
        this: &Arc<Self>,
        run: R,
        patience: Patience,
        mut why: Unclaimed,
    ) -> Result<(), (R, Refusal)> {
        let mut has_waited = false;
        let mut is_last_try = false;
        let refusal = loop {
            let manned = match why {
                Unclaimed::Closed => break Refusal::Closed,
                Unclaimed::Unmanned => match Self::man(this) {
                    Ok(roster) => Some(roster),
                    Err(error) => break Refusal::NoThread(error),
                },
                Unclaimed::Full => {
                    let Patience::Until(deadline) = patience else { break Refusal::Full };
                    if is_last_try || worker::is_current(this) {
                        break Refusal::Full;
                    }
                    this.wait_for_room(deadline);
                    has_waited = true;
                    // Even at the deadline: this may have been the one producer told of the room.
                    is_last_try = deadline.has_passed();
                    None
                }
            };
            match this.queue.claim() {
                Ok(claim) => {
                    claim.fill(Task::new(run));
                    drop(manned);
                    Self::call_if_needed(this);
                    if has_waited {
                        this.pass_room_on();
                    }
                    return Ok(());
                }
                Err(again) => why = again,
            }
        };
        // ORDERING: Relaxed: a statistic.
        this.rejected.fetch_add(1, Relaxed);
        Err((run, refusal))
    }

    /// Starts a first worker if there is none. While the lock is held, it does not leave.
    fn man(this: &Arc<Self>) -> io::Result<MutexGuard<'_, Roster>> {
        let mut roster = this.roster.lock();
        if this.counts.load().workers() == 0 && !this.queue.is_closed() {
            Self::start(this, &mut roster)?;
            this.queue.man();
        }
        Ok(roster)
    }

    // Calling help.

    /// Keeps C2 after a task was queued or a searcher stopped searching; the caller has fenced.
    #[inline]
    fn call_if_needed(this: &Arc<Self>) {
        let counts = this.counts.load();
        if counts.searching() == 0 && (counts.parked() > 0 || this.growth_is_due(counts)) {
            Self::call(this);
        }
    }

    #[inline]
    fn growth_is_due(&self, counts: Counts) -> bool {
        let threshold = self.config.scale_threshold;
        counts.workers() < self.cap() && (threshold <= 1 || self.queue.len() >= threshold)
    }

    /// Wakes or starts one worker, if it is still needed.
    #[cold]
    fn call(this: &Arc<Self>) {
        let mut roster = this.roster.lock();
        let counts = this.counts.load();
        if counts.searching() > 0 || this.queue.is_empty() {
            return;
        }
        if let Some(sleeper) = roster.parked.pop() {
            this.wake(&sleeper);
            drop(roster);
            sleeper.unpark();
        } else if this.growth_is_due(counts) {
            Self::grow(this, &mut roster);
        }
    }

    /// Counts a worker that was taken from the list of the parked as awake (C4).
    fn wake(&self, sleeper: &Worker) {
        self.counts.apply(Change::Wake);
        sleeper.set_woken();
    }

    /// Starts one more worker, unless the system has just refused one. Then the task waits for
    /// those who are there (C1).
    fn grow(this: &Arc<Self>, roster: &mut Roster) {
        if roster.retry.is_none_or(Deadline::has_passed) {
            // A failure is counted, and it is nobody's error: nothing is lost.
            let _ = Self::start(this, roster);
        }
    }

    /// Starts a worker. With the lock held, so that no one leaves who counts on it to come.
    fn start(this: &Arc<Self>, roster: &mut Roster) -> io::Result<()> {
        let name = format!("{}-{}", this.config.name, roster.threads_started);
        let crew = Arc::clone(this);
        this.counts.apply(Change::Start);
        match spawn(name, this.config.stack_size, move || worker::main(&crew)) {
            Ok(()) => {
                roster.threads_started += 1;
                roster.retry = None;
                Ok(())
            }
            Err(error) => {
                this.counts.apply(Change::SearcherLeaves);
                roster.threads_refused += 1;
                roster.retry = Some(Deadline::after(RETRY));
                Err(error)
            }
        }
    }

    // What workers do between tasks.

    /// A new worker comes to work.
    pub(crate) fn enlist(&self, worker: &Arc<Worker>) {
        let mut roster = self.roster.lock();
        roster.workers.push(Arc::clone(worker));
        // Lying down must not allocate.
        let alive = roster.workers.len();
        let listed = roster.parked.len();
        roster.parked.reserve(alive - listed);
    }

    /// A worker that was searching has found a task.
    pub(crate) fn found(this: &Arc<Self>) {
        let before = this.counts.apply(Change::Find);
        if before.searching() == 1 && !cfg!(netpoll_mutant = "found-unlooked") {
            // ORDERING: pairs with the fence in `Claim::fill`: a submitter saw this worker
            // searching and called nobody, or its task is seen here.
            fence(SeqCst);
            if !this.queue.is_empty() {
                Self::call_if_needed(this);
            }
        }
    }

    /// A worker has found the queue empty after a task.
    pub(crate) fn search(&self) {
        self.counts.apply(Change::Search);
    }

    /// Whether nobody but the caller is searching.
    #[cfg(not(netpoll_loom))]
    pub(crate) fn is_only_searcher(&self) -> bool {
        self.counts.load().searching() <= 1
    }

    /// Lies down until woken, or until it is time to leave.
    pub(crate) fn rest(&self, worker: &Arc<Worker>) -> Rested {
        let mut roster = self.roster.lock();
        worker.set_resting();
        roster.parked.push(Arc::clone(worker));
        self.counts.apply(Change::Park);
        if !cfg!(netpoll_mutant = "rest-unlooked") {
            // ORDERING: pairs with the fence in `Claim::fill`: a submitter sees this worker
            // parked, or its task is seen here.
            fence(SeqCst);
            if !self.queue.is_empty() || self.queue.is_closed() || self.is_surplus(&roster) {
                roster.parked.pop();
                self.wake(worker);
                return Rested::Search;
            }
        }
        drop(roster);

        let deadline = Deadline::after(self.config.keep_alive);
        loop {
            crate::sync::park(deadline);
            if worker.is_woken() {
                return Rested::Search;
            }
            if deadline.has_passed() {
                return self.retire(worker);
            }
        }
    }

    /// The keep-alive of a parked worker is over.
    fn retire(&self, worker: &Arc<Worker>) -> Rested {
        let mut roster = self.roster.lock();
        if worker.is_woken() && !cfg!(netpoll_mutant = "woken-unheeded") {
            return Rested::Search;
        }
        roster.parked.retain(|other| !Arc::ptr_eq(other, worker));
        let is_last = self.counts.load().workers() == 1;
        // A parked worker takes the task, also when its submitter still waits for the lock.
        if !self.queue.is_empty() || is_last && !self.queue.unman() {
            self.wake(worker);
            return Rested::Search;
        }
        self.counts.apply(Change::SleeperLeaves);
        roster.strike(worker);
        Rested::Leave
    }

    /// Whether the cap was lowered below the number of workers.
    #[inline]
    pub(crate) fn is_over_cap(&self) -> bool {
        self.counts.load().workers() > self.cap()
    }

    /// Whether a worker may leave for the cap: not if all others wait for what is in the queue.
    fn is_surplus(&self, roster: &Roster) -> bool {
        let workers = self.counts.load().workers();
        workers > self.cap() && workers > roster.joining + 1
    }

    /// Leaves if the pool is over its cap.
    pub(crate) fn leave_if_surplus(
        this: &Arc<Self>,
        worker: &Arc<Worker>,
        searching: bool,
    ) -> bool {
        let mut roster = this.roster.lock();
        if !this.is_surplus(&roster) {
            return false;
        }
        this.counts.apply(worker::leaving(searching));
        roster.strike(worker);
        drop(roster);
        if searching && !cfg!(netpoll_mutant = "surplus-unlooked") {
            // ORDERING: as in `found`.
            fence(SeqCst);
            if !this.queue.is_empty() {
                Self::call_if_needed(this);
            }
        }
        true
    }

    /// Leaves a queue that has ended.
    pub(crate) fn leave_ended(&self, worker: &Arc<Worker>, searching: bool) {
        let mut roster = self.roster.lock();
        self.counts.apply(worker::leaving(searching));
        roster.strike(worker);
        if self.counts.load().workers() == 0 {
            self.ended.notify_all();
        }
    }

    // Room in the queue.

    fn wait_for_room(&self, deadline: Deadline) {
        // Short tasks make room sooner than a thread can be put to sleep, and much of it.
        let mut backoff = Backoff::default();
        while backoff.is_worthwhile() {
            backoff.snooze();
            if !self.queue.is_full() {
                return;
            }
        }
        let mut waiting = self.waiting.lock();
        if self.queue.want_room() {
            *waiting += 1;
            waiting = self.room.wait(waiting, deadline);
            *waiting -= 1;
        }
    }

    /// A consumer has made room that was wanted, or a producer that was told of room has had
    /// its share: tell the next, or ask the next consumer to.
    #[cold]
    pub(crate) fn pass_room_on(&self) {
        let waiting = self.waiting.lock();
        if *waiting > 0 && !self.queue.want_room() {
            self.room.notify_one();
        }
    }

    // Joining.

    /// A worker is about to wait, for however long, for a task of this pool. False if then no
    /// worker would be left who could end it.
    pub(crate) fn begin_join(this: &Arc<Self>) -> bool {
        let mut roster = this.roster.lock();
        let counts = this.counts.load();
        if counts.searching() == 0 && !this.queue.is_empty() {
            // The threshold is for tasks that a worker will come back for.
            if let Some(sleeper) = roster.parked.pop() {
                this.wake(&sleeper);
                sleeper.unpark();
            } else if counts.workers() < this.cap() {
                Self::grow(this, &mut roster);
            }
        }
        let is_safe = this.counts.load().workers() > roster.joining + 1;
        if is_safe {
            roster.joining += 1;
        }
        is_safe
    }

    /// What a worker waited for has come.
    pub(crate) fn end_join(&self) {
        self.roster.lock().joining -= 1;
    }

    // From outside.

    #[inline]
    pub(crate) fn cap(&self) -> usize {
        // ORDERING: Relaxed: a limit, which publishes nothing; see `set_cap`.
        self.cap.load(Relaxed)
    }

    pub(crate) fn set_cap(this: &Arc<Self>, cap: usize) {
        let mut woken = Vec::new();
        {
            let mut roster = this.roster.lock();
            // ORDERING: Relaxed: the lock orders it for those who start workers or lie down.
            this.cap.store(cap, Relaxed);
            let surplus = this.counts.load().workers().saturating_sub(cap);
            // Those who have slept longest.
            let count = surplus.min(roster.parked.len());
            woken.extend(roster.parked.drain(..count));
            for sleeper in &woken {
                this.wake(sleeper);
            }
        }
        for sleeper in woken {
            sleeper.unpark();
        }
        if !cfg!(netpoll_mutant = "raised-unlooked") {
            Self::look_again(this);
        }
    }

    /// Calls help for what waits, if there is more to be had now.
    pub(crate) fn look_again(this: &Arc<Self>) {
        // ORDERING: pairs with the fence in `Claim::fill`: a submitter sees what the caller changed
        // (the cap), or its task is seen here (C2).
        fence(SeqCst);
        if !this.queue.is_empty() {
            Self::call_if_needed(this);
        }
    }

    pub(crate) fn worker_count(&self) -> usize {
        self.counts.load().workers()
    }

    /// Accepts nothing more; what was accepted still runs.
    pub(crate) fn close(&self) {
        self.queue.close();
        let sleepers = {
            let mut roster = self.roster.lock();
            let sleepers = std::mem::take(&mut roster.parked);
            for sleeper in &sleepers {
                self.wake(sleeper);
            }
            sleepers
        };
        for sleeper in sleepers {
            sleeper.unpark();
        }
        let _waiting = self.waiting.lock();
        self.room.notify_all();
    }

    /// Waits until everyone has left, or the deadline passes.
    pub(crate) fn wait_until_ended(&self, deadline: Deadline) {
        let mut roster = self.roster.lock();
        while self.counts.load().workers() > 0 && !deadline.has_passed() {
            roster = self.ended.wait(roster, deadline);
        }
    }

    /// Drops what is queued, unrun.
    pub(crate) fn refuse_queued(&self) {
        while let Some((task, _)) = self.queue.pop() {
            // ORDERING: Relaxed: a statistic.
            self.refused.fetch_add(1, Relaxed);
            drop(task);
        }
    }

    /// What became of everything that was accepted, once the queue is closed.
    pub(crate) fn outcome(&self) -> Result<(), Unfinished> {
        let queued = self.queue.len();
        // ORDERING: Relaxed: statistics; who refused them is this thread, or has its own outcome.
        let refused = self.refused.load(Relaxed);
        let completed = self.roster.lock().completed();
        // Tasks that went on in between are missing here, not counted twice.
        let running = self.queue.accepted().saturating_sub(completed + refused + queued);
        if running == 0 && queued == 0 && refused == 0 {
            return Ok(());
        }
        Err(Unfinished { running, queued, refused })
    }

    pub(crate) fn stats(&self) -> Stats {
        let roster = self.roster.lock();
        let counts = self.counts.load();
        // ORDERING: Relaxed: statistics.
        Stats {
            cap: self.cap(),
            workers: counts.workers(),
            parked: counts.parked(),
            queued: self.queue.len(),
            running: counts.workers() - counts.parked() - counts.searching(),
            completed: roster.completed(),
            accepted: self.queue.accepted(),
            panicked: self.panics.count(),
            refused: self.refused.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            threads_started: roster.threads_started,
            threads_refused: roster.threads_refused,
        }
    }
}

impl Roster {
    /// Tasks that have ended.
    fn completed(&self) -> usize {
        self.departed + self.workers.iter().map(|worker| worker.completed()).sum::<usize>()
    }

    /// A worker leaves; its count stays.
    fn strike(&mut self, worker: &Arc<Worker>) {
        self.departed += worker.completed();
        let place = self.workers.iter().position(|other| Arc::ptr_eq(other, worker));
        self.workers.swap_remove(place.expect("a worker enlists before it leaves"));
    }
}
