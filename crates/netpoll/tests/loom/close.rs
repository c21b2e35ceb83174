//! Ends of connections: closed here, hung up there, ended by time, all against somebody who is in the
//! middle of something. Lives, turns, slots, buffers and waiting are the crate's own.

use std::time::{Duration, Instant};

use linkbuffer::{LinkBuffer, Reader};
use loom::{
    model::Builder,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release, SeqCst},
            fence,
        },
    },
    thread,
};
use netpoll::{
    model::{Life, ends, park_until},
    sched::{slot::Slot, turn::Turn},
};

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(f);
}

/// A served connection without its socket: as `Handle::close`, `Net::event` and `Served::step` use
/// its parts.
struct Conn {
    life: Life,
    turn: Turn,
    readable: Slot,
    handling: AtomicBool,
    ends: AtomicUsize,
    closes: AtomicUsize,
}

impl Conn {
    fn new(turn: Turn) -> Arc<Self> {
        Arc::new(Self {
            life: Life::new(),
            turn,
            readable: Slot::new(),
            handling: AtomicBool::new(false),
            ends: AtomicUsize::new(0),
            closes: AtomicUsize::new(0),
        })
    }

    fn wake_all(&self) {
        fence(SeqCst);
        self.readable.wake();
    }

    fn close(&self) {
        if ends::ask_to_close(&self.life, || self.wake_all()) && self.turn.claim() {
            self.run();
        }
    }

    fn hang_up(&self) {
        self.life.end();
        self.life.hang_up();
        if self.turn.claim() {
            self.run();
        }
    }

    /// The turn's owner, until it gives it back or has closed.
    fn run(&self) {
        assert!(!self.handling.swap(true, Acquire), "two callbacks at once");
        loop {
            self.turn.begin();
            if self.life.is_closing() {
                if self.life.close() {
                    self.closes.fetch_add(1, Relaxed);
                }
                self.handling.store(false, Release);
                return;
            }
            if self.life.is_ended() {
                self.ends.fetch_add(1, Relaxed);
                self.life.ask_to_close();
                continue;
            }
            self.handling.store(false, Release);
            if self.turn.finish() {
                return;
            }
            self.handling.store(true, Relaxed);
        }
    }
}

/// Closed by us against hung up by the peer, from two sides at once: closed once, by one of them.
#[test]
fn close_against_hang_up() {
    model(|| {
        let conn = Conn::new(Turn::idle());
        let other = Arc::clone(&conn);
        let peer = thread::spawn(move || other.hang_up());
        conn.close();
        peer.join().unwrap();
        assert_eq!(conn.closes.load(Relaxed), 1);
        assert!(conn.ends.load(Relaxed) <= 1);
        assert!(!conn.life.is_active());
    });
}

/// Closed while a handler returns, by two threads: whoever owns the turn then closes it.
#[test]
fn close_against_handler_return() {
    model(|| {
        let conn = Conn::new(Turn::taken());
        let closers: Vec<_> = (0..2)
            .map(|_| {
                let conn = Arc::clone(&conn);
                thread::spawn(move || conn.close())
            })
            .collect();
        // The handler returns.
        conn.run();
        closers.into_iter().for_each(|closer| closer.join().unwrap());
        assert_eq!(conn.closes.load(Relaxed), 1);
    });
}

/// Closed while somebody begins to wait for bytes: the wait ends.
#[test]
fn close_against_waiting_reader() {
    model(|| {
        let conn = Conn::new(Turn::taken());
        let closer = {
            let conn = Arc::clone(&conn);
            thread::spawn(move || conn.close())
        };
        let look = || conn.life.is_closing().then_some(());
        assert_eq!(park_until(&conn.readable, 1, || None, look), Some(()));
        closer.join().unwrap();
    });
}

/// Closed while a flush waits and the socket takes a part: the wait ends, and says which it was.
#[test]
fn close_against_waiting_flush() {
    model(|| {
        let conn = Conn::new(Turn::taken());
        let sent = Arc::new(AtomicUsize::new(0));
        let closer = {
            let conn = Arc::clone(&conn);
            thread::spawn(move || conn.close())
        };
        let sender = {
            let (conn, sent) = (Arc::clone(&conn), Arc::clone(&sent));
            thread::spawn(move || {
                sent.store(1, Release);
                conn.readable.notify(1);
            })
        };
        let look = || match sent.load(Acquire) {
            2 => Some(true),
            _ => conn.life.is_closing().then_some(false),
        };
        assert_eq!(park_until(&conn.readable, 2, || None, look), Some(false));
        closer.join().unwrap();
        sender.join().unwrap();
    });
}

/// The last byte comes, and then the deadline: the wait has its byte.
#[test]
fn deadline_against_last_byte() {
    let past = Instant::now() - Duration::from_secs(1);
    model(move || {
        let parts = Arc::new((Slot::new(), AtomicUsize::new(0), AtomicBool::new(false)));
        let other = Arc::clone(&parts);
        let peer = thread::spawn(move || {
            let (slot, bytes, over) = &*other;
            bytes.store(1, Release);
            slot.notify(1);
            over.store(true, Release);
            fence(SeqCst);
            slot.wake();
        });
        let (slot, bytes, over) = &*parts;
        let deadline = || over.load(Acquire).then_some(past);
        let look = || (bytes.load(Acquire) > 0).then_some(());
        assert_eq!(park_until(slot, 1, deadline, look), Some(()), "it was there in time");
        peer.join().unwrap();
    });
}

/// Bytes and the end behind them come while a handler leaves: it is never told of the end alone.
#[test]
fn end_of_stream_against_handler_leaving() {
    model(|| {
        let (mut reader, mut writer) = LinkBuffer::new().into_split();
        let turn = Arc::new(Turn::taken());
        let other = Arc::clone(&turn);
        let driver = thread::spawn(move || {
            let room = writer.book(1).unwrap();
            room[0].write(7);
            // SAFETY: it was just written.
            unsafe { writer.book_ack(1) };
            writer.end();
            other.claim()
        });
        let mut handled = 0;
        let mut run = |reader: &mut linkbuffer::ReadHalf| {
            loop {
                turn.begin();
                match ends::what_is_there(reader) {
                    (_, n) if n > 0 => {
                        reader.skip(n).unwrap();
                        reader.release();
                        handled += n;
                    }
                    (true, _) => {
                        assert_eq!(handled, 1, "the end came before the byte");
                        return true;
                    }
                    _ if turn.finish() => return false,
                    _ => {}
                }
            }
        };
        let ended = run(&mut reader);
        let claimed = driver.join().unwrap();
        if !ended {
            assert!(claimed, "the end was lost");
            assert!(run(&mut reader));
        }
    });
}
