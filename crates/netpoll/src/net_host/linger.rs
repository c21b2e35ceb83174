//! After the close: a socket that is given time for its last bytes.
//!
//! A kernel that closes a socket with input that nobody read, or that more input reaches, answers
//! with a reset, and a reset that overtakes our last reply destroys it at the peer. So a connection
//! whose peer may still be sending goes on without its users: the driver sends what was flushed,
//! ends our half, and drops what comes, until the peer has ended its half, or time is up.

use std::{cell::Cell, mem::MaybeUninit, sync::Arc};

use poller::{
    Interest, Token,
    sys::{self, Input},
};

use super::{Command, Core, Entry, Lingering, Net};
use crate::{
    connection::inner::Inner,
    sched::Seat,
    timers::{after, stamp},
};

/// Sockets that one poller lets linger at once; those above close at once.
const MOST: usize = 4096;
/// Bytes dropped with one system call.
const SCRATCH: usize = 16 << 10;

impl Inner {
    /// It is closed. Lets the driver see to the last bytes, where there is something to see to;
    /// otherwise it leaves its poller, and its descriptor closes with its last user. `in_use`:
    /// somebody here still has it.
    pub(crate) fn retire(self: &Arc<Self>, in_use: bool) {
        if self.lingers() {
            // The peer learns of it now; what the socket does not take yet goes before its end.
            self.shutdown_write();
            self.command(Command::Linger(Arc::clone(self)));
            return;
        }
        if in_use { self.cut() } else { self.leave_table() }
    }

    /// It ends here and now. The other threads that have it, and with it the descriptor, learn of
    /// it at once, as does the peer.
    pub(super) fn cut(&self) {
        self.leave_table();
        self.shutdown();
    }

    fn lingers(&self) -> bool {
        let life = &self.shared.life;
        if self.options().linger.is_zero() || life.is_broken() {
            return false;
        }
        if self.unsent() > 0 {
            return true;
        }
        // Without a reply there is nothing to lose, and behind its end a peer sends nothing.
        if !self.has_sent() || life.is_ended() {
            return false;
        }
        // A loop that shuts down does not wait for peers that have nothing on its way, as far as is
        // known.
        !life.is_draining() || matches!(sys::has_input(self.fd()), Ok(Input::Bytes))
    }
}

impl Net {
    /// Begins what [`Inner::retire`] asked for.
    pub(super) fn linger(&self, seat: &Arc<Seat<Self>>, core: &mut Core, inner: &Arc<Inner>) {
        inner.leave_table();
        let left = Cell::new(self.drains());
        let entry = Entry::Lingering(Box::new(Lingering { inner: Arc::clone(inner), left }));
        if self.is_forced() || core.lingering >= MOST || inner.enter_table_as(entry).is_err() {
            inner.cut();
            return;
        }
        core.lingering += 1;
        let until = after(stamp(), self.options.linger);
        core.look_at(until, inner.token());
        let poller = &seat.shared.poller;
        // A dialed one was watched for its end only. What is there already is reported again.
        if poller.modify(inner.fd(), inner.token(), Interest::ALL).is_err() {
            self.let_go(core, inner);
        }
    }

    /// How many bytes are dropped for a peer that goes on sending.
    fn drains(&self) -> usize {
        self.options.max_message.max(self.options.input_limit)
    }

    /// Its socket can be read, or written.
    // Out of line: its room on the stack is not for every event.
    #[cold]
    #[inline(never)]
    pub(super) fn linger_on(&self, core: &mut Core, token: Token) {
        let Some(Entry::Lingering(lingering)) = core.batch.get(token) else { return };
        let Lingering { inner, left } = &**lingering;
        inner.on_writable();
        let mut budget = core.read_budget;
        let over = loop {
            if budget == 0 {
                core.again.push(token);
                break false;
            }
            let mut scratch = [MaybeUninit::uninit(); SCRATCH];
            let most = budget.min(SCRATCH);
            match sys::recv(inner.fd(), &mut scratch[..most]) {
                Ok(0) => {
                    inner.shared.life.end();
                    break inner.is_sent();
                }
                Ok(n) => {
                    budget -= n;
                    left.set(left.get().saturating_sub(n));
                    if left.get() == 0 {
                        break true;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    break inner.shared.life.is_broken();
                }
                Err(_) => break true,
            }
        };
        if over {
            let inner = Arc::clone(inner);
            self.let_go(core, &inner);
        }
    }

    /// It has had its time.
    pub(super) fn let_go(&self, core: &mut Core, inner: &Arc<Inner>) {
        core.lingering -= 1;
        inner.cut();
    }

    /// No time is given any more.
    pub(super) fn let_all_go(&self, core: &mut Core) {
        for entry in core.batch.iter() {
            if let Entry::Lingering(lingering) = entry {
                lingering.inner.cut();
            }
        }
        core.lingering = 0;
    }
}
