//! What `quickstart` and `echo_client` share: a client that verifies every byte, and its figures.

#![allow(dead_code)] // Each of the two uses its part.

pub(crate) mod histogram;
pub(crate) mod load;
pub(crate) mod pattern;
