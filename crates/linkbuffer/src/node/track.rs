//! Bytes as the model checker sees them: one tracked cell each, so that a missing happens-before edge
//! between writing and reading a byte is reported.

use loom::cell::UnsafeCell;

pub(super) struct Track {
    base: *const u8,
    cells: Vec<UnsafeCell<()>>,
}

impl Default for Track {
    fn default() -> Track {
        Track { base: std::ptr::null(), cells: Vec::new() }
    }
}

impl Track {
    pub(super) fn new(base: *const u8, len: usize) -> Track {
        Track { base, cells: (0..len.min(64)).map(|_| UnsafeCell::new(())).collect() }
    }

    fn range(&self, from: *const u8, len: usize) -> &[UnsafeCell<()>] {
        let at = (from as usize).saturating_sub(self.base as usize).min(self.cells.len());
        &self.cells[at..(at + len).min(self.cells.len())]
    }

    pub(super) fn read(&self, from: *const u8, len: usize) {
        self.range(from, len).iter().for_each(|cell| cell.with(|_| ()));
    }

    pub(super) fn write(&self, from: *const u8, len: usize) {
        self.range(from, len).iter().for_each(|cell| cell.with_mut(|_| ()));
    }

    pub(super) fn finish(&mut self) {
        self.cells.iter().for_each(|cell| cell.with_mut(|_| ()));
    }
}
