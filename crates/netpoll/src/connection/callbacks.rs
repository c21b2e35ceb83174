//! The callbacks of a served connection, and their order.
//!
//! ```text
//!  Fresh ──on_prepare──▶ Prepared ──on_connect──▶ Open ─┬─ on_request ─┐
//!    │ error               │ error                 ▲     └──────────────┘
//!    ▼                     ▼                       │
//!  close (no state)      close ◀── error, on_end, close asked for
//!                          on_close, then the handle's close callbacks, newest first
//! ```
//!
//! One step runs one callback, in the HANDLER state, by the owner of the connection's turn.

use std::sync::Arc;

use linkbuffer::{Error, Reader, Result};
use poller::Interest;

use super::{Connection, ends, inner::Inner};
use crate::{
    contain::{contain, contained},
    framing::{Buffered, Frame},
    net_host::Net,
    sched::{At, Outcome},
    service::{HandlerResult, Service},
    trace::event,
};

/// What a loop runs of a connection, whatever its service.
pub(crate) trait Session: Send {
    /// Runs callbacks, each counted off `share`, until there is none to run or the share is used up.
    fn run(&mut self, inner: &Arc<Inner>, at: &At<Net>, share: &mut usize) -> Outcome;
    /// Gives back every block that is consumed.
    fn release(&mut self);
    /// The turn is given back: as [`release`](Self::release), and what is left waits for more. `input` is
    /// lent where it is the caller's.
    fn rest(&mut self, input: Option<&mut linkbuffer::WriteHalf>);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Fresh,
    Prepared,
    Open,
    /// Closed, or taken out of the loop.
    Gone,
}

/// The session of a connection that `S` serves.
pub(crate) struct Served<S: Service> {
    service: Arc<S>,
    conn: Option<Connection>,
    state: Option<S::State>,
    phase: Phase,
    /// What was buffered when the handler last consumed nothing: it is not called again before
    /// there is more.
    declined: usize,
    /// A message was begun, and was not whole at the last look.
    begun: bool,
}

impl<S: Service> Served<S> {
    /// A session that begins with `on_prepare`, or, where the state is given, behind it.
    pub(crate) fn new(service: Arc<S>, conn: Connection, state: Option<S::State>) -> Self {
        let phase = if state.is_some() { Phase::Prepared } else { Phase::Fresh };
        Self { service, conn: Some(conn), state, phase, declined: 0, begun: false }
    }

    /// Calls `f` with the connection and its state. An error, or a panic, asks for closing.
    fn call(
        &mut self,
        inner: &Arc<Inner>,
        f: impl FnOnce(&S, &mut Connection, &mut S::State) -> HandlerResult,
    ) {
        let (Some(conn), Some(state)) = (&mut self.conn, &mut self.state) else { return };
        if let Err(error) = contain(|| f(&self.service, conn, state)) {
            // A connection that was taken away is not this callback's to end any more.
            if !conn.was_taken() {
                inner.give_up(error);
            }
        }
    }

    /// A callback that may have read has returned; `before` bytes were there when it was called.
    fn after(&mut self, before: usize) -> Outcome {
        let Some(conn) = &mut self.conn else { return Outcome::Over };
        if conn.was_taken() {
            self.phase = Phase::Gone;
            return Outcome::Over;
        }
        let consumed = conn.read_half().finish();
        self.declined = if consumed == 0 { before } else { 0 };
        Outcome::More
    }

    /// Looks for a message, and handles it.
    fn look(&mut self, inner: &Arc<Inner>) -> Outcome {
        let (Some(conn), Some(state)) = (&mut self.conn, &mut self.state) else {
            return Outcome::Over;
        };
        let reader = conn.read_half_ref().buffer();
        let (ended, unread) = ends::what_is_there(reader);
        if unread == 0 || unread == self.declined {
            // Not asked again before there is more; and the limit is not raised for a handler that
            // does not read.
            return if ended { self.end(inner) } else { Outcome::Nothing };
        }
        let max = inner.options().max_message;
        let service = &*self.service;
        // `Some`: what the framing said, where that was not the length of a message.
        let none = contain(|| {
            let reader = conn.read_half_ref().buffer();
            // More may have come meanwhile, and the framing have seen it.
            let is_there = |n| 0 < n && n <= max && (n <= unread || n <= reader.len());
            let message = match service.frame(&Buffered::of(reader)) {
                Ok(Frame::Any) => None,
                Ok(Frame::Ready(n)) if is_there(n) => Some(n),
                none => return Ok(Some(none)),
            };
            if std::mem::take(&mut self.begun) {
                inner.end_frame();
            }
            conn.read_half().begin(message, unread);
            service.on_request(conn, state).map(|()| None)
        });
        match none {
            Ok(None) => self.after(unread),
            Ok(Some(none)) => self.no_message(inner, none, unread, ended),
            Err(error) => {
                // A connection that was taken away is not this callback's to end any more.
                if !conn.was_taken() {
                    inner.give_up(error);
                }
                self.after(unread)
            }
        }
    }

