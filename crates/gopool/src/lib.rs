//! A pool of reused worker threads for tasks that may block.
//!
//! A [`Pool`] grows to its cap when tasks wait, shrinks when they do not, keeps panics to itself,
//! and never queues without bound: at its limit, [`go`](Pool::go) waits for room and
//! [`try_go`](Pool::try_go) gives the task back.
//!
//! ```
//! use std::time::Duration;
//!
//! let pool = gopool::Pool::builder().name("resize").cap(8).queue_limit(1_000).build()?;
//!
//! pool.go(|| println!("fire and forget"))?;
//!
//! let sum = pool.spawn(|| (1..=100).sum::<u32>())?;
//! assert_eq!(sum.join()?, 5050);
//!
//! pool.shutdown(Duration::from_secs(5))?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! | to | use |
//! |---|---|
//! | run a closure | [`Pool::go`], [`go_timeout`](Pool::go_timeout), [`try_go`](Pool::try_go) |
//! | tell the panic handler what was going on | [`Pool::ctx_go`], [`try_ctx_go`](Pool::try_ctx_go) |
//! | get a result, or the panic as an error | [`Pool::spawn`], [`try_spawn`](Pool::try_spawn) |
//! | use one pool everywhere | [`go()`], [`default_pool`], [`register`] |
//! | end | [`Pool::shutdown`] |
//!
//! What bounds it, by default: 512 workers, 16,384 waiting tasks, 10 seconds idle; see
//! [`Builder`]. Where the system refuses a thread, nothing panics and nothing is lost:
//! [`Refusal::NoThread`] gives the task back if nobody is there to run it.
//!
//! # How it works
//!
//! Tasks lie in one ring of fixed size, each in a cache line, closures of up to
//! [`INLINE_TASK_SIZE`] bytes in place. So order is fair, nothing is allocated, and no task waits
//! behind another on a worker that is stuck. Calling a worker is what costs; so it is done one at
//! a time: while a worker is awake and looks for tasks, nobody calls another, and the last one
//! that finds a task looks whether one more is needed. A burst of small tasks is then done by
//! those who are awake; a burst of long ones gets a worker each.
#![deny(unsafe_code)]

mod config;
mod counts;
mod crew;
mod error;
mod join;
mod panics;
mod pool;
#[allow(unsafe_code, reason = "places of the ring have one owner at a time")]
mod queue;
mod registry;
mod stats;
mod sync;
#[allow(unsafe_code, reason = "a closure without its type")]
mod task;
mod worker;

pub use self::{
    config::{Builder, MAX_CAP, MAX_QUEUE_LIMIT, MIN_STACK_SIZE},
    error::{AlreadyRegistered, BuildError, JoinError, Refusal, Rejected, Unfinished},
    join::JoinHandle,
    panics::Panic,
    pool::Pool,
    registry::{ctx_go, default_pool, go, pool, register, unregister},
    stats::Stats,
    task::INLINE_TASK_SIZE,
};

// The README's examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
