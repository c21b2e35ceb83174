//! The kernel as the model checker sees it: epoll and eventfd behind one lock.
//!
//! Only what models need. One lock makes each call a single step, as the kernel's own locks do; a
//! wait with a timeout other than zero lasts until there is an event, so that a lost wake-up is a
//! deadlock, which the checker reports.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use crate::event::{Interest, Ready};
use crate::sync::{Condvar, Mutex, lazy_static, lock};
use crate::token::Token;

lazy_static! {
    static ref KERNEL: Kernel =
        Kernel { state: Mutex::new(State::default()), changed: Condvar::new() };
}

struct Kernel {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What each eventfd holds; its number is `FIRST` plus its index.
    signals: Vec<u64>,
    /// What each epoll instance watches.
    epolls: Vec<Vec<Watch>>,
}

struct Watch {
    fd: RawFd,
    token: Token,
    ready: bool,
}

/// Far from the numbers of real descriptors.
const FIRST: RawFd = 1 << 20;

impl State {
    fn is_signalled(&self, fd: RawFd) -> bool {
        self.signals[(fd - FIRST) as usize] > 0
    }
}

#[derive(Clone, Copy)]
pub(crate) struct RawEvent(Token);

impl RawEvent {
    pub(crate) fn token(&self) -> Token {
        self.0
    }

    pub(crate) fn ready(&self) -> Ready {
        Ready { readable: true, ..Ready::default() }
    }
}

#[derive(Debug)]
pub(crate) struct Epoll {
    index: usize,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        let mut state = lock(&KERNEL.state);
        state.epolls.push(Vec::new());
        Ok(Epoll { index: state.epolls.len() - 1 })
    }

    pub(crate) fn add(&self, fd: BorrowedFd, token: Token, _: Interest) -> io::Result<()> {
        let mut state = lock(&KERNEL.state);
        let fd = fd.as_raw_fd();
        let ready = state.is_signalled(fd);
        let watches = &mut state.epolls[self.index];
        if watches.iter().any(|watch| watch.fd == fd) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        watches.push(Watch { fd, token, ready });
        KERNEL.changed.notify_all();
        Ok(())
    }

    pub(crate) fn modify(&self, fd: BorrowedFd, token: Token, _: Interest) -> io::Result<()> {
        let mut state = lock(&KERNEL.state);
        let fd = fd.as_raw_fd();
        let ready = state.is_signalled(fd);
        let mut watches = state.epolls[self.index].iter_mut();
        let watch = watches.find(|watch| watch.fd == fd).ok_or(io::ErrorKind::NotFound)?;
        *watch = Watch { fd, token, ready };
        KERNEL.changed.notify_all();
        Ok(())
    }

    pub(crate) fn delete(&self, fd: BorrowedFd) -> io::Result<()> {
        let mut state = lock(&KERNEL.state);
        let watches = &mut state.epolls[self.index];
        let at = watches.iter().position(|watch| watch.fd == fd.as_raw_fd());
        watches.remove(at.ok_or(io::ErrorKind::NotFound)?);
        Ok(())
    }

    pub(crate) fn wait(
        &self,
        events: &mut Vec<RawEvent>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let room = events.capacity();
        events.clear();
        let mut state = lock(&KERNEL.state);
        loop {
            let ready = state.epolls[self.index].iter_mut().filter(|watch| watch.ready);
            events.extend(ready.take(room).map(|watch| {
                watch.ready = false;
                RawEvent(watch.token)
            }));
            if !events.is_empty() || timeout == Some(Duration::ZERO) {
                return Ok(());
            }
            state = KERNEL.changed.wait(state).unwrap();
        }
    }
}

/// An eventfd of the model; also stands for any other descriptor that becomes readable.
#[derive(Debug)]
pub struct EventFd {
    fd: RawFd,
}

impl EventFd {
    /// One that is not signalled.
    ///
    /// # Errors
    ///
    /// None.
    pub fn new() -> io::Result<EventFd> {
        let mut state = lock(&KERNEL.state);
        state.signals.push(0);
        Ok(EventFd { fd: FIRST + state.signals.len() as RawFd - 1 })
    }

    /// Makes it readable.
    ///
    /// # Errors
    ///
    /// None.
    pub fn signal(&self) -> io::Result<()> {
        let mut state = lock(&KERNEL.state);
        state.signals[(self.fd - FIRST) as usize] += 1;
        for watch in state.epolls.iter_mut().flatten().filter(|watch| watch.fd == self.fd) {
            watch.ready = true;
        }
        KERNEL.changed.notify_all();
        Ok(())
    }

    /// Makes it unreadable again. Whether it had been signalled.
    ///
    /// # Errors
    ///
    /// None.
    pub fn clear(&self) -> io::Result<bool> {
        let mut state = lock(&KERNEL.state);
        Ok(std::mem::take(&mut state.signals[(self.fd - FIRST) as usize]) > 0)
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        let mut state = lock(&KERNEL.state);
        for watches in &mut state.epolls {
            watches.retain(|watch| watch.fd != self.fd);
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: no number of the model reaches the real kernel: under the model checker, only the
        // calls of this file take it.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}
