//! An input at rest holds no block.

use super::{CALM_ROOM, Inner};
use crate::sync::atomic::Ordering::Relaxed;

impl Inner {
    /// Gives the input's block back while it is empty: an idle connection holds none.
    ///
    /// # Safety
    ///
    /// As for [`Inner::fill`].
    pub(crate) unsafe fn seal_input(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.rest_input(|_| {}) }
    }

    /// As [`seal_input`](Self::seal_input), behind `release`, which gives back what was consumed and is
    /// lent the input's buffer meanwhile.
    ///
    /// # Safety
    ///
    /// As for [`Inner::fill`]; and `release` does not come back here.
    pub(crate) unsafe fn rest_input(&self, release: impl FnOnce(&mut linkbuffer::WriteHalf)) {
        // ORDERING: see `is_open`.
        self.open.store(false, Relaxed);
        self.input.with_mut(|input| {
            // SAFETY: the caller owns the input.
            let input = unsafe { &mut *input };
            release(&mut input.buf);
            input.buf.seal();
            if input.room > CALM_ROOM && input.buf.occupied() == 0 {
                input.room = CALM_ROOM;
            }
        });
    }

    /// Whether the input may hold a block.
    pub(crate) fn is_open(&self) -> bool {
        // ORDERING: the driver's note, published to the turn's owner by the mark that follows it.
        self.open.load(Relaxed)
    }

    /// The reader of a connection that nobody polls has consumed all there was: no block is kept.
    pub(crate) fn seal_unpolled(&self) {
        if !self.is_polled() {
            // SAFETY: nobody polls this connection, and the caller is its one reader.
            unsafe { self.seal_input() };
        }
    }
}
