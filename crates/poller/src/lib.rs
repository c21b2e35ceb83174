//! epoll behind a small safe API: registrations, wake-ups, many pollers, balancing.
//!
#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

mod event;
mod group;
mod poller;
#[allow(unsafe_code)]
mod slots;
mod sync;
pub mod sys;
mod token;
mod waker;

pub use event::{Event, Events, Interest, Iter};
pub use group::{Balance, Group, Lease, Member};
pub use poller::{Poller, Stats};
pub use slots::{Batch, Full, Slots, slots};
pub use token::Token;
pub use waker::Waker;
