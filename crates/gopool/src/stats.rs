//! Numbers that show a pool at work.

/// A snapshot of a pool; see [`Pool::stats`](crate::Pool::stats).
///
/// Counters are of the pool's whole life. While tasks run, numbers that belong together may be
/// a few tasks apart; in a pool at rest they are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The cap in force.
    pub cap: usize,
    /// Workers alive.
    pub workers: usize,
    /// Of these, asleep.
    pub parked: usize,
    /// Tasks that wait for a worker.
    pub queued: usize,
    /// Workers that have taken a task and have not found the queue empty since.
    pub running: usize,
    /// Tasks ever accepted.
    pub accepted: usize,
    /// Of these, ended, panics included.
    pub completed: usize,
    /// Of these, ended by a panic.
    pub panicked: usize,
    /// Tasks that were accepted and then dropped unrun, at the deadline of a shutdown.
    pub refused: usize,
    /// Submissions that were not accepted.
    pub rejected: usize,
    /// Threads ever started.
    pub threads_started: usize,
    /// Threads that the system refused to start.
    pub threads_refused: usize,
}
