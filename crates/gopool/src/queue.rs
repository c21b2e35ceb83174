//! The pending tasks: a bounded ring for many producers and many consumers.
//!
//! Each place carries a stamp, and both ends are positions: a lap and an index.
//!
//! ```text
//!   position   | lap ........ | index ... | two flag bits |
//!   tail                                    CLOSED, UNMANNED
//!   head                                    WANTED
//!
//!   stamp      lap        the place is free for the producer of that lap
//!              lap | 1    it holds a task for the consumer of that lap
//! ```
//!
//! Q1. A producer owns place `i` from its compare-exchange of `tail` until it stores `lap | 1`;
//!     a consumer, from its compare-exchange of `head` until it stores the next lap.
//! Q2. No flag of `tail` is set when a producer claims a place: what is claimed was accepted
//!     before the queue closed, and while somebody was there to run it.
//! Q3. UNMANNED is set by the last worker to leave, in the compare-exchange that proves the
//!     queue empty, and cleared when a worker has started. So: a task is in the queue, then a
//!     worker is alive.
//! Q4. WANTED says that a producer waits for room. It is set by a read-modify-write of `head`
//!     that also reads whether the queue is full, and taken by the next consumer's: one comes
//!     first, so that the producer sees the room or the consumer sees the producer.

use std::mem::MaybeUninit;

use crossbeam_utils::CachePadded;

use crate::{
    sync::{
        Backoff, UnsafeCell,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
            fence,
        },
    },
    task::Task,
};

/// Places are a cache line each; a queue has at most this many.
pub(crate) const MAX_LIMIT: usize = 1 << 24;

const FLAGS: usize = 0b11;
const CLOSED: usize = 0b01;
const UNMANNED: usize = 0b10;
const WANTED: usize = 0b01;
const STEP: usize = 0b100;

#[repr(C, align(64))]
struct Place {
    stamp: AtomicUsize,
    task: UnsafeCell<MaybeUninit<Task>>,
}

#[cfg(all(not(netpoll_loom), target_pointer_width = "64"))]
const _: () = assert!(size_of::<Place>() == 64, "one place, one cache line");

pub(crate) struct Queue {
    head: CachePadded<AtomicUsize>,
    tail: CachePadded<AtomicUsize>,
    places: Box<[Place]>,
    /// The least power of two that no index reaches, as a position.
    lap: usize,
}

// SAFETY: tasks are `Send`, and Q1 gives each place one owner at a time.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

/// Why no place could be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unclaimed {
    Full,
    Closed,
    /// No worker is alive: start one, call [`Queue::man`], try again.
    Unmanned,
}

impl Queue {
    /// A queue of `limit` places, open and unmanned; `None` if there is no memory for it.
    pub(crate) fn new(limit: usize) -> Option<Self> {
        assert!((1..=MAX_LIMIT).contains(&limit));
        Some(Self {
            head: CachePadded::new(AtomicUsize::new(0)),
            tail: CachePadded::new(AtomicUsize::new(UNMANNED)),
            places: new_places(limit)?,
            lap: limit.next_power_of_two() * STEP,
        })
    }

    pub(crate) fn limit(&self) -> usize {
        self.places.len()
    }

