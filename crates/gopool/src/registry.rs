//! Pools by name, and the one that is always there.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use crate::{error::AlreadyRegistered, error::Rejected, pool::Pool};

type Registry = HashMap<String, Pool>;

fn registry() -> MutexGuard<'static, Registry> {
    static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a pool known under its name to the whole process, which then keeps it alive.
///
/// # Errors
///
/// Gives the pool back if another one of the same name is registered.
///
/// ```
/// use gopool::Pool;
///
/// gopool::register(Pool::builder().name("thumbnails").build()?)?;
/// assert!(gopool::register(Pool::builder().name("thumbnails").build()?).is_err());
///
/// let pool = gopool::pool("thumbnails").expect("registered above");
/// pool.go(|| println!("hello"))?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "RegisterPool")]
pub fn register(pool: Pool) -> Result<(), AlreadyRegistered> {
    let mut registry = registry();
    if registry.contains_key(pool.name()) {
        return Err(AlreadyRegistered(pool));
    }
    registry.insert(pool.name().to_owned(), pool);
    Ok(())
}

/// The pool that was [registered](register) under this name.
#[doc(alias = "GetPool")]
pub fn pool(name: &str) -> Option<Pool> {
    registry().get(name).cloned()
}

/// Takes a pool out of the registry.
pub fn unregister(name: &str) -> Option<Pool> {
    registry().remove(name)
}

/// The default pool, which [`go`] submits to: named `gopool`, with the defaults of
/// [`Builder`](crate::Builder), so at most 512 workers and 16,384 waiting tasks.
///
/// Its cap and panic handler can be set on it. It is not in the registry.
pub fn default_pool() -> &'static Pool {
    static DEFAULT: LazyLock<Pool> =
        LazyLock::new(|| Pool::builder().build().expect("the defaults make a pool"));
    &DEFAULT
}

/// [`Pool::go`] of the [default pool](default_pool).
///
/// # Errors
///
/// As [`Pool::go`].
///
/// ```
/// let (sender, receiver) = std::sync::mpsc::channel();
/// gopool::go(move || sender.send("hello").unwrap())?;
/// assert_eq!(receiver.recv()?, "hello");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn go<F>(f: F) -> Result<(), Rejected<F>>
where
    F: FnOnce() + Send + 'static,
{
    default_pool().go(f)
}

/// [`Pool::ctx_go`] of the [default pool](default_pool).
///
/// # Errors
///
/// As [`Pool::ctx_go`].
#[doc(alias = "CtxGo")]
pub fn ctx_go<C, F>(context: C, f: F) -> Result<(), Rejected<(C, F)>>
where
    C: std::any::Any + Send,
    F: FnOnce(&C) + Send + 'static,
{
    default_pool().ctx_go(context, f)
}
