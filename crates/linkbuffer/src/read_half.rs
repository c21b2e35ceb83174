//! The reading half of a buffer.

use std::cell::{Cell, OnceCell, RefCell};
use std::io::IoSlice;

use crate::chain::{Head, Walk};
use crate::find::{Finder, Progress};
use crate::join::{Gap, Join};
use crate::sync::planted;
use crate::{Error, Reader, Result, Slice, WriteHalf};

/// The half of a [`LinkBuffer`](crate::LinkBuffer) that reads. It does not wait: too few bytes are an error
/// at once.
///
/// It works beside its [`WriteHalf`], which may be in another thread, without a lock. When
/// the write half is dropped, what was flushed stays readable and then the stream has ended. Dropping this
/// half frees what was not read, and makes the writer's next flush an error.
///
/// It can be sent to another thread, but not shared:
///
/// ```compile_fail,E0277
/// use linkbuffer::{LinkBuffer, Reader};
/// let (r, _w) = LinkBuffer::new().into_split();
/// std::thread::scope(|s| {
///     s.spawn(|| r.next(1).is_ok());
/// });
/// ```
pub struct ReadHalf {
    pub(crate) head: Head,
    extras: OnceCell<Box<Extras>>,
}

// An idle connection has two.
const _: () = assert!(size_of::<ReadHalf>() <= 64);

/// What most readers never need: kept apart from its first use on.
struct Extras {
    join: Join,
    /// How far the joined bytes go, to join more behind them.
    joined: Cell<Walk>,
    finder: RefCell<Finder>,
}

impl ReadHalf {
    /// Where the state lies that this half shares with the other: 128 bytes, for who knows beforehand that
    /// they will be needed, and prefetches them. Nothing may be read through it.
    pub fn shared_at(&self) -> *const () {
        self.head.shared_at()
    }

    pub(crate) fn new(head: Head) -> ReadHalf {
        ReadHalf { head, extras: OnceCell::new() }
    }

    fn extras(&self) -> &Extras {
        self.extras.get_or_init(|| {
            Box::new(Extras {
                join: Join::new(),
                joined: Cell::new(Walk::NOWHERE),
                finder: RefCell::new(Finder::default()),
            })
        })
    }

    pub(crate) fn into_head(self) -> Head {
        self.head
    }

    /// How many bytes are consumed and not released: what this half keeps from being used again.
    pub fn held(&self) -> usize {
        self.head.held()
    }

