//! Very many connections at once: how long it takes until each has its first reply.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::conn::{Conn, Tally};
use super::stream::Stream;
use super::{Epoll, NO_EVENT, dial};

/// How long the last reply may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opens `connections`, of which `window` may wait for their first reply at a time (a listener's backlog
/// holds only so many, and what overflows it comes again after a second), and keeps them all.
pub(crate) fn storm(
    to: SocketAddrV4,
    connections: usize,
    window: usize,
    spin: bool,
) -> Result<Duration> {
    let epoll = Epoll::new()?;
    let mut tally = Tally::new();
    let mut conns: Vec<Conn> = Vec::with_capacity(connections);
    let mut events = vec![NO_EVENT; 1024];
    let mut replies = 0;
    let start = Instant::now();
    while replies < connections {
        while conns.len() < connections.min(replies + window) {
            let at = conns.len() as u64;
            let mut conn = Conn::new(dial(&epoll, to, at)?, Stream::new(64, at));
            conn.allow(1, tally.now());
            conns.push(conn);
            if at % 64 == 63 {
                break;
            }
        }
        let wait = if spin || conns.len() < connections.min(replies + window) { 0 } else { 10 };
        for event in epoll.wait(&mut events, Duration::from_millis(wait))? {
            let (at, ready) = (event.u64, event.events);
            replies += conns[at as usize].ready(ready, &mut tally)? as usize;
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "{} of {connections} have no reply after {PATIENCE:?}",
            connections - replies
        );
    }
    Ok(start.elapsed())
}
