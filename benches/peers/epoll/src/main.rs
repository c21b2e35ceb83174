//! The base: one thread, one edge-triggered epoll instance, written by hand.
//!
//! A read goes into one buffer of the loop; the whole frames in it are answered from where they lie,
//! by one write. Only what is left of a frame is copied, to a buffer of its connection, which keeps its
//! memory; so a request allocates nothing and copies nothing. A short read means that a TCP socket is
//! drained, unless the event showed more than readiness. Both directions are registered once.

mod sys;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use common::{Flags, READ, Work, frames};
use sys::{Epoll, Event};

/// The token of the listener.
const LISTENER: u64 = u64::MAX;

struct Conn {
    stream: TcpStream,
    /// The beginning of a frame.
    partial: Vec<u8>,
    /// Replies that the socket did not take yet. While there are some, nothing is read.
    output: Vec<u8>,
    /// Something came while nothing was read.
    readable: bool,
    /// The event showed a half-close, a hang-up or an error: read to the end.
    ending: bool,
}

/// Whether a connection lives on.
#[derive(PartialEq)]
enum Next {
    Keep,
    Close,
}

fn main() -> io::Result<()> {
    let flags = Flags::read();
    let work = flags.work();
    let listener = flags.listen()?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new()?;
    epoll.add(listener.as_raw_fd(), LISTENER)?;
    flags.announce(listener.local_addr()?);

    let mut conns: Vec<Option<Box<Conn>>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events = [Event { events: 0, u64: 0 }; 1024];
    let mut buffer = vec![0; READ];
    loop {
        for event in epoll.wait(&mut events)? {
            let (token, ready) = (event.u64, event.events);
            if token == LISTENER {
                accept(&listener, &epoll, &mut conns, &mut free)?;
                continue;
            }
            let at = token as usize;
            let Some(conn) = conns[at].as_mut() else { continue };
            if conn.ready(ready, &mut buffer, &work) == Next::Close {
                conns[at] = None;
                free.push(at);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    epoll: &Epoll,
    conns: &mut Vec<Option<Box<Conn>>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    loop {
        let stream = match sys::accept(listener) {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let at = free.pop().unwrap_or_else(|| {
            conns.push(None);
            conns.len() - 1
        });
        epoll.add(stream.as_raw_fd(), at as u64)?;
        conns[at] = Some(Box::new(Conn {
            stream,
            partial: Vec::new(),
            output: Vec::new(),
            readable: false,
            ending: false,
        }));
    }
}

impl Conn {
    fn ready(&mut self, events: u32, buffer: &mut [u8], work: &Work) -> Next {
        self.readable |= events & (sys::IN | sys::ENDING) != 0;
        self.ending |= events & sys::ENDING != 0;
        if !self.output.is_empty() && self.flush() == Next::Close {
            return Next::Close;
        }
        while self.readable && self.output.is_empty() {
            if self.read(buffer, work) == Next::Close {
                return Next::Close;
            }
        }
        Next::Keep
    }

    /// One read, and the one write that answers it.
    fn read(&mut self, buffer: &mut [u8], work: &Work) -> Next {
        if !self.partial.is_empty() {
            return self.read_more(work);
        }
        let n = match self.stream.read(buffer) {
            Ok(0) => return Next::Close,
            Ok(n) => n,
            Err(error) => return self.failed(&error),
        };
        self.readable = n == buffer.len() || self.ending;
        let input = &buffer[..n];
        let Ok(found) = frames(input) else { return Next::Close };
        if found.count > 0 {
            work.take(&found).run();
            if write(&self.stream, &mut self.output, &input[..found.bytes]) == Next::Close {
                return Next::Close;
            }
        }
        self.partial.extend_from_slice(&input[found.bytes..]);
        Next::Keep
    }

    /// Reads behind what is left of a frame.
    fn read_more(&mut self, work: &Work) -> Next {
        let Ok(before) = frames(&self.partial) else { return Next::Close };
        let missing = before.next.map_or(0, |next| next - self.partial.len());
        let room = missing.max(READ);
        self.partial.reserve(room);
        let n = match sys::recv(&self.stream, &mut self.partial.spare_capacity_mut()[..room]) {
            Ok(0) => return Next::Close,
            Ok(n) => n,
            Err(error) => return self.failed(&error),
        };
        // SAFETY: `recv` wrote the first `n` bytes of the spare capacity.
        unsafe { self.partial.set_len(self.partial.len() + n) };
        self.readable = n == room || self.ending;
        let Ok(found) = frames(&self.partial) else { return Next::Close };
        if found.count > 0 {
            work.take(&found).run();
            let replies = &self.partial[..found.bytes];
            if write(&self.stream, &mut self.output, replies) == Next::Close {
                return Next::Close;
            }
            self.partial.drain(..found.bytes);
        }
        Next::Keep
    }

    fn failed(&mut self, error: &io::Error) -> Next {
        match error.kind() {
            ErrorKind::WouldBlock => {
                self.readable = false;
                Next::Keep
            }
            ErrorKind::Interrupted => Next::Keep,
            _ => Next::Close,
        }
    }

    fn flush(&mut self) -> Next {
        let mut sent = 0;
        while sent < self.output.len() {
            match self.stream.write(&self.output[sent..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Next::Close,
            }
        }
        self.output.drain(..sent);
        Next::Keep
    }
}

/// Writes at once what the socket takes, and keeps the rest.
fn write(mut stream: &TcpStream, output: &mut Vec<u8>, replies: &[u8]) -> Next {
    let mut sent = 0;
    while sent < replies.len() {
        match stream.write(&replies[sent..]) {
            Ok(n) => sent += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Next::Close,
        }
    }
    output.extend_from_slice(&replies[sent..]);
    Next::Keep
}
