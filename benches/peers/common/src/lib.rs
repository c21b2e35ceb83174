//! What all peers share: their flags, the framing, and the work that a request pretends to do.
//!
//! Framed echo: a 4-byte big-endian length, then that many bytes; the reply is the same frame. Every
//! server answers all whole frames that one read brought with one write.

use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;

/// The length in front of each frame.
pub const HEADER: usize = 4;
/// A connection that announces a larger frame is closed.
pub const MAX_FRAME: usize = 16 << 20;
/// How much a read asks for at least.
pub const READ: usize = 64 << 10;

/// The face that all servers of the bench have.
#[derive(Clone, Debug, Parser)]
pub struct Flags {
    /// HOST:PORT to listen on; port 0 takes a free one.
    #[arg(long)]
    pub addr: String,
    /// How many threads drive connections, where the server has a choice.
    #[arg(long)]
    pub pollers: Option<usize>,
    /// Do what a request asks for where it was read, even where the library has a place for such work.
    #[arg(long)]
    pub naive: bool,
    /// Burn this much CPU in a request that is not empty …
    #[arg(long, default_value_t = 0)]
    pub work_us: u64,
    /// … in every Nth.
    #[arg(long, default_value_t = 1)]
    pub work_every: u64,
    /// Sleep for this long in a request that is not empty …
    #[arg(long, default_value_t = 0)]
    pub block_us: u64,
    /// … in every Nth.
    #[arg(long, default_value_t = 1)]
    pub block_every: u64,
}

impl Flags {
    /// Reads the command line.
    pub fn read() -> &'static Flags {
        Box::leak(Box::new(Flags::parse()))
    }

    /// A listener with a backlog that a thousand connections at once do not overflow; that of `std` is
    /// 128, and what overflows it waits a second for its next try.
    pub fn listen(&self) -> io::Result<TcpListener> {
        let addr = self.addr.to_socket_addrs()?.next().ok_or(io::ErrorKind::InvalidInput)?;
        let listener = TcpListener::bind(addr)?;
        // SAFETY: takes no pointers; listening again only changes the backlog.
        if unsafe { libc::listen(listener.as_raw_fd(), 4096) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(listener)
    }

    /// Says that the server accepts connections now; the first line it prints.
    pub fn announce(&self, addr: std::net::SocketAddr) {
        println!("listening on {addr}");
    }

    /// What the requests of this server do.
    pub fn work(&self) -> Work {
        let us = Duration::from_micros;
        Work {
            naive: self.naive,
            enabled: self.work_us > 0 || self.block_us > 0,
            burn: us(self.work_us),
            burn_every: self.work_every.max(1),
            block: us(self.block_us),
            block_every: self.block_every.max(1),
            count: AtomicU64::new(0),
        }
    }
}

/// What a request pretends to do besides echoing.
#[derive(Debug)]
pub struct Work {
    naive: bool,
    enabled: bool,
    burn: Duration,
    burn_every: u64,
    block: Duration,
    block_every: u64,
    count: AtomicU64,
}

/// What one batch of requests has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    naive: bool,
    burn: Duration,
    block: Duration,
}

impl Work {
    /// Takes on the requests among `frames`; none have anything to do in most runs.
    #[inline]
    pub fn take(&self, frames: &Frames) -> Load {
        let requests = frames.count - frames.empty;
        if !self.enabled || requests == 0 {
            return Load::default();
        }
        // ORDERING: Relaxed, it only counts.
        let before = self.count.fetch_add(requests, Ordering::Relaxed);
        let due = |every: u64| ((before + requests) / every - before / every) as u32;
        let (burn, block) = (due(self.burn_every), due(self.block_every));
        Load { naive: self.naive, burn: self.burn * burn, block: self.block * block }
    }
}

impl Load {
    /// Whether to keep this away from a thread that drives other connections. tokio's documentation
    /// draws the line at 10 to 100 µs.
    #[inline]
    pub fn is_heavy(self) -> bool {
        !self.naive && (!self.block.is_zero() || self.burn >= Duration::from_micros(100))
    }

    /// Does it, here and now.
    #[inline]
    pub fn run(self) {
        self.run_with(std::thread::sleep);
    }

    /// Does it, where only one coroutine should sleep and not its thread.
    #[inline]
    pub fn run_with(self, sleep: impl FnOnce(Duration)) {
        if !self.burn.is_zero() {
            let end = cpu_time() + self.burn;
            while cpu_time() < end {
                std::hint::spin_loop();
            }
        }
        if !self.block.is_zero() {
            sleep(self.block);
        }
    }
}

/// What the calling thread used so far: burning is not waiting until others have burnt.
fn cpu_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` outlives the call, which cannot fail: every thread has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The whole frames at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    /// How many there are.
    pub count: u64,
    /// How many of them carry nothing.
    pub empty: u64,
    /// How many bytes they take, headers included.
    pub bytes: usize,
    /// How long the frame behind them is, header included, if its header is there.
    pub next: Option<usize>,
}

/// A frame longer than [`MAX_FRAME`].
#[derive(Debug)]
pub struct TooLarge;

impl From<TooLarge> for io::Error {
    fn from(_: TooLarge) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, "frame too large")
    }
}

/// Looks for whole frames.
#[inline]
pub fn frames(buffer: &[u8]) -> Result<Frames, TooLarge> {
    let mut found = Frames { count: 0, empty: 0, bytes: 0, next: None };
    while let Some(header) = buffer[found.bytes..].first_chunk::<HEADER>() {
        let len = u32::from_be_bytes(*header) as usize;
        if len > MAX_FRAME {
            return Err(TooLarge);
        }
        if buffer.len() - found.bytes < HEADER + len {
            found.next = Some(HEADER + len);
            break;
        }
        found.bytes += HEADER + len;
        found.count += 1;
        found.empty += u64::from(len == 0);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_frames_are_found() {
        let buffer = [0, 0, 0, 1, 7, 0, 0, 0, 0, 0, 0, 0, 9, 1];
        assert_eq!(
            frames(&buffer).unwrap(),
            Frames { count: 2, empty: 1, bytes: 9, next: Some(13) }
        );
        assert_eq!(
            frames(&buffer[..3]).unwrap(),
            Frames { count: 0, empty: 0, bytes: 0, next: None }
        );
        assert!(frames(&[0xff; 4]).is_err());
    }

    #[test]
    fn every_nth_request_has_work() {
        let flags = Flags::parse_from(["x", "--addr=:0", "--block-us=5", "--block-every=3"]);
        let work = flags.work();
        let take = |count, empty| {
            work.take(&Frames { count, empty, bytes: 0, next: None }).block.as_micros()
        };
        let blocks: Vec<_> = (0..6).map(|_| take(1, 0)).collect();
        assert_eq!(blocks, [0, 0, 5, 0, 0, 5]);
        assert_eq!(take(7, 0), 10);
        assert_eq!(take(7, 7), 0);
    }
}
