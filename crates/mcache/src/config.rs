//! The settings of a cache.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::{Cache, Home};
use crate::class::KEPT;
use crate::core::Core;

/// What a cache keeps at most, in all.
pub(crate) const LIMIT: usize = 64 << 20;
/// What a thread keeps for itself at most.
pub(crate) const THREAD_LIMIT: usize = 8 << 20;
/// The largest block that is kept.
pub(crate) const KEEP: usize = 8 << 20;
/// How long something may lie unused.
pub(crate) const DECAY: Duration = Duration::from_secs(10);

/// Settings of a private cache: [`Cache::builder`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let secrets = mcache::Cache::builder()
///     .limit(1 << 20)
///     .thread_limit(256 << 10)
///     .keep(64 << 10)
///     .decay(Some(Duration::from_secs(1)))
///     .scrub(true)
///     .build();
/// let mut key = secrets.malloc(32);
/// key.cursor().put_bytes(7, 32);
/// drop(key); // overwritten with zeros, then kept for the next
/// assert_eq!(secrets.stats().bytes_out, 0);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    config: Config,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) limit: usize,
    pub(crate) thread_limit: usize,
    pub(crate) keep: usize,
    pub(crate) decay: Option<Duration>,
    pub(crate) scrub: bool,
}

impl Config {
    pub(crate) const DEFAULT: Config = Config {
        limit: LIMIT,
        thread_limit: THREAD_LIMIT,
        keep: KEEP,
        decay: Some(DECAY),
        scrub: false,
    };

    /// How many classes are kept, from the smallest.
    pub(crate) const fn kept_classes(&self) -> usize {
        kept_classes(self.keep)
    }

    /// 0 for never.
    pub(crate) const fn decay_nanos(&self) -> u64 {
        decay_nanos(self.decay)
    }
}

pub(crate) const fn kept_classes(keep: usize) -> usize {
    match keep.checked_ilog2() {
        Some(power) if (power as usize) < KEPT => power as usize + 1,
        Some(_) => KEPT,
        None => 0,
    }
}

pub(crate) const fn decay_nanos(decay: Option<Duration>) -> u64 {
    match decay {
        None => 0,
        // Less than two looks of the reaper in a millisecond serve nobody.
        Some(decay) if decay.as_millis() == 0 => 1_000_000,
        Some(decay) if decay.as_nanos() > u64::MAX as u128 => u64::MAX,
        Some(decay) => decay.as_nanos() as u64,
    }
}

impl Builder {
    pub(crate) fn new() -> Self {
        Builder { config: Config::DEFAULT }
    }

    /// What the cache keeps at most, in bytes, in all threads and in the depot. Default: 64 MiB;
    /// 0 keeps nothing.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.config.limit = bytes;
        self
    }

    /// What one thread keeps for itself at most, in bytes. Default: 8 MiB; 0 leaves everything to
    /// the depot.
    pub fn thread_limit(mut self, bytes: usize) -> Self {
        self.config.thread_limit = bytes;
        self
    }

    /// The largest block that is kept; larger ones go straight back to the allocator. Default:
    /// 8 MiB, at most 1 GiB.
    pub fn keep(mut self, bytes: usize) -> Self {
        self.config.keep = bytes;
        self
    }

    /// How long a block may lie unused before it goes back to the allocator. Default: 10 seconds,
    /// at least 1 millisecond; `None` keeps it for good.
    pub fn decay(mut self, time: Option<Duration>) -> Self {
        self.config.decay = time;
        self
    }

    /// Whether all of a block is overwritten with zeros when it is given back. Default: no.
    pub fn scrub(mut self, yes: bool) -> Self {
        self.config.scrub = yes;
        self
    }

    /// Makes the cache; it takes its memory when it is used. About 3 KiB are needed at once.
    ///
    /// # Panics
    ///
    /// Where the allocator has no memory, [`std::alloc::handle_alloc_error`] is called.
    #[must_use]
    pub fn build(self) -> Cache {
        Cache::with_home(Home::Private(Arc::new(Core::new(self.config))))
    }
}
