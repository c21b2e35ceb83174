//! What holds of the types themselves.

use mcache::{AllocError, Block, Builder, Cache, Stats};
use static_assertions::{assert_impl_all, assert_not_impl_any, const_assert, const_assert_eq};

assert_impl_all!(Block: Send, Sync, Unpin, std::panic::UnwindSafe, std::panic::RefUnwindSafe);
assert_not_impl_any!(Block: Clone, Copy, Default);
assert_impl_all!(Cache: Send, Sync, Clone, std::fmt::Debug, std::panic::UnwindSafe);
assert_impl_all!(Builder: Send, Sync, Clone);
assert_impl_all!(Stats: Send, Sync, Copy);
assert_impl_all!(AllocError: Send, Sync, std::error::Error);

// Blocks are moved around a lot.
const_assert!(size_of::<Block>() <= 5 * size_of::<usize>());
const_assert_eq!(size_of::<Option<Block>>(), size_of::<Block>());
const_assert_eq!(size_of::<Cache>(), size_of::<usize>());
