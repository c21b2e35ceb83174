//! Size classes: the powers of two from 1 to 2^45.

use std::alloc::Layout;

use dirtmake::AllocError;

/// How many classes there are.
pub(crate) const CLASSES: usize = 46;

/// How many of them, from the smallest, a cache can keep: up to 1 GiB.
#[cfg(not(netpoll_loom))]
pub(crate) const KEPT: usize = 31;
/// How many of them, from the smallest, a cache can keep: few, to keep models small.
#[cfg(netpoll_loom)]
pub(crate) const KEPT: usize = 1;

/// The capacity of the largest class that a cache can keep.
pub(crate) const LARGEST_KEPT: usize = 1 << (KEPT - 1);

/// Alignment of every block.
pub(crate) const ALIGN: usize = 16;

/// What the smallest classes take from the allocator: a batch of the depot is written into the
/// memory of the blocks it holds, and needs this much.
#[cfg(not(netpoll_loom))]
pub(crate) const MIN_SIZE: usize = 64;
/// What the smallest classes take from the allocator: loom's cells are larger.
#[cfg(netpoll_loom)]
pub(crate) const MIN_SIZE: usize = 256;

/// The capacity of the largest class. Where addresses are shorter, it is what `Layout` can express.
pub(crate) const LARGEST: usize =
    1 << (if usize::BITS > 46 { CLASSES as u32 - 1 } else { usize::BITS - 2 });

/// A size class, numbered by its power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class(u8);

impl Class {
    /// The smallest class that holds `size` bytes.
    #[inline]
    pub(crate) const fn holding(size: usize) -> Result<Class, AllocError> {
        if size > LARGEST {
            return Err(AllocError::too_large(size));
        }
        // The position of the highest bit of 2 * size - 1, which is odd; 0 counts as 1.
        Ok(Class(((size.saturating_sub(1) << 1) | 1).ilog2() as u8))
    }

    /// The class whose capacity is exactly `capacity`.
    #[inline]
    pub(crate) fn of_capacity(capacity: usize) -> Class {
        debug_assert!(capacity.is_power_of_two());
        Class(capacity.trailing_zeros() as u8)
    }

    /// Its number, below [`CLASSES`].
    #[inline]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// The class of this number.
    #[inline]
    pub(crate) fn at(index: usize) -> Class {
        debug_assert!(index < CLASSES);
        Class(index as u8)
    }

    /// Bytes that its blocks offer.
    #[inline]
    pub(crate) const fn capacity(self) -> usize {
        1 << self.0
    }

    /// Bytes that its blocks take from the allocator.
    #[inline]
    pub(crate) const fn footprint(self) -> usize {
        let capacity = self.capacity();
        if capacity < MIN_SIZE { MIN_SIZE } else { capacity }
    }

    /// The class of twice the capacity.
    pub(crate) const fn next(self) -> Option<Class> {
        if self.capacity() < LARGEST { Some(Class(self.0 + 1)) } else { None }
    }

    /// How the allocator sees its blocks.
    #[inline]
    pub(crate) const fn layout(self) -> Layout {
        // SAFETY: ALIGN is a power of two, and the footprint, a power of two of at most 2^45 and
        // at most 2^(BITS - 2) (`LARGEST`), is a multiple of it below `isize::MAX`.
        unsafe { Layout::from_size_align_unchecked(self.footprint(), ALIGN) }
    }
}

const _: () = assert!(MIN_SIZE % ALIGN == 0 && MIN_SIZE.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_gets_the_power_of_two_above() {
        for (size, capacity) in
            [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (4096, 4096), (4097, 8192)]
        {
            assert_eq!(Class::holding(size).unwrap().capacity(), capacity, "{size}");
        }
        for power in 1..CLASSES.min(usize::BITS as usize - 2) {
            let size = 1_usize << power;
            assert_eq!(Class::holding(size).unwrap().index(), power);
            assert_eq!(
                Class::holding(size - 1).unwrap().capacity(),
                size.max(2) - usize::from(size == 2)
            );
            assert_eq!(Class::of_capacity(size), Class::at(power));
        }
    }

    #[test]
    fn sizes_beyond_the_largest_class_are_errors() {
        for size in [(1 << 45) + 1, isize::MAX as usize, isize::MAX as usize + 1, usize::MAX] {
            assert!(Class::holding(size).unwrap_err().is_too_large());
        }
        assert_eq!(Class::at(CLASSES - 1).next(), None);
        assert_eq!(Class::at(3).next(), Some(Class::at(4)));
    }
}
