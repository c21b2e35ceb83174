//! One connection of the load: what it may send, what it sent, what came back.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::histogram::Histogram;
use super::stream::{HEADER, Stream};
use crate::sys;

/// How much is sent or received by one call.
const BUFFER: usize = 256 << 10;
/// Bodies from here on are sent from where they lie.
const IN_PLACE: u64 = 16 << 10;

/// What all connections of a load share.
#[derive(Debug)]
pub(crate) struct Tally {
    origin: Instant,
    buffer: Vec<u8>,
    pub(crate) replies: u64,
    pub(crate) latency: Histogram,
    /// Each reply brings another request.
    pub(crate) refill: bool,
}

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally {
            origin: Instant::now(),
            buffer: vec![0; BUFFER],
            replies: 0,
            latency: Histogram::default(),
            refill: false,
        }
    }

    /// One with the same clock.
    pub(crate) fn beside(&self) -> Tally {
        Tally { origin: self.origin, ..Tally::new() }
    }

    pub(crate) fn clear(&mut self) {
        self.replies = 0;
        self.latency.clear();
    }

    /// Nanoseconds since the load was made.
    pub(crate) fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

#[derive(Debug)]
pub(crate) struct Conn {
    stream: TcpStream,
    bytes: Stream,
    /// Positions in `bytes`: received ≤ sent ≤ allowed.
    allowed: u64,
    sent: u64,
    received: u64,
    /// When each request that has no reply yet was due.
    due: VecDeque<u64>,
}

impl Conn {
    pub(crate) fn new(stream: TcpStream, bytes: Stream) -> Conn {
        Conn { stream, bytes, allowed: 0, sent: 0, received: 0, due: VecDeque::new() }
    }

    /// Lets so many more requests out, due at `now`.
    pub(crate) fn allow(&mut self, requests: u64, now: u64) {
        self.allowed += requests * self.bytes.len();
        self.due.extend((0..requests).map(|_| now));
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.received < self.allowed
    }

    /// Handles an event; says how many replies it brought.
    pub(crate) fn ready(&mut self, events: u32, tally: &mut Tally) -> Result<u64> {
        let mut replies = 0;
        if events & (sys::IN | sys::ENDING) != 0 {
            replies = self.receive(events & sys::ENDING != 0, tally)?;
        }
        if replies > 0 || events & sys::OUT != 0 {
            self.send(tally)?;
        }
        Ok(replies)
    }

    fn receive(&mut self, ending: bool, tally: &mut Tally) -> Result<u64> {
        let mut replies = 0;
        loop {
            let n = match self.stream.read(&mut tally.buffer) {
                Ok(0) => bail!("the server ended the connection"),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(replies),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("receiving"),
            };
            let before = self.received;
            self.received += n as u64;
            ensure!(self.received <= self.sent, "more came back than was sent");
            ensure!(self.bytes.matches(before, &tally.buffer[..n]), "wrong bytes came back");

            let came = self.received / self.bytes.len() - before / self.bytes.len();
            replies += came;
            tally.replies += came;
            let now = tally.now();
            for due in self.due.drain(..came as usize) {
                tally.latency.record(now.saturating_sub(due));
            }
            if tally.refill && came > 0 {
                self.allow(came, now);
            }
            if n < tally.buffer.len() && !ending {
                return Ok(replies);
            }
            if !self.is_waiting() && replies > 0 {
                // Churn: the end is what should come next.
                return Ok(replies);
            }
        }
    }

    /// Sends what is allowed, as far as the socket takes it.
    pub(crate) fn send(&mut self, tally: &mut Tally) -> Result<()> {
        while self.sent < self.allowed {
            let left = self.allowed - self.sent;
            let result = if self.bytes.len() < IN_PLACE {
                let n = left.min(BUFFER as u64) as usize;
                self.bytes.fill(self.sent, &mut tally.buffer[..n]);
                self.stream.write(&tally.buffer[..n])
            } else {
                let first = self.bytes.piece(self.sent);
                let is_header = first.len() <= HEADER;
                let second =
                    if is_header { self.bytes.piece(self.sent + first.len() as u64) } else { &[] };
                self.stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)])
            };
            match result {
                Ok(n) => self.sent += n as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending"),
            }
        }
        Ok(())
    }
}
