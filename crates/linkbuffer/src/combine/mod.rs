//! Readers made of readers.

mod followed_by;
mod limit;
mod tee;

pub use followed_by::FollowedBy;
pub use limit::Limit;
pub use tee::{Tee, TeeFn, TeeHasher, TeeSink, tee_fn, tee_hasher};