    /// The framing found no message, or one that is not to be had.
    #[cold]
    fn no_message(
        &mut self,
        inner: &Arc<Inner>,
        frame: Result<Frame>,
        unread: usize,
        ended: bool,
    ) -> Outcome {
        let max = inner.options().max_message;
        match frame {
            Ok(Frame::Ready(n)) if n > max => self.refuse(inner, too_large(n, max)),
            Ok(Frame::Ready(n)) => {
                // Nobody can be handed an empty message, or bytes that are not there.
                let error = Error::NotEnough { requested: n, available: unread };
                self.refuse(inner, error)
            }
            Ok(Frame::Wait(n))
            | Err(Error::NotEnough { requested: n, .. } | Error::Ended { requested: n, .. }) => {
                if n > max {
                    return self.refuse(inner, too_large(n, max));
                }
                if ended {
                    return self.end(inner);
                }
                if unread > 0 {
                    self.begun = true;
                    if inner.begin_frame() {
                        return self.refuse(inner, Error::FrameTimeout);
                    }
                }
                inner.begins_message(n);
                if n > inner.flow.limit() {
                    inner.raise(n);
                }
                Outcome::Nothing
            }
            Ok(Frame::Any) => Outcome::Nothing,
            Err(error) => self.refuse(inner, error),
        }
    }

    /// Nothing is left to be handled: is the connection to go on?
    #[cold]
    fn leave_calm(&mut self, inner: &Arc<Inner>) -> Outcome {
        if inner.shared.life.is_broken() && inner.fault().is_none() {
            // A write timed out: no reply can be whole any more. (Where the socket failed instead,
            // what the peer had sent before is still to be read, up to its end.)
            inner.give_up(Error::WriteTimeout.into());
            return Outcome::More;
        }
        if inner.shared.life.is_draining() {
            // A loop that shuts down ends its connections once no whole message is left.
            inner.shared.life.ask_to_close();
            return Outcome::More;
        }
        Outcome::Nothing
    }

    /// Behind a message: there is surely nothing to run.
    #[inline]
    fn is_idle(&self) -> bool {
        self.conn.as_ref().is_some_and(|conn| {
            let reader = conn.read_half_ref().buffer();
            !reader.is_ended() && reader.is_empty() && conn.inner().shared.life.is_calm()
        })
    }

    fn refuse(&mut self, inner: &Arc<Inner>, error: Error) -> Outcome {
        inner.give_up(error.into());
        Outcome::More
    }

    fn end(&mut self, inner: &Arc<Inner>) -> Outcome {
        if let Some(fault) = inner.fault() {
            inner.give_up(fault.into());
            return Outcome::More;
        }
        self.call(inner, |service, conn, state| service.on_end(conn, state));
        let outcome = self.after(0);
        if outcome == Outcome::More {
            inner.shared.life.ask_to_close();
        }
        outcome
    }

    /// The last callbacks. The turn is never given back.
    fn close(&mut self, inner: &Arc<Inner>) -> Outcome {
        self.phase = Phase::Gone;
        // Somebody may have closed it before it was attached; the callbacks follow all the same.
        inner.shared.life.begin_closing();
        inner.shared.life.close();
        // Late events are dropped.
        inner.leave_table();
        let handle = inner.handle();
        if let Some(conn) = self.conn.take() {
            contained(|| drop(conn));
        }
        // A write half that was taken away keeps the descriptor; the peer is told all the same.
        inner.retire(inner.is_split());
        let why = inner.shared.take_blame();
        inner.home().sched.host.tally.count(inner, why.as_ref());
        if let Some(state) = self.state.take() {
            contained(|| self.service.on_close(&handle, state, why));
        } else {
            contained(|| drop(why));
        }
        handle.run_closers();
        inner.leave_service();
        Outcome::Over
    }

    /// Runs the next callback, if there is one to run.
    #[inline]
    fn step(&mut self, inner: &Arc<Inner>) -> Outcome {
        match self.phase {
            Phase::Gone => Outcome::Over,
            _ if inner.shared.life.is_closing() => self.close(inner),
            Phase::Fresh => {
                let handle = inner.handle();
                event!(DEBUG, id = handle.id(), peer = ?handle.peer_addr(), "accepted");
                match contain(|| self.service.on_prepare(&handle)) {
                    Ok(state) => self.state = Some(state),
                    Err(error) => inner.give_up(error),
                }
                self.phase = Phase::Prepared;
                Outcome::More
            }
            Phase::Prepared => {
                self.phase = Phase::Open;
                inner.set_polled();
                if let Err(error) = inner.register(Interest::ALL) {
                    inner.give_up(Error::from(error).into());
                    return Outcome::More;
                }
                self.call(inner, |service, conn, state| service.on_connect(conn, state));
                inner.shared.life.open();
                self.after(0)
            }
            Phase::Open => match self.look(inner) {
                Outcome::More if self.is_idle() => Outcome::Nothing,
                Outcome::Nothing if !inner.shared.life.is_calm() => self.leave_calm(inner),
                outcome => outcome,
            },
        }
    }
}

impl<S: Service> Session for Served<S> {
    fn run(&mut self, inner: &Arc<Inner>, at: &At<Net>, share: &mut usize) -> Outcome {
        loop {
            let outcome = self.step(inner);
            if outcome != Outcome::More {
                return outcome;
            }
            *share -= 1;
            if *share == 0 {
                return outcome;
            }
            at.renew();
        }
    }

    fn release(&mut self) {
        if let Some(conn) = &mut self.conn {
            conn.read_half().release();
        }
    }

    fn rest(&mut self, input: Option<&mut linkbuffer::WriteHalf>) {
        if let Some(conn) = &mut self.conn {
            conn.read_half().rest(input);
        }
    }
}

fn too_large(len: usize, max: usize) -> Error {
    Error::FrameTooLarge { len, max }
}
