//! Which stock belongs to this thread, and what happens when the thread ends.
//!
//! The stock of the global cache is found through a thread-local without a destructor, so that
//! finding it costs no check. A second one, touched once, has the destructor: it hands the stock
//! back. Whoever allocates or frees after that, from the destructor of another thread-local, does
//! so without a stock.

use std::cell::{Cell, RefCell};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Weak};

use crate::cache::GLOBAL;
use crate::core::Core;
use crate::stock::Stock;

thread_local! {
    static STOCK: Cell<*const Stock> = const { Cell::new(ptr::null()) };
    static GUARD: Guard = const { Guard };
    static PRIVATE: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(stock) = current() {
            STOCK.with(|cell| cell.set(ptr::null()));
            GLOBAL.retire(stock);
        }
    }
}

/// This thread's stock of a private cache.
struct Entry {
    core: Weak<Core>,
    stock: NonNull<Stock>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            // SAFETY: the core lives, hence its stocks (C1).
            core.retire(unsafe { self.stock.as_ref() });
        }
    }
}

/// This thread's stock of the global cache, if it has one already.
#[inline(always)]
pub(crate) fn current() -> Option<&'static Stock> {
    // SAFETY: null, or a stock of the global core, which lives for ever (C1).
    STOCK.try_with(|stock| unsafe { stock.get().as_ref() }).ok().flatten()
}

/// This thread's stock of the global cache. None while the thread ends, or without memory.
pub(crate) fn global() -> Option<&'static Stock> {
    current().or_else(|| {
        // From now on the guard runs when the thread ends. An error: it already has.
        GUARD.try_with(|_| ()).ok()?;
        let stock = GLOBAL.enlist()?;
        STOCK.try_with(|cell| cell.set(stock.as_ptr())).ok()?;
        current()
    })
}

/// This thread's stock of a private cache. None while the thread ends, or without memory.
#[inline]
pub(crate) fn private(core: &Arc<Core>) -> Option<&Stock> {
    let find = |entries: &RefCell<Vec<Entry>>| {
        let entries = entries.borrow();
        let mine = |entry: &&Entry| ptr::eq(entry.core.as_ptr(), Arc::as_ptr(core));
        entries.iter().find(mine).map(|entry| entry.stock)
    };
    let stock = PRIVATE.try_with(find).ok()?.or_else(|| join(core))?;
    // SAFETY: the core lives, hence its stocks (C1). No other core can have its address while the
    // entry has a weak reference.
    Some(unsafe { stock.as_ref() })
}

#[cold]
fn join(core: &Arc<Core>) -> Option<NonNull<Stock>> {
    let dead = |entry: &Entry| entry.core.strong_count() == 0;
    let enter = |entries: &RefCell<Vec<Entry>>| {
        // Entries of caches that are gone make room first. Dropping them runs no code of others.
        let mut entries = entries.borrow_mut();
        entries.retain(|entry| !dead(entry));
        entries.try_reserve(1).ok()?;
        let stock = core.enlist()?;
        entries.push(Entry { core: Arc::downgrade(core), stock });
        Some(stock)
    };
    PRIVATE.try_with(enter).ok()?
}
