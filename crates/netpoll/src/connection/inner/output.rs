//! From the writer to the socket: who sends, what happens when there is no room, and waiting for it.
//!
//! Whoever owns the `sender` turn sends. A flush sends from its own thread; where the socket is full,
//! the driver goes on at the next writable edge, and a flush that waits is told.

use std::{
    io::{self, IoSlice},
    sync::Arc,
    time::Instant,
};

use linkbuffer::{Error, Reader, Result};
use poller::{Interest, sys};

use super::{Inner, wait};
use crate::{
    current,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
    trace::event,
};

/// Blocks handed to one system call at most: more only makes the call longer.
const MAX_SLICES: usize = 32;
/// What `flush` may leave queued while more messages are waiting to be handled.
const MOST_QUEUED: u64 = 64 << 10;

impl Inner {
    /// The writer made `n` more bytes readable for the sender.
    pub(crate) fn flushed(&self, n: usize) -> u64 {
        // ORDERING: one writer; the buffer's own counter publishes the bytes.
        let total = self.flushed.load(Relaxed) + n as u64;
        self.flushed.store(total, Relaxed);
        total
    }

    /// Bytes that are flushed and not yet accepted by the kernel.
    pub(crate) fn unsent(&self) -> u64 {
        // ORDERING: the caller's own, or a guess that only costs a push.
        self.flushed.load(Relaxed).saturating_sub(self.shared.counters.sent())
    }

    /// Whether the peer was sent anything.
    pub(crate) fn has_sent(&self) -> bool {
        self.shared.counters.sent() > 0
    }

    /// Whether all that was flushed is sent, and the end of our half behind it; or never will be.
    pub(crate) fn is_sent(&self) -> bool {
        // ORDERING: pairs with the swap in `finish_output`.
        self.fin.load(Acquire) || self.shared.life.is_broken()
    }

    /// Whether more messages of the connection are about to be handled.
    #[inline]
    pub(crate) fn may_queue(&self) -> bool {
        self.may_queue.load(Relaxed)
    }

    /// Whether a flush of the connection's handler may leave its bytes for a later one: more of its
    /// messages are about to be handled, and little is queued.
    pub(crate) fn queues(&self) -> bool {
        self.may_queue() && self.unsent() < MOST_QUEUED
    }

    /// Sends what flushes have left queued, if anything. Never waits.
    pub(crate) fn send_queued(&self) {
        if self.unsent() > 0 {
            self.push();
        }
    }

    /// Sends what is flushed, as far as the socket takes it. Where another thread is sending, it
    /// goes on with ours.
    pub(crate) fn push(&self) {
        if self.sender.claim() {
            self.send_and_leave();
        }
    }

    /// Flushes the writer's buffer by sending from where its bytes lie, if they lie together, nothing is
    /// queued before them and nobody else sends: so they need not go through the output. Says how many
    /// were flushed; if none, nothing was done.
    #[inline]
    pub(crate) fn send_pending(&self, buf: &mut linkbuffer::WriteHalf) -> Option<usize> {
        let pending = buf.pending_run()?;
        if !self.sender.try_take() {
            return None;
        }
        let ended = self.fin.load(Relaxed) || self.shared.life.is_broken();
        let n = if ended { 0 } else { pending.len() };
        if n > 0 {
            self.flushed(n);
            match sys::send(self.fd(), pending) {
                Ok(sent) if sent == n => {
                    buf.discard();
                    // W3: the write half alone waits for this, and is at work here.
                    self.count_sent(n);
                    self.finish_output();
                }
                result => self.send_flushed(buf, result),
            }
        }
        if !self.sender.finish() {
            self.send_and_leave();
        }
        (n > 0).then_some(n)
    }

    /// What was tried is not sent as a whole: goes on as if it had been flushed first.
    #[cold]
    fn send_flushed(&self, buf: &mut linkbuffer::WriteHalf, result: io::Result<usize>) {
        let flushed = buf.flush();
        debug_assert!(flushed.is_ok(), "what is pending alone can be flushed");
        self.output.with_mut(|output| {
            // SAFETY: this thread owns the sender's turn.
            let output = unsafe { &mut *output };
            if self.take_result(output, output.len(), result) {
                self.send(output);
            }
        });
        buf.seal();
    }

