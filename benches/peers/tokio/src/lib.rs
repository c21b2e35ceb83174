//! tokio: a task per connection, on either of its schedulers.
//!
//! As its documentation advises: `read_buf` into a `BytesMut`, one `write_all` for the frames that a
//! read brought, and work that would hold up a scheduler's thread goes to the blocking pool.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use common::{Flags, Load, READ, Work, frames};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_blocking;

/// Accepts until the process ends.
pub async fn run(flags: &'static Flags) -> io::Result<()> {
    let work = Arc::new(flags.work());
    let listener = flags.listen()?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    flags.announce(listener.local_addr()?);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let work = work.clone();
        tokio::spawn(async move { drop(serve(stream, &work).await) });
    }
}

async fn serve(mut stream: TcpStream, work: &Work) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(READ);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let found = frames(&buffer)?;
        if found.count > 0 {
            let load = work.take(&found);
            if load.is_heavy() {
                heavy(load).await?
            } else {
                load.run()
            }
            stream.write_all(&buffer[..found.bytes]).await?;
            buffer.advance(found.bytes);
        }
        let missing = found.next.map_or(0, |next| next - buffer.len());
        buffer.reserve(missing.max(READ / 4));
    }
}

async fn heavy(load: Load) -> io::Result<()> {
    spawn_blocking(move || load.run()).await.map_err(io::Error::other)
}
