//! What a user's program says: callbacks over a connection, as a trait or as closures.

use std::{fmt, sync::Arc};

use linkbuffer::Result;

use crate::{
    connection::{Connection, Handle},
    framing::{Buffered, Frame, Framing},
};

/// Any error a handler may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What handlers return. An error closes the connection, and reaches `on_close`.
pub type HandlerResult<T = ()> = std::result::Result<T, BoxError>;

/// The callbacks of every connection of a server, or of an attached one.
///
/// | when | callback |
/// |---|---|
/// | accepted, not yet polled | [`on_prepare`](Service::on_prepare) makes the connection's state |
/// | ready | [`on_connect`](Service::on_connect), before any request |
/// | bytes (with framing: a message) are there | [`on_request`](Service::on_request) |
/// | the peer ended its stream, all before it is handled | [`on_end`](Service::on_end) |
/// | the peer went away while a request runs | [`on_disconnect`](Service::on_disconnect) |
/// | closed, by anyone, after the last callback returned | [`on_close`](Service::on_close) |
///
/// The callbacks of one connection never overlap, but for `on_disconnect`. They run on the thread
/// that read the bytes, and may wait: another thread then takes over its other work. A panic in
/// one ends its connection and no other.
///
/// [`Callbacks`] makes a service of closures, [`service_fn`] of one.
pub trait Service: Send + Sync + 'static {
    /// What each connection keeps between callbacks.
    type State: Send + 'static;

    /// Makes the state of a connection that was accepted and is not polled yet.
    ///
    /// # Errors
    ///
    /// An error closes the connection. There is no state then, so `on_close` is not called.
    fn on_prepare(&self, conn: &Handle) -> HandlerResult<Self::State>;

    /// The connection is ready. May read, write and wait.
    ///
    /// # Errors
    ///
    /// An error closes the connection.
    fn on_connect(&self, conn: &mut Connection, state: &mut Self::State) -> HandlerResult {
        let _ = (conn, state);
        Ok(())
    }

    /// Bytes are there, or with framing a whole message. What it consumed is released behind it.
    /// It is called again while it consumes and more is there; where it consumes nothing, only
    /// when new bytes have come.
    ///
    /// # Errors
    ///
    /// An error closes the connection.
    fn on_request(&self, conn: &mut Connection, state: &mut Self::State) -> HandlerResult;

    /// The peer ended its stream, and all bytes before the end were handled, but for those that
    /// are no whole message. May still read these, and write. The connection is closed behind it.
    ///
    /// # Errors
    ///
    /// An error reaches `on_close`.
    fn on_end(&self, conn: &mut Connection, state: &mut Self::State) -> HandlerResult {
        let _ = (conn, state);
        Ok(())
    }

    /// The peer hung up, or ended its stream, while a callback of this connection runs. It runs
    /// beside that callback, so that it can cancel what works for nobody.
    fn on_disconnect(&self, conn: &Handle) {
        let _ = conn;
    }

    /// The connection is closed, and no other callback runs or will. `why` is the error that ended
    /// it, if any.
    fn on_close(&self, conn: &Handle, state: Self::State, why: Option<BoxError>) {
        let _ = (conn, state, why);
    }

    /// Where the first message ends. Asked before every request; see [`Framing`].
    ///
    /// # Errors
    ///
    /// See [`Framing::frame`].
    fn frame(&self, buffered: &Buffered<'_>) -> Result<Frame> {
        let _ = buffered;
        Ok(Frame::Any)
    }
}

impl<S: Service> Service for Arc<S> {
    type State = S::State;

    fn on_prepare(&self, conn: &Handle) -> HandlerResult<S::State> {
        (**self).on_prepare(conn)
    }

    fn on_connect(&self, conn: &mut Connection, state: &mut S::State) -> HandlerResult {
        (**self).on_connect(conn, state)
    }

    fn on_request(&self, conn: &mut Connection, state: &mut S::State) -> HandlerResult {
        (**self).on_request(conn, state)
    }

    fn on_end(&self, conn: &mut Connection, state: &mut S::State) -> HandlerResult {
        (**self).on_end(conn, state)
    }

    fn on_disconnect(&self, conn: &Handle) {
        (**self).on_disconnect(conn);
    }

    fn on_close(&self, conn: &Handle, state: S::State, why: Option<BoxError>) {
        (**self).on_close(conn, state, why);
    }

    fn frame(&self, buffered: &Buffered<'_>) -> Result<Frame> {
        (**self).frame(buffered)
    }
}

type Prepare<T> = Box<dyn Fn(&Handle) -> HandlerResult<T> + Send + Sync>;
type Handler<T> = Box<dyn Fn(&mut Connection, &mut T) -> HandlerResult + Send + Sync>;
type Disconnect = Box<dyn Fn(&Handle) + Send + Sync>;
type Close<T> = Box<dyn Fn(&Handle, T, Option<BoxError>) + Send + Sync>;

