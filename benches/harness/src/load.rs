//! The load generator: one thread, one epoll instance, every byte checked.
//!
//! Closed loop: each connection keeps a number of requests on their way. Open loop: requests are due at
//! a fixed rate whatever the server does, and latency counts from the moment a request was due, so a
//! server that stalls pays for every request that would have come meanwhile. Churn: a connection for
//! each request. Rest: nothing at all.

mod conn;
mod crowd;
mod histogram;
mod storm;
mod stream;

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::sys::{self, Epoll, Event, NO_EVENT};
use conn::{Conn, Tally};
use crowd::Connected;
pub(crate) use crowd::Crowd;
pub(crate) use histogram::Histogram;
pub(crate) use storm::storm;
use stream::Stream;

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "pace")]
pub(crate) enum Pace {
    /// As many on their way per connection at all times.
    Closed { depth: u64 },
    /// So many per second over all connections, come what may.
    Open { per_second: f64 },
    /// Open, at half of what the server can do at most, which is tried beforehand.
    HalfPeak,
    /// One per connection, which then makes room for the next.
    Churn,
    /// None.
    Rest,
}

/// What a load is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) to: SocketAddrV4,
    pub(crate) connections: usize,
    /// Connections besides.
    pub(crate) crowd: Crowd,
    /// How many empty requests a second come on one more connection.
    pub(crate) light: Option<f64>,
    pub(crate) frame: usize,
    pub(crate) pace: Pace,
    /// Ask for events without sleeping: where the load has a core of its own, so that waking it is no
    /// part of what a server does.
    pub(crate) spin: bool,
}

/// What happened within a stretch of time.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) replies: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latency: Histogram,
    /// On the light connection.
    pub(crate) light: Histogram,
}

#[derive(Debug)]
pub(crate) struct Load {
    plan: Plan,
    epoll: Epoll,
    conns: Vec<Conn>,
    light: Option<Light>,
    crowd: Connected,
    events: Vec<Event>,
    tally: Tally,
    started: bool,
    /// No request is to be sent any more.
    draining: bool,
    /// Open loop: how many requests were due so far, and since when.
    issued: u64,
    start: u64,
}

/// The light connection.
#[derive(Debug)]
struct Light {
    conn: Conn,
    tally: Tally,
    every: u64,
    /// When its next request is due.
    due: u64,
}

/// Its token.
const LIGHT: u64 = u64::MAX;

/// How long replies may take once no more requests are sent.
const DRAIN: Duration = Duration::from_secs(10);

