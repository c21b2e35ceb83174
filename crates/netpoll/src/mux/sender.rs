//! Writing the messages of a queue to its connection, by whoever has the turn.
//!
//! Who finds the queue unmanned sends on its own thread, also what others add meanwhile. It does
//! so as long as that costs it no waiting and the others leave it some time: where the socket
//! takes no more, or the rounds are used up, the turn goes to a thread of a pool, and the producer
//! goes on. So a message to an idle connection costs no thread switch, and a slow peer holds up
//! no producer before the queue is full. Where the pool has no thread to spare either, the
//! producer's own serves: a full pool makes a queue slower, and never stops it.

#![allow(unsafe_code)] // The sender's cell, which belongs to the owner of the turn.

use std::{
    any::Any,
    cell::Cell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use gopool::Pool;
use linkbuffer::{Error, LinkBuffer, Result, Writer};

use super::{
    line::{Batch, Done, Line},
    message::Message,
};
use crate::{
    connection::{Handle, WriteHalf},
    current,
    service::{BoxError, HandlerResult},
    sync::{Counter, cell::UnsafeCell},
};

/// Bytes that are written before they are sent.
const CHUNK: usize = 64 << 10;
/// Sends after which a producer leaves the rest to the pool.
const ROUNDS: usize = 16;

/// How a closure waits in the queue.
type Write = dyn FnOnce(&mut dyn Writer) -> HandlerResult + Send;
/// Hears of a message that came to nothing.
pub(super) type OnSpoiled = dyn Fn(BoxError) + Send + Sync;
/// Hears of the connection's failure.
pub(super) type OnFailed = dyn Fn(&Error) + Send + Sync;

/// What waits in the queue.
pub(super) enum Item {
    Write(Box<Write>),
    /// Flushed, with its length.
    Buffer(Box<LinkBuffer>, usize),
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Item")
    }
}

thread_local! {
    static SENDING: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is sending for some queue: what it calls must not wait for one.
pub(super) fn is_sending() -> bool {
    SENDING.get()
}

/// A queue, as its handles and its senders share it.
pub(super) struct Shared {
    pub(super) line: Line<Item>,
    pub(super) handle: Handle,
    /// None: the library's.
    pub(super) pool: Option<Pool>,
    pub(super) on_spoiled: Option<Box<OnSpoiled>>,
    pub(super) on_failed: Option<Box<OnFailed>>,
    /// Why nothing can be sent any more.
    pub(super) failed: OnceLock<Error>,
    pub(super) counters: Counters,
    sender: UnsafeCell<Sender>,
}

/// Figures for people.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) sends: Counter,
    pub(super) relays: Counter,
    pub(super) spoiled: Counter,
}

// SAFETY: the sender is the only part that is not Sync by itself. It is touched in `serve` only,
// between a claim of the line's turn and giving it back, which one thread does at a time and which
// hands over with release and acquire; and what is inside is Send.
unsafe impl Sync for Shared {}

/// What belongs to the owner of the turn.
struct Sender {
    half: WriteHalf,
    /// Taken off the line, and not yet written.
    batch: Batch<Item>,
    /// Written and not yet sent, in bytes.
    written: usize,
    /// What these were in the line.
    done: Done,
    /// The socket took no more: what to wait for.
    left: Option<u64>,
}

/// How a piece of work ended.
#[derive(PartialEq, Eq)]
enum Step {
    /// Everything that was there is done with.
    Done,
    /// Somebody who may wait, or has more time, is to go on.
    Leave,
}

impl Shared {
    pub(super) fn new(half: WriteHalf, max_messages: usize, max_bytes: usize) -> Self {
        let handle = half.handle();
        let sender =
            Sender { half, batch: Batch::new(), written: 0, done: Done::default(), left: None };
        Self {
            line: Line::new(max_messages, max_bytes),
            handle,
            pool: None,
            on_spoiled: None,
            on_failed: None,
            failed: OnceLock::new(),
            counters: Counters::default(),
            sender: UnsafeCell::new(sender),
        }
    }

    /// Puts an accepted message in, and sends if nobody does.
    pub(super) fn add(self: &Arc<Self>, item: Item) {
        if self.line.push(item) {
            self.serve(None::<fn(&mut dyn Writer) -> HandlerResult>, false);
        }
    }

    /// The same for a closure, which is called in place, and not boxed, where nobody sends.
    pub(super) fn add_write<F>(self: &Arc<Self>, write: F)
    where
        F: FnOnce(&mut dyn Writer) -> HandlerResult + Send + 'static,
    {
        if self.line.claim_idle() {
            self.serve(Some(write), false);
        } else {
            self.add(Item::Write(Box::new(write)));
        }
    }

    /// The caller has the turn: sends until nothing is left, or passes the turn on. `own` is a
    /// message of the caller's, behind all that is in the line.
    fn serve<F>(self: &Arc<Self>, mut own: Option<F>, may_wait: bool)
    where
        F: FnOnce(&mut dyn Writer) -> HandlerResult + Send + 'static,
    {
        let was_sending = SENDING.replace(true);
        let mut rounds = if may_wait { usize::MAX } else { ROUNDS };
        let step = loop {
            self.line.begin();
            let step = self.sender.with_mut(|sender| {
                // SAFETY: this thread owns the turn. User code that runs in here may add to this
                // queue, which finds the turn taken and touches the line alone.
                let sender = unsafe { &mut *sender };
                sender.work(self, &mut own, may_wait, &mut rounds)
            });
            if step == Step::Leave || self.line.finish() {
                break step;
            }
        };
        SENDING.set(was_sending);
        if step == Step::Leave {
            if let Some(write) = own {
                self.line.put_back(Item::Write(Box::new(write)));
            }
            self.counters.relays.count();
            relay(self);
        }
    }

