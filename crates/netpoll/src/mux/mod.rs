//! One connection, written by many threads: messages are merged, and leave with few system calls.
//!
//! A client that multiplexes: requests from many threads, replies in any order, matched by id.
//!
//! ```
//! use std::{
//!     collections::HashMap,
//!     sync::{Arc, Mutex, mpsc},
//!     thread,
//! };
//!
//! use netpoll::{
//!     EventLoop, Listener, Reader, ReaderExt, mux::ShardQueue,
//!     service_fn,
//! };
//!
//! # fn main() -> Result<(), netpoll::BoxError> {
//! # let listener = Listener::bind("127.0.0.1:0")?;
//! # let addr = listener.local_addr()?.to_string();
//! let event_loop = EventLoop::new()?;
//! // It answers with the same id, and the square of the number.
//! event_loop.listen(listener, service_fn(|conn| {
//!     let (r, w) = conn.split();
//!     let (id, x) = (r.read_array::<8>()?, u32::from_be_bytes(r.read_array()?));
//!     netpoll::Writer::malloc(w, 12)?.put_slice(&id).put_u32(x * x);
//!     w.flush()?;
//!     Ok(())
//! }))?;
//!
//! let (mut replies, requests) = event_loop.dialer().dial(addr.as_str())?.into_split();
//! let requests = ShardQueue::new(requests);
//! let waiting: Arc<Mutex<HashMap<u64, mpsc::Sender<u32>>>> = Arc::default();
//!
//! // One thread reads replies, and gives each to whoever waits for it.
//! let reader = thread::spawn({
//!     let waiting = Arc::clone(&waiting);
//!     move || {
//!         while let Ok(id) = replies.read_array() {
//!             let Ok(answer) = replies.read_array() else { break };
//!             let caller = waiting.lock().unwrap().remove(&u64::from_be_bytes(id));
//!             caller.map(|caller| caller.send(u32::from_be_bytes(answer)));
//!             replies.release();
//!         }
//!         waiting.lock().unwrap().clear(); // nobody else will be answered
//!     }
//! });
//!
//! // Any thread can ask.
//! let call = |id: u64, x: u32| -> Result<u32, netpoll::BoxError> {
//!     let (reply, answer) = mpsc::channel();
//!     waiting.lock().unwrap().insert(id, reply);
//!     requests.add(move |w| {
//!         w.malloc(12)?.put_u64(id).put_u32(x);
//!         Ok(())
//!     })?;
//!     Ok(answer.recv()?)
//! };
//! thread::scope(|scope| {
//!     for x in 0..8 {
//!         scope.spawn(move || assert_eq!(call(u64::from(x), x).unwrap(), x * x));
//!     }
//! });
//!
//! requests.close()?; // everything accepted has been sent
//! drop(requests); // ends our half of the stream
//! reader.join().unwrap();
//! # Ok(())
//! # }
//! ```

mod error;
#[cfg(not(netpoll_loom))]
mod line;
/// The protocol, for the models.
#[cfg(netpoll_loom)]
pub mod line;
mod list;
mod message;
mod sender;

use std::{fmt, sync::Arc};

use gopool::Pool;
use linkbuffer::{Error, LinkBuffer, Result, Writer};

pub use self::error::{Reason, Refused};
use self::{
    line::Stop,
    sender::{Item, Shared},
};
use crate::{
    connection::{Handle, WriteHalf},
    current,
    service::{BoxError, HandlerResult},
};

/// A queue in front of one connection, to which any thread adds messages.
///
/// It takes the connection's [`WriteHalf`], so nobody else writes. Cheap to clone: clones are the
/// same queue. When the last is dropped, what was accepted still goes out, and then our half of
/// the stream ends.
///
/// - Each message goes out whole, and in the order in which it was added: after every message
///   whose `add` had returned before, whichever thread that was.
/// - Messages that are there together leave together, up to 64 KiB or one message per system call.
/// - It is bounded: see [`Builder`]. At a limit [`add`](Self::add) waits, and
///   [`try_add`](Self::try_add) gives the message back.
/// - A message that panics or returns an error is dropped as a whole; the others go out.
///
/// # Which thread sends
///
/// Whoever adds to a queue that nobody sends for does, and for a while also sends what others add
/// meanwhile: closures may run on another thread than the one that added them, and should be
/// short. Where the peer is slow, or the others do not stop, a thread of a [pool](Builder::pool)
/// goes on, and the producer returns.
///
/// # Failure
///
/// When the connection fails or is closed, messages that are queued are dropped,
/// [`on_failed`](Builder::on_failed) is called, and later messages are refused with that error.
/// A connection fails also when its peer takes nothing for as long as the
/// [write timeout](crate::Builder::write_timeout), so no `add` waits for ever if there is one.
///
/// See the [module](self) for an example.
///
/// The name is Go Netpoll's. There are no shards: a message is put in with one exchange on one
/// word, under no lock, which keeps the order between threads too.
#[derive(Clone)]
pub struct ShardQueue {
    shared: Arc<Shared>,
}

