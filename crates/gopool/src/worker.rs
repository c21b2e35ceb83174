//! One worker's life: take a task, run it; find none, look around, lie down, retire.

use std::cell::Cell;

use crate::{
    counts::Change,
    crew::{Crew, Rested},
    sync::{
        self, Arc, Thread,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
        thread_local,
    },
};

/// What others know of a worker.
pub(crate) struct Worker {
    thread: Thread,
    /// Set by whoever takes this worker off the list of the parked. Beside the thread's own
    /// token, which tasks may take or leave behind.
    woken: AtomicBool,
    /// Tasks that have ended here; only the worker writes it.
    completed: AtomicUsize,
}

impl Worker {
    pub(crate) fn set_resting(&self) {
        // ORDERING: Relaxed: under the roster's lock, as whoever sets it.
        self.woken.store(false, Relaxed);
    }

    pub(crate) fn set_woken(&self) {
        // ORDERING: Release pairs with the Acquire in `is_woken`: the worker finds itself off
        // the list and counted as searching.
        self.woken.store(true, Release);
    }

    pub(crate) fn is_woken(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `set_woken`.
        self.woken.load(Acquire)
    }

    pub(crate) fn unpark(&self) {
        self.thread.unpark();
    }

    pub(crate) fn completed(&self) -> usize {
        // ORDERING: Acquire pairs with the Release below: who counts a task as completed also
        // sees that it was accepted.
        self.completed.load(Acquire)
    }

    fn count_completed(&self) {
        // ORDERING: Relaxed load: nobody else writes it. Release: see `completed`.
        self.completed.store(self.completed.load(Relaxed).wrapping_add(1), Release);
    }
}

/// How a worker leaves that has no task.
pub(crate) fn leaving(searching: bool) -> Change {
    if searching { Change::SearcherLeaves } else { Change::WorkerLeaves }
}

#[cfg(not(netpoll_loom))]
thread_local! {
    /// The address of the crew that this thread works for; it outlives the thread's work.
    static CREW: Cell<usize> = const { Cell::new(0) };
}
#[cfg(netpoll_loom)]
thread_local! {
    static CREW: Cell<usize> = Cell::new(0);
}

fn address(crew: &Crew) -> usize {
    std::ptr::from_ref(crew).addr()
}

/// Whether the calling thread is a worker of this crew.
pub(crate) fn is_current(crew: &Crew) -> bool {
    CREW.try_with(|current| current.get() == address(crew)).unwrap_or(false)
}

/// A worker's thread, from its start to its end.
pub(crate) fn main(crew: &Arc<Crew>) {
    CREW.with(|current| current.set(address(crew)));
    let worker = Arc::new(Worker {
        thread: sync::current(),
        woken: AtomicBool::new(false),
        completed: AtomicUsize::new(0),
    });
    crew.enlist(&worker);
    work(crew, &worker);
    CREW.with(|current| current.set(0));
}

fn work(crew: &Arc<Crew>, worker: &Arc<Worker>) {
    // Whoever started this worker counted it as searching.
    let mut searching = true;
    loop {
        if crew.is_over_cap() && Crew::leave_if_surplus(crew, worker, searching) {
            return;
        }
        if let Some((task, room_wanted)) = crew.queue.pop() {
            if searching {
                Crew::found(crew);
                searching = false;
            }
            if room_wanted {
                crew.pass_room_on();
            }
            task.run(&crew.panics);
            worker.count_completed();
            continue;
        }
        if crew.queue.has_ended() {
            crew.leave_ended(worker, searching);
            return;
        }
        if !searching {
            crew.search();
            searching = true;
        }
        if look_around(crew) {
            continue;
        }
        match crew.rest(worker) {
            Rested::Search => {}
            Rested::Leave => return,
        }
    }
}

/// Looks for a task for about as long as it takes to sleep and be woken. Only one worker does:
/// more would take processors from those who have work.
#[cfg(not(netpoll_loom))]
fn look_around(crew: &Crew) -> bool {
    const LOOKS: u32 = 24;
    const PAUSES: u32 = 8;
    for _ in 0..LOOKS {
        if !crew.is_only_searcher() {
            return false;
        }
        for _ in 0..PAUSES {
            std::hint::spin_loop();
        }
        if !crew.queue.is_empty() {
            return true;
        }
    }
    false
}

#[cfg(netpoll_loom)]
fn look_around(_: &Crew) -> bool {
    false
}
