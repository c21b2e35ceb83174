//! A power-of-two slab cache of unzeroed memory: per-thread stock over a shared depot

mod block;
mod cache;
mod class;

pub use block::Block;
pub use cache::{malloc, malloc_with_capacity, try_malloc, try_malloc_with_capacity};
pub use dirtmake::{AllocError, Spare};
