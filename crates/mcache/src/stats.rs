//! What a cache tells about itself.

/// Numbers of a cache at one moment: [`Cache::stats`](crate::Cache::stats).
///
/// They are gathered without stopping anybody, so while threads are at work they fit together only
/// roughly. At rest they are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Blocks handed out of what was kept.
    pub hits: u64,
    /// Blocks for which the allocator was asked.
    pub misses: u64,
    /// Blocks that went back to the allocator.
    pub returned: u64,
    /// Bytes kept and free, in all threads and in the depot.
    pub bytes_held: usize,
    /// Bytes handed out and not yet given back.
    pub bytes_out: usize,
    /// Bytes by which the limit is used up: what is kept, and the room that threads have set aside
    /// for what they handed out and expect back.
    pub bytes_reserved: usize,
    /// Threads that keep a stock.
    pub threads: usize,
}

impl Stats {
    /// The part of all requests that were served from what was kept, from 0 to 1; 1 if there were
    /// none.
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        match self.hits + self.misses {
            0 => 1.0,
            all => self.hits as f64 / all as f64,
        }
    }
}