    /// Claims the place behind the last task.
    #[inline]
    pub(crate) fn claim(&self) -> Result<Claim<'_>, Unclaimed> {
        let mut backoff = Backoff::default();
        // ORDERING: Relaxed: `tail` only hands out places; tasks are published by the stamps.
        let mut tail = self.tail.load(Relaxed);
        loop {
            if tail & FLAGS != 0 {
                let closed = tail & CLOSED != 0;
                return Err(if closed { Unclaimed::Closed } else { Unclaimed::Unmanned });
            }
            let place = &self.places[self.index(tail)];
            let lap = self.lap_of(tail);
            // ORDERING: Acquire pairs with the Release in `pop`: the last consumer of this place
            // has moved the task out.
            let stamp = place.stamp.load(Acquire);
            if stamp == lap {
                let next = self.next(tail);
                // ORDERING: Relaxed: as above. What looks at `tail` to learn whether anything is
                // queued is ordered by the fences that it names.
                match self.tail.compare_exchange_weak(tail, next, Relaxed, Relaxed) {
                    Ok(_) => return Ok(Claim { place, lap }),
                    Err(now) => tail = now,
                }
                continue;
            }
            if stamp == lap.wrapping_sub(self.lap) | 1 {
                // The task of the lap before is still there, or is being moved out just now.
                // ORDERING: Acquire keeps the load of `tail` below from being older.
                let head = self.head.load(Acquire) & !FLAGS;
                if head.wrapping_add(self.lap) == tail {
                    return Err(Unclaimed::Full);
                }
            }
            backoff.snooze();
            tail = self.tail.load(Relaxed);
        }
    }

    /// Takes the oldest task, and says whether a producer waits for its place.
    #[inline]
    pub(crate) fn pop(&self) -> Option<(Task, bool)> {
        let mut backoff = Backoff::default();
        // ORDERING: Relaxed: `head` only hands out places; tasks are published by the stamps.
        let mut head = self.head.load(Relaxed);
        loop {
            let at = head & !FLAGS;
            let place = &self.places[self.index(at)];
            let lap = self.lap_of(at);
            // ORDERING: Acquire pairs with the Release in `Claim::fill`: the task is written.
            let stamp = place.stamp.load(Acquire);
            if stamp == lap | 1 {
                // Takes WANTED along (Q4).
                // ORDERING: AcqRel: a producer that finds room in `want_room` also finds the
                // stamps of the consumers that made it, or soon does: it backs off.
                match self.head.compare_exchange_weak(head, self.next(at), AcqRel, Relaxed) {
                    Ok(_) => {
                        // SAFETY: Q1: the place is ours, and its stamp said that it is full.
                        let task = place.task.with(|task| unsafe { (*task).assume_init_read() });
                        // ORDERING: Release pairs with the Acquire in `claim`.
                        place.stamp.store(lap.wrapping_add(self.lap), Release);
                        let wanted = head & WANTED != 0 && !cfg!(netpoll_mutant = "room-unseen");
                        return Some((task, wanted));
                    }
                    Err(now) => head = now,
                }
                continue;
            }
            if stamp == lap {
                // ORDERING: Relaxed: when this must not be missed, the caller has fenced.
                if self.tail.load(Relaxed) & !FLAGS == at {
                    return None;
                }
                // A producer has claimed the place and not filled it yet.
            }
            backoff.snooze();
            head = self.head.load(Relaxed);
        }
    }

    /// Whether nothing is queued. May err towards no, never towards yes for a task that was
    /// claimed before a SeqCst fence, itself before one of the caller.
    pub(crate) fn is_empty(&self) -> bool {
        // ORDERING: Relaxed: it is the fences of `Claim::fill` and of the caller that order this.
        let head = self.head.load(Relaxed) & !FLAGS;
        self.tail.load(Relaxed) & !FLAGS == head
    }

    /// Whether there is no room; a snapshot.
    pub(crate) fn is_full(&self) -> bool {
        // ORDERING: Acquire keeps the two loads in this order.
        let head = self.head.load(Acquire) & !FLAGS;
        self.tail.load(Acquire) == head.wrapping_add(self.lap)
    }

    /// How many tasks wait; a snapshot.
    pub(crate) fn len(&self) -> usize {
        // `head` first: a tail from later can only make the difference larger, up to the limit.
        // ORDERING: Acquire keeps the two loads in this order.
        let head = self.count(self.head.load(Acquire));
        let tail = self.count(self.tail.load(Acquire));
        tail.wrapping_sub(head).min(self.limit())
    }

    /// How many tasks were ever accepted.
    pub(crate) fn accepted(&self) -> usize {
        // ORDERING: Acquire, as in `len`: what is read afterwards is not older.
        self.count(self.tail.load(Acquire))
    }

    /// No more tasks; those that are queued stay.
    pub(crate) fn close(&self) {
        // ORDERING: AcqRel pairs with the Acquire of who asks below: whoever sees the queue closed
        // sees what came before the closing.
        self.tail.fetch_or(CLOSED, AcqRel);
    }

    pub(crate) fn is_closed(&self) -> bool {
        // ORDERING: Acquire pairs with `close`.
        self.tail.load(Acquire) & CLOSED != 0
    }

    /// Whether it is closed and everything that it accepted has been taken.
    pub(crate) fn has_ended(&self) -> bool {
        // ORDERING: Acquire pairs with `close`. A closed tail is final, and a head that has reached
        // it was moved there by those who took the tasks.
        let tail = self.tail.load(Acquire);
        if cfg!(netpoll_mutant = "closed-is-ended") {
            return tail & CLOSED != 0;
        }
        tail & CLOSED != 0 && self.head.load(Acquire) & !FLAGS == tail & !FLAGS
    }

    /// A worker is alive: accept tasks.
    pub(crate) fn man(&self) {
        // ORDERING: AcqRel: as in `unman`, under the same lock.
        self.tail.fetch_and(!UNMANNED, AcqRel);
    }

    /// The last worker wants to leave: refuse tasks from now on, unless one is queued (Q3).
    pub(crate) fn unman(&self) -> bool {
        if cfg!(netpoll_mutant = "leave-unlooked") {
            self.tail.fetch_or(UNMANNED, AcqRel);
            return true;
        }
        // ORDERING: Acquire keeps the two loads in this order; AcqRel ends the worker's time with
        // the queue before that of the next. No task is published here.
        let tail = self.tail.load(Acquire);
        // Positions do not come back, so a `tail` that is unchanged in the exchange, and that
        // `head` has reached, proves the queue empty at that moment.
        self.head.load(Acquire) & !FLAGS == tail & !FLAGS
            && self.tail.compare_exchange(tail, tail | UNMANNED, AcqRel, Relaxed).is_ok()
    }

    /// Asks the next consumer to report the room that it makes, and says whether to wait for it.
    pub(crate) fn want_room(&self) -> bool {
        // ORDERING: AcqRel, with the compare-exchange in `pop`: a read-modify-write of the same
        // word, so one of the two sees the other (Q4).
        let head = self.head.fetch_or(WANTED, AcqRel) & !FLAGS;
        let tail = self.tail.load(Acquire);
        // A tail that is older than the head looks less full: the caller tries again.
        tail & FLAGS == 0 && head.wrapping_add(self.lap) == tail
    }

    fn index(&self, position: usize) -> usize {
        (position & (self.lap - 1)) / STEP
    }

    fn lap_of(&self, position: usize) -> usize {
        position & !(self.lap - 1)
    }

    fn next(&self, position: usize) -> usize {
        if self.index(position) + 1 < self.places.len() {
            position.wrapping_add(STEP)
        } else {
            self.lap_of(position).wrapping_add(self.lap)
        }
    }

    /// How many places came before this position.
    fn count(&self, position: usize) -> usize {
        (position / self.lap).wrapping_mul(self.limit()).wrapping_add(self.index(position))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// A claimed place. It must be filled: consumers wait for it.
#[must_use]
pub(crate) struct Claim<'a> {
    place: &'a Place,
    lap: usize,
}

