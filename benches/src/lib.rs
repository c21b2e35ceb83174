//! What compares the crates with each other and with their peers; see `benches/README.md`.

pub mod paired;

/// The examples of the workspace's README, which belongs to no crate that is packaged.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