    /// Sets as many of `to` as it can to the readable bytes, for a vectored write, and says how many that
    /// were. Consumes nothing.
    ///
    /// ```
    /// use linkbuffer::{LinkBuffer, Reader, Writer};
    /// use std::io::{IoSlice, Write};
    /// let mut buf = LinkBuffer::with_block_size(4);
    /// buf.write_binary(b"head")?;
    /// buf.write_binary(b"body")?;
    /// buf.flush()?;
    /// let (r, _) = buf.split();
    /// let mut iov = [IoSlice::new(&[]); 16];
    /// let n = r.fill_io_slices(&mut iov);
    /// let sent = Vec::new().write_vectored(&iov[..n])?;
    /// assert_eq!((n, sent), (2, 8));
    /// r.skip(sent)?;
    /// # Ok::<(), linkbuffer::Error>(())
    /// ```
    #[doc(alias = "GetBytes")]
    pub fn fill_io_slices<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        self.head.refresh();
        let mut walk = self.head.walk();
        let mut set = 0;
        for slot in to {
            // SAFETY: `release` is not called while `self` is borrowed; the bytes are lent for as long.
            unsafe {
                let Some((_, at, len)) = walk.next(usize::MAX) else { break };
                *slot = IoSlice::new(std::slice::from_raw_parts(at, len));
            }
            set += 1;
        }
        set
    }

    /// Checks that `n` bytes are readable.
    #[inline]
    fn need(&self, n: usize) -> Result<()> {
        if n > self.head.ready_run().1 && n > self.head.known() && n > self.head.refresh() {
            self.need_more(n)
        } else {
            Ok(())
        }
    }

    #[cold]
    #[inline(never)]
    fn need_more(&self, n: usize) -> Result<()> {
        // The end is looked at first: what is readable after that is all there will be.
        let ended = self.head.is_ended();
        let available = self.head.refresh();
        match (n <= available, ended) {
            (true, _) => Ok(()),
            (_, true) => Err(Error::Ended { requested: n, available }),
            (_, false) => Err(Error::NotEnough { requested: n, available }),
        }
    }

    /// The next `n` bytes, not consumed, whether they lie together or not.
    #[inline]
    fn front(&self, n: usize) -> Result<&[u8]> {
        let (mut at, mut run) = self.head.ready_run();
        if n > run {
            if n == 0 {
                return Ok(&[]);
            }
            self.need(n)?;
            self.head.refill();
            (at, run) = self.head.ready_run();
            if n > run {
                return self.joined(n);
            }
        }
        if n == 0 {
            return Ok(&[]);
        }
        #[cfg(netpoll_loom)]
        // SAFETY: as below; this only tells the model checker.
        unsafe {
            let _ = self.head.walk().next(n);
        }
        // SAFETY: the run is readable (C2), nobody writes it (N4), and it is not freed while `self` is
        // borrowed: that takes `release`, by `&mut`.
        Ok(unsafe { std::slice::from_raw_parts(at, n) })
    }

    #[cold]
    #[inline(never)]
    fn joined(&self, n: usize) -> Result<&[u8]> {
        let extras = self.extras();
        let fill = |gap: Gap, go_on: bool| {
            let mut walk = if go_on { extras.joined.get() } else { self.head.walk() };
            if go_on {
                walk.extend(gap.want);
            }
            let mut put = 0;
            while put < gap.want {
                // SAFETY: `release`, by `&mut`, ends the walk; the gap is `want` bytes long, and the bytes
                // are readable as `need` has seen.
                unsafe {
                    let (_, from, len) = walk.next(gap.want - put).expect("bytes that are there");
                    from.copy_to_nonoverlapping(gap.to.add(put), len);
                    put += len;
                }
            }
            walk.stop();
            extras.joined.set(walk);
            Ok(())
        };
        // SAFETY: `fill` returns with the gap filled, or panics.
        unsafe { extras.join.get(self.head.position(), n, fill) }
    }

    /// [`release`](Reader::release), then [`seal`](crate::WriteHalf::seal) of the writer: cheaper than one
    /// after the other where both belong to the same buffer, since then its other side does nothing meanwhile.
    ///
    /// ```
    /// use linkbuffer::{LinkBuffer, Reader, Writer};
    /// let (mut r, mut w) = LinkBuffer::new().into_split();
    /// w.write_binary(b"ping")?;
    /// w.flush()?;
    /// r.skip(4)?;
    /// r.release_and_seal(&mut w);
    /// assert_eq!((r.held(), w.occupied()), (0, 0));
    /// # Ok::<(), linkbuffer::Error>(())
    /// ```
    pub fn release_and_seal(&mut self, writer: &mut WriteHalf) {
        // Joined bytes are given back by what follows.
        if self.extras.get().is_some() || !writer.seal_behind(&mut self.head) {
            self.release_and_seal_slowly(writer);
        }
    }

    #[inline(never)]
    fn release_and_seal_slowly(&mut self, writer: &mut WriteHalf) {
        let alone = self.head.is_other_end_of(&writer.chain);
        self.release_alone(alone);
        writer.seal();
    }

    // Outlined it costs more than it does.
    #[inline(always)]
    pub(crate) fn release_alone(&mut self, alone: bool) {
        if let Some(extras) = self.extras.get_mut() {
            extras.join.clear();
        }
        // SAFETY: by `&mut self`, no byte is lent any more; the caller says whether it owns both ends.
        unsafe { self.head.release(alone) }
    }

    /// The next `n` bytes, consumed: more than are known to lie together, or none.
    #[inline(never)]
    fn slice_more(&self, n: usize) -> Result<Slice> {
        self.need(n)?;
        self.head.refill();
        if n > 0 && n <= self.head.ready_run().1 {
            // SAFETY: the run has them.
            return Ok(unsafe { Slice::from_piece(self.head.take_piece(n)) });
        }
        let walk = self.head.walk();
        let mut end = walk;
        // SAFETY: they are readable, and not released meanwhile.
        unsafe {
            let count = end.skip(n);
            let slice = Slice::from_pieces(count, n, walk.pieces(n))?;
            self.head.go_to(end);
            Ok(slice)
        }
    }

    /// Copies the next `n` bytes, which are readable.
    fn copy(&self, n: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(n);
        let mut walk = self.head.walk();
        // SAFETY: not released meanwhile; the bytes are lent for the copy.
        while let Some((_, at, len)) = unsafe { walk.next(n - bytes.len()) } {
            // SAFETY: as above.
            bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(at, len) });
        }
        bytes
    }
}