impl Claim<'_> {
    /// Publishes the task. A SeqCst fence comes with it: what the caller then reads of the
    /// workers is no older than what they did before they fenced and looked at the queue.
    #[inline]
    pub(crate) fn fill(self, task: Task) {
        // SAFETY: Q1: the place is ours, and empty.
        self.place.task.with_mut(|place| unsafe { (*place).write(task) });
        let order = if cfg!(netpoll_mutant = "task-unpublished") { Relaxed } else { Release };
        // ORDERING: Release pairs with the Acquire in `pop`, publishing the task.
        self.place.stamp.store(self.lap | 1, order);
        if !cfg!(netpoll_mutant = "push-unfenced") {
            // ORDERING: pairs with the fences in `Crew::rest` and `Crew::found`.
            fence(crate::sync::atomic::Ordering::SeqCst);
        }
    }
}

/// Fresh memory of the system is zero and costs nothing until it is touched, and a zero stamp is
/// free for lap zero.
#[cfg(not(netpoll_loom))]
fn new_places(limit: usize) -> Option<Box<[Place]>> {
    let layout = std::alloc::Layout::array::<Place>(limit).ok()?;
    // SAFETY: `limit` is not zero, nor is the size of a place.
    let memory = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<Place>();
    if memory.is_null() {
        return None;
    }
    // SAFETY: the memory is of the global allocator with this layout, and all zeroes are a valid
    // `Place`: an atomic zero and uninitialised room.
    Some(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(memory, limit)) })
}

#[cfg(netpoll_loom)]
fn new_places(limit: usize) -> Option<Box<[Place]>> {
    let new =
        |_| Place { stamp: AtomicUsize::new(0), task: UnsafeCell::new(MaybeUninit::uninit()) };
    Some((0..limit).map(new).collect())
}

#[cfg(all(test, not(netpoll_loom)))]
mod tests;
