//! Connections beside those that count: idle ones, ones that stop in the middle of a header, and ones
//! that send a byte now and then.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::stream::Stream;

/// How many there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Crowd {
    /// They send nothing.
    pub(crate) idle: usize,
    /// They sent half of a header.
    pub(crate) half_open: usize,
    /// They are somewhere in a frame, and send one byte per second each.
    pub(crate) slow: usize,
}

/// Frames of slow senders.
const FRAME: usize = 1024;

#[derive(Debug)]
pub(super) struct Connected {
    quiet: Vec<TcpStream>,
    slow: Vec<Slow>,
    /// How many bytes the slow ones sent since `start`.
    sent: u64,
    start: Option<u64>,
}

#[derive(Debug)]
struct Slow {
    stream: TcpStream,
    bytes: Stream,
    at: u64,
}

impl Connected {
    pub(super) fn new(crowd: Crowd, connect: impl Fn() -> Result<TcpStream>) -> Result<Connected> {
        let mut quiet = Vec::with_capacity(crowd.idle + crowd.half_open);
        for at in 0..crowd.idle + crowd.half_open {
            let mut stream = connect()?;
            if at >= crowd.idle {
                stream.write_all(&[0, 0]).context("sending half a header")?;
            }
            quiet.push(stream);
        }
        let mut slow = Vec::with_capacity(crowd.slow);
        for at in 0..crowd.slow {
            let (stream, bytes) = (connect()?, Stream::new(FRAME, at as u64));
            let mut one = Slow { stream, bytes, at: 0 };
            // They stand at every place of a frame, and none comes to its end before the run does.
            one.send(1 + at % (FRAME - 128))?;
            slow.push(one);
        }
        Ok(Connected { quiet, slow, sent: 0, start: None })
    }

    /// Sends the bytes that are due; says when the next one is.
    pub(super) fn send_due(&mut self, now: u64) -> Result<u64> {
        let count = self.slow.len() as u64;
        if count == 0 {
            return Ok(u64::MAX);
        }
        let start = *self.start.get_or_insert(now);
        loop {
            let due = start + self.sent * 1_000_000_000 / count;
            if due > now {
                return Ok(due);
            }
            self.slow[(self.sent % count) as usize].send(1)?;
            self.sent += 1;
        }
    }

    /// Fails unless the server still keeps all of them.
    pub(super) fn check(&self) -> Result<()> {
        let all = self.quiet.iter().chain(self.slow.iter().map(|slow| &slow.stream));
        let ended = all.filter(|stream| has_ended(stream)).count();
        ensure!(ended == 0, "the server ended {ended} connections that had done nothing wrong");
        Ok(())
    }
}

impl Slow {
    fn send(&mut self, count: usize) -> Result<()> {
        let mut bytes = [0; FRAME];
        self.bytes.fill(self.at, &mut bytes[..count]);
        self.stream.write_all(&bytes[..count]).context("a slow sender")?;
        self.at += count as u64;
        Ok(())
    }
}

/// Whether the server ended a connection.
fn has_ended(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}
