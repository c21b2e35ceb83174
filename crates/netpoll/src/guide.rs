//! How to use this crate, by task.

#[doc = include_str!("../docs/server.md")]
pub mod server {}

#[doc = include_str!("../docs/client.md")]
pub mod client {}

#[doc = include_str!("../docs/shutdown.md")]
pub mod shutdown {}

#[doc = include_str!("../docs/limits.md")]
pub mod limits {}

#[doc = include_str!("../docs/watching.md")]
pub mod watching {}
