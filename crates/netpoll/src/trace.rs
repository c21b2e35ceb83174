//! Events for whoever follows along, where the feature `tracing` is on; nothing at all otherwise.

/// An event of this level, as `tracing::event!` has it. Whoever listens is a user's code, and may be
/// called on a thread that drives a poller: its panics end here.
#[cfg(feature = "tracing")]
macro_rules! event {
    ($level:ident, $($what:tt)+) => {
        $crate::contain::silenced(|| {
            tracing::event!(target: "netpoll", tracing::Level::$level, $($what)+);
        })
    };
}

/// Nothing.
#[cfg(not(feature = "tracing"))]
macro_rules! event {
    ($($what:tt)+) => {};
}

pub(crate) use event;
