//! The one error of every [`Reader`](crate::Reader) and [`Writer`](crate::Writer), so that `?` works in
//! codecs that are generic over both.

use std::io;

/// What `Reader` and `Writer` methods return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why reading or writing could not be done.
///
/// An error changes nothing: what was readable stays readable, what was pending stays pending. The
/// variants differ where a caller must react differently; [`is_timeout`](Error::is_timeout) and
/// [`is_closed`](Error::is_closed) sort them coarsely.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This reader does not wait, and fewer bytes are readable than were asked for.
    #[error("{requested} bytes requested, {available} readable now")]
    NotEnough {
        /// How many bytes were asked for.
        requested: usize,
        /// How many are readable now.
        available: usize,
    },
    /// The stream ended before that many bytes; those that came stay readable.
    #[error("the stream ended: {requested} bytes requested, {available} left")]
    Ended {
        /// How many bytes were asked for; 0 where a delimiter was sought.
        requested: usize,
        /// How many are left to read.
        available: usize,
    },
    /// The delimiter is not among the readable bytes; this reader does not wait and has not ended.
    #[error("the delimiter is not among the {available} readable bytes")]
    NotFound {
        /// How many bytes are readable now.
        available: usize,
    },
    /// The bytes are not UTF-8; they were not consumed.
    #[error("the bytes are not UTF-8")]
    Utf8(#[from] std::str::Utf8Error),
    /// A read past the end of the framed message that the handler was called for.
    #[error("{requested} bytes requested, {available} left in this message")]
    BeyondMessage {
        /// How many bytes were asked for.
        requested: usize,
        /// How many are left in the message.
        available: usize,
    },
    /// A combinator's limit, or a wait that only `release` could end.
    #[error("{requested} bytes requested, the limit is {limit}")]
    LimitReached {
        /// How many bytes were asked for.
        requested: usize,
        /// How many the limit allows.
        limit: usize,
    },
    /// A frame announced more bytes than are allowed; nothing was allocated for it.
    #[error("a frame of {len} bytes is larger than the allowed {max}")]
    FrameTooLarge {
        /// The announced length.
        len: usize,
        /// The largest allowed.
        max: usize,
    },
    /// `malloc_ack` of more bytes than are pending.
    #[error("malloc_ack of {requested} bytes, {pending} pending")]
    MallocAck {
        /// How many bytes were to be kept.
        requested: usize,
        /// How many are pending.
        pending: usize,
    },
    /// `write_direct` before more bytes than are pending.
    #[error("write_direct before the last {requested} bytes, {pending} pending")]
    Remain {
        /// How many bytes were to stay behind the insertion.
        requested: usize,
        /// How many are pending.
        pending: usize,
    },
    /// `flush` while a placeholder is still unfilled.
    #[error("a placeholder is still unfilled")]
    UnfilledPlaceholder,
    /// A placeholder of another writer, a forgotten one, one of another length, or an edit through one.
    #[error("the placeholder is foreign, forgotten, of another length, or would be cut")]
    BadPlaceholder,
    /// Memory of that size cannot be had.
    #[error("{requested} bytes cannot be allocated")]
    TooLarge {
        /// How many bytes were asked for.
        requested: usize,
    },
    /// Closed on this side.
    #[error("closed on this side")]
    Closed,
    /// The read half is gone, so nobody will ever read what is flushed.
    #[error("the read half is gone")]
    ReaderGone,
    /// Waiting for bytes took too long.
    #[error("reading timed out")]
    ReadTimeout,
    /// Waiting for room took too long.
    #[error("writing timed out")]
    WriteTimeout,
    /// Nothing came or went for too long.
    #[error("the connection was idle for too long")]
    IdleTimeout,
    /// A message was begun, and was not whole in time.
    #[error("a message was not whole in time")]
    FrameTimeout,
    /// Connecting took too long.
    #[error("dialing timed out")]
    DialTimeout,
    /// The call would have to wait where waiting is forbidden.
    #[error("the call would have to wait, which this handler promised not to do")]
    WouldWait,
    /// Two threads used one side at once.
    #[error("concurrent use of one side")]
    Concurrent,
    /// The peer reset the connection.
    #[error("the peer reset the connection")]
    Reset,
    /// Any other failure of the stream underneath.
    #[error(transparent)]
    Io(io::Error),
}

