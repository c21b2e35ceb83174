//! The cap on handlers that run or are blocked: places, and the queue of those without one.
//!
//! One word counts both: `queued << 32 | taken`. A place is taken and given back by one
//! compare-exchange while nobody queues, which is the case on the path of a request; the lock is
//! for the queue alone.
//!
//! - **P1** `taken <= cap`, except after the cap was lowered, until enough have been given back.
//! - **P2** `queued > 0` only while `taken >= cap`: checking the cap and joining the queue is one
//!   compare-exchange, so nobody queues beside a free place.
//! - **P3** `queued` grows and shrinks under the lock, together with the queue itself.
//! - **P4** Who gives a place back while somebody queues keeps it and runs the oldest instead. Who
//!   has one, and something new to run, lets the oldest go first.

use std::collections::VecDeque;

use crate::sync::{
    Counter, Mutex,
    atomic::{
        AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
    lock,
};

const QUEUED: u64 = 1 << 32;
const TAKEN: u64 = QUEUED - 1;

/// See the module's text. `W` is what waits for a place.
#[derive(Debug)]
pub struct Places<W> {
    word: AtomicU64,
    cap: AtomicU32,
    queue: Mutex<VecDeque<W>>,
    /// How many have left the queue, ever.
    moved: Counter,
}

impl<W> Places<W> {
    /// All `cap` places free.
    pub fn new(cap: u32) -> Self {
        Self {
            word: AtomicU64::new(0),
            cap: AtomicU32::new(cap.max(1)),
            queue: Mutex::new(VecDeque::new()),
            moved: Counter::default(),
        }
    }

    /// Takes a place if one is free.
    #[inline]
    #[must_use]
    pub fn take(&self) -> bool {
        // ORDERING: every change of the word is AcqRel: who takes a place sees what who gave it back
        // had done. The cap is only a number.
        let mut word = self.word.load(Acquire);
        while word & TAKEN < u64::from(self.cap.load(Relaxed)) {
            match self.word.compare_exchange(word, word + 1, AcqRel, Acquire) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Takes a place, or queues `work` for one. Gives the work back where a place was had.
    #[must_use]
    pub fn take_or_queue(&self, work: W) -> Option<W> {
        if self.take() {
            return Some(work);
        }
        #[cfg(netpoll_mutant = "queue_in_two_steps")]
        {
            // ORDERING: as in `take`.
            let mut queue = lock(&self.queue);
            self.word.fetch_add(QUEUED, AcqRel);
            queue.push_back(work);
            None
        }
        #[cfg(not(netpoll_mutant = "queue_in_two_steps"))]
        {
            #[cfg(netpoll_mutant = "cap_read_too_early")]
            let cap = self.cap.load(Relaxed);
            let mut queue = lock(&self.queue);
            // Under the lock: who changes the cap looks at the queue behind that.
            #[cfg(not(netpoll_mutant = "cap_read_too_early"))]
            let cap = self.cap.load(Relaxed);
            let mut word = self.word.load(Acquire);
            loop {
                let free = word & TAKEN < u64::from(cap);
                let next = if free { word + 1 } else { word + QUEUED };
                // P2: the same compare-exchange that finds the cap full joins the queue.
                match self.word.compare_exchange(word, next, AcqRel, Acquire) {
                    Ok(_) if free => return Some(work),
                    Ok(_) => break,
                    Err(now) => word = now,
                }
            }
            queue.push_back(work);
            None
        }
    }

    /// For who has a place, and `work` to run in it: what queued first goes first, and `work` waits
    /// behind the others.
    #[inline]
    #[must_use]
    pub fn exchange(&self, work: W) -> W {
        if self.queued() == 0 {
            return work;
        }
        let mut queue = lock(&self.queue);
        // P3: one leaves and one joins, so the count stays as it is.
        match queue.pop_front() {
            Some(oldest) => {
                self.moved.count();
                #[cfg(netpoll_mutant = "exchange_in_two_steps")]
                {
                    // ORDERING: as in `take`.
                    self.word.fetch_sub(QUEUED, AcqRel);
                    drop(queue);
                    queue = lock(&self.queue);
                    self.word.fetch_add(QUEUED, AcqRel);
                }
                queue.push_back(work);
                oldest
            }
            None => work,
        }
    }

    /// Gives a place back, or keeps it for the oldest in the queue, which the caller now runs.
    #[must_use]
    pub fn give_back(&self) -> Option<W> {
        // ORDERING: as in `take`.
        let mut word = self.word.load(Acquire);
        #[cfg(netpoll_mutant = "over_looked_once")]
        let mut first = None;
        loop {
            let over = word & TAKEN > u64::from(self.cap.load(Relaxed));
            #[cfg(netpoll_mutant = "over_looked_once")]
            let over = *first.get_or_insert(over);
            if word < QUEUED || over {
                match self.word.compare_exchange(word, word - 1, AcqRel, Acquire) {
                    Ok(_) => return None,
                    Err(now) => word = now,
                }
                continue;
            }
            let mut queue = lock(&self.queue);
            if let Some(work) = queue.pop_front() {
                self.moved.count();
                self.word.fetch_sub(QUEUED, AcqRel);
                return Some(work);
            }
            // Somebody else took the last of the queue between the load and the lock (P3).
            drop(queue);
            word = self.word.load(Acquire);
        }
    }

    /// Changes the cap. Handlers that run are not disturbed. Gives back those of the queue that
    /// have a place now: the caller sees to it that they run.
    #[must_use]
    pub fn set_cap(&self, cap: u32) -> Vec<W> {
        // ORDERING: a number; the places that it opens are taken as in `take`.
        self.cap.store(cap.max(1), Relaxed);
        let mut started = Vec::new();
        let mut queue = lock(&self.queue);
        while !queue.is_empty() && self.take() {
            // P3: under the lock, queue and count move together.
            self.moved.count();
            self.word.fetch_sub(QUEUED, AcqRel);
            started.extend(queue.pop_front());
        }
        started
    }

    /// Places taken now.
    pub fn taken(&self) -> usize {
        // ORDERING: a figure for people.
        (self.word.load(Relaxed) & TAKEN) as usize
    }

    /// How many wait for a place now.
    pub fn queued(&self) -> usize {
        // ORDERING: a figure for people.
        (self.word.load(Relaxed) >> 32) as usize
    }

    /// How many have left the queue so far. While this stands still, a full cap does not move.
    pub fn moved(&self) -> u64 {
        self.moved.get()
    }

    /// How many may run or be blocked at once.
    pub fn cap(&self) -> usize {
        // ORDERING: a figure for people.
        self.cap.load(Relaxed) as usize
    }
}
