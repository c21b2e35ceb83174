//! Unzeroed memory in powers of two, kept per thread and shared through a depot.
//!
#![doc = include_str!("../README.md")]
// Without thread-locals and the reaper, what only they use is left over.
#![cfg_attr(netpoll_loom, allow(dead_code, unused_imports))]

mod batch;
mod block;
mod cache;
mod class;
mod config;
mod core;
mod depot;
#[cfg(not(netpoll_loom))]
mod local;
#[cfg(netpoll_loom)]
#[doc(hidden)]
pub mod model;
#[cfg(not(netpoll_loom))]
mod reaper;
mod stats;
mod stock;
mod sync;

pub use block::Block;
pub use cache::{
    Cache, kept_raw, malloc, malloc_with_capacity, try_malloc, try_malloc_raw,
    try_malloc_with_capacity,
};
pub use config::Builder;
pub use dirtmake::{AllocError, Spare};
pub use stats::Stats;
