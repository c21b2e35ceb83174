#![doc = include_str!("../README.md")]
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
