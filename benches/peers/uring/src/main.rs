//! io_uring, written by hand: one thread, multishot accept and receive, provided buffers.
//!
//! A reply is sent from the provided buffer in which its frames arrived, which goes back to the kernel
//! once it is sent; only what is left of a frame, and what comes while a reply is on its way, is copied.
//! One call submits all replies and waits for more (single issuer, deferred task work).

mod buffers;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use buffers::{Buffers, GROUP};
use common::{Flags, Work, frames};
use io_uring::{IoUring, cqueue, opcode, squeue, types};

/// What a completion is about; the rest of its token is the connection.
const ACCEPT: u64 = 0;
const RECV: u64 = 1;
const SEND: u64 = 2;
/// A peer that reads nothing is given up when it owes us this much.
const MAX_QUEUED: usize = 32 << 20;

/// Where the reply on its way lies.
#[derive(Clone, Copy)]
enum Source {
    /// In a provided buffer.
    Provided(u16),
    /// In `Conn::sending`.
    Own,
}

/// A send that the kernel works on.
#[derive(Clone, Copy)]
struct Flight {
    source: Source,
    at: usize,
    end: usize,
}

struct Conn {
    fd: OwnedFd,
    /// The beginning of a frame.
    partial: Vec<u8>,
    /// Replies behind the one on its way.
    queued: Vec<u8>,
    /// Not touched while a send from it is on its way.
    sending: Vec<u8>,
    flight: Option<Flight>,
    receiving: bool,
    closing: bool,
}

struct Server {
    ring: IoUring,
    buffers: Buffers,
    listener: RawFd,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    /// Connections whose receive ended for want of buffers.
    starved: Vec<usize>,
    work: Work,
}

fn main() -> io::Result<()> {
    let flags = Flags::read();
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(16384)
        .build(4096)?;
    let buffers = Buffers::register(&ring)?;
    let listener = flags.listen()?;
    let mut server = Server {
        ring,
        buffers,
        listener: listener.as_raw_fd(),
        conns: Vec::new(),
        free: Vec::new(),
        starved: Vec::new(),
        work: flags.work(),
    };
    server.accept_more()?;
    flags.announce(listener.local_addr()?);
    server.run()
}