    /// Sends until nobody asks for more, and gives back the sender's turn, which this thread owns.
    fn send_and_leave(&self) {
        loop {
            self.sender.begin();
            // SAFETY: this thread owns the sender's turn.
            self.output.with_mut(|output| self.send(unsafe { &mut *output }));
            if self.sender.finish() {
                break;
            }
        }
    }

    fn send(&self, output: &mut linkbuffer::ReadHalf) {
        loop {
            let len = output.len();
            let chunk = output.chunk();
            if self.fin.load(Relaxed) || self.shared.life.is_broken() {
                // The stream has its end, or a part of it was lost: nothing can follow.
                if len > 0 {
                    self.advance_output(output, len);
                    self.wake_all();
                }
                return;
            }
            let result = match len {
                0 => return self.finish_output(),
                n if n == chunk.len() => sys::send(self.fd(), chunk),
                _ => {
                    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                    let n = output.fill_io_slices(&mut slices);
                    sys::send_vectored(self.fd(), &slices[..n])
                }
            };
            if !self.take_result(output, len, result) {
                return;
            }
        }
    }

    /// What came of sending the `len` bytes of the output. Whether to try again.
    #[inline]
    fn take_result(
        &self,
        output: &mut linkbuffer::ReadHalf,
        len: usize,
        result: io::Result<usize>,
    ) -> bool {
        match result {
            Ok(n) => {
                self.advance_output(output, n);
                let sent = self.count_sent(n);
                self.drained.notify(usize::try_from(sent).unwrap_or(usize::MAX));
                if n == len {
                    // Who has flushed more meanwhile has marked the sender's turn.
                    self.finish_output();
                }
                n < len
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => !self.full.found(),
            Err(error) => {
                self.fail(&error);
                let rest = output.len();
                self.advance_output(output, rest);
                false
            }
        }
    }

    /// The kernel has taken `n` bytes more. How many those are now.
    #[inline]
    fn count_sent(&self, n: usize) -> u64 {
        let sent = self.shared.counters.add_sent(n);
        if !self.turn.is_taken() {
            // Else the end of its turn does it.
            self.stir();
        }
        self.full.clear();
        sent
    }

    /// Everything that was flushed is sent: if our half is to end, it ends here.
    fn finish_output(&self) {
        // ORDERING: the sender's own note; who asked for the end marked the sender's turn.
        if self.shared.life.is_write_shut() && !self.fin.swap(true, Release) {
            let _ = sys::shutdown(self.fd(), sys::How::Write);
        }
    }

    fn advance_output(&self, output: &mut linkbuffer::ReadHalf, n: usize) {
        let skipped = output.skip(n);
        debug_assert!(skipped.is_ok(), "only what was there was sent");
        output.release();
    }

    /// The driver saw that the socket can be written.
    pub(crate) fn on_writable(&self) {
        if self.full.is_set() {
            self.push();
        }
    }

    /// Nobody waits for what the socket did not take: the driver goes on with it.
    pub(crate) fn leave_to_driver(self: &Arc<Self>) {
        if self.is_polled() {
            // Nor does anybody notice that it takes too long.
            self.start_stuck_clock();
            self.rearm_clocks();
        } else {
            // It is watched for its end only, so far. Where that fails it has no poller any more.
            let interest = Interest::RDHUP | Interest::WRITABLE;
            let _ = self.home().seat.shared.poller.modify(self.fd(), self.token(), interest);
        }
    }

    /// Waits until the first `target` bytes ever flushed have been accepted by the kernel.
    pub(crate) fn wait_sent(&self, target: u64) -> Result<()> {
        let started = sys::now();
        let deadline = || self.shared.write_deadline(started);
        self.wait_sent_until(target, deadline, || self.check_sending())
    }

    /// The writer is dropped: sees to it that what it flushed is sent. Where a driver has the
    /// socket, it goes on; otherwise this waits, for as long as closing lingers.
    pub(crate) fn send_rest(self: &Arc<Self>) {
        self.send_queued();
        if self.unsent() == 0 || self.shared.life.is_broken() {
            return;
        }
        if self.is_polled() || current::before_wait().is_err() {
            return self.leave_to_driver();
        }
        // ORDERING: the writer's own.
        let target = self.flushed.load(Relaxed);
        let deadline = sys::now().checked_add(self.options().linger);
        // Behind the end of our half, whoever sent it, nothing is sent any more.
        let over = || if self.is_sent() { Err(Error::Closed) } else { Ok(()) };
        let _ = self.wait_sent_until(target, || deadline, over);
    }

    fn wait_sent_until(
        &self,
        target: u64,
        deadline: impl Fn() -> Option<Instant>,
        check: impl Fn() -> Result<()>,
    ) -> Result<()> {
        let want = usize::try_from(target).unwrap_or(usize::MAX);
        let done = || {
            if self.shared.counters.sent() >= target {
                Some(Ok(()))
            } else {
                check().err().map(Err)
            }
        };
        let mut outcome = None;
        if self.is_polled() {
            // `None` inside: nobody polls it any more.
            outcome = wait::park_until(&self.drained, want, &deadline, || match done() {
                None if !self.is_polled() => Some(None),
                done => done.map(Some),
            });
        }
        if !self.is_polled() && !matches!(outcome, Some(Some(_))) {
            outcome = self.wait_sent_unpolled(deadline, done)?.map(Some);
        }
        outcome.flatten().unwrap_or_else(|| {
            // Half a message may be on the wire: nothing sensible can follow it.
            self.shared.life.break_down();
            event!(DEBUG, id = self.handle().id(), unsent = self.unsent(), "a write timed out");
            Err(Error::WriteTimeout)
        })
    }

    fn wait_sent_unpolled<T>(
        &self,
        deadline: impl Fn() -> Option<Instant>,
        mut done: impl FnMut() -> Option<T>,
    ) -> Result<Option<T>> {
        loop {
            self.push();
            if let Some(result) = done() {
                return Ok(Some(result));
            }
            let interest = Interest::WRITABLE;
            // Looked at again once the waker is in place.
            let mut result = None;
            let stale = || {
                result = done();
                result.is_some()
            };
            let in_time = wait::poll_until(self.fd(), interest, &self.drained, &deadline, stale)?;
            if result.is_some() {
                return Ok(result);
            }
            if !in_time {
                self.push();
                return Ok(done());
            }
        }
    }

    /// Why nothing can be written, if so.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.shared.life.is_writable() { Ok(()) } else { Err(self.why_not_writable()) }
    }

    #[cold]
    fn why_not_writable(&self) -> Error {
        if self.shared.life.is_broken() {
            return self.fault().unwrap_or(Error::WriteTimeout);
        }
        Error::Closed
    }

    /// Why what is flushed cannot be sent, if so: as [`Inner::check_writable`], but our half may be
    /// about to end behind it.
    pub(crate) fn check_sending(&self) -> Result<()> {
        let life = &self.shared.life;
        if life.is_write_shut() && !life.is_broken() && !life.is_closing() {
            // ORDERING: set by the sender before it dropped what came too late.
            return if self.fin.load(Acquire) { Err(Error::Closed) } else { Ok(()) };
        }
        self.check_writable()
    }

    /// Ends our half of the stream, once. The sender does it, behind what was flushed.
    pub(crate) fn shutdown_write(&self) {
        if self.shared.life.shut_write() {
            self.push();
        }
    }

    /// Ends the stream both ways, so that the peer learns of it although somebody here still has
    /// the descriptor.
    pub(crate) fn shutdown(&self) {
        let _ = sys::shutdown(self.fd(), sys::How::Both);
    }
}
