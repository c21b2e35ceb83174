//! A ring of provided buffers: memory that the kernel picks from when bytes arrive.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// The only group of buffers.
pub(crate) const GROUP: u16 = 0;
/// Bytes in each buffer.
const BUFFER: usize = 16 << 10;
const COUNT: u16 = 2048;

pub(crate) struct Buffers {
    /// `COUNT` entries that the kernel reads; never freed, as the ring lives until the process ends.
    entries: *mut BufRingEntry,
    /// `COUNT` buffers; never freed, for the same reason.
    memory: *mut u8,
    tail: u16,
}

impl Buffers {
    pub(crate) fn register(ring: &IoUring) -> io::Result<Buffers> {
        let count = usize::from(COUNT);
        let entries = zeroed(count * size_of::<BufRingEntry>()).cast();
        let memory = zeroed(count * BUFFER);
        // SAFETY: page-aligned, `COUNT` entries long, and never freed.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(entries as u64, COUNT, GROUP, 0)?;
        }
        let mut buffers = Buffers { entries, memory, tail: 0 };
        (0..COUNT).for_each(|buffer| buffers.give_back(buffer));
        Ok(buffers)
    }

    /// The first `len` bytes of a buffer that is ours just now.
    pub(crate) fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(buffer < COUNT && len <= BUFFER);
        // SAFETY: within `memory`; the kernel does not write to a buffer that it handed out.
        unsafe { std::slice::from_raw_parts(self.memory.add(usize::from(buffer) * BUFFER), len) }
    }

    /// Lets the kernel use a buffer again.
    pub(crate) fn give_back(&mut self, buffer: u16) {
        assert!(buffer < COUNT);
        let at = usize::from(self.tail % COUNT);
        // SAFETY: within `entries`, at a place that the kernel does not read before the tail moves; the
        // tail lies in the first entry, where only we write it.
        unsafe {
            let entry = &mut *self.entries.add(at);
            entry.set_addr(self.memory.add(usize::from(buffer) * BUFFER) as u64);
            entry.set_len(BUFFER as u32);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.entries).cast::<AtomicU16>();
            // ORDERING: Release, so that the kernel sees the entry before the tail that covers it.
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

fn zeroed(len: usize) -> *mut u8 {
    let layout = Layout::from_size_align(len, 4096).expect("a page is a valid alignment");
    // SAFETY: `len` is not 0.
    let at = unsafe { alloc_zeroed(layout) };
    if at.is_null() { handle_alloc_error(layout) } else { at }
}
