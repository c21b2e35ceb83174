//! Where a chain's shared state lies, for who prefetches it.

use super::{Head, Link, Tail};

impl Link {
    fn place(self) -> *const () {
        self.0.as_ptr().cast_const().cast()
    }
}

impl Head {
    pub(crate) fn shared_at(&self) -> *const () {
        self.link.place()
    }
}

impl Tail {
    pub(crate) fn shared_at(&self) -> *const () {
        self.link.place()
    }
}
