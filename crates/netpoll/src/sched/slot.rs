//! Waiting: one primitive for everything that can wait (bytes, room, connected, closed).
//!
//! A slot holds one waiter: a [`Waker`] and a threshold. The waiter registers, fences, looks
//! again, and sleeps; who publishes, publishes, fences, and looks at the slot. Nobody waits where
//! nobody ever has, so until then a slot is one word.
//!
//! - **W1** One of the two looks sees the other's write, because a SeqCst fence stands between
//!   write and look on both sides.
//! - **W2** A wake-up may come for nothing. The waiter decides by its own look, never by being
//!   woken.
//! - **W3** Who would wait himself need not look at the slot: of one waiter, nobody else does.

use std::task::Waker;

use crate::{
    lazy::Lazy,
    sync::{
        Mutex,
        atomic::{
            AtomicUsize,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
        lock,
    },
};

/// See the module's text.
#[derive(Debug)]
pub struct Slot(Lazy<Waiter>);

#[derive(Debug)]
struct Waiter {
    /// What the waiter waits for; 0: nobody waits.
    want: AtomicUsize,
    waker: Mutex<Option<Waker>>,
}

impl Slot {
    /// Nobody waits.
    pub fn new() -> Self {
        Self(Lazy::new())
    }

    /// Registers the one waiter, for at least `want` (1 or more). It looks again after this.
    pub fn register(&self, want: usize, waker: &Waker) {
        let waiter =
            self.0.get_or_init(|| Waiter { want: AtomicUsize::new(0), waker: Mutex::new(None) });
        {
            let mut place = lock(&waiter.waker);
            match &mut *place {
                Some(old) => old.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
        // ORDERING: the fence, not the store, orders this before the waiter's next look (W1).
        waiter.want.store(want.max(1), Relaxed);
        #[cfg(not(netpoll_mutant = "register_without_fence"))]
        fence(SeqCst);
    }

    /// The waiter is done waiting.
    pub fn clear(&self) {
        let Some(waiter) = self.0.get() else { return };
        // ORDERING: a publisher that still sees the old value wakes for nothing (W2).
        waiter.want.store(0, Relaxed);
        lock(&waiter.waker).take();
    }

    /// To be called after publishing: wakes the waiter if `have` is enough for it.
    #[inline]
    pub fn notify(&self, have: usize) {
        #[cfg(not(netpoll_mutant = "notify_without_fence"))]
        fence(SeqCst);
        // ORDERING: both looks are ordered by the fence (W1).
        let Some(waiter) = self.0.get() else { return };
        let want = waiter.want.load(Relaxed);
        if want != 0 && have >= want {
            waiter.wake();
        }
    }

    /// Wakes the waiter, if any, whatever it waits for.
    pub fn wake(&self) {
        if let Some(waiter) = self.0.get() {
            waiter.wake();
        }
    }
}

impl Waiter {
    fn wake(&self) {
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
