#![doc = include_str!("../README.md")]

mod adapter;
mod byte_reader;
#[cfg(feature = "bytes")]
mod bytes;
mod chain;
mod combine;
mod error;
mod find;
mod join;
mod link_buffer;
mod mem;
mod node;
mod owned;
mod placeholder;
mod read_half;
mod reader;
mod reserve;
mod slice;
mod sync;
mod vec_writer;
mod write_half;
mod writer;

pub use adapter::{IoReader, IoWriter};
pub use byte_reader::ByteReader;
pub use combine::{FollowedBy, Limit, Tee, TeeFn, TeeHasher, TeeSink, tee_fn, tee_hasher};
pub use error::{Error, Result};
pub use link_buffer::LinkBuffer;
pub use owned::{BINARY_INPLACE_THRESHOLD, Owned};
pub use placeholder::Placeholder;
pub use read_half::ReadHalf;
pub use reader::{Reader, ReaderExt};
pub use reserve::Reserve;
pub use slice::Slice;
pub use vec_writer::VecWriter;
pub use write_half::WriteHalf;
pub use writer::{Writer, WriterExt};

/// For who comes from Go Netpoll.
#[doc = include_str!("../docs/go_netpoll.md")]
pub mod go_netpoll {}

/// For models: how many blocks are out.
#[cfg(netpoll_loom)]
#[doc(hidden)]
pub fn live_blocks() -> isize {
    mem::live()
}