impl Reader for ReadHalf {
    #[inline]
    fn peek(&self, n: usize) -> Result<&[u8]> {
        self.front(n)
    }

    #[inline]
    fn next(&self, n: usize) -> Result<&[u8]> {
        let bytes = self.front(n)?;
        // SAFETY: they are readable.
        unsafe { self.head.advance(n) };
        Ok(bytes)
    }

    #[inline]
    fn skip(&self, n: usize) -> Result<()> {
        self.need(n)?;
        // SAFETY: they are readable.
        unsafe { self.head.advance(n) };
        Ok(())
    }

    #[inline]
    fn len(&self) -> usize {
        // Never what was known before: who has announced that it waits, and fenced, relies on it.
        planted!("len-cached", self.head.known(), instead of self.head.refresh())
    }

    #[inline]
    fn release(&mut self) {
        self.release_alone(false);
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        let (mut at, mut run) = self.head.ready_run();
        if run == 0 {
            if self.head.known() == 0 && self.head.refresh() == 0 {
                return &[];
            }
            self.head.refill();
            (at, run) = self.head.ready_run();
        }
        // SAFETY: as in `front`.
        unsafe { std::slice::from_raw_parts(at, run) }
    }

    fn find(&self, delim: &[u8]) -> Result<usize> {
        if delim.is_empty() {
            return Ok(0);
        }
        let ended = self.head.is_ended();
        let available = self.head.refresh();
        let mut finder = self.extras().finder.borrow_mut();
        let mut seen = match finder.seek(delim, self.head.position()) {
            Progress::Found(n) => return Ok(n),
            Progress::Seen(n) => n,
        };
        let mut walk = self.head.walk();
        // SAFETY: not released meanwhile; the bytes are lent for the search.
        while let Some((_, at, len)) = unsafe { walk.next(usize::MAX) } {
            let known = seen.min(len);
            seen -= known;
            // SAFETY: as above.
            let bytes = unsafe { std::slice::from_raw_parts(at, len) };
            if let Some(n) = finder.feed(&bytes[known..]) {
                return Ok(n);
            }
        }
        Err(match ended {
            true => Error::Ended { requested: 0, available },
            false => Error::NotFound { available },
        })
    }

    #[inline]
    fn slice(&self, n: usize) -> Result<Slice> {
        if n == 0 || n > self.head.ready_run().1 {
            return self.slice_more(n);
        }
        // SAFETY: the run has them.
        Ok(unsafe { Slice::from_piece(self.head.take_piece(n)) })
    }

    fn is_ended(&self) -> bool {
        self.head.is_ended()
    }

    fn read_binary(&self, n: usize) -> Result<Vec<u8>> {
        self.need(n)?;
        let bytes = self.copy(n);
        // SAFETY: they are readable.
        unsafe { self.head.advance(n) };
        Ok(bytes)
    }

    fn read_string(&self, n: usize) -> Result<String> {
        self.need(n)?;
        let text = String::from_utf8(self.copy(n)).map_err(|e| e.utf8_error())?;
        // SAFETY: they are readable.
        unsafe { self.head.advance(n) };
        Ok(text)
    }
}

impl std::fmt::Debug for ReadHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadHalf")
            .field("len", &self.len())
            .field("held", &self.held())
            .field("is_ended", &self.is_ended())
            .finish()
    }
}
