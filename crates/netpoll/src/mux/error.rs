//! What a queue says to a message that it does not take.

use std::fmt;

use linkbuffer::Error;

use crate::service::BoxError;

/// Why a message was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The queue is at a limit, and the call does not wait.
    #[error("the queue is full")]
    Full,
    /// The queue is full, and the caller must not wait: it is itself a message that is being
    /// written, which others wait for, or a handler under
    /// [`Runner::Inline`](crate::Runner::Inline).
    #[error("the queue is full, and the caller must not wait")]
    WouldWait,
    /// The queue was closed.
    #[error("the queue is closed")]
    Closed,
    /// The connection failed.
    #[error("the connection failed")]
    Failed(#[source] Error),
    /// The buffer cannot be sent: a placeholder in it is unfilled.
    #[error("the buffer is not complete")]
    Incomplete(#[source] Error),
}

/// A message that was refused, and why. Nothing of it was or will be sent.
///
/// It is no [`std::error::Error`] itself, but `?` makes one of it, whatever the message is: an
/// [`Error`], or the boxed one that handlers return.
pub struct Refused<T> {
    /// The message.
    pub message: T,
    /// Why.
    pub reason: Reason,
}

impl<T> Refused<T> {
    /// Whether there was no room: the same message may be taken later.
    pub fn is_full(&self) -> bool {
        matches!(self.reason, Reason::Full | Reason::WouldWait)
    }

    /// The message, for another try or another connection.
    pub fn into_message(self) -> T {
        self.message
    }
}

impl<T> fmt::Debug for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.reason, f)
    }
}

impl<T> From<Refused<T>> for BoxError {
    /// For functions that return any error.
    fn from(refused: Refused<T>) -> Self {
        refused.reason.into()
    }
}

impl<T> From<Refused<T>> for Error {
    /// For functions that return the library's own error.
    fn from(refused: Refused<T>) -> Self {
        match refused.reason {
            Reason::Full | Reason::WouldWait => Error::WouldWait,
            Reason::Closed => Error::Closed,
            Reason::Failed(error) | Reason::Incomplete(error) => error,
        }
    }
}

/// The connection's error once more, for the next one who asks.
pub(super) fn repeat(error: &Error) -> Error {
    match error {
        Error::Closed => Error::Closed,
        Error::Reset => Error::Reset,
        Error::WriteTimeout => Error::WriteTimeout,
        Error::ReaderGone => Error::ReaderGone,
        Error::TooLarge { requested } => Error::TooLarge { requested: *requested },
        Error::Io(error) => match error.raw_os_error() {
            Some(errno) => Error::Io(std::io::Error::from_raw_os_error(errno)),
            None => Error::Io(std::io::Error::new(error.kind(), error.to_string())),
        },
        other => Error::Io(std::io::Error::other(other.to_string())),
    }
}
