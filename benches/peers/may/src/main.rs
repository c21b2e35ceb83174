//! may: a stackful coroutine per connection, on one worker per core.
//!
//! Sleeping goes through may's own sleep, as its documentation asks: a blocked worker would hold up the
//! coroutines of others.

use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::thread::available_parallelism;

use common::{Flags, READ, Work, frames};
use may::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let flags = Flags::read();
    let work: &'static Work = Box::leak(Box::new(flags.work()));
    let workers = flags.pollers.unwrap_or(available_parallelism()?.get());
    // 16 KiB of stack (in words), since a deep call is not made here.
    may::config().set_workers(workers).set_stack_size(0x800);
    // SAFETY: the descriptor is a listener's, and nobody else has it any more.
    let listener = unsafe { TcpListener::from_raw_fd(flags.listen()?.into_raw_fd()) };
    flags.announce(listener.local_addr()?);
    loop {
        let Ok((stream, _)) = listener.accept() else { continue };
        may::go!(move || drop(serve(stream, work)));
    }
}

fn serve(mut stream: TcpStream, work: &Work) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; READ];
    let mut filled = 0;
    loop {
        let n = stream.read(&mut buffer[filled..])?;
        if n == 0 {
            return Ok(());
        }
        filled += n;
        let found = frames(&buffer[..filled])?;
        if found.count > 0 {
            work.take(&found).run_with(may::coroutine::sleep);
            stream.write_all(&buffer[..found.bytes])?;
            buffer.copy_within(found.bytes..filled, 0);
            filled -= found.bytes;
        }
        if let Some(next) = found.next.filter(|next| *next > buffer.len()) {
            buffer.resize(next, 0);
        }
    }
}
