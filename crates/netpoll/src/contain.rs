//! The border around user code: a panic ends what it was called for, and nothing else.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

use thiserror::Error;

use crate::{service::BoxError, trace::event};

/// What a callback's panic becomes: the reason that `on_close` gets.
#[derive(Debug, Error)]
#[error("a callback panicked: {0}")]
pub(crate) struct Panicked(String);

/// Runs user code; a panic becomes an error.
pub(crate) fn contain<T>(f: impl FnOnce() -> Result<T, BoxError>) -> Result<T, BoxError> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| Err(describe(panic)))
}

/// As [`contain`], for what has nothing to say.
pub(crate) fn contained(f: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(f)) {
        describe(panic);
    }
}

/// As [`contained`], for what tells of panics itself.
#[cfg(feature = "tracing")]
pub(crate) fn silenced(f: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(f)) {
        discard(panic);
    }
}

fn describe(panic: Box<dyn Any + Send>) -> BoxError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with a value that is no text");
    event!(WARN, panic = text, "a callback panicked");
    let error = Panicked(text.to_owned()).into();
    discard(panic);
    error
}

/// A panic's payload is a user's value like any other: dropping it may panic again. What that one
/// carries is not dropped any more.
fn discard(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        mem::forget(again);
    }
}

#[cfg(all(test, not(netpoll_loom)))]
mod tests {
    use std::panic::panic_any;

    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic_any(Bomb);
        }
    }

    #[test]
    fn a_payload_that_panics_when_dropped_goes_no_further() {
        contained(|| panic_any(Bomb));
        let error = contain(|| -> Result<(), BoxError> { panic_any(Bomb) }).unwrap_err();
        assert!(error.to_string().contains("no text"), "{error}");
    }

    #[test]
    fn the_text_of_a_panic_is_kept() {
        let error = contain(|| -> Result<(), BoxError> { panic!("number {}", 7) }).unwrap_err();
        assert!(error.to_string().ends_with("number 7"), "{error}");
    }
}