/// A [`Service`] made of closures.
///
/// ```no_run
/// use netpoll::{Callbacks, EventLoop, LengthPrefixed, Listener, Reader, Writer, WriterExt};
///
/// # fn main() -> Result<(), netpoll::BoxError> {
/// let service = Callbacks::new(|_handle| Ok(0u64))
///     .framing(LengthPrefixed::u32_be())
///     .on_request(|conn, count| {
///         *count += 1;
///         let (r, w) = conn.split();
///         w.write_bytes(r.slice(r.len())?)?;
///         w.flush()?;
///         Ok(())
///     })
///     .on_close(|handle, count, _why| println!("{handle:?} sent {count} messages"));
/// EventLoop::new()?.serve(Listener::bind("127.0.0.1:0")?, service)?;
/// # Ok(())
/// # }
/// ```
pub struct Callbacks<T> {
    prepare: Prepare<T>,
    connect: Option<Handler<T>>,
    request: Option<Handler<T>>,
    end: Option<Handler<T>>,
    disconnect: Option<Disconnect>,
    close: Option<Close<T>>,
    framing: Option<Box<dyn Framing>>,
}

impl<T: Send + 'static> Callbacks<T> {
    /// Callbacks whose connections keep what `prepare` makes of their handle. Without a request
    /// callback, what comes in is skipped.
    pub fn new<F>(prepare: F) -> Self
    where
        F: Fn(&Handle) -> HandlerResult<T> + Send + Sync + 'static,
    {
        Self {
            prepare: Box::new(prepare),
            connect: None,
            request: None,
            end: None,
            disconnect: None,
            close: None,
            framing: None,
        }
    }

    /// See [`Service::on_connect`].
    #[must_use]
    pub fn on_connect<F>(mut self, f: F) -> Self
    where
        F: Fn(&mut Connection, &mut T) -> HandlerResult + Send + Sync + 'static,
    {
        self.connect = Some(Box::new(f));
        self
    }

    /// See [`Service::on_request`].
    #[must_use]
    pub fn on_request<F>(mut self, f: F) -> Self
    where
        F: Fn(&mut Connection, &mut T) -> HandlerResult + Send + Sync + 'static,
    {
        self.request = Some(Box::new(f));
        self
    }

    /// See [`Service::on_end`].
    #[must_use]
    pub fn on_end<F>(mut self, f: F) -> Self
    where
        F: Fn(&mut Connection, &mut T) -> HandlerResult + Send + Sync + 'static,
    {
        self.end = Some(Box::new(f));
        self
    }

    /// See [`Service::on_disconnect`].
    #[must_use]
    pub fn on_disconnect<F>(mut self, f: F) -> Self
    where
        F: Fn(&Handle) + Send + Sync + 'static,
    {
        self.disconnect = Some(Box::new(f));
        self
    }

    /// See [`Service::on_close`].
    #[must_use]
    pub fn on_close<F>(mut self, f: F) -> Self
    where
        F: Fn(&Handle, T, Option<BoxError>) + Send + Sync + 'static,
    {
        self.close = Some(Box::new(f));
        self
    }

    /// Where messages end: [`LengthPrefixed`](crate::LengthPrefixed),
    /// [`Delimited`](crate::Delimited), or a function. A handler then starts only when a whole
    /// message is there.
    #[must_use]
    pub fn framing(mut self, framing: impl Framing) -> Self {
        self.framing = Some(Box::new(framing));
        self
    }
}

/// A service that keeps no state and handles every request with `f`.
///
/// ```
/// use netpoll::{Reader, ReaderExt, Writer, service_fn};
///
/// let echo = service_fn(|conn| {
///     let (r, w) = conn.split();
///     let n = u32::from_be_bytes(r.read_array()?);
///     let body = r.next(n as usize)?;
///     w.malloc(4)?.put_u32(n);
///     w.write_binary(body)?;
///     w.flush()?;
///     Ok(())
/// });
/// # let _ = echo;
/// ```
pub fn service_fn<F>(f: F) -> Callbacks<()>
where
    F: Fn(&mut Connection) -> HandlerResult + Send + Sync + 'static,
{
    Callbacks::new(|_| Ok(())).on_request(move |conn, ()| f(conn))
}

impl<T: Send + 'static> Service for Callbacks<T> {
    type State = T;

    fn on_prepare(&self, conn: &Handle) -> HandlerResult<T> {
        (self.prepare)(conn)
    }

    fn on_connect(&self, conn: &mut Connection, state: &mut T) -> HandlerResult {
        self.connect.as_ref().map_or(Ok(()), |f| f(conn, state))
    }

    fn on_request(&self, conn: &mut Connection, state: &mut T) -> HandlerResult {
        match &self.request {
            Some(f) => f(conn, state),
            None => Ok(conn.skip_buffered()?),
        }
    }

    fn on_end(&self, conn: &mut Connection, state: &mut T) -> HandlerResult {
        self.end.as_ref().map_or(Ok(()), |f| f(conn, state))
    }

    fn on_disconnect(&self, conn: &Handle) {
        if let Some(f) = &self.disconnect {
            f(conn);
        }
    }

    fn on_close(&self, conn: &Handle, state: T, why: Option<BoxError>) {
        if let Some(f) = &self.close {
            f(conn, state, why);
        }
    }

    fn frame(&self, buffered: &Buffered<'_>) -> Result<Frame> {
        self.framing.as_ref().map_or(Ok(Frame::Any), |framing| framing.frame(buffered))
    }
}

impl<T> fmt::Debug for Callbacks<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("on_connect", &self.connect.is_some())
            .field("on_request", &self.request.is_some())
            .field("on_end", &self.end.is_some())
            .field("on_disconnect", &self.disconnect.is_some())
            .field("on_close", &self.close.is_some())
            .field("framing", &self.framing.is_some())
            .finish()
    }
}