impl ShardQueue {
    /// A queue with the defaults of every option.
    #[doc(alias = "NewShardQueue")]
    pub fn new(write: WriteHalf) -> Self {
        Self::builder().build(write)
    }

    /// A queue with options of its own.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Adds a message, which `write` writes when it is its turn. At a limit, waits for room; in a
    /// handler, others are not held up by that.
    ///
    /// What `write` writes is one message: `flush` in it does nothing. If it returns an error or
    /// panics, none of it is sent, and [`on_spoiled`](Builder::on_spoiled) is called. The bytes
    /// that it owns are not counted against the limit: for large ones see
    /// [`add_buffer`](Self::add_buffer).
    ///
    /// # Errors
    ///
    /// The message is given back if the queue is closed or has failed, and if it is full and the
    /// caller must not wait ([`Reason::WouldWait`]).
    #[doc(alias = "Add")]
    pub fn add<F>(&self, write: F) -> Result<(), Refused<F>>
    where
        F: FnOnce(&mut dyn Writer) -> HandlerResult + Send + 'static,
    {
        self.add_write(write, true)
    }

    /// Like [`add`](Self::add), but never waits for room.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add), and [`Reason::Full`] at a limit.
    pub fn try_add<F>(&self, write: F) -> Result<(), Refused<F>>
    where
        F: FnOnce(&mut dyn Writer) -> HandlerResult + Send + 'static,
    {
        self.add_write(write, false)
    }

    /// Adds what was written to a buffer as a message, without copying it. At a limit, waits for
    /// room.
    ///
    /// ```
    /// # use netpoll::{EventLoop, Listener, service_fn};
    /// use netpoll::{LinkBuffer, Writer, mux::ShardQueue};
    /// # fn main() -> Result<(), netpoll::BoxError> {
    /// # let listener = Listener::bind("127.0.0.1:0")?;
    /// # let addr = listener.local_addr()?.to_string();
    /// # let event_loop = EventLoop::new()?;
    /// # event_loop.listen(listener, service_fn(|_| Ok(())))?;
    /// # let conn = event_loop.dialer().dial(addr.as_str())?;
    /// let (_replies, requests) = conn.into_split();
    /// let queue = ShardQueue::new(requests);
    /// let mut message = LinkBuffer::new();
    /// message.malloc(4)?.put_u32(5);
    /// message.write_string("hello")?;
    /// queue.add_buffer(message)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add), and [`Reason::Incomplete`] if a placeholder is unfilled.
    #[allow(clippy::result_large_err)] // What was given comes back as it was.
    pub fn add_buffer(&self, buf: LinkBuffer) -> Result<(), Refused<LinkBuffer>> {
        self.add_whole(buf, true)
    }

    /// Like [`add_buffer`](Self::add_buffer), but never waits for room.
    ///
    /// # Errors
    ///
    /// As [`add_buffer`](Self::add_buffer), and [`Reason::Full`] at a limit.
    #[allow(clippy::result_large_err)] // As above.
    pub fn try_add_buffer(&self, buf: LinkBuffer) -> Result<(), Refused<LinkBuffer>> {
        self.add_whole(buf, false)
    }

    fn add_write<F>(&self, write: F, may_wait: bool) -> Result<(), Refused<F>>
    where
        F: FnOnce(&mut dyn Writer) -> HandlerResult + Send + 'static,
    {
        match self.enter(0, may_wait) {
            Ok(()) => {
                self.shared.add_write(write);
                Ok(())
            }
            Err(reason) => Err(Refused { message: write, reason }),
        }
    }

    #[allow(clippy::result_large_err)] // As above.
    fn add_whole(&self, mut buf: LinkBuffer, may_wait: bool) -> Result<(), Refused<LinkBuffer>> {
        let entered = match buf.flush() {
            Ok(_) => self.enter(linkbuffer::Reader::len(&buf), may_wait),
            Err(error) => Err(Reason::Incomplete(error)),
        };
        if let Err(reason) = entered {
            return Err(Refused { message: buf, reason });
        }
        let len = linkbuffer::Reader::len(&buf);
        self.shared.add(Item::Buffer(Box::new(buf), len));
        Ok(())
    }

    /// Has a message of `bytes` accepted.
    fn enter(&self, bytes: usize, may_wait: bool) -> Result<(), Reason> {
        let line = &self.shared.line;
        let mut entered = line.enter(bytes);
        if entered == Err(Stop::Full) && may_wait {
            // Who sends must not wait for what only sending brings.
            if sender::is_sending() || current::before_wait().is_err() {
                return Err(Reason::WouldWait);
            }
            entered = line.enter_waiting(bytes);
        }
        entered.map_err(|stop| match (stop, self.shared.failed.get()) {
            (Stop::Full, _) => Reason::Full,
            (Stop::Closed, None) => Reason::Closed,
            (Stop::Closed, Some(error)) => Reason::Failed(error::repeat(error)),
        })
    }

