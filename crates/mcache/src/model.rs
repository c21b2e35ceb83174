//! The shipped types without thread-locals, for the models in `tests/loom.rs`.

#![allow(missing_debug_implementations)]

use std::ptr::NonNull;
use std::time::Duration;

use crate::class::Class;
use crate::config::Config;
use crate::core::Core;
use crate::stock::Stock;

/// The core of a cache, with blocks of one class.
pub struct Shared(Core);

/// What a thread-local would hold: hands its stock back when it is dropped.
pub struct Local<'a> {
    core: &'a Core,
    stock: &'a Stock,
}

/// The address of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address(NonNull<u8>);

// SAFETY: a number; the models decide who uses it.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

/// What all blocks take from the allocator.
#[must_use]
pub fn block_size() -> usize {
    Class::at(0).footprint()
}

impl Shared {
    /// A cache whose threads keep so many blocks each.
    #[must_use]
    pub fn new(blocks_per_thread: usize) -> Self {
        Shared(Core::new(Config {
            limit: 64 * block_size(),
            thread_limit: blocks_per_thread * block_size(),
            keep: 1,
            decay: None::<Duration>,
            scrub: false,
        }))
    }

    /// As the first use by a thread.
    #[must_use]
    pub fn enlist(&self) -> Local<'_> {
        let stock = self.0.enlist().expect("memory");
        // SAFETY: valid as long as the core.
        Local { core: &self.0, stock: unsafe { stock.as_ref() } }
    }

    /// A block for a thread without a stock.
    #[must_use]
    pub fn malloc(&self) -> Address {
        Address(self.0.take(None, Class::at(0)).expect("memory"))
    }

    /// A block back from a thread without a stock.
    ///
    /// # Safety
    ///
    /// The block is from this cache and given back once.
    pub unsafe fn free(&self, block: Address) {
        // SAFETY: the caller's promise.
        unsafe { self.0.give(None, Class::at(0), block.0) }
    }

    /// As `Cache::trim` of a thread without a stock.
    pub fn trim(&self) -> usize {
        self.0.trim(None)
    }

    /// Blocks held, blocks out.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let stats = self.0.stats();
        (stats.bytes_held / block_size(), stats.bytes_out / block_size())
    }
}

impl Local<'_> {
    /// A block.
    #[must_use]
    pub fn malloc(&self) -> Address {
        Address(self.core.take(Some(self.stock), Class::at(0)).expect("memory"))
    }

    /// A block back.
    ///
    /// # Safety
    ///
    /// The block is from this cache and given back once.
    pub unsafe fn free(&self, block: Address) {
        // SAFETY: the caller's promise; pushing first is what `Home::give` does.
        unsafe {
            if !self.stock.push(0, block.0) {
                self.core.give(Some(self.stock), Class::at(0), block.0);
            }
        }
    }
}

impl Drop for Local<'_> {
    fn drop(&mut self) {
        self.core.retire(self.stock);
    }
}
