//! What one connection is inside: the descriptor, both buffers' far ends, and who may touch each.
//!
//! | part | belongs to |
//! |---|---|
//! | `input` | the driver of the connection's poller, outside user code; or, before a loop has the connection, whoever holds its read half |
//! | `output` | whoever holds the `sender` turn |
//! | `session` | whoever holds the connection's `turn` |
//! | the rest | everybody |

#![allow(unsafe_code)] // The three cells of the table above.

mod clocks;
mod fault;
mod output;
mod pausing;
mod rest;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr,
    sync::{Arc, Weak},
    time::Instant,
};

use linkbuffer::{Error, Result};
use poller::{Interest, Lease, Token, sys};

use self::clocks::Clocks;
use super::{
    callbacks::Session,
    ends,
    handle::{Handle, Shared},
    wait,
};
use crate::{
    budget::Charge,
    config::Options,
    contain::contained,
    net_host::{Berth, Command, Entry, Link, Net, ahead::Near},
    sched::{Scheduler, Seat, flow::Flow, full::Full, slot::Slot, turn::Turn},
    service::{BoxError, Service},
    sync::{
        Mutex,
        atomic::{
            AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
            fence,
        },
        cell::UnsafeCell,
        lock,
    },
    timers::NEVER,
    trace::event,
};

/// The least room that a read is given. Grows while reads fill their room.
const LEAST_ROOM: usize = 2 << 10;
/// The most: past this a larger read saves nothing.
const MOST_ROOM: usize = 128 << 10;
/// The most that a connection begins anew with once it has consumed all: what it needed in a burst, it
/// does not hold for a trickle. A little less than a power of two, for the block's own header.
const CALM_ROOM: usize = 31 << 10;

/// The loop and poller that a connection lives with.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) sched: Arc<Scheduler<Net>>,
    pub(crate) seat: Arc<Seat<Net>>,
}

/// What runs beside the session when the peer goes away.
pub(crate) trait OnDisconnect: Send + Sync {
    fn disconnected(&self, handle: &Handle);
}

impl<S: Service> OnDisconnect for S {
    fn disconnected(&self, handle: &Handle) {
        self.on_disconnect(handle);
    }
}

/// Where a connection lives.
struct Place {
    home: Home,
    /// Until it has left the table there. It keeps the poller's role from ending.
    lease: Option<Lease<Link>>,
    /// The service, while it has one.
    on_disconnect: Option<Arc<dyn OnDisconnect>>,
}

struct Input {
    buf: linkbuffer::WriteHalf,
    /// Room for the next read.
    room: usize,
}

/// What reading a socket came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Nothing new.
    Nothing,
    /// Bytes, or the end, and the socket is drained (or paused).
    Something,
    /// The budget was used up: the socket may have more.
    More,
}

/// In the order of use: with a thousand connections each line of it comes from far away.
#[repr(C)]
pub(crate) struct Inner {
    // For every event.
    fd: OwnedFd,
    pub(crate) turn: Turn,
    /// The last send found no room: the next writable edge goes on.
    full: Full,
    /// A poller fills the input; otherwise its reader does.
    polled: AtomicBool,
    /// On TCP a short read says that the socket is drained.
    is_tcp: bool,
    /// The input may hold a block: something was read since it was last sealed.
    open: AtomicBool,
    /// As much again is waiting to be handled: `flush` may leave its bytes queued.
    pub(crate) may_queue: AtomicBool,
    sender: Turn,
    /// The end of our half was sent; the sender's.
    fin: AtomicBool,
    /// Its home's table has it; changed under the lock of `home`.
    listed: AtomicBool,
    pub(crate) shared: Arc<Shared>,
    session: UnsafeCell<Option<Box<dyn Session>>>,
    pub(crate) flow: Flow,
    /// What it has of the budget that its loop shares, where there is one.
    charge: Option<Box<Charge>>,
    input: UnsafeCell<Input>,
    /// Where its home's seat is, to be compared with only.
    seat: AtomicPtr<Seat<Net>>,

    // For every reply.
    /// Bytes flushed by the writer, ever; only the write half stores it.
    flushed: AtomicU64,
    drained: Slot,
    output: UnsafeCell<linkbuffer::ReadHalf>,
    clocks: Clocks,

