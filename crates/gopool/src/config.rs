//! A pool's options, checked when it is built.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    counts,
    error::BuildError,
    panics::{Handler, Panic},
    pool::Pool,
    queue,
};

/// The largest cap that can be asked for: 1,048,576 workers.
pub const MAX_CAP: usize = counts::MAX_WORKERS;

/// The largest queue limit that can be asked for: 16,777,216 tasks.
pub const MAX_QUEUE_LIMIT: usize = queue::MAX_LIMIT;

/// The smallest stack that can be asked for: 16 KiB. The system may round it up.
pub const MIN_STACK_SIZE: usize = 16 * 1024;

/// The options of a [`Pool`], from [`Pool::builder`].
///
/// | option | default |
/// |---|---|
/// | [`name`](Builder::name) | `gopool` |
/// | [`cap`](Builder::cap) | 512 workers |
/// | [`scale_threshold`](Builder::scale_threshold) | 1 waiting task |
/// | [`queue_limit`](Builder::queue_limit) | 16,384 waiting tasks |
/// | [`keep_alive`](Builder::keep_alive) | 10 seconds |
/// | [`stack_size`](Builder::stack_size) | that of the standard library |
/// | [`panic_handler`](Builder::panic_handler) | none: panics are counted |
///
/// ```
/// use std::time::Duration;
///
/// let pool = gopool::Pool::builder()
///     .name("resize")
///     .cap(8)
///     .queue_limit(1_000)
///     .keep_alive(Duration::from_secs(60))
///     .panic_handler(|panic| eprintln!("{}: {:?}", panic.pool(), panic.message()))
///     .build()?;
/// # Ok::<_, gopool::BuildError>(())
/// ```
#[must_use = "a builder does nothing until `build`"]
#[derive(Clone)]
pub struct Builder {
    pub(crate) name: String,
    pub(crate) cap: usize,
    pub(crate) scale_threshold: usize,
    pub(crate) queue_limit: usize,
    pub(crate) keep_alive: Duration,
    pub(crate) stack_size: Option<usize>,
    pub(crate) panic_handler: Option<Handler>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            name: "gopool".to_owned(),
            cap: 512,
            scale_threshold: 1,
            queue_limit: 16 * 1024,
            keep_alive: Duration::from_secs(10),
            stack_size: None,
            panic_handler: None,
        }
    }
}

impl Builder {
    /// The pool's name. Its threads are called `name-0`, `name-1` and so on, of which the system
    /// may show only the first 15 bytes.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// At most so many workers; see [`Pool::set_cap`] for changing it later.
    pub fn cap(mut self, cap: usize) -> Self {
        self.cap = cap;
        self
    }

    /// With no worker parked and fewer than the cap, another is started when this many tasks
    /// wait. The first is started for the first task whatever the threshold.
    ///
    /// Above 1, fewer threads are started for tasks that are short; but a task may then wait
    /// behind long ones although the cap is not reached.
    #[doc(alias = "ScaleThreshold")]
    pub fn scale_threshold(mut self, tasks: usize) -> Self {
        self.scale_threshold = tasks;
        self
    }

    /// At most so many tasks wait for a worker. Beyond it, [`Pool::try_go`] refuses and
    /// [`Pool::go`] waits. Each place takes 64 bytes of memory, once it has been used.
    pub fn queue_limit(mut self, tasks: usize) -> Self {
        self.queue_limit = tasks;
        self
    }

    /// A worker that has had nothing to do for so long leaves, the last one too.
    /// [`Duration::ZERO`] keeps nobody, [`Duration::MAX`] keeps everybody.
    pub fn keep_alive(mut self, idle: Duration) -> Self {
        self.keep_alive = idle;
        self
    }

    /// The stack of each worker, in bytes.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Called with each panic of a task, on the worker that ran it, after the panic hook. A
    /// panic of the handler itself is contained. Not called where a
    /// [`JoinHandle`](crate::JoinHandle) takes the panic.
    #[doc(alias = "SetPanicHandler")]
    pub fn panic_handler(mut self, handler: impl Fn(Panic<'_>) + Send + Sync + 'static) -> Self {
        self.panic_handler = Some(Arc::new(handler));
        self
    }

    /// Checks the options and makes the pool. It starts no thread: the first task does.
    ///
    /// # Errors
    ///
    /// A [`BuildError`] for the first option that no pool can have, or if there is no memory
    /// for the queue.
    pub fn build(self) -> Result<Pool, BuildError> {
        self.check()?;
        Pool::new(self)
    }

    fn check(&self) -> Result<(), BuildError> {
        if self.name.is_empty() || self.name.contains('\0') {
            return Err(BuildError::Name { name: self.name.clone() });
        }
        check_cap(self.cap)?;
        if !(1..=MAX_QUEUE_LIMIT).contains(&self.queue_limit) {
            return Err(BuildError::QueueLimit { limit: self.queue_limit });
        }
        if !(1..=self.queue_limit).contains(&self.scale_threshold) {
            return Err(BuildError::ScaleThreshold {
                threshold: self.scale_threshold,
                queue_limit: self.queue_limit,
            });
        }
        match self.stack_size {
            Some(bytes) if bytes < MIN_STACK_SIZE => Err(BuildError::StackSize { bytes }),
            _ => Ok(()),
        }
    }
}

pub(crate) fn check_cap(cap: usize) -> Result<(), BuildError> {
    if (1..=MAX_CAP).contains(&cap) { Ok(()) } else { Err(BuildError::Cap { cap }) }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("cap", &self.cap)
            .field("scale_threshold", &self.scale_threshold)
            .field("queue_limit", &self.queue_limit)
            .field("keep_alive", &self.keep_alive)
            .field("stack_size", &self.stack_size)
            .field("has_panic_handler", &self.panic_handler.is_some())
            .finish()
    }
}
