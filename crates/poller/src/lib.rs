#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

mod event;
mod poller;
mod sync;
pub mod sys;
mod token;
mod waker;

pub use event::{Event, Events, Interest, Iter};
pub use poller::{Poller, Stats};
pub use token::Token;
pub use waker::Waker;
