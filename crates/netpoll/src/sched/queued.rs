//! Flushed bytes that a handler leaves to be sent together with those behind them, and what becomes of
//! them where it loses the role.
//!
//! While a handler keeps its role, its thread sends what is queued before it waits, or once its run of
//! messages is over. One that blocks unseen does neither. Then the next holder sends it:
//!
//! - **Q1** Its first bytes are entered under the lock, where the role is still kept.
//! - **Q2** Whoever takes the role takes the entry before anything else, and sends what is there.
//! - **Q3** Bytes behind an entry are published first; then the thread asks whether it keeps the role
//!   (R6). If so, whoever takes it later sees them; if not, the thread sends them itself.

use crate::sync::{Mutex, lock};

/// The place of one poller for what the running handler has queued. See the module's text.
#[derive(Debug, Default)]
pub struct Queued<W>(Mutex<Option<W>>);

impl<W> Queued<W> {
    /// Nothing is queued.
    pub fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Enters what `work` gives, if the role is `kept` (Q1). False: it is not.
    pub fn enter(&self, kept: impl FnOnce() -> bool, work: impl FnOnce() -> W) -> bool {
        let mut place = lock(&self.0);
        // Under the lock: who has taken the role looks here behind that. So it finds this, or it is
        // found out; and what the next holder's handlers leave here stays theirs.
        let kept = kept();
        if kept {
            *place = Some(work());
        }
        kept
    }

    /// What is entered, whatever it is (Q2).
    pub fn take(&self) -> Option<W> {
        lock(&self.0).take()
    }

    /// What is entered, if it `is_mine`: where the role was lost unnoticed, another handler's may be
    /// there by now.
    pub fn take_if(&self, is_mine: impl FnOnce(&mut W) -> bool) -> Option<W> {
        lock(&self.0).take_if(is_mine)
    }
}