const _: () = assert!(size_of::<Error>() <= 32);

impl Error {
    /// Whether waiting took too long; the stream itself may be sound.
    pub fn is_timeout(&self) -> bool {
        match self {
            Error::ReadTimeout
            | Error::WriteTimeout
            | Error::IdleTimeout
            | Error::FrameTimeout
            | Error::DialTimeout => true,
            Error::Io(e) => e.kind() == io::ErrorKind::TimedOut,
            _ => false,
        }
    }

    /// Whether the stream is over, whoever ended it.
    pub fn is_closed(&self) -> bool {
        use io::ErrorKind::*;
        match self {
            Error::Ended { .. } | Error::Closed | Error::ReaderGone | Error::Reset => true,
            Error::Io(e) => matches!(
                e.kind(),
                UnexpectedEof | BrokenPipe | ConnectionReset | ConnectionAborted | NotConnected
            ),
            _ => false,
        }
    }
}

impl From<io::Error> for Error {
    /// Keeps one of ours that was carried inside; everything else becomes [`Error::Io`].
    fn from(e: io::Error) -> Error {
        if e.kind() == io::ErrorKind::ConnectionReset && e.get_ref().is_none() {
            return Error::Reset;
        }
        match e.downcast::<Error>() {
            Ok(ours) => ours,
            Err(e) => Error::Io(e),
        }
    }
}

impl From<Error> for io::Error {
    fn from(e: Error) -> io::Error {
        use io::ErrorKind::*;
        let kind = match &e {
            Error::Io(_) => {
                let Error::Io(e) = e else { unreachable!() };
                return e;
            }
            Error::NotEnough { .. } | Error::NotFound { .. } | Error::WouldWait => WouldBlock,
            Error::Ended { .. } | Error::BeyondMessage { .. } | Error::LimitReached { .. } => {
                UnexpectedEof
            }
            Error::Utf8(_) | Error::FrameTooLarge { .. } => InvalidData,
            Error::MallocAck { .. }
            | Error::Remain { .. }
            | Error::UnfilledPlaceholder
            | Error::BadPlaceholder => InvalidInput,
            Error::TooLarge { .. } => OutOfMemory,
            Error::Closed => NotConnected,
            Error::ReaderGone => BrokenPipe,
            Error::ReadTimeout | Error::WriteTimeout | Error::DialTimeout => TimedOut,
            Error::IdleTimeout | Error::FrameTimeout => TimedOut,
            Error::Concurrent => Other,
            Error::Reset => ConnectionReset,
        };
        io::Error::new(kind, e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_through_io_error_and_back() {
        let there: io::Error = Error::Ended { requested: 9, available: 4 }.into();
        assert_eq!(there.kind(), io::ErrorKind::UnexpectedEof);
        assert!(matches!(Error::from(there), Error::Ended { requested: 9, available: 4 }));
        let plain = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(matches!(Error::from(plain), Error::Io(_)));
        let back: io::Error = Error::Io(io::Error::from_raw_os_error(2)).into();
        assert_eq!(back.raw_os_error(), Some(2));
    }

    #[test]
    fn is_sorted() {
        assert!(Error::ReadTimeout.is_timeout() && !Error::ReadTimeout.is_closed());
        assert!(Error::Reset.is_closed() && Error::ReaderGone.is_closed());
        assert!(Error::from(io::Error::from(io::ErrorKind::TimedOut)).is_timeout());
        assert!(matches!(Error::from(io::Error::from_raw_os_error(104)), Error::Reset));
    }
}
