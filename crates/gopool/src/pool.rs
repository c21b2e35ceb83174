//! The pool as its users see it.

use std::{any::Any, fmt, time::Duration};

use crate::{
    config::{self, Builder},
    crew::{Crew, Patience},
    error::{BuildError, Rejected, Unfinished},
    join::{self, JoinHandle},
    panics::Panic,
    stats::Stats,
    sync::{Arc, Deadline},
    task::{Plain, Run, WithContext},
    worker,
};

/// A pool of reused worker threads.
///
/// Tasks run in the order in which they were accepted, as workers come free: a parked worker
/// takes the task; where none is parked, a new one starts if enough tasks wait
/// ([`scale_threshold`](Builder::scale_threshold)) and the cap allows it, or there is none.
/// A worker with nothing to do retires after the [keep-alive](Builder::keep_alive).
///
/// A `Pool` is a handle: clones are the same pool. When the last is dropped, the pool accepts
/// nothing more, runs what it had accepted, and its threads end; the drop does not wait for
/// them, [`shutdown`](Pool::shutdown) does.
///
/// # Tasks that submit tasks
///
/// A worker never waits for room in its own pool's queue, since all of them might, and nobody
/// would be left to make it: there, `go` at the limit gives the task back at once
/// ([`Refusal::Full`](crate::Refusal::Full)). Nor do the workers all wait for tasks that wait
/// for a worker: the last to [`join`](JoinHandle::join) is told
/// [`WouldDeadlock`](crate::JoinError::WouldDeadlock). Waiting in other ways, on a channel or a
/// lock, the pool cannot see: at the cap, tasks that wait so for tasks behind them wait forever.
#[derive(Clone)]
pub struct Pool {
    handle: Arc<Handle>,
}

/// What the clones of a pool share; workers hold the crew, not this.
struct Handle {
    crew: Arc<Crew>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.crew.close();
    }
}

impl Pool {
    /// The options of a new pool, at their defaults.
    #[doc(alias = "NewPool")]
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(config: Builder) -> Result<Self, BuildError> {
        let crew = Arc::new(Crew::new(config)?);
        Ok(Self { handle: Arc::new(Handle { crew }) })
    }

    fn crew(&self) -> &Arc<Crew> {
        &self.handle.crew
    }

    #[inline]
    fn submit<R: Run>(&self, run: R, patience: Patience) -> Result<(), Rejected<R>> {
        Crew::submit(self.crew(), run, patience).map_err(|(task, reason)| Rejected { task, reason })
    }

