//! The socket's error, if it had one.

use std::io;

use linkbuffer::Error;

use super::Inner;
use crate::sync::atomic::Ordering::{AcqRel, Acquire};

impl Inner {
    /// The socket failed: nothing more can be sent.
    pub(super) fn fail(&self, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(-1);
        // ORDERING: published by the transition that follows. The first error counts.
        let _ = self.fault.compare_exchange(0, errno, AcqRel, Acquire);
        self.shared.life.break_down();
        self.wake_all();
    }

    /// The socket's error, if it had one.
    pub(crate) fn fault(&self) -> Option<Error> {
        // ORDERING: pairs with the exchange in `fail`.
        match self.fault.load(Acquire) {
            0 => None,
            -1 => Some(Error::Io(io::ErrorKind::Other.into())),
            errno => Some(io::Error::from_raw_os_error(errno).into()),
        }
    }
}