impl Load {
    /// Opens all connections; nothing is sent yet.
    pub(crate) fn connect(plan: Plan) -> Result<Load> {
        let epoll = Epoll::new()?;
        let opened = Cell::new(0_u64);
        let connect = || -> Result<TcpStream> {
            // A server may accept slowly, and what its backlog has no room for waits a second.
            opened.set(opened.get() + 1);
            if opened.get() % 64 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
            let stream = TcpStream::connect(plan.to).context("connecting")?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let crowd = Connected::new(plan.crowd, connect)?;
        let tally = Tally::new();
        let light = match plan.light {
            None => None,
            Some(per_second) => {
                let stream = connect()?;
                epoll.add(stream.as_raw_fd(), LIGHT)?;
                let conn = Conn::new(stream, Stream::new(0, LIGHT));
                let every = (1e9 / per_second) as u64;
                Some(Light { conn, tally: tally.beside(), every, due: 0 })
            }
        };
        let mut conns = Vec::with_capacity(plan.connections);
        if plan.pace != Pace::Churn {
            for at in 0..plan.connections {
                let stream = connect()?;
                epoll.add(stream.as_raw_fd(), at as u64)?;
                conns.push(Conn::new(stream, Stream::new(plan.frame, at as u64)));
            }
        }
        Ok(Load {
            plan,
            epoll,
            conns,
            light,
            crowd,
            events: vec![NO_EVENT; 1024],
            tally,
            started: false,
            draining: false,
            issued: 0,
            start: 0,
        })
    }

    /// Goes on for so long, and tells what happened.
    pub(crate) fn run(&mut self, duration: Duration) -> Result<Slice> {
        self.tally.clear();
        self.light.iter_mut().for_each(|light| light.tally.clear());
        self.tally.refill = matches!(self.plan.pace, Pace::Closed { .. });
        self.draining = false;
        let start = self.tally.now();
        let end = start + duration.as_nanos() as u64;
        if !self.started {
            self.begin(start)?;
        }
        let mut now = start;
        while now < end {
            let next = self.issue(now)?.min(self.crowd.send_due(now)?).min(end);
            let pause = if self.plan.spin { 0 } else { next.saturating_sub(now) };
            self.turn(Duration::from_nanos(pause))?;
            now = self.tally.now();
        }
        Ok(Slice {
            replies: self.tally.replies,
            elapsed: Duration::from_nanos(now - start),
            latency: self.tally.latency.clone(),
            light: self
                .light
                .as_ref()
                .map_or_else(Histogram::default, |light| light.tally.latency.clone()),
        })
    }

    /// Waits for all replies that are still missing; says how many came. Another run begins anew.
    pub(crate) fn drain(&mut self) -> Result<u64> {
        self.tally.clear();
        self.tally.refill = false;
        self.draining = true;
        let start = Instant::now();
        while self.conns.iter().any(Conn::is_waiting) {
            ensure!(start.elapsed() < DRAIN, "replies are missing after {DRAIN:?}");
            self.turn(Duration::from_millis(10))?;
        }
        self.crowd.check()?;
        self.started = false;
        Ok(self.tally.replies)
    }

    fn begin(&mut self, now: u64) -> Result<()> {
        self.started = true;
        self.start = now;
        self.issued = 0;
        self.light.iter_mut().for_each(|light| light.due = now);
        match self.plan.pace {
            Pace::Closed { depth } => {
                for conn in &mut self.conns {
                    conn.allow(depth, now);
                    conn.send(&mut self.tally)?;
                }
            }
            Pace::Open { .. } | Pace::HalfPeak | Pace::Rest => {}
            Pace::Churn => {
                self.conns.clear();
                for at in 0..self.plan.connections {
                    let conn = self.open(at as u64)?;
                    self.conns.push(conn);
                }
            }
        }
        Ok(())
    }

    /// A connection for one request.
    fn open(&mut self, at: u64) -> Result<Conn> {
        let stream = dial(&self.epoll, self.plan.to, at)?;
        self.issued += 1;
        let mut conn = Conn::new(stream, Stream::new(self.plan.frame, self.issued));
        conn.allow(1, self.tally.now());
        Ok(conn)
    }

    /// Sends what is due on the light connection, and in an open loop. Says when more is.
    fn issue(&mut self, now: u64) -> Result<u64> {
        let mut next = u64::MAX;
        if let Some(light) = &mut self.light {
            while light.due <= now {
                light.conn.allow(1, light.due);
                light.conn.send(&mut light.tally)?;
                light.due += light.every;
            }
            next = light.due;
        }
        let Pace::Open { per_second } = self.plan.pace else { return Ok(next) };
        let due = |nth: u64| self.start + (nth as f64 * 1e9 / per_second) as u64;
        let count = self.conns.len() as u64;
        while due(self.issued) <= now {
            let conn = &mut self.conns[(self.issued % count) as usize];
            conn.allow(1, due(self.issued));
            conn.send(&mut self.tally)?;
            self.issued += 1;
        }
        Ok(next.min(due(self.issued)))
    }

    /// Handles what happened, after waiting for it at most so long.
    fn turn(&mut self, pause: Duration) -> Result<()> {
        let mut events = std::mem::take(&mut self.events);
        for event in self.epoll.wait(&mut events, pause)? {
            let (at, ready) = (event.u64, event.events);
            if let (LIGHT, Some(light)) = (at, &mut self.light) {
                light.conn.ready(ready, &mut light.tally)?;
                continue;
            }
            let replies = self.conns[at as usize].ready(ready, &mut self.tally)?;
            if replies > 0 && self.plan.pace == Pace::Churn && !self.draining {
                self.conns[at as usize] = self.open(at)?;
            }
        }
        self.events = events;
        Ok(())
    }
}

/// A connection on its way, for the `at`th place; it will be reported with that token.
fn dial(epoll: &Epoll, to: SocketAddrV4, at: u64) -> Result<TcpStream> {
    let from = Ipv4Addr::new(127, 0, 0, 1 + (at % 32) as u8);
    let stream = sys::connect(from, to).context("connecting")?;
    stream.set_nodelay(true)?;
    epoll.add(stream.as_raw_fd(), at)?;
    Ok(stream)
}

#[cfg(test)]
mod tests;
