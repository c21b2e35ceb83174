//! What the calling thread is doing for an event loop, so that a wait deep inside a handler can
//! pass the driver role on first.

#![allow(unsafe_code)] // One pointer to the caller's stack, good for the length of a scope.

use std::{cell::Cell, ptr, sync::Arc};

use linkbuffer::{Error, Result};

use crate::{
    connection::inner::Inner,
    net_host::{Core, Net},
    sched::{At, Mode, Scheduler, Seat},
    trace::event,
};

struct Place<'a> {
    at: &'a At<Net>,
    /// The connection whose handler runs on this thread now.
    running: Cell<*const Inner>,
    /// It left bytes queued, and the seat knows.
    queued: Cell<bool>,
}

thread_local! {
    static CURRENT: Cell<*const Place<'static>> = const { Cell::new(ptr::null()) };
}

/// Runs `f` with `at` as this thread's place.
pub(crate) fn scope(at: &At<Net>, f: impl FnOnce()) {
    struct Restore(*const Place<'static>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let place = Place { at, running: Cell::new(ptr::null()), queued: Cell::new(false) };
    let _restore = Restore(CURRENT.replace((&raw const place).cast()));
    f();
}

fn with<R>(f: impl FnOnce(&Place<'_>) -> R) -> Option<R> {
    let place = CURRENT.get();
    // SAFETY: the pointer is null, or was set by a `scope` that is still on this thread's stack:
    // `Restore` takes it out before the place is gone, also when unwinding.
    unsafe { place.as_ref() }.map(f)
}

/// Marks `inner` as the connection whose handler runs here, while `f` runs it.
pub(crate) fn running<R>(inner: &Inner, f: impl FnOnce() -> R) -> R {
    struct Restore(*const Inner);
    impl Drop for Restore {
        fn drop(&mut self) {
            with(|place| place.running.set(self.0));
        }
    }
    let _restore = Restore(with(|place| place.running.replace(inner)).unwrap_or(ptr::null()));
    f()
}

/// Before any wait in the library: sends what the running handler's `flush` only queued, and
/// passes the role on.
///
/// # Errors
///
/// [`Error::WouldWait`] under `Runner::Inline`, whose handlers promise never to wait.
pub(crate) fn before_wait() -> Result<()> {
    with(|place| {
        let running = place.running.get();
        if running.is_null() {
            // Not in a handler: a driver never waits in the library.
            return Ok(());
        }
        if place.at.sched.mode == Mode::Inline {
            return Err(Error::WouldWait);
        }
        // SAFETY: `running` was set by `running()`, whose caller lends the connection until its
        // handler returns, and that handler is what calls us.
        let running = unsafe { &*running };
        running.send_queued();
        event!(TRACE, id = running.handle().id(), "a handler waits, and passes its poller on");
        place.at.hand_over();
        Ok(())
    })
    .unwrap_or(Ok(()))
}

/// In a handler that promised not to wait.
pub(crate) fn is_inline() -> bool {
    with(|place| !place.running.get().is_null() && place.at.sched.mode == Mode::Inline)
        .unwrap_or(false)
}

/// In a handler of `inner`, on the thread that drives its poller: steps out of the handler state
/// and lends the core. `None` anywhere else, and where the role was lost meanwhile.
pub(crate) fn aside<R>(inner: &Inner, f: impl FnOnce(&mut Core) -> R) -> Option<R> {
    with(|place| place.at.aside_from_handler(|seat| inner.lives_at(seat), f)).flatten()
}

/// A handler of `inner` leaves flushed bytes queued. True: they will leave, at the latest when
/// the handler waits, loses the role, or is done with what is there. False: the caller sends them.
pub(crate) fn queue(inner: &Arc<Inner>) -> bool {
    with(|place| {
        if !ptr::eq(place.running.get(), &raw const **inner) {
            return false;
        }
        if place.queued.get() {
            return place.at.keeps_role();
        }
        let Some(seat) = place.at.seat() else { return false };
        let kept = seat.shared.queued.enter(|| place.at.keeps_role(), || Arc::clone(inner));
        place.queued.set(kept);
        kept
    })
    .unwrap_or(false)
}

/// The run of messages is over, and nothing is queued any more.
#[inline]
pub(crate) fn nothing_queued(inner: &Arc<Inner>) {
    with(|place| {
        if place.queued.take() {
            forget(place, inner);
        }
    });
}

#[inline(never)]
fn forget(place: &Place<'_>, inner: &Arc<Inner>) {
    if let Some(seat) = place.at.seat() {
        seat.shared.queued.take_if(|queued| Arc::ptr_eq(queued, inner));
    }
}

/// Whoever takes the role of `seat` sends what the last holder's handler had left queued.
pub(crate) fn take_queued(seat: &Seat<Net>) {
    if let Some(inner) = seat.shared.queued.take() {
        inner.send_queued();
    }
}

/// Whether the calling thread runs a handler of this loop.
pub(crate) fn is_handler_of(sched: &Arc<Scheduler<Net>>) -> bool {
    with(|place| !place.running.get().is_null() && Arc::ptr_eq(&place.at.sched, sched))
        .unwrap_or(false)
}

/// Announces that `f` blocks or computes for long: the calling thread first passes on the event
/// loop's work that would wait behind it, if it has any. Anywhere else, just calls `f`.
///
/// A handler that forgets to announce such work is found out by the watchdog, a little later.
///
/// ```
/// let answer = netpoll::block_in_place(|| 6 * 7);
/// assert_eq!(answer, 42);
/// ```
pub fn block_in_place<R>(f: impl FnOnce() -> R) -> R {
    // A handler that promised not to wait keeps the role; what it breaks is its own promise.
    let _ = before_wait();
    f()
}