    // For few.
    readable: Slot,
    /// Its slot in the table of its home, as a raw token.
    token: AtomicU64,
    home: Mutex<Place>,
    /// Some service's callbacks run for it; otherwise its halves alone decide when it closes.
    served: AtomicBool,
    /// It was attached, not accepted: its handlers have a cap of their own.
    attached: AtomicBool,
    /// Halves that are alive.
    halves: AtomicU8,
    /// The halves may go to different threads: each acts on its own drop.
    split: AtomicBool,
    /// The socket's error, as an errno; 0: none.
    fault: AtomicI32,
}

// With a session, a handle and two buffers this is what an idle connection costs.
#[cfg(not(netpoll_loom))]
const _: () = assert!(size_of::<Inner>() <= 344);

// SAFETY: the three cells are not Sync by themselves. Each is touched only by the owner that the
// module's table names: `input` in `fill`, whose caller vouches for it; `output` in `push`, under
// the `sender` turn; `session` in `with_session`, whose caller owns the turn. Role and turns hand
// over with release and acquire, and what is inside is Send.
unsafe impl Sync for Inner {}
// SAFETY: everything inside is Send (the halves, the session, the wakers).
unsafe impl Send for Inner {}

impl Inner {
    /// A connection over `fd`, with the near ends of its two buffers. Its turn is taken.
    pub(crate) fn new(
        fd: OwnedFd,
        is_tcp: bool,
        shared: impl FnOnce(Weak<Self>) -> Shared,
        Berth { home, lease }: Berth,
    ) -> (Arc<Self>, linkbuffer::ReadHalf, linkbuffer::WriteHalf) {
        let (reader, input) = linkbuffer::LinkBuffer::new().into_split();
        let (output, writer) = linkbuffer::LinkBuffer::new().into_split();
        let inner = Arc::new_cyclic(|inner| {
            let shared = Arc::new(shared(Weak::clone(inner)));
            Self {
                fd,
                is_tcp,
                seat: AtomicPtr::new(Arc::as_ptr(&home.seat).cast_mut()),
                home: Mutex::new(Place { home, lease: Some(lease), on_disconnect: None }),
                token: AtomicU64::new(u64::MAX),
                polled: AtomicBool::new(false),
                served: AtomicBool::new(false),
                attached: AtomicBool::new(false),
                halves: AtomicU8::new(2),
                split: AtomicBool::new(false),
                turn: Turn::taken(),
                session: UnsafeCell::new(None),
                input: UnsafeCell::new(Input { buf: input, room: LEAST_ROOM }),
                open: AtomicBool::new(false),
                flow: Flow::new(shared.options.input_limit, shared.options.input_resume()),
                charge: Self::charge(&shared.options, inner),
                readable: Slot::new(),
                sender: Turn::idle(),
                output: UnsafeCell::new(output),
                flushed: AtomicU64::new(0),
                fin: AtomicBool::new(false),
                listed: AtomicBool::new(false),
                full: Full::new(),
                drained: Slot::new(),
                may_queue: AtomicBool::new(false),
                clocks: Clocks::new(shared.options.idle_timeout.is_some()),
                fault: AtomicI32::new(0),
                shared,
            }
        });
        (inner, reader, writer)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    #[inline]
    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared))
    }

    // ---- where it lives --------------------------------------------------------------------

    pub(crate) fn home(&self) -> Home {
        lock(&self.home).home.clone()
    }

    /// Moves to another poller. The caller has taken it out of the table of the old one.
    pub(crate) fn move_to(&self, berth: Berth) {
        // ORDERING: an address to compare with; the turn or the command that follows publishes.
        self.seat.store(Arc::as_ptr(&berth.home.seat).cast_mut(), Relaxed);
        {
            let mut place = lock(&self.home);
            (place.home, place.lease) = (berth.home, Some(berth.lease));
            // ORDERING: under the lock.
            self.listed.store(false, Relaxed);
        }
        self.shared.life.stop_draining();
        self.set_armed(NEVER);
        self.stir();
        self.polled.store(false, Release);
        self.wants_nothing();
    }

    /// Whether `seat` is this connection's poller.
    pub(crate) fn lives_at(&self, seat: &Arc<Seat<Net>>) -> bool {
        // ORDERING: see `move_to`.
        ptr::eq(self.seat.load(Relaxed), Arc::as_ptr(seat))
    }

    /// Enters the table of its home; events find it from then on.
    ///
    /// # Errors
    ///
    /// The table is full.
    pub(crate) fn enter_table(self: &Arc<Self>, near: Near) -> Result<()> {
        self.enter_table_as(Entry::Connection(Arc::downgrade(self), near))
    }

    pub(crate) fn enter_table_as(&self, entry: Entry) -> Result<()> {
        let place = lock(&self.home);
        let slots = &place.home.seat.shared.slots;
        let token = slots.insert(entry).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        // ORDERING: only compared and handed to the kernel.
        self.token.store(token.raw(), Relaxed);
        // ORDERING: under the lock.
        self.listed.store(true, Relaxed);
        Ok(())
    }

    /// Leaves the table of its home: late events are dropped.
    pub(crate) fn leave_table(&self) {
        let mut place = lock(&self.home);
        // Once: whoever closes it may meet whoever moves it to another table.
        // ORDERING: under the lock.
        if self.listed.swap(false, Relaxed) {
            place.home.seat.shared.slots.remove(self.token());
            place.lease = None;
        }
    }

    /// Leaves its poller altogether, to go to another one.
    pub(crate) fn deregister(&self) {
        self.leave_table();
        // It fails only where the socket was never registered.
        let _ = self.home().seat.shared.poller.deregister(self.fd());
    }

    pub(crate) fn token(&self) -> Token {
        // ORDERING: only compared and handed to the kernel.
        Token::from_raw(self.token.load(Relaxed))
    }

    /// From here on the poller's driver fills the input.
    pub(crate) fn set_polled(&self) {
        // ORDERING: pairs with the load in `is_polled`: who sees it leaves the input alone.
        self.polled.store(true, Release);
    }

    pub(crate) fn is_polled(&self) -> bool {
        // ORDERING: pairs with the stores in `set_polled` and `move_to`.
        self.polled.load(Acquire)
    }

    /// The poller's driver will never read again: whoever waits does it for itself.
    pub(crate) fn let_go(&self) {
        // ORDERING: release, for the reader that becomes the owner of the input.
        self.polled.store(false, Release);
        self.wants_nothing();
        self.wake_all();
    }

    /// Asks the kernel to report this socket to its poller.
    pub(crate) fn register(&self, interest: Interest) -> io::Result<()> {
        self.home().seat.shared.poller.register(self.fd(), self.token(), interest)
    }

    pub(crate) fn command(&self, command: Command) {
        let home = self.home();
        home.seat.send(&home.sched.host, command);
    }

    /// A timeout has changed: the driver is told if it has to look earlier than it knows.
    pub(crate) fn rearm_clocks(self: &Arc<Self>) {
        if self.is_served() && self.is_timed() && self.arm().is_some() {
            self.command(Command::Time(Arc::downgrade(self)));
        }
    }

    /// Something came that the turn's owner must see: marks the turn, or has it run.
    pub(crate) fn call(self: &Arc<Self>) {
        if self.turn.claim() {
            self.command(Command::Run(Arc::clone(self)));
        }
    }

    // ---- the session -----------------------------------------------------------------------

    /// Lends the session. The caller owns the turn.
    pub(crate) fn with_session<R>(&self, f: impl FnOnce(&mut Option<Box<dyn Session>>) -> R) -> R {
        debug_assert!(self.turn.is_taken());
        // SAFETY: the caller owns the turn, which one thread does at a time, and does not call
        // this again from within `f`: sessions do not reach their own cell.
        self.session.with_mut(|session| f(unsafe { &mut *session }))
    }

    pub(crate) fn set_on_disconnect(&self, callback: Arc<dyn OnDisconnect>) {
        let before = lock(&self.home).on_disconnect.replace(callback);
        // Outside the lock: it keeps a service alive, which is the user's.
        contained(|| drop(before));
    }

    pub(crate) fn on_disconnect(&self) -> Option<Arc<dyn OnDisconnect>> {
        lock(&self.home).on_disconnect.clone()
    }

    // ---- input -----------------------------------------------------------------------------

    /// Reads the socket into the input, up to the limit, until `budget` bytes came: fewer than twice as
    /// many.
    ///
    /// `surely_drained`: nothing speaks against taking a short read for the last one.
    ///
    /// # Safety
    ///
    /// The caller owns the input: see the module's table.
    pub(crate) unsafe fn fill(&self, budget: usize, surely_drained: bool) -> Fill {
        self.input.with_mut(|input| {
            // SAFETY: the caller owns the input.
            let input = unsafe { &mut *input };
            let mut left = budget;
            let mut result = Fill::Nothing;
            if self.shared.life.is_ended() {
                self.wants_nothing();
                return result;
            }
            loop {
                let limit = self.flow.room(|| input.buf.occupied());
                if limit == 0 {
                    event!(TRACE, id = self.handle().id(), "reading pauses");
                    self.stop_reading();
                    self.wants_nothing();
                    break;
                }
                if left == 0 {
                    result = Fill::More;
                    break;
                }
                // Not cut to what is left of the read budget: the end of a message that is as long as
                // that, with its length in front, would cost a turn of its own.
                let granted = self.granted(limit.min(budget), input.room);
                if granted == 0 {
                    break;
                }
                self.open.store(true, Relaxed);
                let room = match input.buf.book(input.room) {
                    Ok(room) => room,
                    // Nobody will read it: it closes, or its reading half was dropped.
                    Err(Error::ReaderGone) => {
                        self.give_back(granted);
                        break;
                    }
                    Err(error) => {
                        self.give_back(granted);
                        self.end_of_input(input, Some(error.into()));
                        result = Fill::Something;
                        break;
                    }
                };
                let most = room.len().min(granted);
                let received = sys::recv(self.fd(), &mut room[..most]);
                self.give_back(granted - received.as_ref().map_or(0, |n| *n));
                match received {
                    Ok(0) => {
                        self.end_of_input(input, None);
                        result = Fill::Something;
                        break;
                    }
                    Ok(n) => {
                        // SAFETY: the kernel has written the first `n` bytes of what was booked.
                        unsafe { input.buf.book_ack(n) };
                        result = Fill::Something;
                        left = left.saturating_sub(n);
                        self.shared.counters.add_received(n);
                        if n == most {
                            input.room = (input.room * 4).min(MOST_ROOM);
                            continue;
                        }
                        if n < input.room / 4 {
                            input.room = (input.room / 2).max(LEAST_ROOM);
                        }
                        if self.is_tcp && surely_drained {
                            break;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        self.end_of_input(input, Some(error));
                        result = Fill::Something;
                        break;
                    }
                }
            }
            result
        })
    }

    /// After a [`fill`](Self::fill) that was not the reader's own: wakes it, if it waits. Not needed
    /// where the turn was claimed behind the fill, since then there is no handler that could.
    ///
    /// # Safety
    ///
    /// As for [`Inner::fill`].
    pub(crate) unsafe fn tell_reader(&self) {
        // SAFETY: the caller owns the input.
        let occupied = self.input.with_mut(|input| unsafe { &mut *input }.buf.occupied());
        self.readable.notify(if self.shared.life.is_ended() { usize::MAX } else { occupied });
    }

    fn end_of_input(&self, input: &mut Input, error: Option<io::Error>) {
        if let Some(error) = error {
            self.fail(&error);
        }
        input.buf.end();
        // Not hung up yet: the kernel's event for that tells who runs callbacks.
        self.shared.life.end();
    }

    /// Waits until `done` says something. `want` is how many bytes, held and unread together, the
    /// driver is to wake for.
    pub(crate) fn wait_readable<T>(
        &self,
        want: usize,
        mut done: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let started = sys::now();
        let deadline = || self.shared.read_deadline(started);
        self.needs(want);
        if self.is_polled() {
            self.raise(want);
            // `None`: nobody polls it any more.
            let parked = wait::park_until(&self.readable, want, deadline, || match done() {
                None if !self.is_polled() => Some(None),
                done => done.map(Some),
            });
            if let Some(result) = parked.ok_or_else(|| self.read_timed_out())? {
                return Ok(result);
            }
        }
        let result = self.wait_unpolled(want, deadline, done);
        self.wants_nothing();
        result
    }

    /// The same where nobody polls it, and the caller reads the socket.
    fn wait_unpolled<T>(
        &self,
        want: usize,
        deadline: impl Fn() -> Option<Instant>,
        mut done: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        loop {
            // The pause of an unpolled connection is its reader's own.
            let _ = self.flow.raise(want);
            // SAFETY: nobody polls this connection, and the caller is its one reader.
            unsafe { self.fill(usize::MAX, true) };
            if let Some(result) = done() {
                self.restore_limit();
                return Ok(result);
            }
            let paused = self.flow.is_paused();
            // A socket that is not to be read is not to wake us either.
            let interest =
                if paused { Interest::NONE } else { Interest::READABLE | Interest::RDHUP };
            // Looked at again once the waker is in place: whoever changes something wakes it.
            let mut result = None;
            let stale = || {
                result = done();
                result.is_some() || paused != self.flow.is_paused()
            };
            let in_time = wait::poll_until(self.fd(), interest, &self.readable, &deadline, stale)?;
            if let Some(result) = result {
                return Ok(result);
            }
            if !in_time {
                // What has come by the deadline counts.
                // SAFETY: as above.
                unsafe { self.fill(usize::MAX, true) };
                return done().ok_or_else(|| self.read_timed_out());
            }
        }
    }

    #[cold]
    fn read_timed_out(&self) -> Error {
        event!(DEBUG, id = self.handle().id(), "a read timed out");
        Error::ReadTimeout
    }

    /// Not waiting: reads what is there, where that is the reader's own business.
    pub(crate) fn read_now(&self) {
        if !self.is_polled() {
            // SAFETY: nobody polls this connection, and the caller is its one reader.
            unsafe { self.fill(self.options().read_budget, true) };
            self.wants_nothing();
        }
    }

    /// Wakes whoever waits in this connection, to look again.
    pub(crate) fn wake_all(&self) {
        fence(SeqCst);
        self.readable.wake();
        self.drained.wake();
    }

    // ---- closing ---------------------------------------------------------------------------

    pub(crate) fn set_served(&self) {
        // ORDERING: pairs with the load in `is_served`: the session is in its place.
        self.served.store(true, Release);
    }

    /// Its turn is taken, and is not run before this.
    pub(crate) fn set_attached(&self) {
        // ORDERING: published with the turn, as the session is.
        self.attached.store(true, Relaxed);
    }

    #[inline]
    pub(crate) fn is_attached(&self) -> bool {
        // ORDERING: read by the owner of the turn.
        self.attached.load(Relaxed)
    }

    pub(crate) fn is_served(&self) -> bool {
        // ORDERING: pairs with the store in `set_served`.
        self.served.load(Acquire)
    }

    /// No service runs callbacks for it any more: it was taken, or it has closed.
    pub(crate) fn leave_service(&self) {
        // ORDERING: AcqRel: one caller alone finds it served.
        if self.served.swap(false, AcqRel) {
            self.home().sched.host.left();
        }
    }

    pub(crate) fn set_split(&self) {
        // ORDERING: before either half can be dropped elsewhere, which moves it there first.
        self.split.store(true, Release);
    }

    pub(crate) fn is_split(&self) -> bool {
        // ORDERING: pairs with the store in `set_split`.
        self.split.load(Acquire)
    }

    /// A half was dropped. The last one closes a connection that no service closes.
    pub(crate) fn drop_half(self: &Arc<Self>) {
        // ORDERING: AcqRel: the last half's drop comes after all that the other one did.
        if self.halves.fetch_sub(1, AcqRel) == 1 && !self.is_served() {
            self.close_unserved(false);
        }
    }

    /// Closes a connection that no service runs callbacks for.
    /// `in_use`: somebody still has it.
    pub(crate) fn close_unserved(self: &Arc<Self>, in_use: bool) {
        ends::ask_to_close(&self.shared.life, || self.wake_all());
        if self.shared.life.begin_closing() && self.shared.life.close() {
            event!(DEBUG, id = self.handle().id(), "closed");
            self.retire(in_use);
            self.handle().run_closers();
        }
    }

    /// Its socket goes on without it: for its handles it is closed.
    pub(super) fn abandon(&self) {
        ends::ask_to_close(&self.shared.life, || self.wake_all());
        if self.shared.life.begin_closing() && self.shared.life.close() {
            event!(DEBUG, id = self.handle().id(), "detached");
            self.handle().run_closers();
        }
    }

    /// The callbacks' side ends the connection, for this reason.
    pub(crate) fn give_up(&self, why: BoxError) {
        self.shared.blame(why);
        self.shared.life.ask_to_close();
    }
}
