//! The mux queue: who adds, who sends, who waits, who closes.

use std::sync::Arc;

use loom::{cell::UnsafeCell, model::Builder, thread};
use netpoll::mux::line::{Done, Line, Stop};

/// A message whose content loom watches: written by its producer, read by whoever sends.
struct Item {
    producer: usize,
    content: UnsafeCell<usize>,
}

// SAFETY: moved from thread to thread; loom reports accesses that overlap.
unsafe impl Send for Item {}

struct Queue {
    line: Line<Item>,
    /// What was sent, which belongs to the owner of the turn.
    sent: UnsafeCell<Vec<(usize, usize)>>,
}

// SAFETY: loom reports accesses to the cell that overlap.
unsafe impl Sync for Queue {}

impl Queue {
    fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { line: Line::new(max, 1), sent: UnsafeCell::new(Vec::new()) })
    }

    /// As `Shared::add_write`: true if accepted.
    fn add(&self, producer: usize, n: usize, waiting: bool) -> bool {
        let entered = match self.line.enter(0) {
            Err(Stop::Full) if waiting => self.line.enter_waiting(0),
            entered => entered,
        };
        if entered.is_err() {
            return false;
        }
        if self.line.claim_idle() {
            self.serve(Some((producer, n)));
            return true;
        }
        let item = Item { producer, content: UnsafeCell::new(0) };
        item.content.with_mut(|content| {
            // SAFETY: the item is this thread's own.
            unsafe { *content = n }
        });
        if self.line.push(item) {
            self.serve(None);
        }
        true
    }

    /// As `Shared::serve`, with a socket that takes everything.
    fn serve(&self, mut own: Option<(usize, usize)>) {
        loop {
            self.line.begin();
            let mut done = Done::default();
            self.sent.with_mut(|sent| {
                // SAFETY: this thread owns the turn.
                let sent = unsafe { &mut *sent };
                for item in self.line.take() {
                    // SAFETY: the item is this thread's own since it was taken.
                    let n = item.content.with(|content| unsafe { *content });
                    sent.push((item.producer, n));
                    done.add(0);
                }
                if let Some(own) = own.take() {
                    sent.push(own);
                    done.add(0);
                }
            });
            self.line.done(done);
            if self.line.finish() {
                return;
            }
        }
    }

    fn close(&self) -> Vec<(usize, usize)> {
        self.line.close();
        self.line.wait_empty();
        // SAFETY: nothing is accepted any more, and what was is sent: nobody writes it.
        self.sent.with(|sent| unsafe { (*sent).clone() })
    }
}

fn check(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(f);
}

fn of(sent: &[(usize, usize)], producer: usize) -> Vec<usize> {
    sent.iter().filter(|one| one.0 == producer).map(|one| one.1).collect()
}

/// After `close` returns, what was accepted has been sent, and the rest was refused.
#[test]
fn add_against_close() {
    check(|| {
        let queue = Queue::new(4);
        let producer = thread::spawn({
            let queue = Arc::clone(&queue);
            move || (0..2).filter(|n| queue.add(0, *n, false)).count()
        });
        let sent = queue.close();
        let accepted = producer.join().unwrap();
        assert_eq!(of(&sent, 0), (0..accepted).collect::<Vec<_>>());
    });
}

/// Two producers and the sender that one of them is: nothing lost, each in its order.
#[test]
fn producers_against_sender() {
    check(|| {
        let queue = Queue::new(4);
        let other = thread::spawn({
            let queue = Arc::clone(&queue);
            move || (0..2).for_each(|n| assert!(queue.add(1, n, false)))
        });
        (0..2).for_each(|n| assert!(queue.add(0, n, false)));
        other.join().unwrap();
        let sent = queue.close();
        assert_eq!((of(&sent, 0), of(&sent, 1)), (vec![0, 1], vec![0, 1]));
    });
}

/// Who waits for room is woken, and who waits for the end as well.
#[test]
fn room_against_sender() {
    check(|| {
        let queue = Queue::new(1);
        let other = thread::spawn({
            let queue = Arc::clone(&queue);
            move || assert!(queue.add(1, 0, true))
        });
        assert!(queue.add(0, 0, true));
        other.join().unwrap();
        let sent = queue.close();
        assert_eq!((of(&sent, 0), of(&sent, 1)), (vec![0], vec![0]));
    });
}