    /// Accepts nothing more, and waits until everything that was accepted has been sent: taken by
    /// the kernel, that is. It may be called again, and from many threads.
    ///
    /// The connection stays open. Dropping the last handle of the queue ends our half of the
    /// stream.
    ///
    /// # Errors
    ///
    /// The error by which the connection failed, if it did: some of what was accepted may not have
    /// been sent. [`Error::WouldWait`] if messages are left and the caller must not wait, because
    /// it is itself a message of a queue, or a handler under
    /// [`Runner::Inline`](crate::Runner::Inline): the queue is closed all the same, and sends
    /// them.
    #[doc(alias = "Close")]
    pub fn close(&self) -> Result<()> {
        let line = &self.shared.line;
        line.close();
        if line.len() > 0 {
            if sender::is_sending() {
                return Err(Error::WouldWait);
            }
            current::before_wait()?;
            line.wait_empty();
        }
        self.shared.failed.get().map_or(Ok(()), |error| Err(error::repeat(error)))
    }

    /// Whether no message is accepted any more: it was closed, or the connection failed.
    pub fn is_closed(&self) -> bool {
        self.shared.line.is_closed()
    }

    /// Messages that were accepted, and neither sent nor dropped so far.
    pub fn len(&self) -> usize {
        self.shared.line.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The view of the connection that works from anywhere.
    pub fn handle(&self) -> &Handle {
        &self.shared.handle
    }

    /// Figures that show the queue at work.
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        Stats {
            sends: counters.sends.get(),
            relays: counters.relays.get(),
            spoiled: counters.spoiled.get(),
        }
    }
}

impl fmt::Debug for ShardQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardQueue")
            .field("len", &self.len())
            .field("is_closed", &self.is_closed())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// What a queue has done. See [`ShardQueue::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Times that merged messages were handed to the kernel: at least one system call each, more
    /// where the peer was slow.
    pub sends: u64,
    /// Times that a producer passed sending on to the pool.
    pub relays: u64,
    /// Messages that panicked or returned an error.
    pub spoiled: u64,
}

/// The options of a [`ShardQueue`].
///
/// | option | default | bounds |
/// |---|---|---|
/// | [`max_messages`](Self::max_messages) | 4096 | messages accepted and not yet sent |
/// | [`max_bytes`](Self::max_bytes) | 4 MiB | bytes of buffers accepted and not yet sent |
/// | [`pool`](Self::pool) | one of 256 threads, shared by all queues | threads that wait for slow peers |
///
/// Beside that, closures that were called have at most 64 KiB and one message written and unsent.
#[must_use]
pub struct Builder {
    max_messages: usize,
    max_bytes: usize,
    pool: Option<Pool>,
    on_spoiled: Option<Box<sender::OnSpoiled>>,
    on_failed: Option<Box<sender::OnFailed>>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            max_messages: 4096,
            max_bytes: 4 << 20,
            pool: None,
            on_spoiled: None,
            on_failed: None,
        }
    }
}

impl Builder {
    /// How many messages may be accepted and unsent, 1 to 16777215; what is outside counts as the
    /// nearest of these.
    pub fn max_messages(mut self, messages: usize) -> Self {
        self.max_messages = messages;
        self
    }

    /// How many bytes of [buffers](ShardQueue::add_buffer) may be accepted and unsent, 1 to 2^38.
    /// Below it one more is accepted, however large, so that a large one gets through.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Whose threads go on where a producer would have to wait for a slow peer. Each slow peer
    /// holds one of them for as long as it is slow. Where the pool refuses, the producer waits
    /// itself.
    pub fn pool(mut self, pool: Pool) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Called with the reason when a message panicked or returned an error: nothing of it is
    /// sent. Runs on the thread that sends, and must not wait for this queue. A panic in it is
    /// contained.
    pub fn on_spoiled(mut self, callback: impl Fn(BoxError) + Send + Sync + 'static) -> Self {
        self.on_spoiled = Some(Box::new(callback));
        self
    }

    /// Called once, when sending fails: what is queued will not be sent, and what is added later
    /// is refused. Runs on the thread that sends, and must not wait for this queue. A panic in it
    /// is contained.
    pub fn on_failed(mut self, callback: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.on_failed = Some(Box::new(callback));
        self
    }

    /// Makes the queue of a connection whose [`WriteHalf`] this is: from
    /// [`Connection::take_write_half`](crate::Connection::take_write_half) or
    /// [`Connection::into_split`](crate::Connection::into_split).
    pub fn build(self, write: WriteHalf) -> ShardQueue {
        let mut shared = Shared::new(write, self.max_messages, self.max_bytes);
        shared.pool = self.pool;
        shared.on_spoiled = self.on_spoiled;
        shared.on_failed = self.on_failed;
        ShardQueue { shared: Arc::new(shared) }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("max_messages", &self.max_messages)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}