impl Server {
    fn run(&mut self) -> io::Result<()> {
        let mut done: Vec<cqueue::Entry> = Vec::with_capacity(4096);
        loop {
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The kernel wants completions taken first.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                other => drop(other?),
            }
            done.extend(self.ring.completion());
            for entry in done.drain(..) {
                let at = (entry.user_data() >> 2) as usize;
                match entry.user_data() & 3 {
                    ACCEPT => self.accepted(&entry)?,
                    RECV => self.received(at, &entry)?,
                    _ => self.sent(at, entry.result())?,
                }
            }
            for at in std::mem::take(&mut self.starved) {
                self.receive(at)?;
            }
        }
    }

    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: what the entry points to stays in place until its completion: provided buffers are
            // leased out until then, and `sending` is not touched while a flight names it.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }

    fn accept_more(&mut self) -> io::Result<()> {
        let accept = opcode::AcceptMulti::new(types::Fd(self.listener)).flags(libc::SOCK_CLOEXEC);
        self.push(accept.build().user_data(ACCEPT))
    }

    fn accepted(&mut self, entry: &cqueue::Entry) -> io::Result<()> {
        if !cqueue::more(entry.flags()) {
            self.accept_more()?;
        }
        let Ok(fd) = u32::try_from(entry.result()) else { return Ok(()) };
        // SAFETY: the kernel just gave it to us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
        let stream = std::net::TcpStream::from(fd);
        stream.set_nodelay(true)?;
        let conn = Conn {
            fd: stream.into(),
            partial: Vec::new(),
            queued: Vec::new(),
            sending: Vec::new(),
            flight: None,
            receiving: false,
            closing: false,
        };
        let at = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            self.conns.len() - 1
        });
        self.conns[at] = Some(conn);
        self.receive(at)
    }

    fn receive(&mut self, at: usize) -> io::Result<()> {
        let Some(conn) = &mut self.conns[at] else { return Ok(()) };
        // It may have ended since, and another connection may have its place.
        if conn.closing || conn.receiving {
            return Ok(());
        }
        conn.receiving = true;
        let fd = types::Fd(conn.fd.as_raw_fd());
        let entry = opcode::RecvMulti::new(fd, GROUP).build();
        self.push(entry.user_data((at as u64) << 2 | RECV))
    }

    fn received(&mut self, at: usize, entry: &cqueue::Entry) -> io::Result<()> {
        let Some(conn) = &mut self.conns[at] else { return Ok(()) };
        conn.receiving = cqueue::more(entry.flags());
        let buffer = cqueue::buffer_select(entry.flags());
        if entry.result() > 0 && !conn.closing {
            let buffer = buffer.expect("a receive with bytes has a buffer");
            let input = self.buffers.bytes(buffer, entry.result() as usize);
            let taken = conn.take(input, buffer, &self.work);
            if !matches!(taken, Ok(Lease::Kept)) {
                self.buffers.give_back(buffer);
            }
            conn.closing = taken.is_err() || conn.queued.len() > MAX_QUEUED;
            if !conn.receiving {
                self.starved.push(at);
            }
            if matches!(taken, Ok(Lease::Kept | Lease::Copied)) {
                self.send(at)?;
            }
        } else {
            if let Some(buffer) = buffer {
                self.buffers.give_back(buffer);
            }
            match entry.result() == -libc::ENOBUFS {
                true => self.starved.push(at),
                false => conn.closing = true,
            }
        }
        self.close_if_done(at);
        Ok(())
    }

    /// Submits what is left of the reply on its way.
    fn send(&mut self, at: usize) -> io::Result<()> {
        let Some(conn) = &mut self.conns[at] else { return Ok(()) };
        let Some(flight) = conn.flight else { return Ok(()) };
        let bytes = match flight.source {
            Source::Provided(buffer) => self.buffers.bytes(buffer, flight.end),
            Source::Own => &conn.sending[..flight.end],
        };
        let rest = &bytes[flight.at..];
        let fd = types::Fd(conn.fd.as_raw_fd());
        let entry = opcode::Send::new(fd, rest.as_ptr(), rest.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.push(entry.user_data((at as u64) << 2 | SEND))
    }

    fn sent(&mut self, at: usize, result: i32) -> io::Result<()> {
        let Some(conn) = &mut self.conns[at] else { return Ok(()) };
        let Some(flight) = &mut conn.flight else { return Ok(()) };
        match usize::try_from(result) {
            Ok(n) => flight.at += n,
            Err(_) => {
                flight.at = flight.end;
                conn.closing = true;
            }
        }
        if flight.at == flight.end {
            if let Source::Provided(buffer) = flight.source {
                self.buffers.give_back(buffer);
            }
            conn.flight = None;
            conn.launch_queued();
        }
        if conn.flight.is_some() && !conn.closing {
            self.send(at)?;
        }
        self.close_if_done(at);
        Ok(())
    }

    /// Ends a connection that is closing, once the kernel has let go of it.
    fn close_if_done(&mut self, at: usize) {
        let Some(conn) = &mut self.conns[at] else { return };
        if !conn.closing {
            return;
        }
        if conn.flight.is_none() && !conn.receiving {
            self.conns[at] = None;
            self.free.push(at);
        } else {
            // SAFETY: takes no pointers. It ends the operations that are still on their way.
            unsafe { libc::shutdown(conn.fd.as_raw_fd(), libc::SHUT_RDWR) };
        }
    }
}

/// What became of a provided buffer.
enum Lease {
    /// A reply is to be sent from it.
    Kept,
    /// Its bytes were copied, and a reply is to be sent.
    Copied,
    /// Its bytes were copied, and nothing is to be sent now.
    Over,
}

impl Conn {
    fn take(&mut self, input: &[u8], buffer: u16, work: &Work) -> io::Result<Lease> {
        if self.partial.is_empty() && self.flight.is_none() {
            let found = frames(input)?;
            self.partial.extend_from_slice(&input[found.bytes..]);
            if found.count == 0 {
                return Ok(Lease::Over);
            }
            work.take(&found).run();
            let source = Source::Provided(buffer);
            self.flight = Some(Flight { source, at: 0, end: found.bytes });
            return Ok(Lease::Kept);
        }
        self.partial.extend_from_slice(input);
        let found = frames(&self.partial)?;
        if let Some(next) = found.next {
            self.partial.reserve(found.bytes + next - self.partial.len());
        }
        if found.count == 0 {
            return Ok(Lease::Over);
        }
        work.take(&found).run();
        if self.queued.is_empty() && found.bytes == self.partial.len() {
            std::mem::swap(&mut self.queued, &mut self.partial);
        } else {
            self.queued.extend_from_slice(&self.partial[..found.bytes]);
            self.partial.drain(..found.bytes);
        }
        if self.flight.is_some() {
            return Ok(Lease::Over);
        }
        self.launch_queued();
        Ok(Lease::Copied)
    }

    /// Makes what is queued the reply on its way.
    fn launch_queued(&mut self) {
        if self.queued.is_empty() {
            return;
        }
        self.sending.clear();
        std::mem::swap(&mut self.sending, &mut self.queued);
        self.flight = Some(Flight { source: Source::Own, at: 0, end: self.sending.len() });
    }
}
