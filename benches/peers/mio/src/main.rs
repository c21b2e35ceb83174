//! mio: one thread, edge-triggered, with `Poll` and tokens into a table.
//!
//! As mio's documentation asks: a socket is read until it would block, and reading stops while replies
//! wait for a writable event.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use common::{Flags, READ, Work, frames};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);

struct Conn {
    stream: TcpStream,
    input: Vec<u8>,
    /// How much of `input` holds bytes.
    filled: usize,
    output: Vec<u8>,
    readable: bool,
}

fn main() -> io::Result<()> {
    let flags = Flags::read();
    let work = flags.work();
    let listener = flags.listen()?;
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    flags.announce(listener.local_addr()?);

    let mut conns: Vec<Option<Conn>> = Vec::new();
    let mut free = Vec::new();
    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut conns, &mut free)?;
                continue;
            }
            let at = event.token().0;
            let Some(conn) = &mut conns[at] else { continue };
            if conn.ready(event, &work).is_err() {
                let _ = conn.stream.shutdown(Shutdown::Both);
                conns[at] = None;
                free.push(at);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    poll: &Poll,
    conns: &mut Vec<Option<Conn>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let at = free.pop().unwrap_or_else(|| {
            conns.push(None);
            conns.len() - 1
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(at), interest)?;
        let (input, output) = (Vec::new(), Vec::new());
        conns[at] = Some(Conn { stream, input, filled: 0, output, readable: false });
    }
}

impl Conn {
    /// Serves what is ready; an error ends the connection.
    fn ready(&mut self, event: &Event, work: &Work) -> io::Result<()> {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        if !self.output.is_empty() {
            let sent = write(&mut self.stream, &self.output)?;
            self.output.drain(..sent);
        }
        while self.readable && self.output.is_empty() {
            if self.input.len() - self.filled < READ / 2 {
                self.input.resize(self.filled + READ, 0);
            }
            match self.stream.read(&mut self.input[self.filled..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.filled += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            self.answer(work)?;
        }
        Ok(())
    }

    fn answer(&mut self, work: &Work) -> io::Result<()> {
        let found = frames(&self.input[..self.filled])?;
        if found.count > 0 {
            work.take(&found).run();
            let sent = write(&mut self.stream, &self.input[..found.bytes])?;
            self.output.extend_from_slice(&self.input[sent..found.bytes]);
            self.input.copy_within(found.bytes..self.filled, 0);
            self.filled -= found.bytes;
        }
        if let Some(next) = found.next.filter(|next| *next > self.input.len()) {
            self.input.resize(next, 0);
        }
        Ok(())
    }
}

/// How much of `bytes` the socket took before it would have blocked.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(n) => sent += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
