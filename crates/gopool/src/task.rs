//! A task: a closure without its type, in a fixed number of words.
//!
//! Closures of up to [`INLINE_TASK_SIZE`] bytes live in the task itself, so that submitting one
//! allocates nothing; larger (or over-aligned) ones are boxed.
//!
//! T1. `data` holds a valid value of the type that `vtable` was made for, from `Task::new` until
//!     `run` or `drop` takes it, whichever comes first; each task ends in exactly one of the two.
//! T2. Only `Send` closures become tasks, so a task may end on another thread.

use std::{
    any::Any,
    mem::{self, ManuallyDrop, MaybeUninit},
    panic::{self, AssertUnwindSafe},
};

use crate::panics::Panics;

/// Closures up to this size in bytes (six words), aligned to a word or less, are submitted
/// without an allocation.
pub const INLINE_TASK_SIZE: usize = mem::size_of::<Data>();

type Data = [usize; 6];

/// What a task does when a worker takes it.
///
/// A panic that leaves `run` is caught, counted and reported without a context; one that knows
/// its context or its joiner catches and reports by itself.
pub(crate) trait Run: Send + 'static {
    fn run(self, panics: &Panics);
}

/// `go(f)`.
pub(crate) struct Plain<F>(pub(crate) F);

impl<F: FnOnce() + Send + 'static> Run for Plain<F> {
    #[inline]
    fn run(self, _: &Panics) {
        (self.0)();
    }
}

/// `ctx_go(ctx, f)`: the context outlives the panic and reaches the handler.
pub(crate) struct WithContext<C, F>(pub(crate) C, pub(crate) F);

impl<C, F> Run for WithContext<C, F>
where
    C: Any + Send,
    F: FnOnce(&C) + Send + 'static,
{
    fn run(self, panics: &Panics) {
        let Self(context, f) = self;
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| f(&context))) {
            panics.report(payload, Some(&context));
        }
    }
}

pub(crate) struct Task {
    vtable: &'static VTable,
    data: MaybeUninit<Data>,
}

struct VTable {
    /// Takes the value out of `data` and runs it.
    run: unsafe fn(*mut Data, &Panics),
    /// Drops the value in `data`.
    drop: unsafe fn(*mut Data),
}

// SAFETY: T2: `Task::new` takes only `Send` values.
unsafe impl Send for Task {}

impl Task {
    #[inline]
    pub(crate) fn new<R: Run>(run: R) -> Self {
        let mut data = MaybeUninit::<Data>::uninit();
        if Inline::<R>::FITS {
            // SAFETY: `FITS`: the value is no larger and no more aligned than `data`.
            unsafe { data.as_mut_ptr().cast::<R>().write(run) };
            Self { vtable: &Inline::<R>::VTABLE, data }
        } else {
            // SAFETY: a box of a sized type is one word, aligned to a word.
            unsafe { data.as_mut_ptr().cast::<Box<R>>().write(Box::new(run)) };
            Self { vtable: &Boxed::<R>::VTABLE, data }
        }
    }

    /// Runs the task; whatever it panics with stays here.
    #[inline]
    pub(crate) fn run(self, panics: &Panics) {
        let mut this = ManuallyDrop::new(self);
        let data = this.data.as_mut_ptr();
        let run = this.vtable.run;
        // SAFETY: T1: the value is there, and `ManuallyDrop` keeps `drop` from taking it too.
        let ended = panic::catch_unwind(AssertUnwindSafe(|| unsafe { run(data, panics) }));
        if let Err(payload) = ended {
            panics.report(payload, None);
        }
    }
}

impl Drop for Task {
    /// The task is refused. A panic of what the closure captured is contained: it has nobody to
    /// go to, and must not keep the other tasks from being refused.
    fn drop(&mut self) {
        let data = self.data.as_mut_ptr();
        let drop = self.vtable.drop;
        // SAFETY: T1: only `run` could have taken the value, and it consumed the task.
        let ended = panic::catch_unwind(AssertUnwindSafe(|| unsafe { drop(data) }));
        if let Err(payload) = ended {
            crate::panics::discard(payload);
        }
    }
}

struct Inline<R>(R);

impl<R: Run> Inline<R> {
    const FITS: bool = mem::size_of::<R>() <= mem::size_of::<Data>()
        && mem::align_of::<R>() <= mem::align_of::<Data>();

    const VTABLE: VTable = VTable { run: Self::run, drop: Self::drop };

    /// # Safety
    ///
    /// `data` holds an `R`, which is taken.
    unsafe fn run(data: *mut Data, panics: &Panics) {
        // SAFETY: the caller's promise.
        unsafe { data.cast::<R>().read() }.run(panics);
    }

    /// # Safety
    ///
    /// `data` holds an `R`, which is taken.
    unsafe fn drop(data: *mut Data) {
        // SAFETY: the caller's promise.
        unsafe { data.cast::<R>().drop_in_place() };
    }
}

struct Boxed<R>(R);

impl<R: Run> Boxed<R> {
    const VTABLE: VTable = VTable { run: Self::run, drop: Self::drop };

    /// # Safety
    ///
    /// `data` holds a `Box<R>`, which is taken.
    unsafe fn run(data: *mut Data, panics: &Panics) {
        // SAFETY: the caller's promise.
        let run = unsafe { data.cast::<Box<R>>().read() };
        (*run).run(panics);
    }

    /// # Safety
    ///
    /// `data` holds a `Box<R>`, which is taken.
    unsafe fn drop(data: *mut Data) {
        // SAFETY: the caller's promise.
        unsafe { data.cast::<Box<R>>().drop_in_place() };
    }
}
