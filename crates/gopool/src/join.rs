//! A task's result, for whoever waits for it.
//!
//! J1. `state` is `Pending` until the task ends or is dropped, which happens once; the result
//!     goes to the handle, or, where that is gone, is dropped by the worker.
//! J2. `counted` says that a worker waits here and that its crew counts it as joining. Whoever
//!     ends the task takes it out, so that nobody is counted who is about to go on.
//!     Lock order: `state`, then the crew's roster.

use std::{
    any::Any,
    fmt, mem,
    panic::{self, AssertUnwindSafe},
    time::Duration,
};

use crate::{
    crew::Crew,
    error::JoinError,
    panics::{Panics, discard},
    sync::{Arc, Condvar, Deadline, Mutex, MutexGuard},
    task::Run,
    worker,
};

/// The right to the result of a task, from [`Pool::spawn`](crate::Pool::spawn).
///
/// Dropped before the task has ended, it lets the task run on: the result is dropped by the worker,
/// and a panic goes to the pool's panic handler. Dropped later, it takes either along; a result that
/// panics when it is dropped goes to the panic handler too.
pub struct JoinHandle<T> {
    packet: Option<Arc<Packet<T>>>,
}

struct Packet<T> {
    crew: Arc<Crew>,
    state: Mutex<State<T>>,
    ended: Condvar,
}

struct State<T> {
    stage: Stage<T>,
    counted: bool,
}

enum Stage<T> {
    Pending,
    /// The handle is gone.
    Detached,
    Ended(Result<T, JoinError>),
    Taken,
}

impl<T: Send + 'static> JoinHandle<T> {
    /// Waits until the task has ended.
    ///
    /// A worker may join a task of its own pool; while it waits, it holds one of the pool's
    /// workers. If that were the last, the call does not wait but says so.
    ///
    /// # Errors
    ///
    /// [`JoinError::Panicked`] with what the task panicked with, [`JoinError::Refused`] if a
    /// shutdown dropped it unrun, [`JoinError::WouldDeadlock`] as above.
    ///
    /// ```
    /// let pool = gopool::Pool::builder().build()?;
    /// let answer = pool.spawn(|| 6 * 7)?;
    /// assert_eq!(answer.join()?, 42);
    ///
    /// let failed = pool.spawn(|| panic!("out of paper"))?;
    /// assert_eq!(failed.join().unwrap_err().message(), Some("out of paper"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn join(mut self) -> Result<T, JoinError> {
        let packet = self.packet.take().expect("only `join` and `drop` take it");
        let mut state = packet.state.lock();
        if state.is_pending() && worker::is_current(&packet.crew) {
            if !Crew::begin_join(&packet.crew) {
                state.stage = Stage::Detached;
                return Err(JoinError::WouldDeadlock);
            }
            state.counted = true;
        }
        while state.is_pending() {
            state = packet.ended.wait(state, Deadline::NEVER);
        }
        state.take().expect("it has ended, and the only handle was not used before")
    }

    /// Waits until the task has ended, for at most so long. Zero looks without waiting.
    ///
    /// # Errors
    ///
    /// The handle itself, if the task has not ended by then: it is still running, or queued.
    /// Inside is what [`join`](JoinHandle::join) returns, except that a wait that ends by
    /// itself is never refused.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let pool = gopool::Pool::builder().build()?;
    /// let slow = pool.spawn(|| std::thread::sleep(Duration::from_millis(50)))?;
    /// let slow = slow.join_timeout(Duration::from_millis(1)).unwrap_err();
    /// slow.join()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn join_timeout(mut self, timeout: Duration) -> Result<Result<T, JoinError>, Self> {
        let deadline = Deadline::after(timeout);
        let packet = self.packet.take().expect("only `join` and `drop` take it");
        let mut state = packet.state.lock();
        while state.is_pending() && !deadline.has_passed() {
            state = packet.ended.wait(state, deadline);
        }
        let result = state.take();
        drop(state);
        result.ok_or(Self { packet: Some(packet) })
    }

    /// Whether the task has ended, so that [`join`](JoinHandle::join) will not wait.
    pub fn is_finished(&self) -> bool {
        self.packet.as_ref().is_some_and(|packet| !packet.state.lock().is_pending())
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let Some(packet) = self.packet.take() else { return };
        let mut state = packet.state.lock();
        let last = mem::replace(&mut state.stage, Stage::Detached);
        // A result is the user's: it drops outside the lock. If that panics, it ends as on a worker,
        // so that it does not matter which of the two came first.
        drop(state);
        let crew = &packet.crew;
        match last {
            Stage::Ended(Err(JoinError::Panicked(payload))) => discard(payload),
            last => {
                if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(last))) {
                    crew.panics.report(payload, None);
                }
            }
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}

impl<T> State<T> {
    fn is_pending(&self) -> bool {
        matches!(self.stage, Stage::Pending)
    }

    fn take(&mut self) -> Option<Result<T, JoinError>> {
        if let Stage::Ended(_) = self.stage {
            if let Stage::Ended(result) = mem::replace(&mut self.stage, Stage::Taken) {
                return Some(result);
            }
        }
        None
    }
}

/// `spawn(f)`, as it lies in the queue.
pub(crate) struct Joined<T: Send + 'static, F> {
    f: F,
    completer: Completer<T>,
}

/// Makes the two ends of a task with a result.
pub(crate) fn pair<T, F>(crew: &Arc<Crew>, f: F) -> (Joined<T, F>, JoinHandle<T>)
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let packet = Arc::new(Packet {
        crew: Arc::clone(crew),
        state: Mutex::new(State { stage: Stage::Pending, counted: false }),
        ended: Condvar::new(),
    });
    let handle = JoinHandle { packet: Some(Arc::clone(&packet)) };
    (Joined { f, completer: Completer(Some(packet)) }, handle)
}

impl<T: Send + 'static, F> Joined<T, F> {
    /// The closure, of a task that was not accepted.
    pub(crate) fn into_inner(self) -> F {
        self.f
    }
}

impl<T, F> Run for Joined<T, F>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    fn run(self, panics: &Panics) {
        let Self { f, completer } = self;
        match panic::catch_unwind(AssertUnwindSafe(f)) {
            Ok(value) => completer.complete(Ok(value), panics),
            Err(payload) => completer.complete(Err(payload), panics),
        }
    }
}

/// The task's end of the packet. Dropped without a result, it says that the task was refused.
struct Completer<T>(Option<Arc<Packet<T>>>);

impl<T> Completer<T> {
    fn complete(mut self, result: Result<T, Box<dyn Any + Send>>, panics: &Panics) {
        let packet = self.0.take().expect("only `complete` and `drop` take it");
        if result.is_err() {
            panics.count_one();
        }
        let unwanted = {
            let mut state = packet.state.lock();
            if state.is_pending() {
                state.stage = Stage::Ended(result.map_err(JoinError::Panicked));
                packet.announce(state);
                return;
            }
            result
        };
        match unwanted {
            // Its own panic is caught, counted and reported at the task's boundary.
            Ok(value) => drop(value),
            Err(payload) => panics.hand_over(payload, None),
        }
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        let Some(packet) = self.0.take() else { return };
        let mut state = packet.state.lock();
        if state.is_pending() {
            state.stage = Stage::Ended(Err(JoinError::Refused));
            packet.announce(state);
        }
    }
}

impl<T> Packet<T> {
    fn announce(&self, mut state: MutexGuard<'_, State<T>>) {
        if mem::take(&mut state.counted) && !cfg!(netpoll_mutant = "join-uncounted") {
            self.crew.end_join();
        }
        drop(state);
        self.ended.notify_all();
    }
}
