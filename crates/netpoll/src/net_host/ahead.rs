//! While the kernel works for one event, what the next one needs comes into the CPU's cache.
//!
//! Where connections are many, each event finds some fifteen cache lines of its connection far away, and
//! would wait for one after the other: at 1,000 connections that is a good part of what a request costs
//! beyond the kernel's share. So the table keeps, beside each connection, where its parts lie.
//!
//! These are hints. Nothing is read through them, so a part that has moved or gone costs a line of cache.

use super::{Core, Entry};
use crate::connection::inner::Inner;

const LINE: usize = 64;
/// So many connections stay in the cache next to a core, with what the kernel has of them: asking for
/// their lines would cost and not gain.
pub(super) const FEW: usize = 256;
/// The counts of an `Arc`, in front of what it holds.
const COUNTS: usize = 2 * size_of::<usize>();

/// Where the parts of a connection lie, in bytes from its `Inner`; 0: not known. Four bytes each, since
/// an idle connection has them too: what lies further away than they can say is not fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Near([i32; 3]);

/// The parts of a connection, in this order: the shared state of its input and of its output, and its
/// session. The sizes are of what each event touches; those of the buffers are stated by `linkbuffer`.
const SIZES: [usize; 3] = [128, 128, 256];

/// Its `Inner` with its counts, and a line of what its handles share, which is made next: where allocations
/// follow each other, it lies there.
const BASE: usize = COUNTS + size_of::<Inner>() + LINE;

impl Near {
    /// The parts of `inner`, in the order of [`SIZES`].
    pub(crate) fn of(inner: *const Inner, parts: [*const (); 3]) -> Self {
        Self(parts.map(|part| {
            i32::try_from(part.addr().wrapping_sub(inner.addr()) as isize).unwrap_or(0)
        }))
    }

    /// The lines to be fetched, by an address in each.
    #[inline]
    fn lines(self, inner: *const Inner, mut line: impl FnMut(*const u8)) {
        let mut lines = |from: *const u8, size: usize| {
            let first = from.wrapping_sub(from.addr() % LINE);
            let end = from.addr() - first.addr() + size;
            (0..end).step_by(LINE).for_each(|at| line(first.wrapping_add(at)));
        };
        let inner = inner.cast::<u8>();
        lines(inner.wrapping_sub(COUNTS), BASE);
        for (part, size) in self.0.into_iter().zip(SIZES) {
            if part != 0 {
                lines(inner.wrapping_offset(part as isize), size);
            }
        }
    }
}

impl Core {
    /// Fetches what the event behind the one in work needs.
    #[inline]
    pub(super) fn look_ahead(&self) {
        let Some(event) = self.events.get(self.cursor) else { return };
        if let Some(Entry::Connection(inner, near)) = self.batch.get(event.token()) {
            near.lines(inner.as_ptr(), prefetch);
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(any(miri, netpoll_loom))))]
#[inline]
fn prefetch(line: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: the instruction accepts any address: it neither faults nor reads for the program.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
}

/// Elsewhere the lines come when they are needed.
#[cfg(not(all(target_arch = "x86_64", not(any(miri, netpoll_loom)))))]
fn prefetch(_: *const u8) {}

#[cfg(all(test, not(netpoll_loom)))]
mod tests {
    use std::ptr;

    use super::*;

    #[test]
    fn each_line_of_each_part_in_reach_is_fetched() {
        let inner = ptr::without_provenance::<Inner>(0x7000_0010);
        let parts = [0x6fff_f030_usize, 0x1_7000_0010, 0x7000_2020].map(ptr::without_provenance);
        let mut lines = Vec::new();
        Near::of(inner, parts).lines(inner, |line| lines.push(line.addr()));

        let expected = |from: usize, size: usize| {
            (from / LINE..=(from + size - 1) / LINE).map(|line| line * LINE)
        };
        let mut all: Vec<usize> = expected(0x7000_0000, BASE).collect();
        all.extend(expected(0x6fff_f030, SIZES[0]));
        // The second lies too far away.
        all.extend(expected(0x7000_2020, SIZES[2]));
        assert_eq!(lines, all);
    }
}
