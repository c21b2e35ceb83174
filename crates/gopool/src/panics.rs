//! What becomes of a task's panic: it is counted and given to the handler.

use std::{
    any::Any,
    fmt,
    mem,
    panic::{self, AssertUnwindSafe},
    // The handler is reached only by panics; no model of the protocol passes here.
    sync::{Arc, PoisonError, RwLock},
};

use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A task's panic, as the panic handler sees it.
///
/// See [`Builder::panic_handler`](crate::Builder::panic_handler).
pub struct Panic<'a> {
    pool: &'a str,
    payload: &'a (dyn Any + Send),
    context: Option<&'a (dyn Any + Send)>,
}

impl<'a> Panic<'a> {
    /// The name of the pool whose task panicked.
    pub fn pool(&self) -> &'a str {
        self.pool
    }

    /// What the task panicked with.
    pub fn payload(&self) -> &'a (dyn Any + Send) {
        self.payload
    }

    /// The panic's message, if it is text, as that of `panic!` is.
    pub fn message(&self) -> Option<&'a str> {
        message(self.payload)
    }

    /// The context that the task was submitted with, if it came through
    /// [`Pool::ctx_go`](crate::Pool::ctx_go) and is a `C`.
    pub fn context<C: Any>(&self) -> Option<&'a C> {
        self.context.and_then(|context| context.downcast_ref())
    }
}

impl fmt::Debug for Panic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panic")
            .field("pool", &self.pool)
            .field("message", &self.message())
            .field("has_context", &self.context.is_some())
            .finish()
    }
}

pub(crate) fn message(payload: &(dyn Any + Send)) -> Option<&str> {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        Some(text)
    } else {
        payload.downcast_ref::<String>().map(String::as_str)
    }
}

/// Drops what was thrown. It may be a value whose own drop panics, with a value whose drop panics,
/// and so on; after a few, the last is leaked.
pub(crate) fn discard(mut payload: Box<dyn Any + Send>) {
    for _ in 0..8 {
        match panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(again) => payload = again,
        }
    }
    mem::forget(payload);
}

pub(crate) type Handler = Arc<dyn Fn(Panic<'_>) + Send + Sync>;

/// The panic boundary's far side: the count and the handler of one pool.
pub(crate) struct Panics {
    pool: String,
    count: AtomicUsize,
    handler: RwLock<Option<Handler>>,
}

impl Panics {
    pub(crate) fn new(pool: String, handler: Option<Handler>) -> Self {
        Self { pool, count: AtomicUsize::new(0), handler: RwLock::new(handler) }
    }

    pub(crate) fn pool(&self) -> &str {
        &self.pool
    }

    pub(crate) fn count(&self) -> usize {
        // ORDERING: Relaxed: a statistic.
        self.count.load(Relaxed)
    }

    pub(crate) fn set_handler(&self, handler: Option<Handler>) {
        let mut place = self.handler.write().unwrap_or_else(PoisonError::into_inner);
        let old = mem::replace(&mut *place, handler);
        // The old handler's captures are the user's: they drop outside the lock.
        drop(place);
        drop(old);
    }

    /// Counts a panic that a joiner may be told about.
    pub(crate) fn count_one(&self) {
        // ORDERING: Relaxed: a statistic; it publishes nothing.
        self.count.fetch_add(1, Relaxed);
    }

    /// Counts a panic and calls the handler; a panic of the handler itself ends here.
    pub(crate) fn report(&self, payload: Box<dyn Any + Send>, context: Option<&(dyn Any + Send)>) {
        self.count_one();
        self.hand_over(payload, context);
    }

    /// Calls the handler with a panic that is already counted.
    pub(crate) fn hand_over(
        &self,
        payload: Box<dyn Any + Send>,
        context: Option<&(dyn Any + Send)>,
    ) {
        let handler = self.handler.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(handler) = handler {
            let panic = Panic { pool: &self.pool, payload: &*payload, context };
            let called = panic::catch_unwind(AssertUnwindSafe(|| {
                handler(panic);
                drop(handler);
            }));
            if let Err(again) = called {
                discard(again);
            }
        }
        discard(payload);
    }
}
