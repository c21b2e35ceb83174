//! One reader behind another.

use std::cell::Cell;

use crate::join::Join;
use crate::{Error, Reader, Result, Slice};

/// One reader and then another, made by [`ReaderExt::followed_by`](crate::ReaderExt::followed_by).
///
/// Bytes on both sides of the seam are copied together for [`next`](Reader::next) and
/// [`peek`](Reader::peek), as those of two blocks are.
pub struct FollowedBy<'a, A: ?Sized, B: ?Sized> {
    first: &'a mut A,
    second: &'a mut B,
    join: Join,
    consumed: Cell<usize>,
}

impl<'a, A: Reader + ?Sized, B: Reader + ?Sized> FollowedBy<'a, A, B> {
    pub(crate) fn new(first: &'a mut A, second: &'a mut B) -> FollowedBy<'a, A, B> {
        FollowedBy { first, second, join: Join::new(), consumed: Cell::new(0) }
    }

    /// How many of the next `n` bytes the first reader has. It waits where the first reader waits.
    fn share(&self, n: usize) -> Result<usize> {
        match self.first.peek(n) {
            Ok(_) => Ok(n),
            // A reader from elsewhere may say anything.
            Err(Error::Ended { available, .. }) if available < n => Ok(available),
            Err(other) => Err(other),
        }
    }

    fn short(&self, e: Error, share: usize) -> Error {
        match e {
            Error::NotEnough { requested, available } => Error::NotEnough {
                requested: requested.saturating_add(share),
                available: available.saturating_add(share),
            },
            Error::Ended { requested, available } => Error::Ended {
                requested: requested.saturating_add(share),
                available: available.saturating_add(share),
            },
            other => other,
        }
    }
}

impl<A: Reader + ?Sized, B: Reader + ?Sized> Reader for FollowedBy<'_, A, B> {
    fn peek(&self, n: usize) -> Result<&[u8]> {
        let share = self.share(n)?;
        if share == n {
            return self.first.peek(n);
        }
        let behind = self.second.peek(n - share).map_err(|e| self.short(e, share))?;
        if share == 0 {
            return Ok(behind);
        }
        let before = self.first.peek(share)?;
        if before.len() != share || behind.len() != n - share {
            return Err(Error::NotEnough { requested: n, available: before.len() });
        }
        // SAFETY: the gap is filled: `have + want` is `n`, which is how many bytes these two have.
        unsafe {
            self.join.get(self.consumed.get(), n, |gap, _| {
                let all = before.iter().chain(behind).skip(gap.have).take(gap.want);
                all.enumerate().for_each(|(i, byte)| gap.to.add(i).write(*byte));
                Ok(())
            })
        }
    }

    fn skip(&self, n: usize) -> Result<()> {
        let share = self.share(n)?;
        if share < n {
            self.second.peek(n - share).map_err(|e| self.short(e, share))?;
        }
        self.first.skip(share)?;
        self.second.skip(n - share)?;
        self.consumed.set(self.consumed.get().wrapping_add(n));
        Ok(())
    }

    fn len(&self) -> usize {
        let ended = self.first.is_ended();
        let first = self.first.len();
        if ended { first.saturating_add(self.second.len()) } else { first }
    }

    fn release(&mut self) {
        self.join.clear();
        self.first.release();
        self.second.release();
    }

    fn chunk(&self) -> &[u8] {
        let ended = self.first.is_ended();
        let first = self.first.chunk();
        if first.is_empty() && ended { self.second.chunk() } else { first }
    }

    fn slice(&self, n: usize) -> Result<Slice> {
        let share = self.share(n)?;
        if share < n {
            self.second.peek(n - share).map_err(|e| self.short(e, share))?;
        }
        let slice = match (share, n - share) {
            (_, 0) => self.first.slice(n)?,
            (0, _) => self.second.slice(n)?,
            (_, rest) => Slice::concat(self.first.slice(share)?, self.second.slice(rest)?)?,
        };
        self.consumed.set(self.consumed.get().wrapping_add(n));
        Ok(slice)
    }

    fn is_ended(&self) -> bool {
        self.first.is_ended() && self.second.is_ended()
    }
}

impl<A: Reader + ?Sized, B: Reader + ?Sized> std::fmt::Debug for FollowedBy<'_, A, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FollowedBy").field("len", &self.len()).finish()
    }
}
