//! What became of the connections that a loop served: figures for people.

use crate::{
    Error, connection::inner::Inner, contain::Panicked, service::BoxError, sync::Counter,
    trace::event,
};

/// Why the connections that a loop served have closed, and what went through them. Part of
/// [`Stats`](crate::Stats).
///
/// Connections that were [taken](crate::Connection::take) away are their owner's, and not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closes {
    /// The peer had ended its stream.
    pub ended: u64,
    /// Nobody but this side wanted it: by a handle, or as the loop shut down.
    pub closed: u64,
    /// The peer reset it, or its socket failed.
    pub lost: u64,
    /// A timeout: a wait's that its handler gave up for, an idle connection's or a message's.
    pub timed_out: u64,
    /// A callback returned another error, or no message could be made of what came.
    pub failed: u64,
    /// A callback panicked.
    pub panicked: u64,
    /// Bytes received by all of these. What open connections have received is in
    /// [`Handle::stats`](crate::Handle::stats).
    pub bytes_received: u64,
    /// Bytes that the kernel had accepted from all of these when they closed.
    pub bytes_sent: u64,
}

impl Closes {
    /// How many connections that are.
    pub fn total(&self) -> u64 {
        self.ended + self.closed + self.lost + self.timed_out + self.failed + self.panicked
    }
}

/// Counted when a connection comes or goes, and not for each request: one line for the whole loop
/// does.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) attached: Counter,
    pub(crate) dialed: Counter,
    pub(crate) taken: Counter,
    pub(crate) read_pauses: Counter,
    ended: Counter,
    closed: Counter,
    lost: Counter,
    timed_out: Counter,
    failed: Counter,
    panicked: Counter,
    received: Counter,
    sent: Counter,
}

impl Tally {
    pub(crate) fn closes(&self) -> Closes {
        Closes {
            ended: self.ended.get(),
            closed: self.closed.get(),
            lost: self.lost.get(),
            timed_out: self.timed_out.get(),
            failed: self.failed.get(),
            panicked: self.panicked.get(),
            bytes_received: self.received.get(),
            bytes_sent: self.sent.get(),
        }
    }

    /// A connection that was served has closed, for this reason.
    pub(crate) fn count(&self, inner: &Inner, why: Option<&BoxError>) {
        let stats = inner.handle().stats();
        let cause = self.cause(inner, why);
        cause.count();
        self.received.add(stats.bytes_received);
        self.sent.add(stats.bytes_sent);
        event!(
            DEBUG,
            id = inner.handle().id(),
            why = why.map(tracing::field::display),
            received = stats.bytes_received,
            sent = stats.bytes_sent,
            "closed"
        );
    }

    fn cause(&self, inner: &Inner, why: Option<&BoxError>) -> &Counter {
        let Some(why) = why else {
            return if inner.shared.life.is_ended() { &self.ended } else { &self.closed };
        };
        match why.downcast_ref::<Error>() {
            Some(error) if error.is_timeout() => &self.timed_out,
            Some(Error::Ended { .. }) => &self.ended,
            Some(Error::Closed) => &self.closed,
            Some(Error::Reset | Error::Io(_)) => &self.lost,
            None if why.is::<Panicked>() => &self.panicked,
            _ => &self.failed,
        }
    }
}