    /// Nothing can be sent any more. The first reason counts.
    fn fail(&self, error: Error) {
        // Before closing: who is refused looks for the reason.
        let first = self.failed.set(error).is_ok();
        self.line.close();
        if let (true, Some(callback), Some(error)) = (first, &self.on_failed, self.failed.get()) {
            let _ = catch_unwind(AssertUnwindSafe(|| callback(error)));
        }
    }

    fn spoil(&self, why: BoxError) {
        self.counters.spoiled.count();
        if let Some(callback) = &self.on_spoiled {
            let _ = catch_unwind(AssertUnwindSafe(|| callback(why)));
        }
    }
}

impl Sender {
    fn work<F>(
        &mut self,
        shared: &Shared,
        own: &mut Option<F>,
        may_wait: bool,
        rounds: &mut usize,
    ) -> Step
    where
        F: FnOnce(&mut dyn Writer) -> HandlerResult,
    {
        loop {
            if let Some(target) = self.left {
                if !may_wait {
                    return Step::Leave;
                }
                // A handler that promised not to wait breaks its promise rather than the queue,
                // where no thread of the pool was free.
                let _ = current::before_wait();
                let sent = self.half.wait_sent(target);
                self.left = None;
                self.sent(shared, sent);
            }
            if self.batch.is_empty() {
                self.batch = shared.line.take();
            }
            if *rounds == 0 && !self.batch.is_empty() {
                return Step::Leave;
            }
            while self.written < CHUNK {
                match self.batch.next() {
                    Some(item) => self.write(shared, item),
                    None => break,
                }
            }
            if self.batch.is_empty() && self.written < CHUNK {
                if let Some(write) = own.take() {
                    self.call(shared, write);
                    self.done.add(0);
                    // What came while it was written leaves with it.
                    self.batch = shared.line.take();
                    if !self.batch.is_empty() {
                        continue;
                    }
                } else if self.done.is_empty() {
                    return Step::Done;
                }
            }
            *rounds = rounds.saturating_sub(1);
            self.send(shared);
        }
    }

    fn write(&mut self, shared: &Shared, item: Item) {
        match item {
            Item::Write(write) => {
                self.done.add(0);
                self.call(shared, write);
            }
            Item::Buffer(buf, bytes) => {
                self.done.add(bytes);
                if shared.failed.get().is_some() {
                    return;
                }
                let taken = self.half.append(*buf).and_then(|()| self.half.commit());
                match taken {
                    Ok(n) => self.written += n,
                    // It was accepted, and is lost: the stream cannot go on without it.
                    Err(error) => shared.fail(error),
                }
            }
        }
    }

    /// Has a message write itself: all of it is part of the stream then, or nothing.
    fn call(&mut self, shared: &Shared, write: impl FnOnce(&mut dyn Writer) -> HandlerResult) {
        if shared.failed.get().is_some() {
            // What it owns is the user's, and so is its drop.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(write)));
            return;
        }
        let mut message = Message::new(&mut self.half);
        let written = catch_unwind(AssertUnwindSafe(|| write(&mut message)))
            .unwrap_or_else(|panic| Err(describe(panic)))
            .and_then(|()| message.check());
        match written.and_then(|()| Ok(self.half.commit()?)) {
            Ok(n) => self.written += n,
            Err(why) => {
                if let Err(error) = self.half.malloc_ack(0) {
                    shared.fail(error);
                }
                shared.spoil(why);
            }
        }
    }

    fn send(&mut self, shared: &Shared) {
        if self.written == 0 || shared.failed.get().is_some() {
            return self.sent(shared, Ok(()));
        }
        shared.counters.sends.count();
        match self.half.send() {
            Ok(None) => self.sent(shared, Ok(())),
            Ok(left) => self.left = left,
            Err(error) => self.sent(shared, Err(error)),
        }
    }

    /// What was written has been sent, or never will be.
    fn sent(&mut self, shared: &Shared, result: Result<()>) {
        if let Err(error) = result {
            shared.fail(error);
        }
        self.written = 0;
        shared.line.done(std::mem::take(&mut self.done));
    }
}

/// Who has the turn and may wait. Whoever runs or drops the task of a pool serves it.
struct Relay(Arc<Shared>);

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.serve(None::<fn(&mut dyn Writer) -> HandlerResult>, true);
    }
}

fn relay(shared: &Arc<Shared>) {
    let Some(pool) = shared.pool.as_ref().or_else(|| common_pool()) else {
        return drop(Relay(Arc::clone(shared)));
    };
    let relay = Relay(Arc::clone(shared));
    // Refused, it comes back and is dropped here, which serves on this thread.
    let _ = pool.try_go(move || drop(relay));
}

/// The pool of queues that were given none: a thread for each peer that is slow at this moment.
fn common_pool() -> Option<&'static Pool> {
    static POOL: OnceLock<Option<Pool>> = OnceLock::new();
    let build = || Pool::builder().name("netpoll-mux").cap(256).queue_limit(16).build().ok();
    POOL.get_or_init(build).as_ref()
}

fn describe(panic: Box<dyn Any + Send>) -> BoxError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with a value that is no text");
    let text = format!("a message panicked: {text}");
    // What it panicked with is the user's, and so is its drop.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
    text.into()
}
