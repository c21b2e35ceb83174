//! Ends as others see them: the order of two looks, and of two steps, on which they hang.

use linkbuffer::Reader;

use super::state::Life;

/// Somebody here wants it closed, and whoever waits is to see that. True for the first.
pub fn ask_to_close(life: &Life, wake_all: impl FnOnce()) -> bool {
    if cfg!(netpoll_mutant = "close_wakes_first") {
        wake_all();
        return life.ask_to_close();
    }
    let first = life.ask_to_close();
    wake_all();
    first
}

/// Whether the stream has ended, and how many bytes are unread. In this order: what is buffered when
/// the end is seen is all there will be.
pub fn what_is_there(reader: &linkbuffer::ReadHalf) -> (bool, usize) {
    if cfg!(netpoll_mutant = "bytes_before_end") {
        let unread = reader.len();
        return (reader.is_ended(), unread);
    }
    let ended = reader.is_ended();
    (ended, reader.len())
}