    /// Runs `f` on a worker. At the queue limit, waits for room.
    ///
    /// Allocates nothing for closures of up to [`INLINE_TASK_SIZE`](crate::INLINE_TASK_SIZE)
    /// bytes, unless a thread is started.
    ///
    /// # Errors
    ///
    /// Gives the task back if the pool is shut down, if the system refuses a thread to a pool
    /// that has none, or if the queue is full and the caller is one of the pool's own workers.
    /// A pool that has some threads and is refused more keeps the task for those it has.
    ///
    /// ```
    /// use std::sync::mpsc;
    ///
    /// let pool = gopool::Pool::builder().build()?;
    /// let (sender, receiver) = mpsc::channel();
    /// for i in 0..10 {
    ///     let sender = sender.clone();
    ///     pool.go(move || sender.send(i * i).unwrap())?;
    /// }
    /// drop(sender);
    /// assert_eq!(receiver.iter().sum::<i32>(), 285);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn go<F>(&self, f: F) -> Result<(), Rejected<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.submit(Plain(f), Patience::Until(Deadline::NEVER)).map_err(|e| e.map(|task| task.0))
    }

    /// Like [`go`](Pool::go), but at the queue limit waits for room at most so long.
    ///
    /// # Errors
    ///
    /// As [`go`](Pool::go), and [`Refusal::Full`](crate::Refusal::Full) at the deadline.
    pub fn go_timeout<F>(&self, f: F, timeout: Duration) -> Result<(), Rejected<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        // Without room, the clock is looked at; with it, never.
        match self.try_go(f) {
            Err(rejected) if rejected.is_full() => {
                let patience = Patience::Until(Deadline::after(timeout));
                self.submit(Plain(rejected.task), patience).map_err(|e| e.map(|task| task.0))
            }
            done => done,
        }
    }

    /// Like [`go`](Pool::go), but never waits.
    ///
    /// # Errors
    ///
    /// As [`go`](Pool::go), and [`Refusal::Full`](crate::Refusal::Full) at the queue limit.
    ///
    /// ```
    /// use std::sync::mpsc;
    ///
    /// let pool = gopool::Pool::builder().cap(1).queue_limit(1).build()?;
    /// let (started, has_started) = mpsc::channel();
    /// let (release, is_released) = mpsc::channel::<()>();
    /// pool.go(move || {
    ///     started.send(()).unwrap();
    ///     let _ = is_released.recv();
    /// })?;
    /// has_started.recv()?;
    ///
    /// pool.try_go(|| println!("waits in the queue"))?;
    /// let refused = pool.try_go(|| println!("one too many")).unwrap_err();
    /// assert!(refused.is_full());
    /// drop(release);
    /// pool.go(refused.into_task())?; // waits for room
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_go<F>(&self, f: F) -> Result<(), Rejected<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.submit(Plain(f), Patience::None).map_err(|e| e.map(|task| task.0))
    }

    /// Runs `f` on a worker with a context, which the [panic handler](Builder::panic_handler)
    /// gets to see if `f` panics. At the queue limit, waits for room.
    ///
    /// # Errors
    ///
    /// As [`go`](Pool::go); gives back the context too.
    ///
    /// ```
    /// use std::{sync::mpsc, time::Duration};
    ///
    /// struct Request { id: u64 }
    ///
    /// let (sender, receiver) = mpsc::channel();
    /// let pool = gopool::Pool::builder()
    ///     .panic_handler(move |panic| {
    ///         let id = panic.context::<Request>().map(|request| request.id);
    ///         sender.send((id, panic.message().map(str::to_owned))).unwrap();
    ///     })
    ///     .build()?;
    ///
    /// pool.ctx_go(Request { id: 7 }, |request| panic!("request {} is bad", request.id))?;
    ///
    /// assert_eq!(receiver.recv()?, (Some(7), Some("request 7 is bad".to_owned())));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "CtxGo")]
    pub fn ctx_go<C, F>(&self, context: C, f: F) -> Result<(), Rejected<(C, F)>>
    where
        C: Any + Send,
        F: FnOnce(&C) + Send + 'static,
    {
        self.submit(WithContext(context, f), Patience::Until(Deadline::NEVER))
            .map_err(|e| e.map(|task| (task.0, task.1)))
    }

    /// Like [`ctx_go`](Pool::ctx_go), but never waits.
    ///
    /// # Errors
    ///
    /// As [`try_go`](Pool::try_go); gives back the context too.
    pub fn try_ctx_go<C, F>(&self, context: C, f: F) -> Result<(), Rejected<(C, F)>>
    where
        C: Any + Send,
        F: FnOnce(&C) + Send + 'static,
    {
        self.submit(WithContext(context, f), Patience::None)
            .map_err(|e| e.map(|task| (task.0, task.1)))
    }

    /// Runs `f` on a worker, for its result. At the queue limit, waits for room. Takes one
    /// allocation.
    ///
    /// # Errors
    ///
    /// As [`go`](Pool::go).
    pub fn spawn<T, F>(&self, f: F) -> Result<JoinHandle<T>, Rejected<F>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.submit_joined(f, Patience::Until(Deadline::NEVER))
    }

    /// Like [`spawn`](Pool::spawn), but never waits.
    ///
    /// # Errors
    ///
    /// As [`try_go`](Pool::try_go).
    pub fn try_spawn<T, F>(&self, f: F) -> Result<JoinHandle<T>, Rejected<F>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.submit_joined(f, Patience::None)
    }

    fn submit_joined<T, F>(&self, f: F, patience: Patience) -> Result<JoinHandle<T>, Rejected<F>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (joined, handle) = join::pair(self.crew(), f);
        match self.submit(joined, patience) {
            Ok(()) => Ok(handle),
            Err(rejected) => Err(rejected.map(join::Joined::into_inner)),
        }
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        self.crew().panics.pool()
    }

    /// The most workers that the pool may have.
    pub fn cap(&self) -> usize {
        self.crew().cap()
    }

    /// Changes the most workers that the pool may have.
    ///
    /// Raised, waiting tasks get workers at once. Lowered, nobody is started beyond it from now
    /// on; workers who are too many leave when they are next without a task.
    ///
    /// # Errors
    ///
    /// [`BuildError::Cap`] for a cap of 0 or above [`MAX_CAP`](crate::MAX_CAP); nothing changes.
    #[doc(alias = "SetCap")]
    pub fn set_cap(&self, cap: usize) -> Result<(), BuildError> {
        config::check_cap(cap)?;
        Crew::set_cap(self.crew(), cap);
        Ok(())
    }

    /// Looks whether waiting tasks need another worker, as every submitted task does. For after the
    /// system refused the pool a thread ([`Stats::threads_refused`]): with nothing submitted, it
    /// does not try again by itself, and tasks wait for the workers that it has.
    pub fn look_again(&self) {
        Crew::look_again(self.crew());
    }

    /// How many workers are alive, asleep or not. A thread whose worker has left may take a
    /// moment to end.
    #[doc(alias = "WorkerCount")]
    pub fn worker_count(&self) -> usize {
        self.crew().worker_count()
    }

    /// How many tasks wait for a worker.
    pub fn queued(&self) -> usize {
        self.crew().queue.len()
    }

    /// The most tasks that may wait.
    pub fn queue_limit(&self) -> usize {
        self.crew().queue.limit()
    }

    /// A snapshot of the pool's numbers. Takes the lock that workers start and park under.
    pub fn stats(&self) -> Stats {
        self.crew().stats()
    }

    /// Replaces the [panic handler](Builder::panic_handler), from the next panic on.
    #[doc(alias = "SetPanicHandler")]
    pub fn set_panic_handler(&self, handler: impl Fn(Panic<'_>) + Send + Sync + 'static) {
        self.crew().panics.set_handler(Some(std::sync::Arc::new(handler)));
    }

    /// Whether the pool has been shut down: it accepts nothing more.
    pub fn is_closed(&self) -> bool {
        self.crew().queue.is_closed()
    }

    /// Accepts nothing more, and waits until everything that was accepted has run and all
    /// workers have left; at most so long. What has not been started by then is dropped unrun.
    ///
    /// Can be called again, and by many. From a task of the pool itself it does not wait: what
    /// is queued still runs (with a zero `within`, is dropped), and the error says what is left,
    /// the caller included.
    ///
    /// # Errors
    ///
    /// [`Unfinished`], unless every task that was ever accepted has run to its end.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let pool = gopool::Pool::builder().build()?;
    /// pool.go(|| println!("runs"))?;
    /// pool.shutdown(Duration::from_secs(5))?;
    /// assert!(pool.go(|| println!("too late")).unwrap_err().is_closed());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(&self, within: Duration) -> Result<(), Unfinished> {
        let crew = self.crew();
        crew.close();
        let from_inside = worker::is_current(crew);
        if !from_inside {
            crew.wait_until_ended(Deadline::after(within));
        }
        if !from_inside || within.is_zero() {
            crew.refuse_queued();
        }
        crew.outcome()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name())
            .field("cap", &self.cap())
            .field("workers", &self.worker_count())
            .field("queued", &self.queued())
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
