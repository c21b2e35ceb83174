//! What most never need: one word until its first use, and made by whoever needs it first.
//!
//! Half the size of a `OnceLock` of a box, of which every connection has several. Those of other crates
//! do not run under the model checker.

#![allow(unsafe_code)] // One pointer, to a box or to nothing.
#![allow(unreachable_pub)] // In the models' `Slot`.

use std::{fmt, marker::PhantomData, ptr};

use crate::sync::atomic::{
    AtomicPtr,
    Ordering::{AcqRel, Acquire},
};

/// See the module's text.
pub struct Lazy<T> {
    /// Null, or from `Box::into_raw`; set once.
    value: AtomicPtr<T>,
    owned: PhantomData<Box<T>>,
}

impl<T> Lazy<T> {
    pub fn new() -> Self {
        Self { value: AtomicPtr::new(ptr::null_mut()), owned: PhantomData }
    }

    /// The value, if somebody has needed it so far.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // ORDERING: pairs with the release half of the exchange in `get_or_init`.
        let value = self.value.load(Acquire);
        // SAFETY: once set, the box stays until this is dropped, and is only shared.
        unsafe { value.as_ref() }
    }
}

// Who makes the value, who uses it and who drops it may be three threads.
impl<T: Send + Sync> Lazy<T> {
    /// The value; made now where nobody has needed it before.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let made = Box::into_raw(Box::new(make()));
        // ORDERING: release publishes the value, acquire takes over the one that was faster.
        match self.value.compare_exchange(ptr::null_mut(), made, AcqRel, Acquire) {
            // SAFETY: as in `get`.
            Ok(_) => unsafe { &*made },
            Err(first) => {
                // SAFETY: nobody else has seen it.
                drop(unsafe { Box::from_raw(made) });
                // SAFETY: as in `get`.
                unsafe { &*first }
            }
        }
    }
}

impl<T> Default for Lazy<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for Lazy<T> {
    fn drop(&mut self) {
        // ORDERING: nobody else is left.
        let value = self.value.load(Acquire);
        if !value.is_null() {
            // SAFETY: from `Box::into_raw`, and nobody uses it any more.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Lazy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}
