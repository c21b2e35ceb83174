//! What can go wrong: a small type per operation.

use std::{any::Any, fmt, io};

use thiserror::Error;

use crate::pool::Pool;

/// An option that no pool can be built with; see [`Builder::build`](crate::Builder::build).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The name is empty or holds a NUL, which thread names cannot.
    #[error("pool name {name:?} is empty or holds a NUL")]
    Name {
        /// The name that was asked for.
        name: String,
    },
    /// The cap is 0 or above [`MAX_CAP`](crate::MAX_CAP).
    #[error("cap {cap} is not in 1..={}", crate::MAX_CAP)]
    Cap {
        /// The cap that was asked for.
        cap: usize,
    },
    /// The threshold is 0, or above the queue limit, where it could never be reached.
    #[error("scale threshold {threshold} is not in 1..={queue_limit}, the queue limit")]
    ScaleThreshold {
        /// The threshold that was asked for.
        threshold: usize,
        /// The queue limit beside it.
        queue_limit: usize,
    },
    /// The queue limit is 0 or above [`MAX_QUEUE_LIMIT`](crate::MAX_QUEUE_LIMIT).
    #[error("queue limit {limit} is not in 1..={}", crate::MAX_QUEUE_LIMIT)]
    QueueLimit {
        /// The limit that was asked for.
        limit: usize,
    },
    /// The stack is smaller than [`MIN_STACK_SIZE`](crate::MIN_STACK_SIZE).
    #[error("stack size {bytes} is below {}", crate::MIN_STACK_SIZE)]
    StackSize {
        /// The size that was asked for.
        bytes: usize,
    },
    /// There is no memory for a queue of this limit.
    #[error("no memory for a queue of {queue_limit} tasks")]
    NoMemory {
        /// The limit that was asked for.
        queue_limit: usize,
    },
}

/// Why a task was not accepted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The queue is at its limit, and stayed there for as long as the call waits; or the call
    /// came from one of the pool's own workers, which never waits for room.
    #[error("the queue is full")]
    Full,
    /// The pool has been shut down.
    #[error("the pool is shut down")]
    Closed,
    /// The pool has no worker, and the system refused the thread for one.
    #[error("no thread could be started")]
    NoThread(#[source] io::Error),
}

impl From<Refusal> for io::Error {
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) for a full queue,
    /// [`NotConnected`](io::ErrorKind::NotConnected) for a pool that is shut down, and the
    /// system's own error where it refused the thread.
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full => io::Error::new(io::ErrorKind::WouldBlock, refusal),
            Refusal::Closed => io::Error::new(io::ErrorKind::NotConnected, refusal),
            Refusal::NoThread(error) => error,
        }
    }
}

/// Drops the task: for `?` in functions whose error must not hold it, such as one that is `Sync`.
impl<F> From<Rejected<F>> for Refusal {
    fn from(rejected: Rejected<F>) -> Self {
        rejected.reason
    }
}

/// Drops the task; see the conversion of [`Refusal`].
impl<F> From<Rejected<F>> for io::Error {
    fn from(rejected: Rejected<F>) -> Self {
        rejected.reason.into()
    }
}

/// A task that was not accepted, with the reason. It has not been run, and never will be.
#[derive(Error)]
#[error("task refused: {reason}")]
pub struct Rejected<F> {
    /// What was submitted.
    pub task: F,
    /// Why it was refused.
    #[source]
    pub reason: Refusal,
}

impl<F> Rejected<F> {
    /// The task, for another try or another pool.
    pub fn into_task(self) -> F {
        self.task
    }

    /// Whether the queue was full: trying again later makes sense.
    pub fn is_full(&self) -> bool {
        matches!(self.reason, Refusal::Full)
    }

    /// Whether the pool has been shut down: trying again is useless.
    pub fn is_closed(&self) -> bool {
        matches!(self.reason, Refusal::Closed)
    }

    pub(crate) fn map<G>(self, f: impl FnOnce(F) -> G) -> Rejected<G> {
        Rejected { task: f(self.task), reason: self.reason }
    }
}

impl<F> fmt::Debug for Rejected<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// Why a task that was accepted has no result.
#[derive(Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The task panicked; this is what it panicked with.
    #[error("the task panicked{}", describe(.0))]
    Panicked(Box<dyn Any + Send>),
    /// The pool was shut down, and its deadline passed, before the task was started.
    #[error("the task was refused by a shutdown")]
    Refused,
    /// The caller is a worker of the same pool, and all others already wait for its tasks too:
    /// nobody would be left to run the task. The task stays accepted, without a handle.
    #[error("all workers would wait for tasks that wait for a worker")]
    WouldDeadlock,
}

impl JoinError {
    /// What the task panicked with, for [`resume_unwind`](std::panic::resume_unwind).
    ///
    /// # Errors
    ///
    /// Gives the error back if it is no panic.
    pub fn into_panic(self) -> Result<Box<dyn Any + Send>, Self> {
        match self {
            JoinError::Panicked(payload) => Ok(payload),
            other => Err(other),
        }
    }

    /// The panic's message, if it is text, as that of `panic!` is.
    pub fn message(&self) -> Option<&str> {
        match self {
            JoinError::Panicked(payload) => crate::panics::message(&**payload),
            _ => None,
        }
    }
}

fn describe(payload: &Box<dyn Any + Send>) -> String {
    crate::panics::message(&**payload).map(|text| format!(": {text}")).unwrap_or_default()
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panicked(_) => f.debug_tuple("Panicked").field(&self.message()).finish(),
            JoinError::Refused => f.write_str("Refused"),
            JoinError::WouldDeadlock => f.write_str("WouldDeadlock"),
        }
    }
}

/// What a shutdown could not get done by its deadline.
///
/// The numbers are of the pool's whole life: they are the same for every caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("pool shut down with {running} tasks still running, {queued} queued, {refused} refused")]
#[non_exhaustive]
pub struct Unfinished {
    /// Tasks that have been started and still run; they cannot be interrupted.
    pub running: usize,
    /// Tasks still queued, which will run: only when a task of the pool itself called for the
    /// shutdown, which then does not wait.
    pub queued: usize,
    /// Tasks that had been accepted and were dropped without being run.
    pub refused: usize,
}

/// The registry already has a pool of this name; see [`register`](crate::register).
#[derive(Error)]
#[error("a pool named {:?} is already registered", .0.name())]
pub struct AlreadyRegistered(
    /// The pool that was not registered.
    pub Pool,
);

impl fmt::Debug for AlreadyRegistered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AlreadyRegistered").field(&self.0.name()).finish()
    }
}
