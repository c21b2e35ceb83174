//! monoio: thread per core on io_uring, here on one core; buffers are owned by the operation.
//!
//! Work that would hold up the thread goes to monoio's blocking pool.

use std::io;
use std::rc::Rc;

use common::{Flags, READ, Work, frames};
use monoio::blocking::DefaultThreadPool;
use monoio::buf::{IoBuf, IoBufMut, SliceMut};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let flags = Flags::read();
    let mut runtime = monoio::RuntimeBuilder::<monoio::FusionDriver>::new()
        .with_entries(4096)
        .attach_thread_pool(Box::new(DefaultThreadPool::new(16)))
        .build()?;
    runtime.block_on(async {
        let work = Rc::new(flags.work());
        let listener = TcpListener::from_std(flags.listen()?)?;
        flags.announce(listener.local_addr()?);
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let work = work.clone();
            monoio::spawn(async move { drop(serve(stream, &work).await) });
        }
    })
}

async fn serve(mut stream: TcpStream, work: &Work) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer: Vec<u8> = Vec::with_capacity(READ);
    loop {
        let filled = buffer.len();
        let room = buffer.capacity();
        let (read, slice): (_, SliceMut<Vec<u8>>) =
            stream.read(buffer.slice_mut(filled..room)).await;
        buffer = slice.into_inner();
        if read? == 0 {
            return Ok(());
        }
        let found = frames(&buffer)?;
        if found.count > 0 {
            let load = work.take(&found);
            if load.is_heavy() {
                let done = monoio::spawn_blocking(move || load.run()).await;
                done.map_err(|_| io::Error::other("the blocking pool is gone"))?;
            } else {
                load.run();
            }
            let (written, slice) = stream.write_all(buffer.slice(..found.bytes)).await;
            buffer = slice.into_inner();
            written?;
            buffer.drain(..found.bytes);
        }
        let missing = found.next.map_or(0, |next| next - buffer.len());
        buffer.reserve(missing.max(READ / 4));
    }
}
